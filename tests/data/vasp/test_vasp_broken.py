"""VASP files that are damaged: cut, garbled, starred, misspelt, or none at all."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tlpot.config.data import Data
from tlpot.data.check import sort_frames
from tlpot.data.read import read_frames
from tlpot.data.vasp.outcar import read_outcar
from tlpot.data.vasp.vasprun import read_vasprun
from tlpot.errors import TlpotError

Build = Callable[..., str]


def broken(text: str, old: str, new: str, step: int) -> str:
    """The text with `old` replaced in one step."""
    starts = [match.start() for match in re.finditer("<calculation>", text)]
    place = text.index(old, starts[step])
    return text[:place] + new + text[place + len(old) :]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</crystal>", "</crystal"),
        ('<varray name="forces">', '<varray name="forces"'),
        ("</energy>", "</energ>"),
        ("</calculation>", "</calculaton>"),
        ("<calculation>", "<calculaton>"),
        ("<structure>", "<structure>\x00\x00"),
    ],
)
def test_broken_xml_costs_its_own_step_only(
    tmp_path: Path, vasprun_text: Build, old: str, new: str
) -> None:
    text = broken(vasprun_text(4, 4, 4, 4, 4), old, new, 2)
    path = tmp_path / "vasprun.xml"
    path.write_text(text)
    steps = read_vasprun(path)
    assert [atoms.calc is not None for atoms in steps] == [True, True, False, True, True]
    reason = steps[2].info["incomplete"]
    said = int(re.search(r"broken at line (\d+)", reason)[1])
    assert abs(said - text[: text.index(new)].count("\n") - 1) <= 45
    assert "2 steps behind it are read" in reason
    assert "cut" not in reason
    path.write_text(broken(vasprun_text(4), old, new, 0))
    with pytest.raises(TlpotError, match=r"XML is broken at line .*OUTCAR"):
        read_vasprun(path)


def test_the_line_named_is_the_line_broken(tmp_path: Path, vasprun_text: Build) -> None:
    text = broken(vasprun_text(4, 4, 4), "</structure>", "</structur>", 1)
    path = tmp_path / "vasprun.xml"
    path.write_text(text)
    line = text[: text.index("</structur>")].count("\n") + 1
    assert f"broken at line {line} (mismatched tag)" in read_vasprun(path)[1].info["incomplete"]


@pytest.mark.parametrize("system", ["urea & D3", "a < b", "x <test> y", "\x02bell", "5 °C", "a; b"])
def test_a_system_of_any_characters(tmp_path: Path, vasprun_text: Build, system: str) -> None:
    item = f'  <i type="string" name="SYSTEM">{system}</i>\n'
    text = vasprun_text(4, 4).replace(
        " <parameters>", f" <incar>\n{item} </incar>\n <parameters>\n{item}"
    )
    path = tmp_path / "vasprun.xml"
    path.write_text(text, encoding="latin-1")
    assert [atoms.info["converged"] for atoms in read_vasprun(path)] == [True, True]


@pytest.mark.parametrize(
    "old", ['e_fr_energy">-15.2', 'e_0_energy">-14.9', "<v>0 .1 -.2", "<v>1 4 6", "<v>0 .19 .15"]
)
def test_a_starred_number_costs_its_own_step_only(
    tmp_path: Path, vasprun_text: Build, old: str
) -> None:
    clean = vasprun_text(1, 1, 1).replace("********", "0.1")
    starred = broken(clean, old, re.sub(r"[-.\d]+$", "********", old), 1)
    path = tmp_path / "vasprun.xml"
    path.write_text(starred)
    frames = read_frames(path)
    checked = sort_frames(frames, Data(files=["x"], energy="free_energy"))
    wrong = {x.frame.index: x.reason for x in checked.rejected if x.reason != "duplicate"}
    sigma = "e_0" in old  # the energy that the forces belong to is not touched
    assert wrong == ({} if sigma else {1: "non-finite"})


def test_an_element_that_the_potcar_misspells(tmp_path: Path, vasprun_text: Build) -> None:
    """VASP drops a letter of some (Zr as r); the data set's title has it."""
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4).replace("<c>O </c>", "<c>x </c>"))
    assert str(read_vasprun(path)[0].symbols) == "H2O"


def test_broken_lists_of_atoms_are_named(tmp_path: Path, vasprun_text: Build) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4).replace('<array name="atoms">', '<array name="atoms"', 1))
    with pytest.raises(TlpotError, match=r"broken at line \d+.*list of atoms.*OUTCAR") as error:
        read_vasprun(path)
    assert "cut" not in str(error.value)


def test_a_garbled_table_costs_its_own_step_only(tmp_path: Path, outcar_text: Build) -> None:
    text = outcar_text(4, 4, 4)
    place = text.index("0.76000", text.index("Iteration      2("))
    path = tmp_path / "OUTCAR"
    path.write_text(text[:place] + "0.7x000" + text[place + 7 :])
    steps = read_outcar(path)
    assert [atoms.calc is not None for atoms in steps] == [True, False, True]
    assert re.search(r"line \d+ is not what an OUTCAR has there", steps[1].info["incomplete"])


def test_a_vasprun_cut_anywhere(tmp_path: Path, vasprun_text: Build) -> None:
    text = vasprun_text(4, 4, 4)
    path = tmp_path / "vasprun.xml"
    for keep in range(5, 100, 5):
        kept = text[: len(text) * keep // 100]
        path.write_text(kept)
        finished = kept.count("</calculation>")
        if not finished:
            with pytest.raises(TlpotError, match="no finished ionic step"):
                read_vasprun(path)
            continue
        steps = read_vasprun(path)
        assert sum(atoms.calc is not None for atoms in steps) == finished
        assert all("file ends inside" in a.info["incomplete"] for a in steps[finished:])


def test_mends_fit_the_file(tmp_path: Path, vasprun_text: Build) -> None:
    """A vasprun.xml is not sent to itself."""
    path = tmp_path / "vasprun.xml"
    path.write_text(broken(vasprun_text(4, 4), "</crystal>", "</crystal", 1))
    rejected = sort_frames(read_frames(path), Data(files=["x"])).rejected
    (bad,) = [x for x in rejected if x.reason == "incomplete step"]
    assert "other file (OUTCAR, vasprun.xml)" in bad.mend


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\nsize 9\n", "git lfs pull"),
        ("<!DOCTYPE html>\n<html><body>404</body></html>\n", "a web page"),
        ("my notes on these runs\n", "is no"),
    ],
)
def test_what_is_no_vasp_file_is_called_so(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TlpotError, match=said) as error:
        read_frames(tmp_path / name)
    assert "cut" not in str(error.value)


def test_lines_that_are_missing_pair_no_forces_with_the_next_energy(
    tmp_path: Path, outcar_text: Build
) -> None:
    """As where a disk was full for a while."""
    text = outcar_text(2, 2, 2)
    first = text.index("FREE ENERGIE", text.index("Iteration      2("))
    path = tmp_path / "OUTCAR"
    path.write_text(text[:first] + text[text.index(" Iteration      3(") :])
    frames = read_frames(path)
    assert [frame.energy for frame in frames] == [-15.2, None]
    assert "lines are missing" in str(frames[1].info["incomplete"])


def test_a_head_that_is_cut_is_said(tmp_path: Path, outcar_text: Build) -> None:
    text = outcar_text(2)
    path = tmp_path / "OUTCAR"
    path.write_text(text[text.index(" Iteration") :])
    with pytest.raises(TlpotError, match="header, which names the elements, is missing"):
        read_frames(path)
