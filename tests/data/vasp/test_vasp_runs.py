"""VASP files that are not one clean run: several runs, spin, linear response."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tlpot.config.data import Data
from tlpot.data.check import sort_frames
from tlpot.data.read import read_frames
from tlpot.data.vasp.outcar import read_outcar
from tlpot.data.vasp.vasprun import read_vasprun
from tlpot.errors import TlpotError

Build = Callable[..., str]

ANOTHER = """  2    4.00    12.0
 vasp.5.4.4.18Apr17 complex
   TITEL  = PAW_PBE C 08Apr2002
   number of dos      NEDOS =    301   number of ions     NIONS =      2
   ions per type =               2
   NELM   =    200;   NELMIN=  2
   GGA     =    PS    GGA type
 Iteration      1(   1)  ---
      direct lattice vectors                 reciprocal lattice vectors
     3.000000000  0.000000000  0.000000000     0.333333333  0.000000000  0.000000000
     0.000000000  3.000000000  0.000000000     0.000000000  0.333333333  0.000000000
     0.000000000  0.000000000  3.000000000     0.000000000  0.000000000  0.333333333
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.00000         0.000000      0.000000      0.500000
      0.00000      0.00000      1.40000         0.000000      0.000000     -0.500000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =      -18.00000000 eV

  energy  without entropy=      -18.00000000  energy(sigma->0) =      -18.00000000
"""
"""A run of two carbon atoms, behind the last line of whatever came before."""


def reasons(frames: list) -> list[str]:
    checked = sort_frames(frames, Data(files=["x"]))
    return [rejection.reason for rejection in checked.rejected]


def test_a_header_begins_a_run(tmp_path: Path, outcar_text: Build) -> None:
    """Elements, NELM and level are those of the header above the step, not of the file's first."""
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, 4, tags="GGA = PE") + ANOTHER + outcar_text(70, nelm=200))
    steps = read_outcar(path)
    assert [str(atoms.symbols) for atoms in steps] == ["H2O", "H2O", "C2", "H2O"]
    assert [atoms.info["converged"] for atoms in steps] == [True] * 4
    assert [atoms.info["xc"] for atoms in steps] == ["PBE", "PBE", "PBEsol", "PBE"]
    assert [atoms.info["engine"] for atoms in steps] == ["VASP 6.3.0"] * 2 + [
        "VASP 5.4.4.18Apr17",
        "VASP 6.3.0",
    ]
    assert [len(atoms.calc.results["forces"]) for atoms in steps] == [3, 3, 2, 3]


def cut_points() -> list[str]:
    """Last words of a first run that was killed, in its SCF, its tables and its energies."""
    return ["Iteration      2(   2)", "direct lattice", "POSITION", "99.900000", "TOTEN  = "]


@pytest.mark.parametrize("last", cut_points())
def test_a_run_that_was_killed_and_another_behind_it(
    tmp_path: Path, outcar_text: Build, last: str
) -> None:
    text = outcar_text(4, 4)
    stop = text.index(last, text.index("Iteration      2(   1)"))
    path = tmp_path / "OUTCAR"
    path.write_text(text[: text.index("\n", stop) + 1] + outcar_text(3, 3, 3))
    steps = read_outcar(path)
    assert [atoms.calc is not None for atoms in steps] == [True, False, True, True, True]
    assert "another run begins behind it" in steps[1].info["incomplete"]
    assert [a.calc.results["free_energy"] for a in steps[2:]] == [-15.2, -16.2, -17.2]


def test_a_second_run_in_one_vasprun(tmp_path: Path, vasprun_text: Build) -> None:
    path = tmp_path / "vasprun.xml"
    first, second = vasprun_text(4, 4), vasprun_text(70, 70, nelm=200, tags="GGA = PS")
    path.write_text(first + second)
    steps = read_vasprun(path)
    assert [atoms.info["converged"] for atoms in steps] == [True] * 4
    assert [atoms.info["xc"] for atoms in steps] == ["PBE"] * 2 + ["PBEsol"] * 2
    killed = first[: first.rindex("<structure>") + 200]
    path.write_text(killed + second)
    steps = read_vasprun(path)
    assert [atoms.calc is not None for atoms in steps] == [True, False, True, True]
    assert "another run begins behind it" in steps[1].info["incomplete"]


