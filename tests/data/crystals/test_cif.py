"""CIFs as people have them: each block is the crystal that it says it is, or refused and why."""

import io
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tlpot.cli.main import main
from tlpot.data.crystals.cif import element_of, formula_of
from tlpot.data.crystals.read import read_each
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError

CELL = (5.1, 6.3, 6.0, 90, 101, 90)
OPERATORS = ("x,y,z", "-x+1/2,y+1/2,-z+1/2", "-x,-y,-z", "x+1/2,-y+1/2,z+1/2")
"""Of P 1 21/n 1."""
SITES = """C1 C 0.3100 0.3200 0.2700
O1 O 0.2047 0.4720 0.3308
H1 H 0.4702 0.2425 0.3800
H2 H 0.2519 0.2496 0.1024"""
"""Formaldehyde."""
COLUMNS = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")


def block(
    name: str = "formaldehyde",
    *,
    tags: str = "_chemical_formula_sum 'C H2 O'\n_cell_formula_units_Z 4",
    operators: tuple[str, ...] | None = OPERATORS,
    sites: str = SITES,
    columns: tuple[str, ...] = COLUMNS,
    cell: tuple[float, ...] = CELL,
) -> str:
    """One data block."""
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"data_{name}", tags]
    lines += [f"_cell_{key} {value}" for key, value in zip(names, cell, strict=True)]
    if operators is not None:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f" '{text}'" for text in operators)]
    return "\n".join([*lines, "loop_", *(f"_atom_site_{c}" for c in columns), sites, ""])


@pytest.fixture
def read(tmp_path) -> Callable[[str | bytes], list[Atoms | str]]:
    """Entries of a text: atoms, or the reason for which they are refused, by number."""

    def entries(content: str | bytes) -> list[Atoms | str]:
        file = tmp_path / "a.cif"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        frames, refused = read_each(file)
        found: dict[str, Atoms | str] = {frame.name: frame.atoms for frame in frames}
        found |= {one.name: one.reason for one in refused}
        return [found[name] for name in sorted(found)]

    return entries


def same(one: Atoms, two: Atoms) -> bool:
    """Whether two cells hold the same atoms in the same places."""
    if sorted(one.numbers) != sorted(two.numbers):
        return False
    apart = one.get_scaled_positions()[:, None] - two.get_scaled_positions()[None]
    near = np.linalg.norm((apart - np.round(apart)) @ one.cell.array, axis=2)
    near[one.numbers[:, None] != two.numbers[None]] = np.inf
    return bool(near.min(axis=1).max() < 0.01)


FORMULA = "_chemical_formula_sum 'C H2 O'\n_cell_formula_units_Z 4\n"


@pytest.mark.parametrize(
    "symbol",
    [
        "_symmetry_space_group_name_H-M 'P 21/n'",
        "_space_group_name_H-M_alt 'P 1 21/n 1'\n_space_group_IT_number 14",
        "_space_group.name_H-M_alt 'P2(1)/n'",
        "_symmetry_space_group_name_H-M P2_1/n",
        "_symmetry_space_group_name_Hall '-P 2yn'\n_symmetry_space_group_name_H-M 'P 21/c'",
    ],
)
def test_symbols_mean_their_setting(read, symbol):
    pytest.importorskip("spglib")
    (listed,) = read(block())
    (named,) = read(block(tags=FORMULA + symbol, operators=None))
    (other,) = read(block(tags="_symmetry_space_group_name_H-M 'P 21/c'", operators=None))
    assert len(listed) == 16
    assert same(named, listed)
    assert not same(other, listed)


def test_hall_symbols_of_all_settings(read):
    spglib = pytest.importorskip("spglib")
    for number in range(3, 531, 11):
        row = spglib.get_spacegroup_type(number)
        axes = 18.0 + np.arange(3) * (row.number < 75)
        angles = np.full(3, 90.0)
        if row.number < 16:
            angles["abc".index(row.choice.lstrip("-")[0])] = 103.0
        elif 143 <= row.number < 195:
            angles = np.full(3, 75.0) if row.choice == "R" else np.array([90.0, 90.0, 120.0])
        found = spglib.get_symmetry_from_database(number)
        place = np.array([0.113, 0.187, 0.071])
        expected = found["rotations"] @ place + found["translations"]
        (atoms,) = read(
            block(
                tags=f"_space_group_name_Hall '{row.hall_symbol}'",
                operators=None,
                sites="C1 C 0.113 0.187 0.071",
                cell=(*axes, *angles),
            )
        )
        assert same(atoms, Atoms(f"C{len(expected)}", scaled_positions=expected, cell=atoms.cell))


