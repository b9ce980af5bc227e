"""One network for all elements: its descriptors, its training, its model file."""

from dataclasses import replace
from math import cos, exp, pi

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.data import chemical_symbols
from torch.optim import AdamW

import tlpot
from tlpot.backbones.emodes import Architecture, EModes
from tlpot.config.run import Training, parse_config
from tlpot.elements.modes import element_vectors
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.finetuning.run import finetune
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.load import load, load_base
from tlpot.model.potential import Potential
from tlpot.sampling.choose import frame_features
from tlpot.structure.frames import Batch, Frame
from tlpot.training.loss import loss

MANY = ("CH3OH", "SiH4", "PH3", "CH3SH", "CH3Cl", "LiF", "NaCl", "CF4", "CH3CONH2", "AlCl3")
"""Molecules of thirteen elements."""


def many() -> list[Atoms]:
    found = [molecule(name) for name in MANY]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    return found


def features(backbone: EModes, atoms: Atoms) -> np.ndarray:
    batch = Batch.of_frame(Frame(atoms), backbone.cutoff)
    return backbone.features(batch)[0].numpy()


# --- descriptors ---------------------------------------------------------------------------------


def fade(r: float, cutoff: float) -> float:
    return 0.5 * cos(pi * r / cutoff) + 0.5


def test_descriptors_are_the_weighted_sums(small_emodes):
    """The formulas of the paper, written out for the oxygen of a bent HOSi."""
    backbone = small_emodes().backbone
    c = backbone.architecture
    atoms = Atoms("OHSi", [(0, 0, 0), (0.97, 0, 0), (-0.5, 1.6, 0)])
    o, h, si = element_vectors(["O", "H", "Si"])
    a, b = np.linalg.norm(atoms.positions[1:], axis=1)
    cosine = -0.5 / b
    radial = [
        sum(
            vector * 0.25 * exp(-c.radial_eta * (r - shift) ** 2) * fade(r, c.radial_cutoff)
            for vector, r in ((h, a), (si, b))
        )
        for shift in c.radial_shifts
    ]
    theta = np.arccos(0.95 * cosine)
    pair = (np.outer(h, si) + np.outer(si, h)) / 2
    both = fade(a, c.angular_cutoff) * fade(b, c.angular_cutoff)
    angular = [
        pair
        * (2 * ((1 + cos(theta - section)) / 2) ** c.angular_zeta)
        * exp(-c.angular_eta * ((a + b) / 2 - shift) ** 2)
        * both
        for shift in c.angular_shifts
        for section in c.angular_sections
    ]
    upper = np.triu_indices(4)
    expected = np.concatenate(
        [np.array(radial).T.ravel(), np.array([g[upper] for g in angular]).T.ravel(), o]
    )
    np.testing.assert_allclose(features(backbone, atoms)[0], expected, rtol=1e-6, atol=1e-12)
    assert np.abs(expected).max() > 0.1


def test_nothing_grows_with_the_number_of_elements(small_emodes):
    backbone = small_emodes().backbone
    two = features(backbone, molecule("H2O"))
    all_at_once = Atoms(backbone.symbols, np.arange(86)[:, None] * [1.2, 0.0, 0.0])
    many = features(backbone, all_at_once)
    assert two.shape[1] == many.shape[1] == 4 * 16 + 10 * 32 + 4
    assert np.isfinite(many).all()
    assert sum(p.numel() for p in backbone.parameters()) == 3 * (
        (388 * 12 + 12) + (12 * 10 + 10) + (10 * 8 + 8) + (8 + 1)
    )


def test_only_the_vectors_tell_elements_apart(small_emodes):
    """With silicon's vector put in carbon's place, silane's energy is methane's."""
    architecture = small_emodes().backbone.architecture
    vectors = list(architecture.vectors)
    vectors[architecture.symbols.index("Si")] = vectors[architecture.symbols.index("C")]
    backbone = EModes(replace(architecture, vectors=tuple(vectors))).double()
    backbone.init_gaussian(0.4, seed=0)
    reference = replace(small_emodes().reference, values=dict.fromkeys(backbone.symbols, 0.0))
    alike = Potential(backbone.requires_grad_(False), reference)
    methane, silane = molecule("CH4"), molecule("CH4")
    silane.symbols[0] = "Si"
    a, b = alike.predict([methane, silane])
    assert a.energy == pytest.approx(b.energy, abs=1e-12)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-12)
    apart = Potential(small_emodes().backbone, reference)
    a, b = apart.predict([methane, silane])
    assert abs(a.energy - b.energy) > 1e-2


