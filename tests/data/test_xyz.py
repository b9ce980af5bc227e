"""Extended XYZ in other programs' spelling."""

import re
from pathlib import Path

import numpy as np
import pytest

from tlpot.data.crystals.read import read_crystals
from tlpot.data.read import read_frames, read_structures
from tlpot.errors import TlpotError

ATOMS = """O 0.0 0.0 0.0 0.1 0.2 0.3
H 0.0 0.76 0.59 -0.1 -0.2 -0.3
H 0.0 -0.76 0.59 0.0 0.0 0.0
"""
CELL = '"4.0 0.0 0.0 0.5 4.0 0.0 0.0 0.0 5.0"'
PROPERTIES = "species:S:1:pos:R:3:forces:R:3"
VIRIAL = '"1 4 6 4 2 5 6 5 3"'


def written(path: Path, comment: str, count: int = 2) -> Path:
    path.write_text(f"3\n{comment}\n{ATOMS}" * count)
    return path


@pytest.mark.parametrize(
    "comment",
    [
        f"lattice={CELL} properties={PROPERTIES} energy=-14.5 virial={VIRIAL}",
        f"Lattice={CELL} properties={PROPERTIES} energy=-14.5 virial={VIRIAL}",
        f"LATTICE={CELL} PROPERTIES=Species:s:1:POS:r:3:FORCE:r:3 Energy=-14.5 Virial={VIRIAL}",
        f'pbc="t t t" lattice={CELL} properties=species:S:1:pos:R:3:force:R:3 ENERGY=-14.5 '
        f"VIRIAL={VIRIAL}",
        f'PBC="True True True" Lattice={CELL} Properties={PROPERTIES} energy=-14.5 virial={VIRIAL}',
        f"lattice = {CELL} properties = {PROPERTIES} energy = -14.5 virial = {VIRIAL}",
    ],
)
def test_the_case_of_keys_does_not_matter(tmp_path: Path, comment: str) -> None:
    usual = f'Lattice={CELL} Properties={PROPERTIES} energy=-14.5 virial={VIRIAL} pbc="T T T"'
    wanted = read_frames(written(tmp_path / "usual.extxyz", usual))
    path = written(tmp_path / "a.extxyz", comment)
    found = read_frames(path)
    assert len(found) == 2
    for one, two in zip(found, wanted, strict=True):
        assert (one.energy, one.kind) == (two.energy, "crystal")
        np.testing.assert_array_equal(one.forces, two.forces)
        np.testing.assert_array_equal(one.stress, two.stress)
        np.testing.assert_array_equal(one.atoms.cell.array, two.atoms.cell.array)
        assert one.atoms.pbc.all()
    assert [frame.atoms.pbc.all() for frame in read_structures(path)] == [True, True]
    assert [frame.kind for frame in read_crystals(path)[0]] == ["crystal", "crystal"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ('"F F F"', [False] * 3),
        ('"f f f"', [False] * 3),
        ('"t t f"', [True, True, False]),
        ('"1 1 0"', [True, True, False]),
        ('".true. .true. .false."', [True, True, False]),
        ("[True, True, False]", [True, True, False]),
    ],
)
@pytest.mark.parametrize("key", ["pbc", "PBC", "Pbc"])
def test_periodicity_in_any_spelling(
    tmp_path: Path, key: str, value: str, wanted: list[bool]
) -> None:
    comment = f"{key}={value} lattice={CELL} properties={PROPERTIES} energy=-14.5"
    for frame in read_frames(written(tmp_path / "a.xyz", comment)):
        assert frame.atoms.pbc.tolist() == wanted


def test_words_in_notes_are_left_alone(tmp_path: Path) -> None:
    note = 'lattice=cubic, pbc=\\"f\\"'
    comment = f'Lattice={CELL} Properties={PROPERTIES} energy=-14.5 note="{note}" lattice=bcc'
    frame = read_frames(written(tmp_path / "a.extxyz", comment))[0]
    assert frame.atoms.pbc.all()
    assert frame.info["note"] == note.replace("\\", "")
    assert frame.info["lattice"] == "bcc"


def test_a_cell_by_another_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"cell={CELL} properties={PROPERTIES} energy=-14.5")
    with pytest.raises(TlpotError, match=re.escape("a.xyz#0: its comment has the cell as 'cell'")):
        read_frames(path)


def test_a_byte_order_mark_and_line_ends_of_windows(tmp_path: Path) -> None:
    text = f"3\nLattice={CELL} Properties={PROPERTIES} energy=-14.5\n{ATOMS}"
    (tmp_path / "a.xyz").write_bytes(b"\xef\xbb\xbf" + (text * 2).replace("\n", "\r\n").encode())
    assert [frame.energy for frame in read_frames(tmp_path / "a.xyz")] == [-14.5, -14.5]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ("species:S:1:position:R:3", "no column pos"),
        ("element:S:1:pos:R:3", "species or Z"),
    ],
)
def test_columns_by_another_name_are_refused(tmp_path: Path, columns: str, named: str) -> None:
    path = written(tmp_path / "a.xyz", f"Lattice={CELL} Properties={columns}:forces:R:3")
    with pytest.raises(TlpotError, match=rf"a\.xyz#0: .*{named}"):
        read_frames(path)