def test_a_symbol_with_two_origins_or_a_bare_number_is_refused(read):
    pytest.importorskip("spglib")
    cubic = {"cell": (8.0, 8.0, 8.0, 90, 90, 90), "operators": None}
    sites = "Si1 Si 0.05 0.05 0.05"
    (reason,) = read(block(tags="_space_group_name_H-M_alt 'F d -3 m'", sites=sites, **cubic))
    assert "2 settings that fit; list them" in reason
    (one,) = read(block(tags="_space_group_name_H-M_alt 'F d -3 m:1'", sites=sites, **cubic))
    (two,) = read(block(tags="_space_group_name_H-M_alt 'F d -3 m Z'", sites=sites, **cubic))
    assert len(one) == len(two) == 32
    assert not same(one, two)
    (reason,) = read(block(tags=FORMULA + "_symmetry_Int_Tables_number 14", operators=None))
    assert "no symmetry operators" in reason
    (reason,) = read(block(tags="_symmetry_space_group_name_H-M 'Q 21'", operators=None))
    assert "no tabulated setting" in reason
    (atoms,) = read(
        block(
            tags=FORMULA + "_symmetry_Int_Tables_number 19",
            operators=None,
            cell=(6.1, 6.3, 6.0, 90, 90, 90),
        )
    )
    assert len(atoms) == 16  # P 21 21 21 has one setting


@pytest.mark.parametrize(
    ("tags", "operators", "said"),
    [
        (FORMULA, None, "names no space group"),
        ("", None, "nothing of its symmetry"),
        (FORMULA + "_space_group_name_H-M_alt 'P 1'", ("x,y,z",), "formula is C H2 O × Z 4"),
        ("_space_group_IT_number 14", ("x,y,z",), "1 symmetry operators, space group 14 has more"),
        ("_exptl_crystal_density_diffrn 1.06", ("x,y,z",), "g/cm³, it says 1.06"),
        ("_symmetry_space_group_name_H-M 'P 21/n'", ("x,y,z",), "space group P 21/n has more"),
        (FORMULA, ("x,y,z", "y,x,z"), "do not fit"),
        (FORMULA, ("x,y,z", "-x,-y,oh"), "no symmetry operator"),
        ("_chemical_formula_sum 'C H4 O'", OPERATORS, "hydrogen atoms are missing"),
        ("_chemical_formula_sum 'C2 H2 O'", OPERATORS, "its atoms make C4 H8 O4 in the cell"),
    ],
)
def test_what_the_file_says_of_itself_must_hold(read, tags, operators, said):
    (reason,) = read(block(tags=tags, operators=operators))
    assert said in reason


def test_columns_of_unequal_length_are_told(read):
    text = block().replace("_atom_site_label", "_atom_site_label\n_atom_site_calc_flag", 1)
    lines = [f"{line} calc" if line[:2] in ("C1", "O1") else line for line in text.splitlines()]
    assert "values for 6 columns" in read("\n".join(lines))[0]
    (reason,) = read(block() + "loop_\n_atom_site_occupancy\n1\n1\n")
    assert "differ in length" in reason


def test_missing_hydrogen_is_counted(read):
    (reason,) = read(block(sites=SITES[: SITES.rindex("\n")]))
    assert "4 hydrogen atoms are missing" in reason


def test_p1_with_all_its_atoms_needs_no_operators(read):
    (whole,) = read(block())
    for tags in ("_symmetry_space_group_name_H-M 'P 1'", FORMULA):  # says so, or adds up
        sites = "\n".join(
            f"{s}{i} {s} {x} {y} {z}"
            for i, (s, (x, y, z)) in enumerate(
                zip(whole.symbols, whole.get_scaled_positions(), strict=True)
            )
        )
        (atoms,) = read(block(tags=tags, operators=None, sites=sites))
        assert same(atoms, whole)


