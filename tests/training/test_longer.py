"""What a stopped run leaves to use, and runs that go on for more epochs than they had."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from forked import command
from safetensors.torch import load_file

import tlpot
from tlpot import TLPotCalculator
from tlpot.errors import TlpotError, TlpotWarning
from tlpot.evaluation.plots import read_history
from tlpot.parallel.processes import as_done
from tlpot.powder.classifier import load_classifier
from tlpot.powder.run import train as train_powder
from tlpot.property.model import Ensemble
from tlpot.property.run import train as train_property

pytestmark = pytest.mark.long


def stop_after(epoch: int):
    def on_epoch(row: dict) -> None:
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return on_epoch


def stopped(train, config: dict, epoch: int) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(config, on_epoch=stop_after(epoch))
    return Path(config["output"])


def same(one: str | Path, other: str | Path) -> bool:
    mine, theirs = (load_file(Path(folder, "model.safetensors")) for folder in (one, other))
    return all(torch.equal(mine[k].nan_to_num(), theirs[k].nan_to_num()) for k in mine | theirs)


def with_training(settings: dict, output: Path | None = None, **training) -> dict:
    changed = settings | {"training": settings["training"] | training}
    return changed | ({"output": str(output)} if output else {})


# --- what is there ---------------------------------------------------------------------------


def test_the_best_so_far_is_what_a_run_that_ends_there_leaves(settings, tmp_path):
    """A run of four constant epochs stopped after the third, against one of three."""
    settings = with_training(settings, schedule="constant", epochs=4)
    folder = stopped(tlpot.finetune, settings, 3)
    whole = tlpot.finetune(with_training(settings, tmp_path / "whole", epochs=3))
    assert same(folder, whole.folder)
    with pytest.warns(TlpotWarning, match="epoch 3 of 4"):
        model = tlpot.load(folder)
    best = model.metadata["unfinished"]["best_epoch"]
    assert best == whole.manifest["best_epoch"]
    assert model.metadata["seen"] == whole.potential.metadata["seen"]
    assert model.metadata["domain"]["contacts"] == whole.potential.metadata["domain"]["contacts"]
    assert "test" not in model.metadata


def test_what_it_leaves_is_used_and_told_once(settings, tmp_path):
    """Evaluate, export, relax with a worker, each a process; and the calculator."""
    folder, data = stopped(tlpot.finetune, settings, 1), settings["data"]["files"][0]
    exported, relaxed = tmp_path / "model.py", tmp_path / "relaxed"
    ranked = tmp_path / "ranked"
    short = ["--engine", "ase", "--steps", "1"]
    verbs = {
        "evaluate": ["evaluate", folder, data, "--json"],
        "file": ["evaluate", folder / "model.safetensors", data],
        "export": ["export", folder, "--to", "torchani", "--output", exported],
        "relax": ["relax", f"{data}@0", "--model", folder, "--output", relaxed, *short],
        "rank": ["rank", f"{data}@0", "--model", folder, "--output", ranked, *short],
    }
    for verb, arguments in verbs.items():
        done = command(*arguments)
        assert done.code in ((0, 2) if verb in ("relax", "rank") else (0,)), done.err
        assert done.err.count("of an unfinished run: epoch 1 of 2") == 1, done.err
        assert "Warning" not in done.err
        if verb == "evaluate":
            assert json.loads(done.out)["seen"]["train"] > 0
    assert exported.exists()
    with pytest.warns(TlpotWarning, match="epoch 1 of 2"):
        calculator = TLPotCalculator(folder)
    atoms = ase.io.read(data, 0)
    atoms.calc = calculator
    assert np.isfinite(atoms.get_forces()).all()


def test_a_run_that_diverges_leaves_its_best(settings):
    settings = with_training(settings, learning_rate=1e80, clip=None, epochs=9, warmup_epochs=0)
    with pytest.raises(TlpotError, match="diverged in epoch"):
        tlpot.finetune(settings)
    if (Path(settings["output"]) / "history.csv").exists():
        with pytest.warns(TlpotWarning, match="of 9"):
            tlpot.load(settings["output"])


def test_a_run_stopped_before_its_first_epoch_says_so(settings):
    def stop(prepared) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_start=stop)
    with pytest.raises(TlpotError, match="stopped before its first epoch"):
        tlpot.load(Path(settings["output"]))


def test_what_trains_on_from_an_unfinished_run_is_finished(settings, tmp_path):
    folder = stopped(tlpot.finetune, settings, 1)
    settings = with_training(settings, tmp_path / "next") | {"model": {"base": str(folder)}}
    with pytest.warns(TlpotWarning, match="unfinished"):
        run = tlpot.finetune(settings)
    assert "unfinished" not in tlpot.load(run.folder).metadata


# --- more epochs -----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
@pytest.mark.parametrize("finished", [True, False])
def test_more_epochs_are_as_if_asked_for_from_the_start(settings, tmp_path, schedule, finished):
    settings = with_training(settings, epochs=3, schedule=schedule)
    if finished:
        tlpot.finetune(settings)
    else:
        stopped(tlpot.finetune, settings, 2)
    longer = with_training(settings, epochs=5)
    longer_run = tlpot.finetune(longer, resume=True)
    whole = tlpot.finetune(with_training(longer, tmp_path / "whole"))
    assert same(longer_run.folder, whole.folder)
    assert longer_run.metrics == whole.metrics
    assert "epochs: 5" in (longer_run.folder / "config.yaml").read_text()
    mine, theirs = (read_history(run.folder / "history.csv") for run in (longer_run, whole))
    np.testing.assert_array_equal(mine["train_loss"], theirs["train_loss"])


def test_the_cosine_goes_on_as_that_of_so_many_epochs(settings, tmp_path):
    settings = with_training(settings, epochs=3, schedule="cosine", warmup_epochs=1)
    tlpot.finetune(settings)
    longer = with_training(settings, epochs=6)
    longer_run = tlpot.finetune(longer, resume=True)
    whole = tlpot.finetune(with_training(longer, tmp_path / "whole"))
    mine, theirs = (
        read_history(run.folder / "history.csv")["learning_rate"] for run in (longer_run, whole)
    )
    assert mine[2] < 0.1 * theirs[2]
    np.testing.assert_array_equal(mine[3:], theirs[3:])


def test_the_command_goes_on_in_a_process_of_its_own(settings, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    assert command("finetune", config).code == 0
    done = command("finetune", config, "--resume", "training.epochs=3")
    assert done.code == 0
    lines = [line for line in done.err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 1
    assert lines[0].startswith("epoch 3/3")
    assert (Path(settings["output"]) / "run.log").read_text().count("finished after") == 2
    refused = command("finetune", config, "--resume", "training.epochs=1")
    assert refused.code == 2
    assert "has done 3 already" in refused.err
    assert "Traceback" not in refused.err


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory, labelled, write_frames, base_model) -> dict:
    """Settings of a run that is finished; not to be written to."""
    folder = tmp_path_factory.mktemp("three")
    settings = {
        "data": {
            "files": [str(write_frames(folder / "frames.extxyz", labelled(16)))],
            "split": {"validation": 0.2},
        },
        "model": {"base": str(base_model)},
        "training": {"epochs": 3, "batch_size": 4, "device": "cpu"},
        "output": str(folder / "run"),
    }
    tlpot.finetune(settings)
    return settings


@pytest.mark.parametrize(
    ("resume", "training", "says"),
    [
        (True, {}, "holds a finished run; there is nothing to resume"),
        (True, {"epochs": 2}, "has done 3 already"),
        (True, {"patience": 9}, "has done 3 already"),
        (True, {"epochs": 5, "seed": 1}, "must keep its settings"),
        (False, {"epochs": 5}, "already holds a run, finished"),
    ],
)
def test_what_cannot_go_on_is_refused_and_loses_nothing(three_epochs, resume, training, says):
    folder = Path(three_epochs["output"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TlpotError, match=says):
        tlpot.finetune(with_training(three_epochs, **training), resume=resume)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_finished_run_without_its_last_state_says_what_to_do(three_epochs, tmp_path):
    copied = shutil.copytree(three_epochs["output"], tmp_path / "copied")
    (copied / "last.pt").unlink()
    with pytest.raises(TlpotError, match=r"without last\.pt.*model\.base="):
        tlpot.finetune(with_training(three_epochs, copied, epochs=9), resume=True)


def test_a_stopped_run_may_end_sooner_but_not_before_it_is(settings, tmp_path):
    """Without asking to resume, other epochs are refused with the way to go on."""
    settings = with_training(settings, epochs=5)
    stopped(tlpot.finetune, settings, 3)
    with pytest.raises(TlpotError, match=r"as many epochs .--resume"):
        tlpot.finetune(with_training(settings, epochs=9))
    with pytest.raises(TlpotError, match="has done 3 already"):
        tlpot.finetune(with_training(settings, epochs=2), resume=True)
    run = tlpot.finetune(with_training(settings, epochs=3), resume=True)
    assert len(read_history(run.folder / "history.csv")["epoch"]) == 3


def test_where_patience_ended_a_run_more_epochs_need_more_of_it(settings):
    settings = with_training(settings, epochs=9, patience=1, learning_rate=1e-300, ema=0)
    run = tlpot.finetune(settings)
    ended = len(read_history(run.folder / "history.csv")["epoch"])
    assert ended < 9
    with pytest.raises(TlpotError, match=r"training\.patience: 1 ended the run"):
        tlpot.finetune(with_training(settings, epochs=12), resume=True)
    run = tlpot.finetune(with_training(settings, epochs=4, patience=None), resume=True)
    assert len(read_history(run.folder / "history.csv")["epoch"]) == 4


# --- the other trainings ---------------------------------------------------------------------


def other_settings(metals: Path, what: str) -> dict:
    new = {"property": {"width": 8, "convolutions": 1, "dense": 8}, "powder": {"dense": [8]}}
    files = {"property": metals / "id_prop.csv", "powder": metals}
    return {
        "data": {"files": str(files[what]), "split": {"test": 0.2, "validation": 0.2}},
        "model": new[what],
        "training": {"epochs": 4, "device": "cpu", "schedule": "constant", "batch_size": 4},
        "output": str(metals.parent / what),
    }


@pytest.mark.parametrize("what", ["property", "powder"])
def test_the_other_trainings_do_the_same(metals, tmp_path, what):
    if what == "powder":
        pytest.importorskip("spglib")
    train = {"property": train_property, "powder": train_powder}[what]
    settings = other_settings(metals, what)
    folder = stopped(train, settings, 3)
    whole = train(with_training(settings, tmp_path / "whole", epochs=3))
    assert same(folder, whole.folder)
    load = {"property": lambda path: Ensemble.load([path]), "powder": load_classifier}[what]
    with pytest.warns(TlpotWarning, match="epoch 3 of 4"):
        model = load(folder)
    if what == "property":
        mean, spread = model.predict([ase.io.read(metals / "Cu.cif")])
        assert np.isfinite(mean).all()
        assert not spread.any()
    else:
        assert model.unseen == load(whole.folder).unseen
        assert model.temperature == load(whole.folder).temperature
    longer = train(with_training(settings, epochs=6), resume=True)
    straight = train(with_training(settings, tmp_path / "straight", epochs=6))
    assert same(longer.folder, straight.folder)
    assert longer.metrics == straight.metrics
    again = train(with_training(settings, epochs=7), resume=True)
    assert len(read_history(again.folder / "history.csv")["epoch"]) == 7
    with pytest.raises(TlpotError, match="has done 7 already"):
        train(with_training(settings, epochs=5), resume=True)
    assert "unfinished" not in again.model.metadata


def load_quietly(folder: str) -> int:
    """In a worker: how often loading warns."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        tlpot.load(folder)
    return len(caught)


def test_workers_leave_the_telling_to_their_parent(settings):
    folder = stopped(tlpot.finetune, settings, 1)
    assert list(as_done(load_quietly, [(str(folder),)])) == [(0, 0)]
