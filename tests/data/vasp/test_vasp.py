"""OUTCAR and vasprun.xml against their raw text."""

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.units import GPa

import tlpot.data.vasp.outcar
from tlpot.data.read import read_frames
from tlpot.data.vasp.outcar import read_outcar
from tlpot.data.vasp.output import is_outcar, is_vasprun
from tlpot.data.vasp.vasprun import read_vasprun
from tlpot.errors import TlpotError

GOOD, UNCONVERGED, LEARNED, INCOMPLETE = "good", "unconverged", "learned", "incomplete"

SAMPLES = {
    "6362_OUTCAR": [GOOD] * 2 + [INCOMPLETE],
    "OUTCAR": [GOOD],
    "OUTCAR.Ge.vdw": [GOOD],
    "OUTCAR.ch4.1step": [UNCONVERGED],
    "OUTCAR.ch4.ml": [GOOD] * 3 + [LEARNED] * 2 + [GOOD] + [LEARNED] * 4,
    "OUTCAR.ch4.unconverged": [UNCONVERGED, UNCONVERGED, GOOD],
    "OUTCAR.h2o.md": [GOOD] * 3,
    "OUTCAR.h2o.md.10": [GOOD] * 10,
    "Ti-O-Ti-v6/OUTCAR": [GOOD],
    "Ti-O-Ti-v6/vasprun.xml": [GOOD],
    "Ti-aimd-nwrite0/OUTCAR": [GOOD] + [INCOMPLETE] * 8 + [GOOD],
    "Ti-aimd-nwrite0/vasprun.xml": [GOOD] * 10,
    "vasprun.Ge.vdw.xml": [GOOD],
    "vasprun.h2o.md.10.xml": [GOOD] * 10,
    "vasprun.h2o.md.conv.xml": [UNCONVERGED, GOOD, GOOD],
    "vasprun.h2o.md.duplicate.xml": [GOOD] * 3,
    "vasprun.h2o.md.novirial.xml": [GOOD] * 3,
    "vasprun.h2o.md.tribox.lower.xml": [GOOD] * 3,
    "vasprun.h2o.md.tribox.xml": [GOOD] * 3,
    "vasprun.h2o.md.xml": [GOOD] * 3,
}
REFUSED = {"outcar.longit/OUTCAR": "36 atoms on 10 species"}


def read(path: Path) -> list:
    return (read_vasprun if is_vasprun(path) else read_outcar)(path)


def verdict(atoms) -> str:
    if "incomplete" in atoms.info:
        return INCOMPLETE
    if atoms.info.get("machine_learned"):
        return LEARNED
    return GOOD if atoms.info["converged"] else UNCONVERGED


@pytest.mark.parametrize(
    ("name", "outcar", "vasprun"),
    [
        ("OUTCAR", True, False),
        ("OUTCAR.gz", True, False),
        ("OUTCAR.solid.vdW-DF2", True, False),
        ("6362_OUTCAR", True, False),
        ("outcar.longit", True, False),
        ("vasprun.h2o.md.xml", False, True),
        ("vasprun.xml.gz", False, True),
        ("OUTCAR_1", True, False),
        ("OUTCAR.xz", True, False),
        ("run1.vasprun.xml.bz2", False, True),
        ("vasprun_2.xml.gz", False, True),
        ("POSCAR", False, False),
        ("myoutcars.traj", False, False),
    ],
)
def test_names_in_the_wild(name: str, outcar: bool, vasprun: bool) -> None:
    assert (is_outcar(Path(name)), is_vasprun(Path(name))) == (outcar, vasprun)


def test_no_sample_is_left_out(tlpot_data: Path) -> None:
    folder = tlpot_data / "vasp_samples"
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names - {"README.txt", "LICENSE"} == {*SAMPLES, *REFUSED}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_step_of_every_sample(tlpot_data: Path, name: str) -> None:
    steps = read(tlpot_data / "vasp_samples" / name)
    assert [verdict(atoms) for atoms in steps] == SAMPLES[name]
    for atoms in steps:
        labelled = verdict(atoms) in (GOOD, UNCONVERGED)
        assert (atoms.calc is not None) == labelled
        assert np.isfinite(atoms.positions).all() == (verdict(atoms) != INCOMPLETE)


@pytest.mark.parametrize("name", REFUSED)
def test_samples_that_cannot_be_known(tlpot_data: Path, name: str) -> None:
    with pytest.raises(TlpotError, match=REFUSED[name]) as error:
        read(tlpot_data / "vasp_samples" / name)
    assert "vasprun.xml" in str(error.value)