def test_what_other_programs_write_is_taken(tmp_path):
    """ASE's formula is the cell's; pymatgen's too, beside a Z that is not 1."""
    structure = pytest.importorskip("pymatgen.core").Structure
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    ase.io.write(tmp_path / "ase.cif", salt)
    written = structure(salt.cell.array, salt.numbers, salt.positions, coords_are_cartesian=True)
    written.to(str(tmp_path / "pymatgen.cif"))
    written.to(str(tmp_path / "symmetric.cif"), symprec=0.01)
    for name in ("ase", "pymatgen", "symmetric"):
        (frame,), refused = read_each(tmp_path / f"{name}.cif")
        assert not refused
        assert same(frame.atoms, salt)


def test_blocks_keep_their_numbers_and_bad_ones_their_reasons(read, tmp_path):
    text = "".join(
        [
            "data_global\n_journal_name_full 'Acta Cryst. B'\n_publ_section_comment\n;\n",
            "data_in_the_text\nloop_\n_atom_site_label\n;\n",
            block("good"),
            block("unsolved", sites="C1 C ? ? ?\nO1 O 0 0 0"),
            block("disordered", sites=SITES + "\nO2 O 0.5 0.5 0.5 0.3", columns=COLUMNS),
            block("half", sites="C1 C 0.31 0.32 0.27 0.5", columns=(*COLUMNS, "occupancy")),
            block("listless").partition("loop_\n_atom")[0],
            "data_pattern\nloop_\n_pd_proc_point_id\n_pd_proc_intensity_total\n1 3.5\n2 4.0\n",
            block("also_good", cell=(5.2, *CELL[1:])),
        ]
    )
    entries = read(text)
    assert [type(entry) for entry in entries] == [Atoms, str, str, str, str, Atoms]
    assert entries[5].get_volume() > entries[0].get_volume()
    for entry, words in zip(
        entries[1:5],
        ("block unsolved: the coordinates of C1", "a.*loop of", "C1 0.5", "holds no atoms"),
        strict=True,
    ):
        assert words.split(".*")[-1] in entry
    assert read_frames(f"{tmp_path / 'a.cif'}@5")[0].info["block"] == "also_good"
    with pytest.raises(TlpotError, match=r"a\.cif#1: block unsolved"):
        read_frames(tmp_path / "a.cif")


def test_occupancy_is_one_unless_it_says_less(read):
    columns = (*COLUMNS, "occupancy")

    def occupied(*values: str) -> Atoms | str:
        lines = [f"{line} {v}" for line, v in zip(SITES.splitlines(), values, strict=True)]
        return read(block(sites="\n".join(lines), columns=columns))[0]

    assert len(occupied(".", "?", "1.000(5)", "1")) == 16
    assert "H1 0.5, H2 0.25 partly occupied" in occupied("1", "1", "0.5", "0.25")
    isotopes = SITES + "\nD2 D 0.2519 0.2496 0.1024 0.97"
    sites = isotopes.replace("0.2496 0.1024\n", "0.2496 0.1024 0.03\n")
    sites = "\n".join(f"{x} 1" if x[0] in "CO" or x[:2] == "H1" else x for x in sites.splitlines())
    assert len(read(block(sites=sites, columns=columns))[0]) == 16
    shared = SITES.replace("\n", " 0.5\n").replace("0.1024", "0.1024 1") + (
        "\nN1 N 0.3100 0.3200 0.2700 0.5"
    )
    assert "C1 (0.5) and N1 (0.5) share one site" in read(block(sites=shared, columns=columns))[0]


def test_rounded_special_positions_are_one_atom(read):
    """Graphite: carbon at 1/3 2/3, written with three decimals, by the operators of P 63/m m c."""
    pytest.importorskip("spglib")
    (atoms,) = read(
        block(
            tags="_symmetry_space_group_name_H-M 'P 63/m m c'",
            operators=None,
            sites="C1 C 0 0 0.25\nC2 C 0.333 0.667 0.25",
            cell=(2.46, 2.46, 6.7, 90, 90, 120),
        )
    )
    assert len(atoms) == 4
    twelfths = atoms.get_scaled_positions() * 12
    assert np.allclose(twelfths, np.round(twelfths), atol=1e-9)


