"""What a batch run leaves to read: its log, and what to lower where memory ran out."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import ase.io
import pytest
import torch
import yaml
from ase.build import molecule
from forked import Forked

import tlpot
from tlpot.cli.main import main
from tlpot.errors import TlpotError, is_out_of_memory, short_of_memory
from tlpot.model.potential import Potential
from tlpot.run_log import RUN_LOG, log, logged


def lines(folder: str | Path) -> list[str]:
    return Path(folder, RUN_LOG).read_text().splitlines()


def test_names_of_files_that_are_no_text_are_logged(tmp_path):
    """As of archives from a machine with another encoding; the log's error ended the run."""

    def work() -> None:
        with logged(tmp_path, begun=True):
            log.info("set aside %s", os.fsdecode(b"Stra\xdfe.cif"))

    assert Forked(work).ended().code == 0  # pytest cannot hand on between workers what is no text
    assert b"set aside Stra\xdfe.cif" in (tmp_path / RUN_LOG).read_bytes()


def test_the_log_of_a_run_tells_its_story(settings, labelled, write_frames):
    frames = labelled(16)
    torn = replace(frames[3], energy=frames[3].energy + 1e4)
    write_frames(Path(settings["data"]["files"][0]), [*frames[:3], torn, *frames[4:], frames[5]])
    settings["data"]["bad_frames"] = "drop"

    def stop(row: dict) -> None:
        warnings.warn("odd", UserWarning, stacklevel=1)
        raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="odd"), pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=stop)
    text = "\n".join(lines(settings["output"]))
    source = settings["data"]["files"][0]
    for words in (
        "tlpot 0.", "torch ", "device cpu", f"read {source}: 15 frames used",
        f"left out {source}#3: implausible energy — ", f"left out {source}#16: duplicate — ",
        "split (seed 0): ", " train, ", "elements: C H N O", "energy reference ",
        "epoch 1, ", "train_loss ", "WARNING UserWarning: odd", "interrupted (KeyboardInterrupt)",
    ):  # fmt: skip
        assert words in text, words
    tlpot.finetune(settings, resume=True)
    after = lines(settings["output"])
    assert after[: len(text.splitlines())] == text.splitlines()
    more = "\n".join(after[len(text.splitlines()) :])
    assert "taken up after epoch 1" in more
    assert "epoch 2, " in more
    assert "finished after" in after[-1]


def test_a_run_that_left_nothing_leaves_no_log(settings):
    settings["data"]["files"] = ["nowhere.extxyz"]
    with pytest.raises(TlpotError):
        tlpot.finetune(settings)
    assert not Path(settings["output"]).exists()


def test_a_refused_run_adds_nothing_to_the_log_of_another(finished, settings):
    before = lines(finished.folder)
    with pytest.raises(TlpotError, match="already holds a run"):
        tlpot.finetune(settings | {"output": str(finished.folder)})
    assert lines(finished.folder) == before


def test_a_folder_of_something_else_gets_no_log(tmp_path):
    (tmp_path / RUN_LOG).write_text("of my queue")
    (tmp_path / "thesis.tex").touch()
    with logged(tmp_path):
        log.info("refused")
    assert lines(tmp_path) == ["of my queue"]


def _fail(folder: Path) -> None:
    with logged(folder, begun=True):
        log.info("two")
        raise ValueError("odd")


def test_a_run_inside_another_has_its_own_log(tmp_path):
    outer, inner = tmp_path, tmp_path / "inner"
    inner.mkdir()
    with logged(outer, begun=True):
        log.info("one")
        with pytest.raises(ValueError, match="odd"):
            _fail(inner)
        log.info("three")
    log.info("nobody reads this")
    assert [line.split(" ", 3)[3] for line in lines(outer)[2:-1]] == ["one", "three"]
    text = (inner / RUN_LOG).read_text()
    assert "two" in text
    assert "failed: ValueError: odd" in text
    assert "Traceback" in text


def test_relaxation_and_dynamics_keep_one_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water, torn = molecule("H2O"), molecule("H2O")
    torn.positions[1] = torn.positions[0] + 0.1
    ase.io.write("two.extxyz", [water, torn])
    ase.io.write("water.xyz", water)
    with pytest.raises(SystemExit):
        main(["relax", "two.extxyz", "--model", "mini", "--engine", "ase", "--steps", "200"])
    text = "\n".join(lines("relaxed"))
    assert "set aside two.extxyz#1: " in text
    assert "1 structures relaxed" in text
    with pytest.raises(SystemExit):
        main(["md", "water.xyz", "--model", "mini", "--ps", "0.005"])
    assert "H2O on " in "\n".join(lines("md"))
    with pytest.raises(SystemExit):
        main(["md", "water.xyz", "--model", "mini", "--ps", "0.01"])
    assert sum("finished after" in line for line in lines("md")) == 2


@pytest.mark.usefixtures("no_workers")
def test_a_sweep_keeps_one_beside_those_of_its_points(settings, tmp_path):
    from tlpot.ablation.run import ablate
    from tlpot.ablation.sweep import Sweep

    base = {name: settings[name] for name in ("data", "model", "training")}
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(base))
    sweep = Sweep.model_validate(
        {
            "base": str(path),
            "axes": {"training.epochs": [1, 2]},
            "seeds": [0],
            "output": str(tmp_path / "sweep"),
        }
    )
    ablate(sweep)
    text = "\n".join(lines(tmp_path / "sweep"))
    assert text.count(": finished") == 2
    assert "epoch 1, " not in text
    points = list((tmp_path / "sweep" / "points").iterdir())
    assert all("epoch 1, " in "\n".join(lines(point)) for point in points)


# --- memory ------------------------------------------------------------------------------------


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**46, dtype=torch.float64)
    for error in (
        failed.value,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ):
        assert is_out_of_memory(error)
        with (
            pytest.raises(TlpotError, match=r"out of memory.*; lower it"),
            short_of_memory("lower it"),
        ):
            raise error
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"), short_of_memory("lower it"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(
    ("verb", "mend"),
    [
        ("finetune", "lower training.batch_size (3)"),
        ("md", "--supercell"),
        ("evaluate", "--device"),
    ],
)
def test_a_run_without_memory_says_what_to_lower(
    settings, tmp_path, monkeypatch, capsys, verb, mend
):
    """Torch's own error, where the network is evaluated (a process short of memory may die in any
    library)."""

    def evaluate(*_: object, **__: object) -> None:
        torch.empty(2**46, dtype=torch.float64)

    data, model = settings["data"]["files"][0], settings["model"]["base"]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    words = {
        "finetune": ["finetune", config],
        "md": ["md", f"{data}@0", "--model", model, "--output", tmp_path / "md"],
        "evaluate": ["evaluate", model, data],
    }[verb]
    monkeypatch.setattr(Potential, "evaluate", evaluate)
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "error: out of memory" in error
    assert mend in error
