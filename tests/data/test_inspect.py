"""`tlpot inspect`: it reports, never refuses, and its pictures show the data."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.image import imread
from rich.console import Console

from tlpot.cli.show.data import print_inspection
from tlpot.config.data import Data, Keys
from tlpot.data.inspect import Inspection, inspect_files
from tlpot.data.pictures import draw_energies, draw_forces
from tlpot.data.summary import group_frames
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame


def printed(inspection: Inspection) -> str:
    out = StringIO()
    print_inspection(inspection, Console(file=out, width=220))
    return out.getvalue()


@pytest.fixture
def files(tmp_path: Path, water: Callable[..., Frame]) -> list[str]:
    """Eight good frames, one too hot, one repeat; and a file that is cut."""
    images = []
    for shift in [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 9.0, 0.07]:
        frame = water(min(shift, 0.5))
        forces = np.full((3, 3), 99.0 if shift == 9.0 else shift)
        atoms = Atoms(frame.atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=forces)
        images.append(atoms)
    ase.io.write(tmp_path / "good.extxyz", images)
    (tmp_path / "cut.traj").write_bytes(b"- of Ulm")
    return [str(tmp_path / "good.extxyz"), str(tmp_path / "cut.traj")]


def test_tables_count_the_good_and_the_bad(files: list[str]) -> None:
    inspection = inspect_files(files, None, Data(files=files))
    assert [(g.formula, g.kind, g.n_read, len(g.frames)) for g in inspection.groups] == [
        ("H2O", "crystal", 10, 8)
    ]
    text = printed(inspection)
    for part in ("force too large", "duplicate", "8 of 10 frames used"):
        assert part in text
    assert [r.frame.index for r in inspection.checked.rejected] == [8, 9]
    assert "not read: " in text
    assert "cut.traj" in text
    assert inspection.pictures == []


def test_numbers_of_a_group(files: list[str]) -> None:
    (group,) = inspect_files(files, None, Data(files=files)).groups
    shifts = np.arange(8) / 100
    np.testing.assert_allclose(group.energies(), (-14.0 + shifts) / 3)
    np.testing.assert_allclose(group.forces(), np.repeat(np.sqrt(3) * shifts, 3), atol=1e-7)


@pytest.mark.drawn
def test_pictures_are_written_and_not_blank(files: list[str], tmp_path: Path) -> None:
    inspection = inspect_files(files, tmp_path / "new" / "folder", Data(files=files))
    assert [picture.name for picture in inspection.pictures] == ["energies.png", "forces.png"]
    for picture in inspection.pictures:
        pixels = imread(picture)[..., :3]
        assert pixels.shape[1] > 1000
        assert 0.001 < (pixels.min(axis=2) < 0.9).mean() < 0.5
        assert str(picture) in printed(inspection)


def test_energy_picture_shows_every_frame_above_its_groups_lowest(files: list[str]) -> None:
    inspection = inspect_files(files, None, Data(files=files))
    axes = draw_energies(inspection.groups).axes[0]
    x = axes.collections[0].get_offsets()[:, 0]  # type: ignore[index]
    np.testing.assert_allclose(np.sort(x), np.arange(8) * 10 / 3, atol=1e-6)
    assert axes.get_yticklabels()[0].get_text() == "H2O  (8)"


def test_force_picture_has_a_row_an_element(files: list[str]) -> None:
    inspection = inspect_files(files, None, Data(files=files))
    axes = draw_forces(inspection.groups).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["H  (16 atoms)", "O  (8 atoms)"]
    assert axes.texts[0].get_text() == "max 0.1"


def test_many_compositions_are_one_group_less_a_fit() -> None:
    random = np.random.default_rng(0)
    frames = []
    for i in range(40):
        n_h, n_o = 2 + i, 1 + i % 7
        atoms = Atoms(f"H{n_h}O{n_o}", random.normal(size=(n_h + n_o, 3)))
        energy = -13.6 * n_h - 2040.0 * n_o
        frames.append(Frame(atoms, energy=energy, forces=np.zeros((len(atoms), 3)), source="a"))
    (group,) = group_frames(frames, frames)
    assert group.formula == "40 compositions, less a fit by element"
    np.testing.assert_allclose(group.energies(), 0.0, atol=1e-9)


def test_labels_that_nobody_named_are_reported(tmp_path: Path) -> None:
    atoms = Atoms("He", cell=[3, 3, 3], pbc=True)
    atoms.info.update(a_energy=-1.0, b_energy=-2.0)
    path = tmp_path / "two.extxyz"
    ase.io.write(path, atoms)
    inspection = inspect_files([str(path)], tmp_path, Data(files=[str(path)]))
    assert "b_energy" in inspection.unreadable[0]
    assert inspection.pictures == []
    assert "data.keys.energy" in printed(inspection)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TlpotError, match="no such file"):
        inspect_files([str(tmp_path / "x.traj")], None, Data(files=["x"]))


def test_energies_without_forces_are_shown_and_what_to_do_with_them(
    tmp_path: Path, water: Callable[..., Frame], write_frames: Callable[..., Path]
) -> None:
    bare = [replace(water(0.01 * i), forces=None) for i in range(3)]
    file = str(write_frames(tmp_path / "bare.extxyz", bare))
    inspection = inspect_files([file], tmp_path, Data(files=[file], energy_only=True))
    assert inspection.pictures == [tmp_path / "energies.png"]
    text = printed(inspection)
    assert "3/3" in text
    assert (
        "3 frames have no forces: tlpot finetune learns from them with data.relaxed: true" in text
    )


def test_all_vasp_samples(tlpot_data: Path, tmp_path: Path) -> None:
    folder = str(tlpot_data / "vasp_samples")
    inspection = inspect_files([folder], tmp_path, Data(files=[folder]))
    assert len(inspection.unreadable) == 1
    assert "outcar.longit" in inspection.unreadable[0]
    assert len(inspection.pictures) == 2


def test_si_i_molecules(tlpot_data: Path) -> None:
    files = [str(tlpot_data / "si_i_molecules")]
    keys = Keys(energy="orca_energy")
    inspection = inspect_files(files, None, Data(files=files, keys=keys))
    (group,) = inspection.groups
    assert group.n_read == 1000
    assert np.ptp(group.energies()) < 3.0
