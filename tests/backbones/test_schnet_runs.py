"""SchNet trained: on energies alone, as a base for crystals, resumed, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

import tlpot
from tlpot.backbones.schnet import SHARED
from tlpot.cli.main import app
from tlpot.config.run import parse_config
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.finetuning.run import finetune
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.load import load, load_base
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame

UREA = Path(__file__).parents[2] / "datasets" / "urea" / "urea.extxyz"
NAMES = ("CH3OH", "CH3CONH2", "CH3CH2OH", "CH4", "NH3", "H2O", "HCOOH", "CH3CHO")
SIZES = {"features": 16, "interactions": 2, "gaussians": 12, "members": 2}


@pytest.fixture(scope="module")
def energies(tmp_path_factory):
    """Molecules with energies alone, by `mini`."""
    structures = [atoms for seed in range(6) for atoms in rattled(seed)]
    labels = load("mini").predict(structures)
    frames = [Frame(a, p.energy) for a, p in zip(structures, labels, strict=True)]
    path = tmp_path_factory.mktemp("molecules") / "molecules.extxyz"
    write_frames(path, frames)
    return path


def rattled(seed: int) -> list[Atoms]:
    found = [molecule(name) for name in NAMES]
    for i, atoms in enumerate(found):
        atoms.rattle(0.04, seed=10 * seed + i)
    return found


def settings(files, folder, **changes) -> dict:
    training = {"epochs": 3, "learning_rate": 1e-2, "batch_size": 4, "device": "cpu"}
    return {
        "data": {"files": str(files), "energy_only": True} | changes.pop("data", {}),
        "model": {"base": "schnet", "schnet": SIZES} | changes.pop("model", {}),
        "training": training | changes,
        "output": str(folder),
    }


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, energies):
    return finetune(settings(energies, tmp_path_factory.mktemp("run") / "run", epochs=60, ema=0.9))


def test_it_learns_from_energies_alone(pretrained, energies):
    key = "energy_rmse_meV_per_atom"
    metrics = pretrained.metrics
    assert metrics["finetuned"]["test"][key] < 0.7 * metrics["baseline"]["test"][key]
    frames = tlpot.read_frames([str(energies)])
    test = [frames[i] for i in pretrained.manifest["split"]["test"]]
    found = tlpot.load(pretrained.folder).predict(test)
    error = [(p.energy - f.energy) / len(f) for p, f in zip(found, test, strict=True)]
    expected = metrics["finetuned"]["test"][key]
    assert 1e3 * np.sqrt(np.mean(np.square(error))) == pytest.approx(expected, rel=1e-3)
    layers = [row["name"] for row in pretrained.manifest["trainable_parameters"]["layers"]]
    assert {"shared.interaction1_filter1", "shared.output", "H.embedding"} <= set(layers)


def test_it_knows_the_elements_that_it_saw(pretrained):
    assert pretrained.potential.elements == load(pretrained.folder).elements == ("H", "C", "N", "O")
    with pytest.raises(TlpotError, match=r"Si.*model\.elements"):
        load(pretrained.folder).predict([molecule("SiH4")])


def test_trained_on_molecules_it_is_a_base_for_crystals(pretrained, tmp_path):
    """Through the command line, on DFT frames; what is frozen stays, what is not trains."""
    config = tmp_path / "config.yaml"
    base = pretrained.folder / "model.safetensors"
    config.write_text(
        f"data: {{files: '{UREA}@0:12'}}\n"
        f"model: {{base: {base}, freeze: [embedding, '*_filter?']}}\n"
        "training: {epochs: 2, device: cpu}\n"
        f"output: {tmp_path / 'run'}\n"
    )
    done = CliRunner().invoke(app, ["finetune", str(config)])
    assert done.exit_code == 0, done.output
    old, new = (
        dict(load(f).backbone.named_parameters()) for f in (pretrained.folder, tmp_path / "run")
    )
    for name, weight in new.items():
        frozen = ".embedding." in name or "_filter" in name
        assert torch.equal(weight, old[name]) == frozen, name
    atoms = tlpot.read_frames([f"{UREA}@0"])[0].atoms
    atoms.calc = TLPotCalculator(tmp_path / "run" / "model.safetensors")
    atoms.calc.calculate(atoms, ["energy", "forces", "stress", "forces_std"])
    assert np.abs(atoms.calc.results["forces"]).max() > 0
    assert atoms.calc.results["energy_std"] > 0


def test_from_scratch_through_the_command_line(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{files: '{UREA}@0:12'}}\n"
        "model: {base: schnet, schnet: {features: 8, interactions: 1, members: 1}}\n"
        f"training: {{epochs: 2, device: cpu}}\noutput: {tmp_path / 'run'}\n"
    )
    done = CliRunner().invoke(app, ["finetune", str(config)])
    assert done.exit_code == 0, done.output
    trained = load(tmp_path / "run")
    assert trained.backbone.architecture.features == 8
    assert trained.backbone.members == 1
    assert trained.elements == ("H", "C", "N", "O")


def test_clones_alone_may_train(pretrained, tmp_path):
    structures = rattled(0)[:3]
    for atoms in structures:
        atoms.symbols[atoms.symbols == "C"] = "Si"
    frames = [Frame(a, -100.0 + i) for i, a in enumerate([*structures, *rattled(1)])]
    write_frames(tmp_path / "frames.extxyz", frames)
    model = {
        "base": str(pretrained.folder),
        "schnet": None,
        "elements": {"Si": {"from": "C", "as": "clone"}},
        "train": "new",
    }
    data = {"split": {"test": 0.0, "validation": 0.0}}
    run = finetune(settings(tmp_path / "frames.extxyz", tmp_path / "run", model=model, data=data))
    old, new = (dict(p.backbone.named_parameters()) for p in (pretrained.potential, run.potential))
    assert not torch.equal(new["networks.Si.embedding.weight"], old["networks.C.embedding.weight"])
    for name, weight in old.items():
        assert torch.equal(weight, new[name]), name


def test_resumed_is_uninterrupted(energies, tmp_path):
    def stop(row) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    config = settings(energies, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        finetune(config, on_epoch=stop)
    resumed = finetune(config, resume=True).potential.backbone
    straight = finetune(config | {"output": str(tmp_path / "straight")}).potential.backbone
    assert resumed.symbols == straight.symbols
    for (name, a), (_, b) in zip(
        resumed.named_parameters(), straight.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_seeds_and_members_differ(energies, tmp_path):
    first, second = (
        prepare(parse_config(settings(energies, tmp_path, seed=seed))).potential.backbone
        for seed in (0, 1)
    )
    a, b = (x.networks[SHARED]["interaction1_hidden"].weight for x in (first, second))
    assert not torch.equal(a, b)
    assert not torch.equal(a[0], a[1])
    assert a.std().item() == pytest.approx(0.25, rel=0.2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"init": "pretrained"}, "schnet has no pretrained weights"),
        ({"elements": {"Si": "C"}}, "no weights of an element"),
        ({"train": "new"}, "init: scratch"),
        ({"freeze": ["input"]}, "matches no layer"),
        ({"schnet": {"feature": 8}}, "features"),
        ({"schnet": {"cutoff": -1.0}}, "cutoff"),
        ({"base": "mini"}, "schnet has no effect with base: mini"),
    ],
)
def test_settings_that_make_no_sense_here(energies, tmp_path, model, message):
    with pytest.raises(TlpotError, match=message):
        prepare(parse_config(settings(energies, tmp_path / "run", model=model)))


def test_the_name_alone_is_no_potential():
    with pytest.raises(TlpotError, match=r"no pretrained weights: train it"):
        load("schnet")
    untrained: Potential = load_base("schnet")
    assert untrained.predict([molecule("SiH4")])[0].energy == 0.0
