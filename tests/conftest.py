"""Fixtures that several rooms share: structures, small random potentials, labelled frames."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads would only spin

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.spacegroup import crystal
from hypothesis import settings as hypothesis_settings

from tlpot.backbones.aev import Architecture
from tlpot.backbones.ani import ANI, LAYERS
from tlpot.backbones.base import plain_energy_and_slope
from tlpot.backbones.emodes import Architecture as ElementVectors
from tlpot.backbones.emodes import EModes
from tlpot.backbones.schnet import Architecture as SchNetArchitecture
from tlpot.backbones.schnet import SchNet
from tlpot.cli.console import Bar
from tlpot.engine.constants import Angles
from tlpot.finetuning.run import PotentialRun, finetune
from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.model.reference import EnergyReference
from tlpot.structure.frames import Frame

hypothesis_settings.register_profile(
    "tlpot", max_examples=40, deadline=None, derandomize="CI" in os.environ
)
hypothesis_settings.load_profile("tlpot")

pytest_plugins = ("browser", "commands", "distant", "forked", "landscapes", "metals", "vasp_files")
"""In tests/fixtures."""

SMALL = Architecture(
    symbols=("H", "C", "N", "O"),
    widths=((12, 10, 8), (10, 8, 6), (8, 8, 8), (12, 8, 6)),
    members=3,
    radial_cutoff=4.625,
    radial_eta=6.0,
    radial_shifts=(0.875, 1.5, 2.125, 2.875),
    angular_cutoff=3.25,
    angular_eta=5.0,
    angular_zeta=9.0,
    angular_shifts=(0.875, 1.625),
    angular_sections=(0.5, 1.375, 2.5),
    fine=Angles(eta=8.0, zeta=16.0, shifts=(1.25, 2.0, 2.75), sections=(0.75, 1.5)),
)
"""ANI in miniature, with fine angles; float32 holds its constants, as torchani's buffers do."""

SELF_ENERGIES = {"H": -16.587, "C": -1036.202, "N": -1488.176, "O": -2044.741}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files that take long; skip what needs a GPU where there is none."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def one_bar_at_a_time(monkeypatch) -> None:
    """Two at once are an error before rich 14.1, in a terminal; here always."""
    shown: list[Bar] = []
    begin, end = Bar.__enter__, Bar.__exit__

    def checked_begin(bar: Bar) -> Bar:
        assert not shown, "a bar is begun inside another"
        shown.append(bar)
        return begin(bar)

    def checked_end(bar: Bar, *error: Any) -> None:
        shown.clear()
        end(bar, *error)

    monkeypatch.setattr(Bar, "__enter__", checked_begin)
    monkeypatch.setattr(Bar, "__exit__", checked_end)


@pytest.fixture(scope="session")
def tlpot_data() -> Path:
    """Folder of real reference data, named by TLPOT_DATA."""
    folder = os.environ.get("TLPOT_DATA", "")
    if not folder or not Path(folder, "README.md").is_file():
        pytest.skip("TLPOT_DATA does not name the folder of reference data")
    return Path(folder)


@pytest.fixture(scope="session")
def published() -> Callable[[str], Potential]:
    """Loads a published potential once; skips where its weights would have to be downloaded."""
    folder = os.environ.get("TORCHANI_DATA_DIR", "")

    @cache
    def get(name: str = "ani2x") -> Potential:
        if not Path(folder, "StateDicts", f"{name}_state_dict.pt").is_file():
            pytest.skip(f"TORCHANI_DATA_DIR names no folder with the weights of {name}")
        return load(name)

    return get