@pytest.mark.parametrize("name", [name for name in SAMPLES if "OUTCAR" in name])
def test_outcar_energies_are_those_of_the_text(tlpot_data: Path, name: str) -> None:
    path = tlpot_data / "vasp_samples" / name
    blocks = re.findall(
        r"\n  FREE ENERGIE OF THE ION-ELECTRON.*?TOTEN  = *(\S+) eV.*?sigma->0\) = *(\S+)",
        path.read_text(),
        flags=re.DOTALL,
    )
    wanted = [tuple(map(float, block)) for block in blocks]
    if name == "Ti-aimd-nwrite0/OUTCAR":  # the steps between have no positions
        assert len(wanted) == 10
        wanted = [wanted[0], wanted[-1]]
    results = [atoms.calc.results for atoms in read_outcar(path) if atoms.calc]
    assert [(r["free_energy"], r["energy"]) for r in results] == wanted


@pytest.mark.parametrize("name", [name for name in SAMPLES if "OUTCAR" in name])
def test_outcar_forces_and_positions_are_those_of_the_text(tlpot_data: Path, name: str) -> None:
    path = tlpot_data / "vasp_samples" / name
    steps = [atoms for atoms in read_outcar(path) if atoms.calc]
    tables = re.findall(r"\n POSITION  .*TOTAL-FORCE.*\n -+\n((?:.*\n)+?) -+\n", path.read_text())
    assert len(tables) == len(steps)
    for table, atoms in zip(tables, steps, strict=True):
        rows = [[float(word) for word in line.split()[:6]] for line in table.splitlines()]
        found = np.hstack([atoms.positions, atoms.calc.results["forces"]])
        np.testing.assert_array_equal(found, rows)


def test_outcar_and_vasprun_of_one_run_agree(tlpot_data: Path) -> None:
    folder = tlpot_data / "vasp_samples"
    pairs = [("OUTCAR.h2o.md.10", "vasprun.h2o.md.10.xml"), ("OUTCAR.Ge.vdw", "vasprun.Ge.vdw.xml")]
    for one, two in [*pairs, ("Ti-O-Ti-v6/OUTCAR", "Ti-O-Ti-v6/vasprun.xml")]:
        for a, b in zip(read_outcar(folder / one), read_vasprun(folder / two), strict=True):
            assert a.symbols.get_chemical_formula() == b.symbols.get_chemical_formula()
            np.testing.assert_allclose(a.positions, b.positions, atol=2e-5)
            for key, tolerance in dict(
                energy=1e-7, free_energy=1e-7, forces=2e-6, stress=1e-7
            ).items():
                np.testing.assert_allclose(a.calc.results[key], b.calc.results[key], atol=tolerance)


def test_vasprun_agrees_with_ase(tlpot_data: Path) -> None:
    for path in (tlpot_data / "vasp_samples").glob("vasprun*.xml"):
        for ours, theirs in zip(
            read_vasprun(path), ase.io.read(path, ":", format="vasp-xml"), strict=True
        ):
            assert ours.calc.results.keys() == theirs.calc.results.keys()
            for key, value in theirs.calc.results.items():
                np.testing.assert_allclose(ours.calc.results[key], value, atol=1e-9)


def test_x23_single_points(tlpot_data: Path) -> None:
    """The lattice energies derived from these OUTCARs come from TOTEN."""
    for path in tlpot_data.glob("x23/*/OUTCAR.*"):
        (frame,) = read_frames(path)
        totals = re.findall(r"free  energy   TOTEN  = +(\S+) eV", path.read_text())
        assert frame.energy == float(totals[-1])
        assert frame.info["converged"] is True
        assert frame.stress is None  # ISIF = 0


def test_gzipped_twin_reads_the_same(tlpot_data: Path, tmp_path: Path) -> None:
    for name in ("OUTCAR.h2o.md", "vasprun.h2o.md.xml"):
        source = tlpot_data / "vasp_samples" / name
        packed = tmp_path / f"{name}.gz"
        with source.open("rb") as plain, gzip.open(packed, "wb") as out:
            shutil.copyfileobj(plain, out)
        plain_frames, packed_frames = read_frames(source), read_frames(packed)
        assert len(plain_frames) == 3
        for one, two in zip(plain_frames, packed_frames, strict=True):
            assert one.energy == two.energy
            np.testing.assert_array_equal(one.forces, two.forces)


def test_outcar_values_units_and_signs(tmp_path: Path, outcar_text: Callable[..., str]) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(5))
    (atoms,) = read_outcar(path)
    assert str(atoms.symbols) == "H2O"
    assert atoms.calc.results["free_energy"] == -15.2
    assert atoms.calc.results["energy"] == -15.1
    np.testing.assert_array_equal(atoms.calc.results["forces"][1], [-0.1, -100.0, 0.2])
    kbar = 0.1 * GPa
    np.testing.assert_allclose(
        atoms.calc.results["stress"], -kbar * np.array([1, 2, 3, 5, 6, 4]), rtol=1e-12
    )


def test_stress_of_a_run_without_full_stress_is_none(
    tmp_path: Path, outcar_text: Callable[..., str]
) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(5, isif=1))
    assert "stress" not in read_outcar(path)[0].calc.results


