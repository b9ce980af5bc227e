"""Fine-tuning on frames in memory: as on the files they came from, and nothing is lost between."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tlpot
from tlpot.config.run import parse_config
from tlpot.data.groups import read_data
from tlpot.errors import TlpotError


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "model.safetensors"))


def same(one: str | Path, other: str | Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine | theirs)


@pytest.fixture
def mixed(settings, labelled, write_frames, tmp_path) -> dict:
    """Settings of a run on frames with forces, minima without, and energies alone; weighted."""
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(24)[16:]]
    minima = write_frames(tmp_path / "minima.extxyz", bare[:4])
    points = write_frames(tmp_path / "points.extxyz", bare[4:])
    settings["data"]["groups"] = [
        {"files": str(minima), "relaxed": True, "weight": 0.5},
        {"files": str(points), "energy_only": True, "weight": 2.0},
    ]
    return settings


def test_frames_of_all_kinds_train_as_from_their_files(mixed, tmp_path):
    read = read_data(parse_config(mixed).data)
    assert {frame.labels for frame in read} == {"full", "relaxed", "energy"}
    tlpot.finetune(mixed)
    data = {"split": mixed["data"]["split"]}
    given = mixed | {"data": data, "output": str(tmp_path / "given")}
    run = tlpot.finetune(given, frames=read)
    assert same(run.folder, mixed["output"])
    (about,) = run.manifest["data"]["files"]
    assert (about["path"], about["frames"]) == ("in memory", len(read))


def test_a_stopped_run_goes_on_with_the_same_frames_alone(settings, labelled, tmp_path):
    def stop(row: dict) -> None:
        raise KeyboardInterrupt

    frames = [replace(frame, source="") for frame in labelled(16)]
    del settings["data"]["files"]
    whole = tlpot.finetune(settings | {"output": str(tmp_path / "whole")}, frames=frames)
    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=stop, frames=frames)
    heavier = [replace(frames[0], weight=2.0), *frames[1:]]
    with pytest.raises(TlpotError, match="data files changed"):
        tlpot.finetune(settings, resume=True, frames=heavier)
    resumed = tlpot.finetune(settings, resume=True, frames=frames)
    assert same(resumed.folder, whole.folder)
    names = json.loads((resumed.folder / "manifest.json").read_text())["split_frames"]
    assert sorted(n for part in names.values() for n in part) == sorted(
        f"in memory#{i}" for i in range(16)
    )


@pytest.mark.parametrize(
    "change", [{"relaxed": True}, {"energy_only": True}, {"keys": {"energy": "E"}}]
)
def test_settings_of_reading_are_refused(settings, labelled, change):
    settings["data"] |= change
    with pytest.raises(TlpotError, match=rf"data\.{next(iter(change))}: says how files are read"):
        tlpot.finetune(settings, frames=labelled(16))
