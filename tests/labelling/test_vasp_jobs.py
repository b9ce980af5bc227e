"""Folders for VASP and the way back; the results are hand-made in VASP's own layout."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from tlpot.config.run import Label
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.labelling.vasp_jobs import INCAR, collect_jobs, write_jobs
from tlpot.structure.frames import Frame

VASP = Label(engine="vasp")


@pytest.fixture
def ice() -> list[Frame]:
    """Water in the order O, H, H at the geometry of `outcar_text`, and another."""
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.76, 0.6], [0.0, -0.76, 0.59]])
    frames = []
    for i in range(2):
        atoms = Atoms("OH2", positions + 0.1 * i, cell=[4.0, 4.0, 4.0], pbc=True)
        frames.append(Frame(atoms, source="ice.xyz", index=i, info={"kind": "md"}))
    return frames


def test_a_folder_a_frame_and_never_a_potcar(tmp_path, ice):
    jobs = write_jobs(ice, VASP, tmp_path / "jobs")
    assert [job.name for job in jobs] == ["0000", "0001"]
    assert {f.name for f in jobs[0].iterdir()} == {"INCAR", "KPOINTS", "POSCAR", "tlpot.json"}
    tags = dict(line.split(" = ") for line in (jobs[0] / "INCAR").read_text().splitlines()[1:])
    assert {tag: str(value) for tag, value in INCAR.items()} == tags
    poscar = read(jobs[0] / "POSCAR", format="vasp")
    assert str(poscar.symbols) == "H2O"
    assert poscar.positions[[2, 0, 1]] == pytest.approx(ice[0].atoms.positions, abs=1e-12)
    assert (jobs[0] / "KPOINTS").read_text().split()[1:] == ["0", "Gamma", *"444000"]
    assert "POTCAR" in (tmp_path / "jobs" / "README.txt").read_text()


def test_settings_replace_the_defaults(tmp_path, ice):
    given = {"encut": 800, "lasph": True, "kpts": [1, 2, 3]}
    (job, _) = write_jobs(ice, Label(engine="vasp", parameters=given), tmp_path / "jobs")
    text = (job / "INCAR").read_text()
    assert "ENCUT = 800" in text
    assert "LASPH = .TRUE." in text
    assert text.count("ENCUT") == 1
    assert (job / "KPOINTS").read_text().split()[2:] == ["Monkhorst-Pack", *"123000"]
    settings = json.loads((job / "tlpot.json").read_text())["settings"]
    assert "ENCUT=800" in settings
    assert "kpts=1x2x3" in settings


def test_a_molecule_gets_a_box(tmp_path):
    (job,) = write_jobs([Frame(molecule("H2O"))], VASP, tmp_path / "jobs")
    boxed = read(job / "POSCAR", format="vasp")
    assert boxed.cell.lengths().min() >= 12.0
    assert Frame(boxed).kind == "molecule"
    assert (job / "KPOINTS").read_text().split()[-6:] == list("111000")


def test_what_is_there_is_not_written_over(tmp_path, ice):
    write_jobs(ice, VASP, tmp_path / "jobs")
    with pytest.raises(TlpotError, match="not empty"):
        write_jobs(ice, VASP, tmp_path / "jobs")
    with pytest.raises(ValueError, match="dispersion has no effect with engine: vasp"):
        Label(engine="vasp", dispersion="PBE")
    assert not (tmp_path / "other").exists()


def test_results_come_back_in_the_frames_own_order(tmp_path, ice, outcar_text):
    jobs = write_jobs(ice, VASP, tmp_path / "jobs")
    (jobs[0] / "OUTCAR").write_text(outcar_text(5).replace("-100.000000", "  -0.500000"))
    output = tmp_path / "labelled.extxyz"
    summary = collect_jobs([tmp_path / "jobs"], output)
    assert (summary.labelled, summary.kept) == (1, 0)
    assert summary.failed == [(str(jobs[1]), "no vasprun.xml or OUTCAR yet")]
    (frame,) = read_frames(output)
    assert str(frame.atoms.symbols) == "OH2"
    assert frame.atoms.positions == pytest.approx(ice[0].atoms.positions, abs=1e-7)
    assert frame.energy == pytest.approx(-15.2)
    assert frame.forces[0] == pytest.approx([0.1, 99.9, 0.0])
    assert frame.forces[1] == pytest.approx([0.0, 0.1, -0.2])
    assert frame.stress is not None
    assert frame.info["engine"] == "VASP 6.3.0"
    assert "ENCUT=520" in frame.info["settings"]
    assert (frame.info["geometry"], frame.info["kind"]) == ("ice.xyz#0", "md")
    # the second is another geometry than the file beside it shows
    (jobs[1] / "OUTCAR").write_text(outcar_text(5))
    summary = collect_jobs([tmp_path / "jobs"], output)
    assert (summary.labelled, summary.kept) == (0, 1)
    assert "another geometry" in summary.failed[0][1]


@pytest.mark.parametrize(("steps", "reason"), [((60,), "did not converge"), ((), "no")])
def test_a_run_that_failed_is_reported(tmp_path, ice, outcar_text, steps, reason):
    (job,) = write_jobs(ice[:1], VASP, tmp_path / "jobs")
    (job / "OUTCAR").write_text(outcar_text(*steps))
    summary = collect_jobs([tmp_path / "jobs"], tmp_path / "out.extxyz")
    assert summary.labelled == 0
    assert reason in summary.failed[0][1]
    assert not (tmp_path / "out.extxyz").exists()


def test_levels_never_mix(tmp_path, ice):
    write_jobs(ice, VASP, tmp_path / "one")
    write_jobs(ice, Label(engine="vasp", parameters={"ENCUT": 900}), tmp_path / "two")
    with pytest.raises(TlpotError, match="different settings"):
        collect_jobs([tmp_path / "one", tmp_path / "two"], tmp_path / "out.extxyz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TlpotError, match="holds no folders"):
        collect_jobs([tmp_path / "empty"], tmp_path / "out.extxyz")