RESPONSE = """
 Linear response reoptimize wavefunctions to high precision
 Iteration      2(   1)  ---
 Iteration      2(   2)  ---
------------------------ aborting loop EDIFF was not reached (unconverged)  -----------
"""


@pytest.mark.parametrize("tags", ["IBRION =      8", "IBRION =      7", "LEPSILON=   T"])
@pytest.mark.parametrize("end", ["", "\n General timing and accounting informations for this job:"])
def test_linear_response_is_no_ionic_step(
    tmp_path: Path, outcar_text: Build, tags: str, end: str
) -> None:
    path = tmp_path / "OUTCAR"
    unsaid = RESPONSE.replace("Linear response", "Progress")
    for response in (RESPONSE, unsaid):
        path.write_text(outcar_text(4, tags=tags) + response + end)
        (atoms,) = read_outcar(path)
        assert atoms.info["converged"] is True


def test_response_between_displacements_does_not_count(tmp_path: Path, outcar_text: Build) -> None:
    """IBRION 5 and 6: each displacement is a step; what is done in between is not part of it."""
    first, _, rest = outcar_text(8, 8, nelm=10, tags="IBRION = 6\nLEPSILON = T").partition(
        " Iteration      2(   1)"
    )
    rest = re.sub(r"Iteration      2\(", "Iteration      3(", " Iteration      2(   1)" + rest)
    path = tmp_path / "OUTCAR"
    path.write_text(first + RESPONSE + rest)
    assert [atoms.info["converged"] for atoms in read_outcar(path)] == [True, True]


@pytest.mark.parametrize("tag", ["IBRION = 8", "IBRION = 7", "LEPSILON = T"])
def test_response_steps_of_a_vasprun_are_no_scf_steps(
    tmp_path: Path, vasprun_text: Build, tag: str
) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(107, tags=tag))
    (atoms,) = read_vasprun(path)
    assert atoms.info["converged"] is True
    assert atoms.calc.results["energy"] == pytest.approx(-15.1)
    path.write_text(vasprun_text(107))
    assert read_vasprun(path)[0].info["converged"] is False


@pytest.mark.parametrize(
    ("moment", "refused"),
    [
        ("      2.0000000", True),
        ("     -1.9998", True),
        ("      0.1   -0.2    1.5", True),
        ("      0.0000000", False),
        ("      0.0    0.0    0.0", False),
        ("", False),
    ],
)
def test_magnetic_moments_of_an_outcar(
    tmp_path: Path, outcar_text: Build, moment: str, refused: bool
) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, 4, moment=moment, tags="ISPIN = 2"))
    found = [reason for reason in reasons(read_frames(path)) if "shell" in reason]
    assert len(found) == (2 if refused else 0)


KPOINTS = """ <kpoints><varray name="weights"><v>0.25</v><v>0.75</v></varray></kpoints>
"""


def occupations(*up_and_down: float) -> str:
    sets = "".join(
        f'<set comment="spin {spin}">'
        + "".join(
            f'<set comment="kpoint {k}"><r> -8.0 1.0 </r><r> -2.0 {last} </r></set>' for k in (1, 2)
        )
        + "</set>"
        for spin, last in enumerate(up_and_down, 1)
    )
    return f"<eigenvalues><array><set>{sets}</set></array></eigenvalues>\n"


