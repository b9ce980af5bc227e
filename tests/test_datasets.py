"""The project's own datasets: readable, whole, of one level of theory, as documented."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from tlpot.config.data import Data
from tlpot.data.check import check_frames
from tlpot.data.read import read_frames
from tlpot.structure.frames import Frame

DATASETS = Path(__file__).parents[1] / "datasets"
NAMES = sorted(
    path.parent.name for path in DATASETS.glob("*/*.extxyz") if path.stem == path.parent.name
)


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest) -> tuple[str, list[Frame]]:
    """Name and frames of one dataset."""
    return request.param, read_frames(DATASETS / request.param / f"{request.param}.extxyz")


def test_four_datasets() -> None:
    assert NAMES == ["cuscn", "iodoform", "methylsilane", "urea"]


def test_no_frame_is_rejected(dataset: tuple[str, list[Frame]]) -> None:
    name, frames = dataset
    settings = Data(files=[f"{name}.extxyz"], bad_frames="refuse", duplicates="refuse")
    assert len(check_frames(frames, settings).frames) == len(frames)


def test_one_level_of_theory(dataset: tuple[str, list[Frame]]) -> None:
    _, frames = dataset
    settings = {
        tuple(frame.info[key] for key in ("engine", "xc", "cutoff", "kpts")) for frame in frames
    }
    assert len(settings) == 1


def test_its_script_says_what_its_frames_do(
    dataset: tuple[str, list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``crystal.py``: the same atoms, the same cutoff and k-points, molecules that are whole."""
    name, frames = dataset
    monkeypatch.syspath_prepend(str(DATASETS.parent / "tools"))
    about = runpy.run_path(str(DATASETS / name / "crystal.py"))
    assert str(about["SETTING"]) == frames[0].info["kpts"]
    assert about["SETTING"].cutoff == frames[0].info["cutoff"]
    assert about["start"]().numbers.tolist() == frames[0].atoms.numbers.tolist()
    atoms = [i for molecule in about["MOLECULES"] for i in molecule]
    assert sorted(atoms) == list(range(len(frames[0])))
    units = {frames[0].atoms[molecule].get_chemical_formula() for molecule in about["MOLECULES"]}
    assert units <= {"CH4N2O", "CH6Si", "CHI3", "Cu", "CNS"}


def test_forces_sum_to_zero(dataset: tuple[str, list[Frame]]) -> None:
    _, frames = dataset
    for frame in frames:
        assert frame.forces is not None
        assert np.abs(frame.forces.sum(0)).max() < 0.03  # eV/Å; what the SCF thresholds leave


def test_documented_number_of_frames(dataset: tuple[str, list[Frame]]) -> None:
    name, frames = dataset
    table = (DATASETS / "README.md").read_text()
    row = re.search(rf"\[`{name}`\]\({name}/README.md\) \|[^|]*\| (\d+) \|", table)
    assert row is not None
    assert int(row[1]) == len(frames)
    assert re.search(rf"^{len(frames)} frames", (DATASETS / name / "README.md").read_text(), re.M)
