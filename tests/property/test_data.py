import ase.io
import numpy as np
import pytest
from ase.build import bulk

from tlpot.data.crystals.read import read_each
from tlpot.errors import TlpotError
from tlpot.property.config import PropertyData
from tlpot.property.data import read_labelled_crystals, read_unlabelled


def read(path, **settings):
    return read_labelled_crystals(PropertyData(files=str(path), **settings))


def test_a_csv_without_header(folder):
    crystals = read(folder / "id_prop.csv")
    assert len(crystals) == 20
    assert crystals.name == "property"
    assert crystals.frames[1].info["id"] == "Si"
    assert crystals.frames[1].atoms.symbols.get_chemical_formula() == "Si2"
    assert crystals.values[1] == 1.12
    assert len(crystals.graphs) == 20


def test_columns_by_name_and_structures_elsewhere(folder, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("file,a,gap\nSi.cif,5.43,1.1\nC.cif,3.57,5.5\n")
    crystals = read(table, property="gap", structures=str(folder))
    assert (crystals.name, crystals.values.tolist()) == ("gap", [1.1, 5.5])
    crystals = read(table, structures=str(folder))
    assert (crystals.name, crystals.values.tolist()) == ("a", [5.43, 3.57])
    with pytest.raises(TlpotError, match=r"no column 'eg'; data\.property may be a, gap"):
        read(table, property="eg", structures=str(folder))


@pytest.mark.parametrize("name", ["energy", "band_gap", "formation_energy"])
def test_structures_with_the_property_in_their_info(tmp_path, name):
    images = [bulk("Si"), bulk("Cu")]
    for i, atoms in enumerate(images):
        atoms.info[name] = 1.0 + i
    ase.io.write(tmp_path / "a.extxyz", images)
    assert read(tmp_path / "a.extxyz", property=name).values.tolist() == [1.0, 2.0]
    with pytest.raises(TlpotError, match=rf"a\.extxyz#0: no 'hardness'.*{name}"):
        read(tmp_path / "a.extxyz", property="hardness")
    with pytest.raises(TlpotError, match="name the key"):
        read(tmp_path / "a.extxyz")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("Si,nan", ["row 2 (Si)", "nan"]),
        ("Si,inf", ["row 2 (Si)", "inf"]),
        ("Si,", ["row 2 (Si)", "no number"]),
        ("Si,high", ["row 2 (Si)", "'high'"]),
        ("Si", ["row 2", "an id and a value, separated by a comma"]),
        ("Si,5.4mp-1,1.0", ["row 2", "3 cells", "first row 2"]),
        ("mp-1,1.0", ["row 2 (mp-1)", "mp-1.cif"]),
        ("C,5.4", ["row 2", "'C'", "row 1"]),
        ("empty,1.0", ["empty.cif", "holds no atoms"]),
        ("bare,1.0", ["bare.cif", "holds no atoms"]),
        ("unknown,1.0", ["unknown.cif", "'Qq' is no known element"]),
        ("partial,1.0", ["row 2 (partial)", "partly occupied"]),
        ("none,1.0", ["none.cif", "empty"]),
    ],
)
def test_bad_entries_are_refused_by_name_or_dropped(folder, tmp_path, row, words):
    good = (folder / "Si.cif").read_text()
    for name in ("C", "Si"):
        (tmp_path / f"{name}.cif").write_text((folder / f"{name}.cif").read_text())
    (tmp_path / "empty.cif").write_text(good[: good.rindex("loop_")])
    (tmp_path / "bare.cif").write_text(good[: good.index("  Si  Si1")])
    (tmp_path / "unknown.cif").write_text(good.replace("Si ", "Qq "))
    (tmp_path / "partial.cif").write_text(good.replace("1.0000", "0.5000"))
    (tmp_path / "none.cif").write_text("")
    table = tmp_path / "id_prop.csv"
    table.write_text(f"C,5.47\n{row}\n")
    with pytest.raises(TlpotError) as error:
        read(table)
    for word in words:
        assert word in str(error.value)
    if row not in ("Si", "C,5.4", "Si,5.4mp-1,1.0"):  # a broken table is never dropped silently
        crystals = read(table, bad_frames="drop")
        assert len(crystals) == 1
        assert len(crystals.rejected) == 1
        assert words[0] in crystals.rejected[0]


def test_excels_mark_semicolons_and_commas_are_no_part_of_a_crystal(folder, tmp_path):
    table = tmp_path / "id_prop.csv"
    table.write_text("\ufeffSi;1,12\r\nC.cif;5,47\r\n;\r\n", encoding="utf-8", newline="")
    crystals = read(table, structures=str(folder))
    assert [frame.info["id"] for frame in crystals.frames] == ["Si", "C.cif"]
    assert crystals.values.tolist() == [1.12, 5.47]


def test_a_first_row_without_a_value_is_no_line_of_names(folder, tmp_path):
    table = tmp_path / "id_prop.csv"
    table.write_text("Si,\nC,5.47\nGe,0.66\n")
    with pytest.raises(TlpotError, match=r"row 1 \(Si\): the property is no number"):
        read(table, structures=str(folder))
    crystals = read(table, structures=str(folder), bad_frames="drop")
    assert crystals.values.tolist() == [5.47, 0.66]
    assert "row 1 (Si)" in crystals.rejected[0]


def test_one_crystal_under_two_ids_is_refused(folder, tmp_path):
    table = tmp_path / "id_prop.csv"
    table.write_text("Si,1.1\nSi.cif,1.2\n")
    with pytest.raises(TlpotError, match=r"row 2 \(Si\.cif\): .*Si\.cif is there already.*row 1"):
        read(table, structures=str(folder))


def test_an_empty_csv_is_refused(tmp_path):
    table = tmp_path / "id_prop.csv"
    for text, word in (("", "empty"), ("\n\n", "empty"), ("id,gap\n", "no crystal")):
        table.write_text(text)
        with pytest.raises(TlpotError, match=rf"id_prop\.csv.*{word}"):
            read(table)


def test_nothing_left_is_refused(tmp_path):
    (tmp_path / "id_prop.csv").write_text("a,1\nb,2\n")
    with pytest.raises(TlpotError, match=r"no crystal is left\n.*row 1"):
        read(tmp_path / "id_prop.csv", bad_frames="drop")


def test_values_are_finite_numbers(folder):
    assert np.isfinite(read(folder / "id_prop.csv").values).all()


def test_rank_and_property_see_the_same_crystal(tlpot_data):
    """Rounded operators double atoms of this one in other readers."""
    file = tlpot_data / "csp_genarris" / "Target_I" / "PBE_MBD" / "79dc55e1dcdfef4.cif"
    (one,), rejected = read_unlabelled(file)
    (other,), refused = read_each(file)
    assert not rejected
    assert not refused
    assert one.atoms.get_chemical_formula() == "C48H48O8"
    assert np.array_equal(one.atoms.positions, other.atoms.positions)


def test_a_bad_block_costs_no_good_one(tmp_path):
    text = "".join(
        f"data_{name}\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_space_group_name_H-M_alt 'P 1'\nloop_\n"
        "_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        f"_atom_site_occupancy\nSi1 0 0 0 {occupancy}\n"
        for name, occupancy in (("a", "1"), ("b", "0.5"), ("c", "."))
    )
    (tmp_path / "three.cif").write_text(text)
    frames, rejected = read_unlabelled(tmp_path / "three.cif", drop_bad=True)
    assert [frame.index for frame in frames] == [0, 2]
    assert len(rejected) == 1
    assert "three.cif#1: block b: disordered" in rejected[0]
