"""Another device, and another process's state: runs go on elsewhere, nothing of the caller's moves.

No GPU is needed but for the tests marked ``gpu``: a checkpoint whose tensors say they lie on one,
torch's ``meta`` device, and one that the CPU plays (`tests.fixtures.distant`) stand in.
"""

import inspect
from pathlib import Path
from pickle import UnpicklingError

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule
from forked import command
from safetensors.torch import load_file
from torch.optim import AdamW

import tlpot
from tlpot import TLPotCalculator
from tlpot.cli import frames as cli_frames
from tlpot.cli import main as cli
from tlpot.cli import potential as cli_potential
from tlpot.cli import property as cli_property
from tlpot.cli import sample as cli_sample
from tlpot.cli import use as cli_use
from tlpot.cli import xrd as cli_xrd
from tlpot.config.run import Training
from tlpot.engine.device import usable
from tlpot.errors import TlpotError
from tlpot.model.load import load, load_onto
from tlpot.structure.frames import Frame
from tlpot.training.checkpoint import NAME as CHECKPOINT
from tlpot.training.checkpoint import load_checkpoint
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer


def stop(row: dict) -> None:
    raise KeyboardInterrupt


def same_weights(one: str | Path, other: str | Path) -> bool:
    mine, theirs = (load_file(Path(folder, "model.safetensors")) for folder in (one, other))
    return all(torch.equal(mine[name], theirs[name]) for name in mine | theirs)


# --- resuming ----------------------------------------------------------------------------------


def test_a_run_begun_on_a_gpu_resumes_on_a_cpu(settings, tmp_path, monkeypatch):
    whole = tlpot.finetune(settings | {"output": str(tmp_path / "whole")})
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        with pytest.raises(KeyboardInterrupt):
            tlpot.finetune(settings, on_epoch=stop)
    folder = Path(settings["output"])
    if not torch.cuda.is_available():  # the checkpoint is what it pretends to be
        with pytest.raises((RuntimeError, UnpicklingError), match="CUDA device"):
            torch.load(folder / CHECKPOINT, weights_only=True)
    stored = folder / "config.yaml"
    stored.write_text(stored.read_text().replace("device: cpu", "device: cuda"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    done = command("finetune", path, "--resume", "training.device=cpu")
    assert done.code == 0, done.err
    assert same_weights(folder, whole.folder)


def test_a_checkpoint_goes_where_the_trainer_is(small, labelled, tmp_path, monkeypatch):
    """From a CPU to another device, here `meta`: weights, moments, average and best weights."""
    settings = Training.model_validate({"epochs": 1, "schedule": "plateau", "warmup_epochs": 0})

    def trainer(device: str) -> Trainer:
        potential = small().for_elements({"H", "C", "N", "O"}).to(device)
        potential.backbone.requires_grad_()
        batches = [small().batch([frame]) for frame in labelled(4)]
        task = PotentialTask(small(), batches, [], settings)
        task.potential = potential
        return Trainer(task, settings, tmp_path)

    with_weights = small().for_elements({"H", "C", "N", "O"})
    with_weights.backbone.requires_grad_()
    batches = [with_weights.batch([frame]) for frame in labelled(4)]
    Trainer(PotentialTask(with_weights, batches, [], settings), settings, tmp_path).fit()
    assert all(t.device.type == "cpu" for t in load_checkpoint(tmp_path)["weights"])
    monkeypatch.setattr(  # torch 2.4 fuses nothing on `meta`
        "tlpot.training.trainer.AdamW", lambda p, fused, **settings: AdamW(p, **settings)
    )
    moved = trainer("meta")
    moved.resume()
    moments = [t for state in moved.optimiser.state.values() for t in state.values()]
    for tensor in (*moved.parameters, *moved.average, *moved.best, *moments):
        assert tensor.device.type == "meta"


# --- nothing of the caller's -------------------------------------------------------------------


def test_a_calculator_leaves_the_callers_potential_where_it_is(small, monkeypatch):
    potential = small()
    monkeypatch.setattr("tlpot.model.calculator.usable", lambda name: torch.device("meta"))
    calculator = TLPotCalculator(potential, device="anywhere")
    assert calculator.potential.device.type == "meta"
    assert potential.device.type == "cpu"
    assert TLPotCalculator(potential).potential is potential


def state() -> dict[str, object]:
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch": torch.random.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "errors": np.geterr(),
    }


def test_the_callers_state_is_left_as_it_was(settings, labelled, tmp_path, monkeypatch):
    from tlpot.relax.relax import relax
    from tlpot.relax.settings import Relaxation
    from tlpot.sampling.choose import choose
    from tlpot.sampling.propose import propose

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(64)  # more than there are cores for
    try:
        was = state()
        run = tlpot.finetune(settings)
        assert state() == was
        frames = labelled(4)
        run.potential.predict(frames, members=True)
        choose(frames, "committee", 2, run.potential)
        propose(frames[:1], "rattle", 2, None)
        water = molecule("H2O")
        water.calc = TLPotCalculator(run.potential)
        water.get_forces()
        relax([Frame(molecule("H2O"))], run.potential, Relaxation(engine="ase", steps=3))
        assert state() == was
    finally:
        torch.set_num_threads(before)


# --- the command line --------------------------------------------------------------------------


def test_every_verb_that_computes_with_a_model_takes_a_device():
    rooms = (cli_frames, cli_potential, cli_use, cli_sample, cli_property, cli_xrd)
    for verb in (verb for room in rooms for verb in room.app.registered_commands):
        names = set(inspect.signature(verb.callback).parameters)
        if "model" in names and verb.callback.__name__ not in ("elements", "export", "info"):
            assert "device" in names, verb.callback.__name__


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "mini", "water.xyz"],
        ["inspect", "water.xyz"],
        [
            *("sample", "propose", "water.xyz", "--method", "md"),
            *("--number", "2", "--output", "new.extxyz"),
        ],
        [
            *("sample", "choose", "water.xyz", "--by", "committee"),
            *("--number", "1", "--output", "new.extxyz"),
        ],
        ["relax", "water.xyz", "--output", "relaxed"],
        ["md", "water.xyz", "--output", "md"],
    ],
)
@pytest.mark.parametrize("device", ["cuda:7", "meta", "nonsense"])
def test_a_device_that_is_not_there_is_refused(words, device, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ase.io.write("water.xyz", molecule("H2O"))
    model = [] if words[0] == "evaluate" else ["--model", "mini"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, *model, "--device", device])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (2, "")
    assert f"'{device}' cannot be used here" in said.err