@pytest.mark.parametrize("name", ["Z", "numbers"])
def test_columns_of_atomic_numbers_are_elements(tmp_path: Path, name: str) -> None:
    text = f"3\nLattice={CELL} Properties={name}:I:1:pos:R:3:forces:R:3 energy=-14.5\n{ATOMS}"
    (tmp_path / "a.xyz").write_text(text.replace("\nO", "\n8").replace("\nH", "\n1"))
    assert read_frames(tmp_path / "a.xyz")[0].formula == "H2O"


def test_plain_comments_and_odd_characters_pass(tmp_path: Path) -> None:
    atoms = "\n".join(line.rsplit(maxsplit=3)[0] for line in ATOMS.splitlines())
    for comment in ("step 5, cell=3 of 7", "a\u2028b \x0c c", "i = 0, E = -17.2", ""):
        (tmp_path / "a.xyz").write_text(f"3\n{comment}\n{atoms}\n" * 2, encoding="utf-8")
        assert [frame.formula for frame in read_frames(tmp_path / "a.xyz")] == ["H2O", "H2O"]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n"])
def test_line_ends_of_other_machines(tmp_path: Path, end: str) -> None:
    text = f"3\nLattice={CELL} Properties={PROPERTIES} energy=-14.5\n{ATOMS}" * 2
    (tmp_path / "a.xyz").write_bytes(text.replace("\n", end).encode())
    frames = read_frames(tmp_path / "a.xyz")
    assert [(frame.kind, frame.energy) for frame in frames] == [("crystal", -14.5)] * 2


def test_what_is_no_xyz_is_said_of_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("urea, 16 atoms\n" + ATOMS)
    with pytest.raises(TlpotError, match=r"a\.xyz") as told:
        read_frames(tmp_path / "a.xyz")
    assert "frame -1" not in str(told.value)


def test_a_word_of_a_comment_is_no_energy(tmp_path: Path) -> None:
    """ASE takes each for a flag, which is 1 eV if it is taken for a number."""
    atoms = "\n".join(line.rsplit(maxsplit=3)[0] for line in ATOMS.splitlines())
    for comment in ("Coordinates from job opt E -225.123", "energy: -14.1 gnorm: 0.001", "forces"):
        (tmp_path / "a.xyz").write_text(f"3\n{comment}\n{atoms}\n")
        (frame,) = read_frames(tmp_path / "a.xyz")
        assert frame.energy is None
        assert frame.forces is None


def test_labels_of_atoms_are_no_elements(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("2\n\nO1 0 0 0\nH1A 0 0 0.9\n")
    with pytest.raises(TlpotError, match="'O1' is the label of an atom"):
        read_structures(tmp_path / "a.xyz")


def test_isotopes_are_their_element_as_in_a_cif(tmp_path: Path) -> None:
    """A comment that begins with the letter is none."""
    (tmp_path / "a.xyz").write_text(f"3\nT = 300\n{ATOMS.replace('H 0.0 0', 'D 0.0 0')}")
    (atoms,) = (frame.atoms for frame in read_structures(tmp_path / "a.xyz"))
    assert str(atoms.symbols) == "OH2"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.59 -0.1", "0,59 -0.1", "'0,59' has a comma; write a decimal point"),
        ("0.59 -0.1", "5.9D-01 -0.1", "'5.9D-01' is a number of Fortran's; write E for D"),
        ("O 0.0", "8 0.0", "'8' is a number where an element's symbol belongs"),
        (f"Lattice={CELL}", 'Lattice="4 4 5"', "Lattice has not the nine numbers"),
    ],
)
def test_the_frame_that_cannot_be_read_is_named(tmp_path: Path, old, new, says) -> None:
    path = written(tmp_path / "a.extxyz", f"Lattice={CELL} Properties={PROPERTIES} energy=-14.5")
    text = path.read_text()
    path.write_text(text + text.replace(old, new))
    with pytest.raises(TlpotError, match=re.escape(f"{path}#2: cannot be read")) as told:
        read_frames(path)
    assert says in str(told.value)


@pytest.mark.parametrize("count", ["2", "4"])
def test_a_wrong_number_of_atoms_is_told_of_its_frame(tmp_path: Path, count: str) -> None:
    path = written(tmp_path / "a.extxyz", f"Properties={PROPERTIES}", 3)
    head, _, rest = path.read_text().partition("\n3\n")
    path.write_text(f"{head}\n{count}\n{rest}")
    with pytest.raises(TlpotError, match=r"behind frame 1, in line 1.*number of atoms of frame 1"):
        read_frames(path)


@pytest.mark.parametrize("before", ["", f"3\nLattice={CELL}\n{ATOMS}"])
def test_a_number_of_atoms_at_the_end_is_a_cut_frame(tmp_path: Path, before: str) -> None:
    """ASE would ask for a line of each."""
    (tmp_path / "a.extxyz").write_text(f"{before}999999999")
    with pytest.raises(TlpotError, match=r"999999999 atoms, but it ends inside a frame, 0 lines"):
        read_frames(tmp_path / "a.extxyz")
