"""Frames without atoms, and files without frames: refused by name, and nothing divides by them."""

from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from typer.testing import CliRunner

from tlpot.cli.main import app
from tlpot.config.data import Data
from tlpot.data.check import check_frames, sort_frames
from tlpot.data.crystals.read import read_crystals
from tlpot.data.inspect import inspect_files
from tlpot.data.read import read_frames
from tlpot.data.write import to_text
from tlpot.errors import TlpotError
from tlpot.labelling.label import _unfit
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import require_sound

EMPTY = """0
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=0.0 \
stress="0 0 0 0 0 0 0 0 0" pbc="T T T"
"""
ONE = """2
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 pbc="T T T"
H 0 0 0 0 0 0
H 0 0 0.8 0 0 0
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files whose only frame has no atoms."""
    (tmp_path / "a.extxyz").write_text(EMPTY)
    (tmp_path / "b.xyz").write_text("0\n\n")
    (tmp_path / "POSCAR").write_text("x\n1.0\n5 0 0\n0 5 0\n0 0 5\nC\n0\nDirect\n")
    ase.io.write(tmp_path / "c.traj", Atoms(cell=[5, 5, 5], pbc=True))
    return sorted(tmp_path.iterdir())


def test_such_a_frame_is_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    path.write_text(ONE + EMPTY + EMPTY + ONE.replace("-1.0", "-1.1").replace("0.8", "0.9"))
    for settings in (Data(files=["a"]), Data(files=["a"], energy_only=True)):
        checked = sort_frames(read_frames(path), settings)
        reasons = [(x.frame.index, x.reason, x.detail) for x in checked.rejected]
        assert reasons == [(i, "no atoms", "it holds no atoms") for i in (1, 2)]
        assert len(checked.frames) == 2
    found = inspect_files([str(path)], None, Data(files=["a"], energy_only=True))
    assert sum(group.n_read for group in found.groups) == 4
    frames, refused = read_crystals(path)
    assert len(frames) == 2
    assert [one.reason for one in refused] == ["it holds no atoms"] * 2


def test_files_of_nothing_else(files: list[Path]) -> None:
    for file in files:
        frames = read_frames(file)
        assert [frame.kind for frame in frames] == ["molecule"]
        with pytest.raises(TlpotError, match="it holds no atoms"):
            check_frames(frames, Data(files=["a"]))
        with pytest.raises(TlpotError, match="it holds no atoms"):
            require_sound(frames, 0.6)
        with pytest.raises(TlpotError, match="it holds no atoms"):
            read_crystals(file)
        assert _unfit(frames[0]) == "it holds no atoms"
        assert to_text(frames[0]).startswith("0\n")


VERBS = {
    "inspect": ["inspect", "FILE", "--output", "OUT"],
    "evaluate": ["evaluate", "mini", "FILE"],
    "relax": ["relax", "FILE", "--model", "mini", "--output", "OUT"],
    "rank": ["rank", "FILE", "--model", "mini", "--output", "OUT"],
    "md": ["md", "FILE", "--model", "mini", "--ps", "0.001", "--output", "OUT"],
    "rattle": [
        *("sample", "propose", "FILE", "--method", "rattle"),
        *("--number", "2", "--output", "OUT.extxyz"),
    ],
    "modes": [
        *("sample", "propose", "FILE", "--model", "mini", "--method", "modes"),
        *("--number", "1", "--output", "OUT.extxyz"),
    ],
    "committee": [
        *("sample", "choose", "FILE", "--model", "mini", "--by", "committee"),
        *("--number", "1", "--output", "OUT.extxyz"),
    ],
    "farthest": [
        *("sample", "choose", "FILE", "--model", "mini", "--by", "farthest"),
        *("--number", "1", "--output", "OUT.extxyz"),
    ],
    "label": ["label", "FILE", "--engine", "vasp", "--output", "OUT"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_so(tmp_path: Path, verb: str) -> None:
    (tmp_path / "a.extxyz").write_text(EMPTY)
    words = {"FILE": str(tmp_path / "a.extxyz"), "OUT": str(tmp_path / "out")}
    words["OUT.extxyz"] = words["OUT"] + ".extxyz"
    result = CliRunner().invoke(app, [words.get(word, word) for word in VERBS[verb]])
    assert result.exception is None or isinstance(result.exception, SystemExit | TlpotError)
    said = " ".join(f"{result.output} {result.exception or ''}".split())
    if verb == "relax":
        said = (tmp_path / "out" / "quarantine.extxyz").read_text()
    assert "no atoms" in said


def test_a_lone_atom_and_a_flat_cell_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    flat = ONE.replace("0 5 0", "5 0 0", 1)
    lone = "1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\nC 0 0 0 0 0 0\n"
    path.write_text(flat + lone)
    checked = sort_frames(read_frames(path), Data(files=["a"]))
    assert [x.reason for x in checked.rejected] == ["broken cell", "charged or open-shell"]
    assert Frame(Atoms()).formula == ""