def test_charge_comes_from_the_electron_count(
    tmp_path: Path, outcar_text: Callable[..., str]
) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(5, electrons=7.0))
    assert read_outcar(path)[0].info["charge"] == 1.0
    path.write_text(outcar_text(5))
    assert "charge" not in read_outcar(path)[0].info


def test_convergence_is_judged_step_by_step(
    tmp_path: Path, outcar_text: Callable[..., str]
) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, 10, 9, nelm=10))
    assert [a.info["converged"] for a in read_outcar(path)] == [True, False, True]
    text = outcar_text(4, 4).replace("aborting loop because EDIFF is reached", "X", 1)
    path.write_text(text.replace("X", "aborting loop EDIFF was not reached (unconverged)"))
    assert [a.info["converged"] for a in read_outcar(path)] == [False, True]


@pytest.mark.parametrize("keep", range(5, 100, 5))
def test_outcar_cut_anywhere(tmp_path: Path, outcar_text: Callable[..., str], keep: int) -> None:
    """Wherever a file is cut: finished steps are right, the one that is cut says so."""
    text = outcar_text(4, 4)
    whole = tmp_path / "whole_OUTCAR"
    whole.write_text(text)
    first = read_outcar(whole)[0]
    path = tmp_path / "OUTCAR"
    path.write_text(text[: len(text) * keep // 100])
    finished = text[: len(text) * keep // 100].count("sigma->0) =      -15.10000000\n")
    if not finished:
        with pytest.raises(TlpotError, match="OUTCAR"):
            read_outcar(path)
        return
    steps = read_outcar(path)
    assert steps[0].calc.results["free_energy"] == first.calc.results["free_energy"]
    assert len(steps) == 2
    assert "file ends inside this ionic step" in steps[1].info["incomplete"]


def test_vasprun_values_units_and_signs(tmp_path: Path, vasprun_text: Callable[..., str]) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(5))
    (atoms,) = read_vasprun(path)
    assert str(atoms.symbols) == "H2O"
    assert "charge" not in atoms.info
    results = atoms.calc.results
    assert results["free_energy"] == -15.2
    assert results["energy"] == pytest.approx(-15.1)  # TOTEN + the last scstep's sigma→0 gap
    np.testing.assert_allclose(atoms.positions[0], [0, 0.76, 0.6])
    np.testing.assert_array_equal(results["forces"][2], [0.1, -0.1, np.nan])  # an overflow
    np.testing.assert_allclose(results["stress"], -0.1 * GPa * np.array([1, 2, 3, 5, 6, 4]))


def test_vasprun_convergence_is_judged_step_by_step(
    tmp_path: Path, vasprun_text: Callable[..., str]
) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(9, 10, 3, nelm=10))
    assert [a.info["converged"] for a in read_vasprun(path)] == [True, False, True]


def test_vasprun_steps_without_electrons_are_learned(
    tmp_path: Path, vasprun_text: Callable[..., str]
) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4, 0, learned="T"))
    assert [verdict(atoms) for atoms in read_vasprun(path)] == [GOOD, LEARNED]
    path.write_text(vasprun_text(4, 0))
    assert [verdict(atoms) for atoms in read_vasprun(path)] == [GOOD, INCOMPLETE]


def test_vasprun_cut_inside_a_step(tmp_path: Path, vasprun_text: Callable[..., str]) -> None:
    text = vasprun_text(4, 4, 4)
    starts = [match.start() for match in re.finditer("<calculation>", text)]
    path = tmp_path / "vasprun.xml"
    path.write_text(text[: starts[2] + 500])
    assert [verdict(atoms) for atoms in read_vasprun(path)] == [GOOD, GOOD, INCOMPLETE]
    path.write_text(text[: starts[0] + 500])
    with pytest.raises(TlpotError, match=r"vasprun\.xml: no finished ionic step"):
        read_vasprun(path)
    path.write_text(text.replace("NELM", "NEML"))
    with pytest.raises(TlpotError, match=r"vasprun\.xml: not what a vasprun\.xml has"):
        read_vasprun(path)


def test_pressure_is_taken_out_of_vasprun_energies(
    tmp_path: Path, vasprun_text: Callable[..., str]
) -> None:
    """With PSTRESS, calculation/energy is the enthalpy E + pV."""
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4, pstress=10.0))
    (atoms,) = read_vasprun(path)
    assert atoms.calc.results["free_energy"] == pytest.approx(-15.2 - 1.0 * GPa * 64.0, rel=1e-9)


def test_learned_steps_are_kept_apart_from_their_dft(tlpot_data: Path) -> None:
    frames = read_frames(tlpot_data / "vasp_samples/OUTCAR.ch4.ml")
    labelled = [frame.index for frame in frames if frame.energy is not None]
    assert labelled == [0, 1, 2, 5]
    assert all(f.info.get("machine_learned") for f in frames if f.index not in labelled)
    assert frames[5].energy == -24.12697674
    assert tlpot.data.vasp.outcar.NO_POSITIONS not in str([frame.info for frame in frames])
