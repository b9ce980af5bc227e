"""What becomes of a run that is stopped or killed, and of one begun a second time."""

import csv
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from forked import begin
from safetensors.torch import load_file

import tlpot
from tlpot import load
from tlpot.errors import TlpotError, TlpotWarning


def history(folder: Path) -> list[dict]:
    """Rows of history.csv without the seconds."""
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_is_one_processes_at_a_time(settings, resume):
    """A second process, real: it is refused while the first trains, and has touched nothing."""
    again = "import sys, yaml, tlpot; tlpot.finetune(yaml.safe_load(sys.argv[1]), resume={})"
    complaints = []

    def intrude(row: dict) -> None:
        command = [sys.executable, "-c", again.format(resume), yaml.safe_dump(settings)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        complaints.append(done.stderr)

    settings["training"]["epochs"] = 1
    tlpot.finetune(settings, on_epoch=intrude)
    assert "another process is at work" in complaints[0]


def interrupt(row: dict) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def stopped(settings) -> dict:
    """Settings of a run that was stopped after its first epoch."""
    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=interrupt)
    return settings


def test_resume_needs_the_same_config(stopped):
    stopped["training"]["learning_rate"] = 3e-4
    says = r"differs from this config \(training\.learning_rate: .* → 0\.0003\)"
    with pytest.raises(TlpotError, match=says):
        tlpot.finetune(stopped, resume=True)


def test_a_stopped_run_goes_on_where_its_folder_was_moved_to(stopped, tmp_path):
    moved = Path(stopped["output"]).rename(tmp_path / "moved")
    run = tlpot.finetune(stopped | {"output": str(moved)}, resume=True)
    assert (run.folder, len(history(moved))) == (moved, stopped["training"]["epochs"])


def test_resume_needs_the_same_data(stopped, labelled, write_frames):
    write_frames(Path(stopped["data"]["files"][0]), labelled(17)[1:])
    with pytest.raises(TlpotError, match="data files changed"):
        tlpot.finetune(stopped, resume=True)


@pytest.mark.parametrize("which", ["base", "replayed files"])
def test_resume_needs_the_same_base_and_replay(settings, tmp_path, labelled, write_frames, which):
    model, replay = tmp_path / "base.safetensors", tmp_path / "replay.extxyz"
    load(settings["model"]["base"]).save(model)
    write_frames(replay, labelled(2))
    settings["model"]["base"] = str(model)
    settings["training"]["replay"] = {"files": str(replay)}
    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=interrupt)
    if which == "base":
        other = load(model)
        with torch.no_grad():
            next(other.backbone.parameters()).add_(0.1)
        other.save(model)
    else:
        write_frames(replay, labelled(3)[1:])
    with pytest.raises(TlpotError, match=f"{which} changed"):
        tlpot.finetune(settings, resume=True)


def test_resume_needs_a_run(settings):
    with pytest.raises(TlpotError, match="no run to resume"):
        tlpot.finetune(settings, resume=True)


def test_a_run_stopped_before_its_first_epoch_starts_again(settings):
    def stop(prepared) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_start=stop)
    resumed = tlpot.finetune(settings, resume=True)
    whole = tlpot.finetune(settings | {"output": f"{resumed.folder}-whole"})
    assert history(resumed.folder) == history(whole.folder)


@pytest.fixture(scope="module")
def long_settings(tmp_path_factory, labelled, write_frames, base_model) -> dict:
    """Of a run that lasts long enough to be killed."""
    folder = tmp_path_factory.mktemp("whole")
    frames = labelled(16)
    data = write_frames(folder / "frames.extxyz", frames[:10])
    bare = [replace(frame, forces=None) for frame in frames[10:]]
    minima = write_frames(folder / "minima.extxyz", bare)
    training = {"epochs": 50, "schedule": "plateau", "warmup_epochs": 1, "ema": 0.9}
    return {
        "data": {"files": str(data), "groups": [{"files": str(minima), "relaxed": True}]},
        "model": {"base": str(base_model)},
        "training": training | {"batch_size": 1, "device": "cpu"},
        "output": str(folder / "run"),
    }


@pytest.fixture(scope="module")
def whole(long_settings) -> tlpot.finetuning.run.PotentialRun:
    return tlpot.finetune(long_settings)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_resumes_bit_for_bit(long_settings, whole, tmp_path, how):
    folder, config = tmp_path / "run", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(long_settings | {"output": str(folder)}))
    process = begin("finetune", config)
    while not (folder / "model.safetensors").exists():
        assert process.is_alive(), process.ended()
        time.sleep(0.005)
    process.stop(how)
    end = process.ended()
    if how == signal.SIGKILL:
        assert end.code == -how
    else:
        assert end.code == 128 + how
        assert "continue with --resume" in end.err
        assert "Traceback" not in end.err
        ended = "KeyboardInterrupt" if how == signal.SIGINT else "SIGTERM"
        assert f"interrupted ({ended})" in (folder / "run.log").read_text()
    assert not (folder / "report.html").exists(), "it had finished before the kill"
    done = len(history(folder))
    assert done < 50
    with pytest.warns(TlpotWarning, match=r"unfinished run: epoch \d+ of 50"):
        so_far = tlpot.load(folder).metadata["unfinished"]
    assert so_far["epoch"] <= done
    if how != signal.SIGKILL:
        assert so_far["epoch"] == done

    resumed = tlpot.finetune(config, resume=True)
    names = [{file.name for file in place.iterdir()} for place in (folder, whole.folder)]
    assert names[0] == names[1]
    a, b = (load_file(run.folder / "model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert history(resumed.folder) == history(whole.folder)
    assert resumed.metrics == whole.metrics
    assert "unfinished" not in tlpot.load(folder).metadata
