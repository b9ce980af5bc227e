"""Parts that are named in the config: what each may be, and what must not leak between them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import tlpot
from tlpot.ablation.sweep import parse_sweep, points
from tlpot.config.data import Data
from tlpot.config.run import load_config, parse_config
from tlpot.data.check import check_frames, sort_frames
from tlpot.data.fingerprints import TrainingSet
from tlpot.data.groups import read_data
from tlpot.data.split import split_data
from tlpot.errors import TlpotError
from tlpot.finetuning.run import validate

NOTHING = TrainingSet.of({})


@pytest.fixture
def files(tmp_path, monkeypatch, labelled, write_frames) -> dict[str, str]:
    """Twenty frames: ten to train, four to validate by, six to test on."""
    monkeypatch.chdir(tmp_path)
    frames = labelled(20)
    for name, some in (("a", frames[:10]), ("b", frames[10:14]), ("c", frames[14:])):
        write_frames(Path(f"{name}.extxyz"), some)
    return {"train": "a.extxyz", "validation": "b.extxyz", "test": "c.extxyz"}


def split(**data: Any) -> dict[str, list[str]]:
    settings = parse_config({"data": data}).data
    frames = check_frames(read_data(settings), settings).frames
    splits, _ = split_data(frames, settings, NOTHING)
    return {k: sorted({frames[i].source for i in v}) for k, v in vars(splits).items()}


def sizes(**data: Any) -> dict[str, int]:
    settings = parse_config({"data": data}).data
    splits, _ = split_data(read_data(settings), settings, NOTHING)
    return {name: len(chosen) for name, chosen in vars(splits).items()}


def test_parts_are_as_named(files):
    assert split(**files) == {name: [file] for name, file in files.items()}
    assert sizes(**files) == {"train": 10, "validation": 4, "test": 6}
    assert sizes(train=files["train"]) == {"train": 10, "validation": 0, "test": 0}
    assert sizes(train=files["train"], test=files["test"])["validation"] == 0


def test_what_is_not_named_is_drawn_from_the_files_that_are_split(files):
    assert sizes(files=["a.extxyz", "b.extxyz"], test="c.extxyz") == {
        "train": 13,
        "validation": 1,
        "test": 6,
    }
    found = split(files="a.extxyz", validation="b.extxyz")
    assert found["validation"] == ["b.extxyz"]
    assert found["test"] == ["a.extxyz"]
    beside = split(files="a.extxyz", train="b.extxyz", test="c.extxyz")
    assert beside["train"] == ["a.extxyz", "b.extxyz"]
    assert beside["validation"] == ["a.extxyz"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"files": "a", "test": "c", "split": {"test": 0.3}}, "split.test has no effect with test"),
        (
            {"files": "a", "validation": "b", "split": {"validation": 0.0}},
            "split.validation has no effect with validation",
        ),
        ({"train": "a", "split": {"test": 0.3}}, "split.test has no effect without files or grou"),
        ({"train": "a", "split": {"seed": 3}}, "split.seed has no effect without files or groups"),
        (
            {"files": "a", "validation": "b", "test": "c", "split": {"seed": 3}},
            "split.seed has no effect with validation and test",
        ),
        (
            {"files": "a", "validation": "b", "test": "c", "split": {"group": "file"}},
            "split.group has no effect with validation and test",
        ),
        ({"train": "a", "max_frames": 3}, "max_frames has no effect without files or groups"),
        ({"files": "a", "leaks": "drop"}, "leaks has no effect without validation or test"),
        ({"test": "a"}, "data.files: required"),
    ],
)
def test_what_would_do_nothing_is_refused(data, words):
    with pytest.raises(TlpotError) as caught:
        parse_config({"data": data})
    assert words in str(caught.value)


def test_patience_wants_a_part_to_judge_by():
    patience = {"training": {"patience": 3}}
    for data in ({"train": "a", "validation": "b"}, {"files": "a", "test": "c"}):
        parse_config({"data": data, **patience})
    for data in ({"train": "a", "test": "c"}, {"files": "a", "split": {"validation": 0}}):
        with pytest.raises(TlpotError, match=r"training\.patience has no effect without"):
            parse_config({"data": data, **patience})


@pytest.mark.parametrize("trains", ["train", "files"])
def test_a_frame_that_is_held_out_and_trains_is_refused(files, trains, labelled, write_frames):
    """However it is turned, moved, or its atoms are reordered."""
    frames = labelled(20)
    twin = replace(frames[15], atoms=frames[15].atoms[::-1], forces=frames[15].forces[::-1])
    twin.atoms.rotate(40, "z", rotate_cell=True)
    write_frames(Path("d.extxyz"), [*frames[:10], twin])
    settings = Data(**{trains: ["d.extxyz"]}, test=["c.extxyz"], validation=["b.extxyz"])
    with pytest.raises(TlpotError) as caught:
        check_frames(read_data(settings), settings)
    for words in (
        "1 of 21 frames cannot be used",
        "d.extxyz#10: held out too — data.test holds it as c.extxyz#1",
        "set data.leaks: drop to leave such frames out",
    ):
        assert words in str(caught.value)
    dropped = settings.model_copy(update={"leaks": "drop"})
    checked = check_frames(read_data(dropped), dropped)
    assert [r.frame.name for r in checked.rejected] == ["d.extxyz#10"]
    assert sum(frame.part == "test" for frame in checked.frames) == 6


def test_validation_and_test_are_kept_apart_too(files):
    settings = Data(train=["a.extxyz"], validation=["c.extxyz@:2", "b.extxyz"], test=["c.extxyz"])
    rejected = sort_frames(read_data(settings), settings).rejected
    assert [(r.frame.name, r.reason) for r in rejected] == [
        ("c.extxyz#0", "held out too"),
        ("c.extxyz#1", "held out too"),
    ]
    assert all(r.frame.part == "validation" for r in rejected)


def test_a_limit_spares_what_is_named(files):
    settings = Data(files=["a.extxyz"], test=["c.extxyz"], max_frames=5)
    checked = check_frames(read_data(settings), settings)
    assert [sum(f.source == x for f in checked.frames) for x in ("a.extxyz", "c.extxyz")] == [5, 6]
    assert checked.surplus == 5


def test_the_base_may_have_seen_what_is_tested_and_that_is_said(files):
    settings = Data(train=["a.extxyz"], test=["c.extxyz"])
    frames = read_data(settings)
    known = NOTHING.with_frames([f for f in frames if f.part == "test"][:2], [])
    splits, counts = split_data(frames, settings, known)
    assert len(splits.test) == 6, "a part that is named stays as it is"
    assert (counts["train"], counts["moved_to_train"]) == (2, 0)


def test_a_run_on_named_parts(files, settings):
    settings["data"] = files
    settings["training"]["epochs"] = 2
    run = tlpot.finetune(settings)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert {name: len(some) for name, some in manifest["split_frames"].items()} == {
        "train": 10,
        "validation": 4,
        "test": 6,
    }
    assert run.metrics["finetuned"]["test"]["n_frames"] == 6
    stored = load_config(run.folder / "config.yaml")
    assert stored == parse_config(settings)


def test_frames_in_memory_may_say_what_they_are_for(labelled, settings):
    frames = [replace(f, part="test" if i < 3 else "train") for i, f in enumerate(labelled(12))]
    settings["training"]["epochs"] = 1
    settings["data"] = {}
    run = tlpot.finetune(settings, frames=frames)
    assert run.metrics["finetuned"]["test"]["n_frames"] == 3


def test_seeds_of_a_sweep_leave_a_split_alone_that_draws_nothing(files, settings):
    base = {"data": files, "model": settings["model"]}
    sweep = parse_sweep({"base": base, "axes": {"training.epochs": [1]}, "seeds": [0, 1]})
    assert [point.config.training.seed for point in points(sweep)] == [0, 1]
    assert {point.config.data.split.seed for point in points(sweep)} == {0}


def test_validate_says_the_parts(files, settings, capsys):
    from tlpot.cli.main import main

    settings["data"] = files
    Path("c.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit):
        main(["validate", "c.yaml"])
    assert "split as named: 10 train, 4 validation, 6 test" in capsys.readouterr().out
    assert validate(settings).parts["test"][0].source == "c.extxyz"