@pytest.fixture(scope="session")
def small() -> Callable[..., Potential]:
    """Builds a small random potential; float64 unless told, so that physics can be tight."""

    def build(
        seed: int = 0,
        members: int = 3,
        donors: dict[str, str] | None = None,
        dtype: torch.dtype = torch.float64,
        fine: Angles | None = SMALL.fine,
    ) -> Potential:
        backbone = ANI(replace(SMALL, members=members, fine=fine), donors)
        random = torch.Generator().manual_seed(seed)
        for symbol in SMALL.symbols:
            for name in LAYERS:
                layer = backbone.layer(symbol, name)
                fan_in = layer.weight.shape[2]
                size = (3.0 if name == "input" else 1.0) * fan_in**-0.5
                layer.weight.data.normal_(0.0, size, generator=random)
                layer.bias.data.normal_(0.0, 0.05, generator=random)
                if name == "output":
                    layer.weight.data *= 0.1
        energies = SELF_ENERGIES | {e: -5.0 for e in donors or {}}
        reference = EnergyReference(energies, "self-energies", "made up")
        return Potential(backbone.to(dtype).requires_grad_(False), reference)

    return build


@pytest.fixture(scope="session")
def small_emodes() -> Callable[..., Potential]:
    """As `small`, over element vectors: any element enters."""

    def build(seed: int = 0, members: int = 3, dtype: torch.dtype = torch.float64) -> Potential:
        backbone = EModes(ElementVectors.new((12, 10, 8), members)).to(dtype)
        backbone.init_gaussian(0.4, seed)
        energies = dict.fromkeys(backbone.symbols, -5.0) | SELF_ENERGIES
        reference = EnergyReference(energies, "self-energies", "made up")
        return Potential(backbone.requires_grad_(False), reference)

    return build


@pytest.fixture(scope="session")
def small_schnet() -> Callable[..., Potential]:
    """As `small`, a SchNet of two interactions."""

    def build(seed: int = 0, members: int = 3, dtype: torch.dtype = torch.float64) -> Potential:
        sizes = {"cutoff": 4.5, "features": 8, "interactions": 2, "gaussians": 12}
        symbols = ("H", "C", "N", "O")
        backbone = SchNet(SchNetArchitecture(symbols=symbols, members=members, **sizes)).to(dtype)
        backbone.init_gaussian(0.15, seed)
        random = torch.Generator().manual_seed(seed)
        for name, parameter in backbone.named_parameters():
            if name.endswith("bias"):
                parameter.data.normal_(0.0, 0.1, generator=random)
            if name.endswith("output.weight") and parameter.shape[1] == 1:
                parameter.data.normal_(0.0, 0.5, generator=random)
        reference = EnergyReference(dict(SELF_ENERGIES), "self-energies", "made up")
        return Potential(backbone.requires_grad_(False), reference)

    return build


@pytest.fixture(scope="session")
def plain() -> Callable[[Potential], Potential]:
    """The same potential by automatic differentiation: the reference for the fast engine."""

    class Plain:
        def __init__(self, backbone: ANI) -> None:
            self.backbone = backbone

        def __getattr__(self, name: str) -> object:
            return getattr(self.backbone, name)

        def energy_and_slope(self, batch, *args, **kwargs):
            return plain_energy_and_slope(self.backbone, batch, *args, **kwargs)

    return lambda potential: Potential(Plain(potential.backbone), potential.reference)


@pytest.fixture
def ideal_urea() -> Atoms:
    """Urea's tetragonal cell, 16 atoms, P-42_1m (Swaminathan 1984)."""
    sites = {
        "C": (0.0, 0.5, 0.3280),
        "O": (0.0, 0.5, 0.5962),
        "N": (0.1447, 0.6447, 0.1785),
        "H": (0.2552, 0.7552, 0.2841),
        "H2": (0.1428, 0.6428, -0.0339),
    }
    cell = [5.565, 5.565, 4.684, 90, 90, 90]
    built = crystal([s[0] for s in sites], list(sites.values()), spacegroup=113, cellpar=cell)
    return Atoms(built.symbols, built.positions, cell=built.cell, pbc=True)


@pytest.fixture
def urea(ideal_urea) -> Atoms:
    """The same, rattled off its symmetry."""
    ideal_urea.rattle(0.05, seed=3)
    return ideal_urea


