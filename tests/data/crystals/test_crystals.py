import shutil

import ase.io
import pytest
from ase.build import bulk, molecule

from tlpot.data.crystals.read import read_crystals, read_each
from tlpot.errors import TlpotError
from tlpot.structure.soundness import find_flaw


def test_formats_give_the_same_crystal(landscape, packings):
    frames, refused = read_crystals(str(landscape))
    assert not refused
    found = {frame.source[-5:].lstrip("/"): frame.atoms for frame in frames}
    for i, name in enumerate(("a.cif", "b.vasp", "c.res", "d.cif", "e.cif")):
        (atoms,) = (v for k, v in found.items() if name.endswith(k.split("/")[-1]))
        assert atoms.get_volume() == pytest.approx(packings[i].get_volume(), rel=1e-4)
        assert sorted(atoms.numbers) == sorted(packings[i].numbers)


def test_bad_files_are_named_and_the_rest_goes_on(landscape, tmp_path):
    landscape = shutil.copytree(landscape, tmp_path / "landscape")
    (landscape / "empty.cif").write_text("")
    (landscape / "broken.cif").write_text("data_x\n_cell_length_a 5\nloop_\n")
    text = (landscape / "a.cif").read_text().splitlines()
    half = [line.replace("1.0000", "0.5000") if line.split()[:1] == ["C"] else line
            for line in text]  # fmt: skip
    assert half != text
    (landscape / "half.cif").write_text("\n".join(half))
    silver = bulk("Ag")
    ase.io.write(landscape / "silver.vasp", silver)
    close = ase.io.read(landscape / "a.cif")
    close.positions[1] = close.positions[0] + [0.3, 0, 0]
    ase.io.write(landscape / "close.vasp", close)
    frames, refused = read_crystals(str(landscape), ("H", "C", "N", "O"))
    assert len(frames) == 5
    reasons = {one.name.split("/")[-1]: one.reason for one in refused}
    assert set(reasons) == {
        "empty.cif", "broken.cif#0", "half.cif#0", "silver.vasp#0", "close.vasp#0"
    }  # fmt: skip
    assert "empty" in reasons["empty.cif"]
    assert "_cell_length_b" in reasons["broken.cif#0"]
    assert "keep one orientation" in reasons["half.cif#0"]
    assert "does not know Ag" in reasons["silver.vasp#0"]
    assert "overlap, 0.30 Å" in reasons["close.vasp#0"]


def test_nothing_left_names_file_and_mend(tmp_path):
    file = tmp_path / "broken.cif"
    file.write_text("nonsense")
    with pytest.raises(TlpotError, match=r"broken\.cif: cannot be read as CIF: .*data_"):
        read_crystals(str(file))


def test_atoms_of_no_element_and_no_atoms_at_all_are_named(landscape, tmp_path):
    text = (landscape / "a.cif").read_text()
    head, end, atoms = text.partition("_atom_site_occupancy\n")
    (tmp_path / "dummy.cif").write_text(head + end + atoms.replace("C ", "Xx ", 1))
    (tmp_path / "nothing.cif").write_text(head + end)
    unknown = bulk("Cu")
    unknown.numbers[:] = 0
    ase.io.write(tmp_path / "unknown.xyz", unknown, format="extxyz")
    for name, said in (
        ("dummy.cif", "'Xx' is no known element"),
        ("nothing.cif", "it holds no atoms"),
        ("unknown.xyz", "no known element"),
    ):
        with pytest.raises(TlpotError, match=rf"{name}.*{said}"):
            read_crystals(str(tmp_path / name))


def test_molecule_is_no_crystal():
    flaw = find_flaw(molecule("H2O"), periodic="crystal")
    assert flaw is not None
    assert "not periodic" in flaw.detail


def test_symmetry_that_doubles_atoms_by_rounding_is_mended(tlpot_data):
    file = tlpot_data / "csp_genarris" / "Target_I" / "PBE_MBD" / "79dc55e1dcdfef4.cif"
    assert len(ase.io.read(file)) == 280
    frames, _ = read_crystals(file)
    assert frames[0].atoms.symbols.formula.count() == {"C": 48, "H": 48, "O": 8}


def test_vasp_4_files_without_elements_are_told_so(tmp_path):
    (tmp_path / "POSCAR").write_text(
        "salt\n1.0\n5 0 0\n0 5 0\n0 0 5\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
    )
    with pytest.raises(TlpotError, match=r"POSCAR: cannot be read as vasp: it names no elements"):
        read_crystals(str(tmp_path / "POSCAR"))


POSCAR = "water\n1.0\n5 0 0\n0 .5E1 0\n0 0 5.0\nO H\n1 2\nDirect\n0 0 0\n.1 .1 0\n-.1 .1 0\n"
MOLFILE = (
    "\n  x\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 O   0  0\n"
    "    0.7600    0.5900    0.0000 H   0  0\n  1  2  1  0\nM  END\n$$$$\n"
)


@pytest.mark.parametrize(("name", "text"), [("POSCAR", POSCAR), ("a.sdf", MOLFILE)])
@pytest.mark.parametrize("between", ["", "\n"])
def test_files_put_together_do_not_lose_the_second(tmp_path, name, text, between):
    """ASE reads the first alone."""
    (tmp_path / name).write_text(text)
    assert len(read_each(tmp_path / name)[0]) == 1
    (tmp_path / name).write_text(text + between + text)
    frames, refused = read_each(tmp_path / name)
    assert not frames
    assert "is 2 files put together" in refused[0].reason


def test_trajectories_put_together_do_not_lose_the_second(tmp_path):
    ase.io.write(tmp_path / "a.traj", [molecule("H2O"), molecule("CH4")])
    assert len(read_each(tmp_path / "a.traj")[0]) == 2
    (tmp_path / "b.traj").write_bytes((tmp_path / "a.traj").read_bytes() * 2)
    assert "is 2 files put together" in read_each(tmp_path / "b.traj")[1][0].reason


def test_velocities_behind_a_structure_are_no_second_one(tmp_path):
    more = "\n0.1 0.1 0.1\n0.1 0.1 0.1\n0.1 0.1 0.1\n\n1\n1.0\n0.0 0.0 0.0\n"
    (tmp_path / "CONTCAR").write_text(POSCAR + more)
    assert len(read_each(tmp_path / "CONTCAR")[0]) == 1