def test_every_road_to_energies_and_slopes_agrees(small_emodes, plain):
    potential, frames = small_emodes(), [Frame(atoms) for atoms in many()]
    batch = potential.batch(frames)
    expected = plain(potential).evaluate(batch, members=True)
    for training in (False, True):
        output = potential.evaluate(batch, training=training, members=True)
        torch.testing.assert_close(output.atomic, expected.atomic, rtol=0, atol=1e-9)
        torch.testing.assert_close(output.forces, expected.forces, rtol=0, atol=1e-9)
    mean = potential.evaluate(batch, training=True)
    torch.testing.assert_close(mean.slope[0], expected.slope.mean(dim=0), rtol=0, atol=1e-9)


def test_training_is_training_by_plain_autograd(small_emodes, plain):
    frames = [
        Frame(atoms, float(i), np.random.default_rng(i).normal(size=(len(atoms), 3)))
        for i, atoms in enumerate(many())
    ]
    settings = Training.model_validate({"lambda": 0.3, "stress_weight": 0.0})
    ends = []
    for road in (lambda p: p, plain):
        potential = small_emodes()
        potential.backbone.requires_grad_(True)
        optimiser = AdamW(potential.backbone.parameters(), lr=1e-3)
        batch = potential.batch(frames)
        for _ in range(3):
            optimiser.zero_grad()
            output = road(potential).evaluate(batch, training=True, members=True)
            loss(output, batch, settings).total.backward()
            optimiser.step()
        ends.append(dict(potential.backbone.named_parameters()))
    start = dict(small_emodes().backbone.named_parameters())
    for name, end in ends[0].items():
        torch.testing.assert_close(end, ends[1][name], rtol=0, atol=1e-9)
        assert not torch.equal(end, start[name])


def test_descriptor_space_of_frames(small_emodes):
    found = frame_features(small_emodes(), [Frame(atoms) for atoms in many()])
    assert found.shape == (len(MANY), 388)
    assert len({tuple(row) for row in found.round(6)}) == len(MANY)


# --- the model file ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_save_and_load_is_bit_for_bit(tmp_path, small_emodes, dtype):
    potential = small_emodes(dtype=dtype)
    again = load(potential.save(tmp_path / "model.safetensors"))
    assert again.backbone.architecture == potential.backbone.architecture
    assert again.reference == potential.reference
    for a, b in zip(potential.predict(many()), again.predict(many()), strict=True):
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)


def test_a_later_table_of_vectors_changes_no_saved_model(tmp_path, monkeypatch, small_emodes):
    path = small_emodes().save(tmp_path / "model.safetensors")
    before = load(path).predict(many())
    monkeypatch.setattr(
        "tlpot.backbones.emodes.vectors", lambda: dict.fromkeys(chemical_symbols[1:87], (1.0,) * 4)
    )
    assert Architecture.new().vectors[5] == (1.0, 1.0, 1.0, 1.0)
    assert [p.energy for p in load(path).predict(many())] == [p.energy for p in before]


def test_damaged_files_are_refused(tmp_path, small_emodes, monkeypatch):
    potential = small_emodes()
    for change in ({"widths": (4, 4, 4)}, {"symbols": ("H",)}, {"vectors": ((1.0,),) * 86}):
        odd = EModes(potential.backbone.architecture)
        odd.load_state_dict(potential.backbone.state_dict())
        odd.architecture = replace(odd.architecture, **change)
        path = Potential(odd, potential.reference).save(tmp_path / "odd.safetensors")
        with pytest.raises(TlpotError, match=r"odd\.safetensors"):
            load(path)


def test_torchani_has_no_such_module(small_emodes):
    with pytest.raises(TlpotError, match="emodes"):
        small_emodes().to_torchani()


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory, small_emodes, write_frames):
    """Molecules of eight elements, labelled by a small random potential."""
    names = ("CH3OH", "SiH4", "CH3SH", "CH3Cl", "CF4", "CH3CONH2", "PH3", "CH4")
    structures = []
    for seed in range(4 * len(names)):
        structures.append(molecule(names[seed % len(names)]))
        structures[-1].rattle(0.08, seed=seed)
    labels = small_emodes(seed=5).predict(structures)
    frames = [Frame(a, p.energy, p.forces) for a, p in zip(structures, labels, strict=True)]
    return write_frames(tmp_path_factory.mktemp("emodes") / "frames.extxyz", frames)


