import json
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.spacegroup import crystal

from tlpot.powder.run import train
from tlpot.training.job import Run

METALS, OTHERS = ("Mg", "Ca", "Mn", "Zn", "Cd", "Sn"), ("O", "S")


def rock_salt(metal: str, other: str, a: float) -> Atoms:
    sites = [(0, 0, 0), (0.5, 0.5, 0.5)]
    return crystal([metal, other], sites, spacegroup=225, cellpar=[a, a, a, 90, 90, 90])


def rutile(metal: str, other: str, a: float) -> Atoms:
    sites = [(0, 0, 0), (0.305, 0.305, 0)]
    return crystal([metal, other], sites, spacegroup=136, cellpar=[a, a, 0.65 * a, 90, 90, 90])


def wurtzite(metal: str, other: str, a: float) -> Atoms:
    sites = [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.38)]
    return crystal([metal, other], sites, spacegroup=186, cellpar=[a, a, 1.6 * a, 90, 90, 120])


@pytest.fixture(scope="session")
def crystals() -> dict[str, Atoms]:
    """Thirty-six real kinds of crystals: rock salt, rutile and wurtzite of twelve compositions."""
    found = {}
    for i, metal in enumerate(METALS):
        for j, other in enumerate(OTHERS):
            size = 4.2 + 0.15 * i + 0.8 * j
            found[f"{metal}{other}_rocksalt"] = rock_salt(metal, other, size)
            found[f"{metal}{other}2_rutile"] = rutile(metal, other, 1.05 * size)
            found[f"{metal}{other}_wurtzite"] = wurtzite(metal, other, 0.77 * size)
    return {k: Atoms(v.symbols, v.positions, cell=v.cell, pbc=True) for k, v in found.items()}


@pytest.fixture(scope="session")
def folder(tmp_path_factory, crystals) -> Path:
    """The crystals as CIF files; not to be written to."""
    path = tmp_path_factory.mktemp("crystals")
    for name, atoms in crystals.items():
        ase.io.write(path / f"{name}.cif", atoms)
    return path


@pytest.fixture(scope="session")
def learned(trained, crystals) -> dict[str, str]:
    """Of each kind the name of a crystal that `trained` was trained on."""
    names = sorted(crystals)
    stored = json.loads((trained.folder / "manifest.json").read_text())["split"]["train"]
    return {names[i].split("_")[1]: names[i] for i in stored}


def make_settings(folder: Path, output: Path, **training) -> dict:
    """A run of a second or two."""
    return {
        "data": {"files": str(folder), "split": {"test": 0.2, "validation": 0.2}},
        "model": {"dense": [32], "dropout": 0.0},
        "training": {
            "epochs": 40,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "ema": 0.0,
            "device": "cpu",
            "augmentation": {"variants": 4},
            **training,
        },
        "output": str(output),
    }


@pytest.fixture
def settings(tmp_path, folder) -> dict:
    return make_settings(folder, tmp_path / "run")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, folder) -> Run:
    """A finished run; not to be written to."""
    return train(make_settings(folder, tmp_path_factory.mktemp("trained") / "run"))
