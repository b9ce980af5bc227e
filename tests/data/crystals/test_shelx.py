"""SHELX files: refinements with their symmetry and occupancies, and what AIRSS writes."""

from collections.abc import Callable

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tlpot.data.crystals.read import read_crystals, read_each
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError

HEAD = """TITL formaldehyde in P2(1)/n
CELL 0.71073 5.1 6.3 6.0 90 101 90
ZERR 4 0.001 0.001 0.001 0 0.01 0
LATT {latt}
SYMM 0.5-X, 0.5+Y, 0.5-Z
SFAC C O H
UNIT 4 4 8
L.S. 10
BOND $H
ACTA
REM <olex2.extras>
WGHT 0.1
FVAR 0.42 0.7
"""
ATOMS = """C1    1    0.310000    0.320000    0.270000    11.00000    0.02000    0.03000 =
         0.02000    0.00100    0.00200    0.00300
O1    2    0.204700    0.472000    0.330800    11.00000    0.02
AFIX  93
H1A   3    0.470200    0.242500    0.380000    11.00000   -1.20000
H1B   3    0.251900    0.249600    0.102400    11.00000   -1.20000
AFIX   0
"""
TAIL = "HKLF 4\nREM R1 = 0.04\nEND\nQ1 1 0.5 0.5 0.5 11.0 0.05 0.2\n"
RES = HEAD.format(latt=1) + ATOMS + "Q1 1 0.1 0.1 0.1 11.0 0.05 0.3\n" + TAIL


@pytest.fixture
def read(tmp_path) -> Callable[[str], Atoms | str]:
    """The crystal, or the reason for which it is refused."""

    def entry(text: str, name: str = "a.res") -> Atoms | str:
        (tmp_path / name).write_text(text)
        frames, refused = read_each(tmp_path / name)
        return frames[0].atoms if frames else refused[0].reason

    return entry


def test_latt_and_symm_are_applied(read):
    """P 21/n from LATT 1 (centrosymmetric) and one SYMM: four molecules, 1.06 g/cm³."""
    atoms = read(RES)
    assert atoms.symbols.formula.count() == {"C": 4, "O": 4, "H": 8}
    place = np.array([0.31, 0.32, 0.27])
    half = np.full(3, 0.5)
    expected = np.array([place, half + place * [-1, 1, -1], -place, half + place * [1, -1, 1]])
    carbon = atoms.get_scaled_positions()[atoms.numbers == 6]
    apart = carbon[:, None] - expected[None]
    assert np.abs(apart - np.round(apart)).max(axis=2).min(axis=1).max() < 1e-6
    assert len(read(RES, "a.ins")) == 16


@pytest.mark.parametrize(
    ("latt", "points"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 2), (6, 2), (7, 2)]
)
def test_centring_by_the_sign_and_number_of_latt(read, latt, points):
    cell = "CELL 0.7 7 7 9 90 90 120" if latt == 3 else "CELL 0.7 7 8 9 90 90 90"
    text = f"TITL x\n{cell}\nLATT {{}}\nSFAC C\nC1 1 0.1 0.13 0.17 11.0\nEND\n"
    assert len(read(text.format(-latt))) == points
    assert len(read(text.format(latt))) == 2 * points


def test_fixed_coordinates_special_positions_and_sfac_numbers(read):
    """Urea-like C=O on a twofold axis: 10.5 is a fixed 0.5, 10.5 of occupancy half an atom."""
    text = """TITL x
CELL 0.7 6 6 5 90 90 90
LATT -1
SYMM -X, -Y, Z
SFAC O C
UNIT 1 1
O1 1 10.50000 10.50000 0.6 10.5 0.05
C1 2 10.50000 10.50000 0.35 10.5 0.05
END
"""
    atoms = read(text)
    assert atoms.get_chemical_formula() == "CO"
    assert np.allclose(atoms.get_scaled_positions()[:, :2], 0.5)
    assert "partly occupied" in read(text.replace("0.35 10.5", "0.35 10.25"))


def test_disorder_by_a_free_variable_is_refused(read):
    split = ATOMS.replace("0.330800    11.00000", "0.330800    21.00000") + (
        "PART 2\nO1B 2 0.25 0.45 0.4 -21.00000 0.02\nPART 0\n"
    )
    reason = read(HEAD.format(latt=1) + split + TAIL)
    assert "O1 0.7, O1B 0.3 partly occupied" in reason
    assert "FVAR has no free variable 3" in read(
        HEAD.format(latt=1) + split.replace("-21.0", "-31.0") + TAIL
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("UNIT 4 4 8", "UNIT 4 4 16", "hydrogen atoms are missing"),
        ("LATT 1", "LATT -1", "its atoms make C2 H4 O2 in the cell"),
        ("LATT 1", "LATT 9", "no such lattice"),
        ("CELL 0.71073 5.1", "CELL 0.71073", "lacks numbers"),
        ("SFAC C O H\n", "", "no SFAC"),
        ("O1    2", "O1    5", "SFAC names 3 elements"),
        ("WGHT 0.1", "WHAT 0.1", "neither an instruction of SHELX nor an atom"),
        ("90 101 90", "90 90 101", "do not fit"),
        ("0.5-X, 0.5+Y", "0.5-X, 0.5+W", "no symmetry operator"),
    ],
)
def test_the_reason_is_the_true_one(read, old, new, said):
    assert old in RES
    reason = read(RES.replace(old, new))
    assert said in reason
    assert "damaged" not in reason


def test_airss(tmp_path):
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    places = "\n".join(
        f"{s} {1 + (s == 'Cl')} {x:.6f} {y:.6f} {z:.6f} 1.0"
        for s, (x, y, z) in zip(salt.symbols, salt.get_scaled_positions(), strict=True)
    )
    file = tmp_path / "NaCl-1234.res"
    file.write_text(
        "TITL NaCl-1234 0.0 175.616 -27.5 0.0 0.0 8 (Fm-3m) n - 1\n"
        f"CELL 1.54180 5.6 5.6 5.6 90 90 90\nLATT -1\nSFAC Na Cl\n{places}\nEND\n"
    )
    (frame,) = read_frames(file)
    assert frame.energy == -27.5
    assert frame.formula == "Cl4Na4"
    file.write_text(file.read_text().replace("0.0 8 (", "0.0 16 ("))
    with pytest.raises(TlpotError, match=r"its title says 16 atoms in 175\.616 Å³"):
        read_crystals(file)
    ase.io.write(tmp_path / "ase.res", salt)
    (frame,), _ = read_crystals(tmp_path / "ase.res")
    assert frame.formula == "Cl4Na4"


def test_files_put_together_are_all_read(tmp_path):
    """As by ``cat``; the first alone was read, the others were gone without a word."""
    broken = RES.replace("SFAC C O H", "SFAC C O")
    for end in (TAIL, ""):
        first, last = (text.replace(TAIL, end) for text in (RES, RES.replace("5.1", "5.2")))
        (tmp_path / "all.res").write_text(f"REM a landscape\n{first}{broken}{last}")
        frames, refused = read_each(tmp_path / "all.res")
        assert [frame.atoms.cell.lengths()[0] for frame in frames] == pytest.approx([5.1, 5.2])
        assert [frame.name.partition("#")[2] for frame in frames] == ["0", "2"]
        assert [x.name.partition("#")[2] for x in refused] == ["1"]