def test_any_encoding_and_line_ending(read):
    text = block(tags=FORMULA + "_publ_author_name 'Müller, Å.'")
    (plain,) = read(text)
    for content in (
        text.encode("utf-8-sig"),
        text.encode("utf-16"),
        text.encode("utf-16-le"),
        text.encode("latin-1"),
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
    ):
        (atoms,) = read(content)
        assert same(atoms, plain)


@pytest.mark.parametrize(
    ("text", "element"),
    [
        *[("N3-", "N"), ("O2-", "O"), ("Cu2+", "Cu"), ("CU", "Cu"), ("D", "H"), ("Cl1-", "Cl")],
        *[("c", "C"), ("O", "O"), ("CA", "Ca")],
    ],
)
def test_elements_of_types(text, element):
    assert element_of(text) == element


def test_elements_of_labels():
    for label, element in (("C10", "C"), ("H1A", "H"), ("Cl2", "Cl"), ("CL2", "Cl"), ("OW1", "O")):
        assert element_of(label, label=True) == element
    assert element_of("CA1", {"C", "H"}, label=True) == "C"
    assert element_of("CA1", {"Ca", "C"}, label=True) == "Ca"
    for label in ("Wat1", "Cent", "Cg1", "Q1", "*"):
        with pytest.raises(TlpotError, match="no known element"):
            element_of(label, label=True)
    with pytest.raises(TlpotError, match="Ca or C"):
        element_of("CA1", label=True)


def test_formulas():
    assert formula_of("C8 H9 N O2") == {"C": 8, "H": 9, "N": 1, "O": 2}
    assert formula_of("C2 D4 H2 O") == {"C": 2, "H": 6, "O": 1}
    assert formula_of("C12.50 H3") == {"C": 12.5, "H": 3}
    assert formula_of("?") == formula_of("2(C4 H6)") == formula_of(None) == {}


@pytest.mark.parametrize(
    "verb",
    [
        ("relax", "--model", "mini"),
        ("rank", "--model", "mini"),
        ("md", "--model", "mini", "--ps", "0.001"),
        ("sample propose", "--method", "rattle", "--number", "1"),
        ("evaluate", "mini"),
    ],
)
def test_every_verb_refuses_a_partly_occupied_site(tmp_path, monkeypatch, capfd, verb):
    sites = "\n".join(f"{line} 1" for line in SITES.splitlines()) + "\nOW O 0.5 0.5 0.5 0.25"
    file = Path(tmp_path, "half_water.cif")
    file.write_text(block(tags="", sites=sites, columns=(*COLUMNS, "occupancy")))
    monkeypatch.chdir(tmp_path)
    first, *options = verb
    files = [*options, str(file)] if first == "evaluate" else [str(file), *options]
    output = [] if first == "evaluate" else ["--output", "out.extxyz"]
    with pytest.raises(SystemExit) as end:
        main([*first.split(), *files, *output])
    captured = capfd.readouterr()
    assert end.value.code == 2
    assert "OW 0.25 partly occupied" in " ".join((captured.out + captured.err).split())


def test_ase_and_ours_agree_on_plain_files(read):
    """An independent reader, where operators and occupancies are plain."""
    text = block(tags="_symmetry_space_group_name_H-M 'P 21/n'")
    (atoms,) = read(text)
    assert same(atoms, ase.io.read(io.StringIO(text), format="cif"))


def test_alternatives_are_disorder_also_where_all_are_fully_occupied(read):
    """Converters keep the groups and lose the occupancies; one group left is an ordered crystal."""
    columns = (*COLUMNS, "disorder_group")
    plain = [f"{line} ." for line in SITES.splitlines()]
    atoms = "\n".join([*plain[:-1], f"{SITES.splitlines()[-1]} 1"])
    tags = {"tags": "", "columns": columns}
    (ordered,) = read(block(sites=atoms, **tags))
    assert isinstance(ordered, Atoms)
    (reason,) = read(block(sites=f"{atoms}\nH9 H 0.6 0.7 0.1 2", **tags))
    assert "disordered" in reason
    assert "H9" in reason
    assert "(1, 2)" in reason