def settings(data, folder, **changes) -> dict:
    return {
        "data": {"files": str(data), "split": {"test": 0.2}},
        "model": {"base": "emodes"} | changes.pop("model", {}),
        "training": {"epochs": 3, "learning_rate": 1e-3, "lambda": 0.3, "device": "cpu"} | changes,
        "output": str(folder),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    return finetune(settings(data, tmp_path_factory.mktemp("run") / "run", epochs=25))


def test_a_run_from_scratch_learns_and_its_folder_is_a_model(trained, data):
    metrics = trained.metrics
    key = "force_rmse_meV_per_A_component"
    before, after = metrics["baseline"]["test"], metrics["finetuned"]["test"]
    assert after[key] < 0.8 * before[key]
    frames = tlpot.read_frames([str(data)])
    test = [frames[i] for i in trained.manifest["split"]["test"]]
    found = tlpot.load(trained.folder).predict(test)
    pairs = zip(found, test, strict=True)
    error = np.concatenate([(p.forces - f.forces).ravel() for p, f in pairs])
    assert 1e3 * np.sqrt((error**2).mean()) == pytest.approx(after[key], rel=1e-4)
    assert all(p.energy_std > 0 for p in found)
    layers = trained.manifest["trainable_parameters"]["layers"]
    assert [layer["name"] for layer in layers] == [
        f"shared.{name}" for name in ("input", "hidden1", "hidden2", "output")
    ]


def test_the_calculator_takes_elements_that_the_training_never_saw(trained):
    atoms = molecule("SiH4")
    atoms.symbols[0] = "Ge"
    atoms.rattle(0.05, seed=1)
    atoms.calc = TLPotCalculator(trained.folder / "model.safetensors")
    forces = atoms.get_forces()
    assert np.isfinite(forces).all()
    assert np.abs(forces).max() > 1e-3
    atoms.calc.calculate(atoms, ["forces_std"])
    assert atoms.calc.results["forces_std"].max() > 0
    assert atoms.calc.results["energy_std"] > 0


def test_a_trained_one_is_a_base(trained, data, tmp_path):
    base = str(trained.folder / "model.safetensors")
    model = {"base": base, "freeze": ["input", "shared.hidden1"]}
    again = finetune(settings(data, tmp_path / "run", model=model))
    assert again.metrics["baseline"]["train"] != trained.metrics["baseline"]["train"]
    old, new = (dict(load(f.folder).backbone.named_parameters()) for f in (trained, again))
    for name, weight in new.items():
        frozen = ".input." in name or ".hidden1." in name
        assert torch.equal(weight, old[name]) == frozen, name


def test_resumed_is_uninterrupted(data, tmp_path, small_emodes):
    def stop(row) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    base = small_emodes(dtype=torch.float32).save(tmp_path / "base.safetensors")
    config = settings(data, tmp_path / "run", model={"base": str(base), "init": "scratch"})
    with pytest.raises(KeyboardInterrupt):
        finetune(config, on_epoch=stop)
    resumed = finetune(config, resume=True)
    straight = finetune(config | {"output": str(tmp_path / "straight")})
    for (name, a), (_, b) in zip(
        resumed.potential.backbone.named_parameters(),
        straight.potential.backbone.named_parameters(),
        strict=True,
    ):
        assert torch.equal(a, b), name


def test_seeds_differ(data, tmp_path):
    first, second = (
        prepare(parse_config(settings(data, tmp_path, seed=seed))).potential.backbone.layer("input")
        for seed in (0, 1)
    )
    assert not torch.equal(first.weight, second.weight)
    assert first.weight.std() > 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"init": "pretrained"}, "emodes has no pretrained weights"),
        ({"elements": {"Si": "C"}}, "no weights of an element"),
        ({"elements": {"Si": {"from": "C", "as": "clone"}}}, "remove model.elements"),
        ({"train": "new"}, "init: scratch"),
        ({"freeze": ["Si.*"]}, "matches no layer"),
    ],
)
def test_settings_that_make_no_sense_here(data, tmp_path, model, message):
    with pytest.raises(TlpotError, match=message):
        prepare(parse_config(settings(data, tmp_path / "run", model=model)))


def test_stand_ins_are_refused_by_a_trained_one_too(trained):
    with pytest.raises(TlpotError, match="no weights of an element"):
        load_base(trained.folder, {"Si": "C"})


def test_the_name_alone_is_no_potential():
    with pytest.raises(TlpotError, match=r"no pretrained weights: train it"):
        load("emodes")
    assert load_base("emodes").predict([molecule("SiH4")])[0].energy == 0.0
