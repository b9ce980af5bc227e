import ase.io
import pytest
from ase import Atoms

from tlpot.errors import TlpotError
from tlpot.powder.config import PowderData
from tlpot.powder.data import read_examples
from tlpot.powder.lines import SYSTEMS


def test_crystal_system_and_prototype_are_found(folder):
    examples, refused = read_examples(PowderData(files=[str(folder)]))
    assert len(examples) == 36
    assert not refused
    by_kind = {"rocksalt": "cubic", "rutile": "tetragonal", "wurtzite": "hexagonal"}
    prototypes = {}
    for one in examples:
        kind = next(kind for kind in by_kind if kind in one.frame.source)
        assert SYSTEMS[one.system] == by_kind[kind]
        prototypes.setdefault(kind, set()).add(one.frame.info["prototype"])
    assert all(len(names) == 1 for names in prototypes.values())
    assert len(set.union(*prototypes.values())) == 3


def test_a_table_gives_crystal_systems_and_groups(folder, tmp_path, crystals):
    table = tmp_path / "table.csv"
    rows = [f"{name},Trigonal,batch{i % 3}" for i, name in enumerate(sorted(crystals))]
    table.write_text("\n".join(["id,crystal_system,batch", *rows]))
    examples, _ = read_examples(PowderData(files=[str(folder)], table=str(table)))
    assert {SYSTEMS[one.system] for one in examples} == {"trigonal"}
    assert {one.frame.info["batch"] for one in examples} == {"batch0", "batch1", "batch2"}
    table.write_text("\n".join(["id,crystal_system,batch", *rows[:1]]))
    examples, refused = read_examples(PowderData(files=[str(folder)], table=str(table)))
    assert len(examples) == 1
    assert "has no row for id" in refused[0].reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,crystal_system\na,cubic\n", "needs a column 'id'"),
        ("id,crystal_system\nMgO_rocksalt,kubisch\n", "'kubisch' is no crystal system"),
        ("", "is empty"),
        ("MgO_rocksalt,cubic\n", "needs a column 'id'"),
    ],
)
def test_a_table_that_is_none_is_refused(folder, tmp_path, text, said):
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(TlpotError, match=said) as caught:
        read_examples(PowderData(files=[str(folder)], table=str(table)))
    assert "table.csv" in str(caught.value)
    with pytest.raises(TlpotError, match="no such file"):
        read_examples(PowderData(files=[str(folder)], table=str(tmp_path / "absent.csv")))


def test_a_table_is_read_by_path_and_with_what_excel_adds(tmp_path, crystals):
    for folder, name in (("a", "MgO_rocksalt"), ("b", "MgO_rocksalt")):
        (tmp_path / folder).mkdir()
        ase.io.write(tmp_path / folder / "1.cif", crystals[name])
    table = tmp_path / "table.csv"
    table.write_text("\ufeffID;Crystal_System;batch\r\na/1.cif;Cubic;x\r\nb\\1;;y\r\n;;\r\n")
    data = PowderData(files=[str(tmp_path / "a"), str(tmp_path / "b")], table=str(table))
    examples, refused = read_examples(data)
    assert [(SYSTEMS[one.system], one.frame.info["batch"]) for one in examples] == [("cubic", "x")]
    assert "no crystal_system for id" in refused[0].reason
    assert "b/1.cif" in refused[0].name
    table.write_text("id,crystal_system\n1,cubic\n")
    with pytest.raises(TlpotError, match=r"row 2 \(1\): '1' may be .*a/1\.cif#0, .*b/1\.cif#0"):
        read_examples(data)


def test_at_most_so_many_of_a_crystal_system(folder):
    examples, _ = read_examples(PowderData(files=[str(folder)], per_class=5))
    assert sorted(one.system for one in examples) == sorted(
        5 * [SYSTEMS.index(name) for name in ("tetragonal", "hexagonal", "cubic")]
    )


def test_what_is_no_crystal_is_dropped_or_refused(folder, tmp_path, crystals):
    ase.io.write(tmp_path / "water.extxyz", Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    ase.io.write(tmp_path / "good.cif", crystals["MgO_rocksalt"])
    (tmp_path / "empty.cif").touch()
    files = [str(tmp_path / name) for name in ("water.extxyz", "good.cif", "empty.cif")]
    examples, refused = read_examples(PowderData(files=files))
    assert len(examples) == 1
    assert {r.name.split("/")[-1].split("#")[0] for r in refused} == {"water.extxyz", "empty.cif"}
    with pytest.raises(TlpotError, match="2 of 3 crystals cannot be used"):
        read_examples(PowderData(files=files, bad_crystals="refuse"))
    with pytest.raises(TlpotError, match="no structure can be used"):
        read_examples(PowderData(files=files[:1]))
