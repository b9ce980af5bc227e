"""Real crystals, built from their published cells, with their measured band gaps."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
import yaml
from ase import Atoms
from ase.build import bulk

KNOWN = (
    # structure, a, band gap in eV at room temperature (Kittel; Madelung)
    ("C", "diamond", 3.567, 5.47),
    ("Si", "diamond", 5.431, 1.12),
    ("Ge", "diamond", 5.658, 0.66),
    ("SiC", "zincblende", 4.360, 2.36),
    ("GaAs", "zincblende", 5.653, 1.42),
    ("GaP", "zincblende", 5.451, 2.26),
    ("InP", "zincblende", 5.869, 1.34),
    ("InAs", "zincblende", 6.058, 0.35),
    ("ZnS", "zincblende", 5.409, 3.68),
    ("ZnSe", "zincblende", 5.668, 2.70),
    ("CdTe", "zincblende", 6.482, 1.49),
    ("LiF", "rocksalt", 4.026, 13.6),
    ("NaCl", "rocksalt", 5.640, 8.5),
    ("KBr", "rocksalt", 6.600, 7.4),
    ("MgO", "rocksalt", 4.212, 7.8),
    ("PbS", "rocksalt", 5.936, 0.41),
    ("Cu", "fcc", 3.615, 0.0),
    ("Al", "fcc", 4.050, 0.0),
    ("Fe", "bcc", 2.866, 0.0),
    ("Na", "bcc", 4.291, 0.0),
)


def crystal(name: str) -> Atoms:
    _, structure, a, _ = next(known for known in KNOWN if known[0] == name)
    return bulk(name, structure, a)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A folder as CGCNN has it: ``id_prop.csv`` without a header, and a CIF for each id."""
    path = tmp_path_factory.mktemp("crystals")
    for name, *_ in KNOWN:
        ase.io.write(path / f"{name}.cif", crystal(name))
    lines = [f"{name},{gap}" for name, *_, gap in KNOWN]
    (path / "id_prop.csv").write_text("\n".join(lines) + "\n")
    return path


def make_settings(folder: Path, output: Path, **training) -> dict:
    """The config, as nested dict, of a run of a second."""
    data = {"files": str(folder / "id_prop.csv"), "unit": "eV"}
    return {
        "data": data | {"split": {"test": 0.2, "validation": 0.1}},
        "model": {"width": 8, "convolutions": 2, "dense": 8},
        "training": {"epochs": 3, "batch_size": 5, "device": "cpu", **training},
        "output": str(output),
    }


@pytest.fixture
def settings(folder, tmp_path) -> dict:
    return make_settings(folder, tmp_path / "run")


@pytest.fixture
def config(settings, tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="session")
def finished(folder, tmp_path_factory):
    """A run of thirty epochs, done once; not to be written to."""
    from tlpot.property.run import train

    output = tmp_path_factory.mktemp("finished") / "run"
    return train(make_settings(folder, output, epochs=60, learning_rate=1e-2, ema=0.9))