@pytest.mark.parametrize(
    ("tags", "last", "moment"),
    [
        ("ISPIN = 2", occupations(1.0, 0.0), 1.0),
        ("ISPIN = 2", occupations(1.0, 1.0), 0.0),
        ("ISPIN = 2\nNUPDOWN = 2.0", "", 2.0),
        ("ISPIN = 1", occupations(1.0), None),
        ("ISPIN = 2", "", None),
    ],
)
def test_magnetic_moments_of_a_vasprun(
    tmp_path: Path, vasprun_text: Build, tags: str, last: str, moment: float | None
) -> None:
    """From the occupations, which VASP may write behind the last step only."""
    text = vasprun_text(4, 4, tags=tags).replace("</parameters>", "</parameters>\n" + KPOINTS)
    text = text.replace("********", "0.1")
    head, calculation, end = text.rpartition(" </calculation>")
    path = tmp_path / "vasprun.xml"
    path.write_text(head + last + calculation + end)
    frames = read_frames(path)
    assert [frame.info.get("magmom") for frame in frames] == [moment] * 2
    assert ("charged or open-shell" in reasons(frames)) == bool(moment)


def test_sections_are_found_across_chunks(
    tmp_path: Path, vasprun_text: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4, 9, 2) + vasprun_text(3))
    whole = [atoms.positions for atoms in read_vasprun(path)]
    for size in (300, 777):
        monkeypatch.setattr("tlpot.data.vasp.vasprun.READ_BYTES", size)
        np.testing.assert_array_equal([atoms.positions for atoms in read_vasprun(path)], whole)


def test_learned_runs_alone_say_so(tmp_path: Path, vasprun_text: Build) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(0, 0, learned="T"))
    with pytest.raises(TlpotError, match="force field of its own"):
        read_vasprun(path)


@pytest.mark.parametrize(
    ("tags", "moment", "said"),
    [
        ("IMAGES = 4", "", "images of an elastic band"),
        ("ISPIN = 2", "", "does not say with what"),
        ("LSORBIT = T", "", "does not say with what"),
        ("ISPIN = 2", "      0.0000000", None),
        ("ISPIN = 1\nIMAGES = 0", "", None),
    ],
)
def test_what_a_run_leaves_open_is_said(
    tmp_path: Path, outcar_text: Build, tags: str, moment: str, said: str | None
) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, tags=tags, moment=moment))
    remarks = sort_frames(read_frames(path), Data(files=["x"], max_force=200.0)).remarks
    assert [said in remark for remark in remarks] == ([True] if said else [])


def test_runs_packed_one_by_one_and_put_together(tmp_path: Path, outcar_text: Build) -> None:
    path = tmp_path / "OUTCAR.gz"
    path.write_bytes(b"".join(gzip.compress(outcar_text(n).encode()) for n in (3, 4)))
    assert len(read_outcar(path)) == 2


@pytest.mark.parametrize(
    ("last", "finished"),
    [("Iteration      2(", 1), ("Iteration      1(   3", 0), ("99.90", 1), ("NELM   = ", 0)],
)
def test_a_header_glued_to_the_line_in_which_a_run_was_killed(
    tmp_path: Path, outcar_text: Build, last: str, finished: int
) -> None:
    """``cat OUTCAR.1 OUTCAR.2`` where the first has no line end."""
    text = outcar_text(4, 4)
    start = text.rindex(last) if last == "99.90" else text.index(last)
    path = tmp_path / "OUTCAR"
    path.write_text(text[: start + len(last)] + outcar_text(3, 3))
    steps = read_outcar(path)
    assert [atoms.calc is not None for atoms in steps[-2:]] == [True, True]
    assert [atoms.info["converged"] for atoms in steps[-2:]] == [True, True]
    assert sum(atoms.calc is not None for atoms in steps[:-2]) == finished
    assert all("another run" in atoms.info["incomplete"] for atoms in steps[:-2] if not atoms.calc)


def test_a_header_without_its_first_line(tmp_path: Path, outcar_text: Build) -> None:
    path = tmp_path / "OUTCAR"
    second = outcar_text(70, nelm=200).partition("\n")[2]
    path.write_text(outcar_text(4) + second)
    assert [atoms.info["converged"] for atoms in read_outcar(path)] == [True, True]