# --- away from the CPU --------------------------------------------------------------------------


def test_a_device_refuses_what_a_gpu_refuses(device):
    away, here = torch.ones(3, device=device), torch.ones(3)
    with pytest.raises(RuntimeError, match="device"):
        away + here
    with pytest.raises(TypeError, match="numpy"):
        away.numpy()
    assert (away + here.to(device)).cpu().tolist() == [2, 2, 2]


def test_training_resumes_across_devices(settings, tmp_path, device):
    for first, then in ((device, "cpu"), ("cpu", device)):
        output = str(tmp_path / f"{first}-{then}")
        begun = settings | {"output": output}
        begun["training"] = settings["training"] | {"device": first, "epochs": 3}
        with pytest.raises(KeyboardInterrupt):
            tlpot.finetune(begun, on_epoch=stop)
        begun["training"] = begun["training"] | {"device": then}
        run = tlpot.finetune(begun, resume=True)
        assert run.potential.device.type == "cpu"
        assert run.metrics["finetuned"]["test"]["energy_rmse_meV_per_atom"] is not None


@pytest.mark.parametrize("base", ["emodes", "schnet"])
def test_the_other_backbones_train_on_a_device(settings, base, device):
    settings["model"] = {"base": base}
    settings["training"] |= {"device": device, "epochs": 1}
    run = tlpot.finetune(settings)
    assert run.potential.device.type == "cpu"


@pytest.mark.parametrize("kind", ["small", "small_emodes", "small_schnet"])
def test_a_device_says_what_the_cpu_says(request, kind, labelled, device):
    build = request.getfixturevalue(kind)
    frames = labelled(6)
    here, there = build().predict(frames), build().to(device).predict(frames)
    for one, other in zip(here, there, strict=True):
        assert other.energy == pytest.approx(one.energy, abs=1e-6)
        assert np.abs(other.forces - one.forces).max() < 1e-6


def test_a_finetuned_model_is_the_same_on_a_device(settings, labelled, device):
    """With its domain, and for some of its elements: on its own, and in the calculator."""
    run = tlpot.finetune(settings)
    frames = labelled(3)
    here = run.potential.predict(frames, members=True, domain=True)
    away = load_onto(str(run.folder), device)
    there = away.predict(frames, members=True, domain=True)
    for one, other in zip(here, there, strict=True):
        assert other.energy == pytest.approx(one.energy, abs=1e-4)
        assert np.abs(other.forces_std - one.forces_std).max() < 1e-4
        assert other.outside == one.outside
    atoms = frames[0].atoms.copy()
    atoms.calc = TLPotCalculator(away, warn_outside=True)
    assert atoms.get_potential_energy() == pytest.approx(here[0].energy, abs=1e-4)


def test_the_verbs_run_on_a_device(tmp_path, labelled, write_frames, monkeypatch, device):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "frames.extxyz", labelled(4))
    ase.io.write("water.xyz", molecule("H2O"))
    relax = ["relax", "water.xyz", "--output", "relaxed", "--model", "mini", "--steps", "30"]
    on_a_gpu = [relax] if device == "cuda" else []  # in threads, where the CPU plays nothing
    for words in (
        ["evaluate", "mini", "frames.extxyz"],
        ["sample", "choose", "frames.extxyz", "--by", "farthest", "--number", "2",
         "--output", "a.extxyz", "--model", "mini"],
        *on_a_gpu,
        ["md", "water.xyz", "--output", "md", "--model", "mini", "--ps", "0.01"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            cli.main([*words, "--device", device])
        assert not stopped.value.code, words


def test_the_callers_potential_stays_off_the_device(device):
    potential = load("mini")
    atoms: Atoms = molecule("H2O")
    atoms.calc = TLPotCalculator(potential, device=device)
    expected = potential.predict([atoms])[0].energy
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-4)
    assert potential.device.type == "cpu"
    assert load_onto("mini", device).device.type == torch.device(device).type


def test_a_device_without_double_precision_is_refused_as_such(monkeypatch):
    """As Apple's GPUs: torch computes there, but not in float64."""
    zeros = torch.zeros

    def single(*size, dtype=None, **more):
        if dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return zeros(*size, dtype=dtype, **more)

    monkeypatch.setattr(torch, "zeros", single)
    with pytest.raises(TlpotError, match=r"device: 'cpu' cannot be used here .*float64"):
        usable("cpu")