def water_ice(seed: int, repeat: int = 1) -> Atoms:
    """One water molecule in a sheared 3 Å box, far smaller than any cutoff, strained at random."""
    random = np.random.default_rng(seed)
    cell = np.array([[3.1, 0.0, 0.0], [0.4, 3.0, 0.0], [-0.3, 0.2, 2.9]])
    atoms = molecule("H2O", cell=cell, pbc=True).repeat((repeat, 1, 1))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * random.normal(size=(3, 3))), True)
    atoms.positions += 0.05 * random.normal(size=atoms.positions.shape)
    return atoms


@pytest.fixture(scope="session")
def structures() -> Callable[[int], list[Atoms]]:
    """`n` unlike structures: tiny cells of water, their doubles, and molecules of acetamide."""

    def build(n: int) -> list[Atoms]:
        found = []
        for seed in range(n):
            if seed % 4 == 3:
                atoms = molecule("CH3CONH2")
                atoms.rattle(0.05, seed=seed)
            else:
                atoms = water_ice(seed, 1 + seed % 2)
            found.append(atoms)
        return found

    return build


@pytest.fixture(scope="session")
def teacher(small) -> Potential:
    """The small potential with every weight nudged: what a student is trained towards."""
    potential = small()
    random = torch.Generator().manual_seed(9)
    for parameter in potential.backbone.parameters():
        parameter += 0.02 * torch.empty_like(parameter).normal_(generator=random)
    values = {s: e - 0.3 for s, e in SELF_ENERGIES.items()}
    return Potential(potential.backbone, replace(potential.reference, values=values))


@pytest.fixture(scope="session")
def labelled(structures, teacher) -> Callable[[int], list[Frame]]:
    """`n` structures with the teacher's energy, forces and (of crystals) stress."""

    def build(n: int) -> list[Frame]:
        found = structures(n)
        return [
            Frame(atoms, p.energy, p.forces, p.stress, "teacher.extxyz", i)
            for i, (atoms, p) in enumerate(zip(found, teacher.predict(found), strict=True))
        ]

    return build


@pytest.fixture(scope="session")
def write_frames() -> Callable[[Path, list[Frame]], Path]:
    """Writes labelled frames as extxyz."""

    def write(path: Path, frames: list[Frame]) -> Path:
        images = []
        for frame in frames:
            atoms = frame.atoms.copy()
            labels = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
            atoms.calc = SinglePointCalculator(atoms, **labels)
            images.append(atoms)
        ase.io.write(path, images)
        return path

    return write


@pytest.fixture(scope="session")
def base_model(tmp_path_factory, small) -> Path:
    """A small potential in a file, to name as ``model.base``."""
    return small(dtype=torch.float32).save(tmp_path_factory.mktemp("base") / "base.safetensors")


def make_settings(data: Path, base: Path, output: Path) -> dict:
    """A config, as nested dict, of a run of a second or two."""
    return {
        "data": {"files": [str(data)], "split": {"test": 0.25, "validation": 0.2}},
        "model": {"base": str(base), "freeze": ["output"]},
        "training": {"epochs": 2, "batch_size": 3, "fit": "mean", "device": "cpu"},
        "evaluation": {"stress": False},
        "output": str(output),
    }


@pytest.fixture
def settings(tmp_path, labelled, write_frames, base_model) -> dict:
    """As `make_settings`, on sixteen frames; ``output`` is not there yet."""
    data = write_frames(tmp_path / "frames.extxyz", labelled(16))
    return make_settings(data, base_model, tmp_path / "run")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, labelled, write_frames, base_model) -> PotentialRun:
    """A run of fifteen epochs on sixteen frames, done once; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_frames(folder / "frames.extxyz", labelled(16))
    settings = make_settings(data, base_model, folder / "run")
    settings["training"]["epochs"] = 15
    return finetune(settings)
