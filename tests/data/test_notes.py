"""What is written comes back the same, and ASE reads it too."""

import io
import json
import math
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tlpot.config.data import Data, Group
from tlpot.data.groups import read_data
from tlpot.data.read import read_frames
from tlpot.data.write import LABEL_KEYS, to_text, write_frames
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

LOOKALIKES = [
    *("007", "T", "False", "true", "1 2 3", "1_000", "nan", "-inf", "1e5", "[1, 2]", "{'a': 1}"),
    *(
        '_JSON "x"',
        "_JSON {",
        "",
        " ",
        " padded ",
        "a=b",
        "tab\there",
        "two\nlines",
        "\r\n",
        "\x00",
    ),
    *("C:\\new\\table", '\\"', "it's", '"quoted"', "'", "Köln ≤ 5 Å", "\u2028", "\udcff", "None"),
    *("Lattice=1", "\\", "ends in \\", "pbc", "🜁"),
]
NAMES = [
    *("pbc", "Lattice", "Properties", "uid", "energy", "dft_forces", "virial", "tlpot", "dipole"),
    *("two words", "a=b", "ends in \\", '"', "line\nbreak", "", "Ä", "7", "T", "data", "magmom"),
    *("key_value_pairs", "free_energy", "forces", "numbers", "config_type", "stress", "charges"),
]
text = st.sampled_from(LOOKALIKES) | st.text()
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
dtypes = st.sampled_from([np.int64, np.float64, np.bool_, np.int8, np.float32, np.uint16])
numbers = arrays.arrays(dtypes, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
nested = st.recursive(scalars, lambda s: st.lists(s) | st.dictionaries(text, s), max_leaves=5)
# what tells how a label counts is read by that name
notes = st.dictionaries(st.sampled_from(NAMES) | text, scalars | numbers | nested, max_size=4)
notes = notes.filter(lambda found: not any(key in LABEL_KEYS for key in found))


def same(one, two) -> bool:
    """Equal, and of one kind: NaN is NaN, 1 is not True, a list is no array."""
    if isinstance(one, np.ndarray):
        alike = isinstance(two, np.ndarray) and one.dtype.kind.replace("u", "i") == two.dtype.kind
        return alike and one.shape == two.shape and np.array_equal(one, two, one.dtype.kind == "f")
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(v, two[k]) for k, v in one.items())
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two or (isinstance(one, float) and math.isnan(one) and math.isnan(two))


def kept(frame: Frame) -> dict[str, object]:
    return {key: value for key, value in frame.info.items() if key not in LABEL_KEYS}


def two_atoms(**labels) -> Frame:
    atoms = Atoms("HCl", [[0, 0, 0], [0, 0, 1.3]], cell=[3, 3.1, 3.2], pbc=True)
    return Frame(atoms, **labels)


@settings(max_examples=200, deadline=None)
@given(notes)
def test_notes_come_back_the_same(tmp_path_factory, info):
    path = tmp_path_factory.getbasetemp() / "notes.extxyz"
    (back,) = read_frames(write_frames(path, [two_atoms(energy=-1.5, info=info)]))
    assert same(info, kept(back))
    assert back.energy == -1.5
    assert path.read_bytes().isascii()
    assert len(ase.io.read(path).info) <= len(info) + 1


@pytest.mark.parametrize("value", LOOKALIKES)
def test_ase_reads_any_text_under_its_name(value):
    atoms = ase.io.read(io.StringIO(to_text(two_atoms(info={"note": value}))), format="extxyz")
    assert atoms.info == {"note": value}


@pytest.mark.parametrize("value", [5, -2.5, True, False, None, 10**30, 1e-300, float("inf")])
def test_ase_reads_numbers_under_their_name(value):
    atoms = ase.io.read(io.StringIO(to_text(two_atoms(info={"note": value}))), format="extxyz")
    assert atoms.info["note"] == value


@pytest.mark.parametrize("value", [[1.5, 2.0], [[1, 2], [3, 4]], [True, False], [7]])
def test_ase_reads_arrays_under_their_name(value):
    atoms = ase.io.read(
        io.StringIO(to_text(two_atoms(info={"note": np.array(value)}))), format="extxyz"
    )
    assert np.array_equal(atoms.info["note"], value)


def test_ordinary_notes_look_as_ever():
    line = to_text(two_atoms(info={"charge": 1, "kind": "rattled", "by": "two words"}))
    assert 'charge=1 kind=rattled by="two words"' in line.splitlines()[1]


finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = arrays.arrays(float, (2, 3), elements=finite)


@settings(max_examples=100, deadline=None)
@given(finite, vectors, arrays.arrays(float, 6, elements=finite), vectors)
def test_labels_and_geometry_come_back_bit_for_bit(
    tmp_path_factory, energy, forces, stress, positions
):
    frame = two_atoms(energy=energy, forces=forces, stress=stress)
    frame.atoms.positions = positions
    path = tmp_path_factory.getbasetemp() / "labels.extxyz"
    (back,) = read_frames(write_frames(path, [frame]))
    assert (back.energy, back.forces.tolist()) == (energy, forces.tolist())
    assert np.array_equal(back.atoms.positions, positions)
    assert np.array_equal(back.atoms.cell, frame.atoms.cell)
    if back.kind == "crystal":
        assert np.array_equal(back.stress, stress)


def test_kinds_of_frames_come_back(tmp_path, labelled):
    full, other = labelled(2)
    zero = np.zeros_like(other.forces)
    frames = [
        full,
        replace(other, forces=None, stress=None, labels="energy", weight=0.25),
        replace(other, forces=zero, labels="relaxed"),
        replace(full, weight=3.0, info={"a": [1, "b"]}),
        replace(other, energy=None, forces=None, stress=None),
    ]
    path = write_frames(tmp_path / "frames.extxyz", frames)
    some = f"{path}@0"
    for files, skip in (
        ({"files": [path]}, 0),
        ({"files": [some], "groups": [{"files": [path]}]}, 1),
    ):
        back = read_data(Data.model_validate_json(json.dumps(files, default=str)))[skip:]
        for old, new in zip(frames, back, strict=True):
            assert (new.labels, new.weight, kept(new)) == (old.labels, old.weight, old.info)
            assert (new.energy is None, new.forces is None) == (
                old.energy is None,
                old.forces is None,
            )
    heavier = Data(files=[some], groups=[Group(files=[f"{path}@3"], weight=2.0)])
    assert [frame.weight for frame in read_data(heavier)] == [1.0, 6.0]
    assert ase.io.read(path, 3).info["tlpot"] == {"weight": 3.0, "notes": {"a": [1, "b"]}}


def test_columns_of_atoms_come_back_through_ase(tmp_path):
    frame = two_atoms(forces=np.array([[1e-12, 0, 0], [0, 0, -1 / 3]]))
    atoms = frame.atoms
    atoms.set_momenta(np.array([[1 / 3, 0, 0], [0, 1e-9, 0]]))
    atoms.set_tags([3, 4])
    atoms.new_array("site", np.array(["a", "b"]))
    atoms.new_array("fixed", np.array([True, False]))
    atoms.set_constraint(FixAtoms([1]))
    back = ase.io.read(write_frames(tmp_path / "a.extxyz", [frame]))
    for name in ("momenta", "tags", "site", "fixed"):
        assert np.array_equal(back.arrays[name], atoms.arrays[name])
    assert np.array_equal(back.get_forces(apply_constraint=False), frame.forces)
    assert [c.todict()["kwargs"]["mask"] for c in back.constraints][-1] == [True] * 3


class Thing:
    pass


@pytest.mark.parametrize(
    "info",
    [
        {"note": Thing()},
        {"note": 1j},
        {"note": np.array([1j])},
        {"note": np.array([Thing()])},
        {"note": b"bytes"},
        {"note": {1: "a"}},
        {5: "five"},
        {"note": [{"deep": Thing()}]},
    ],
)
def test_what_no_file_can_keep_is_refused_and_nothing_is_written(tmp_path, info):
    path = tmp_path / "new" / "frames.extxyz"
    frame = replace(two_atoms(info=info), source="in.xyz", index=3)
    with pytest.raises(TlpotError, match=r"in\.xyz#3: .*cannot be written"):
        write_frames(path, [two_atoms(), frame])
    assert not path.parent.exists()


@pytest.mark.parametrize("text", ["data=5", "key_value_pairs=some", "tlpot=7", 'tlpot="0.1 0.2"'])
def test_notes_of_others_that_are_called_like_ours_are_notes(tmp_path, text):
    path = tmp_path / "a.xyz"
    path.write_text(f"1\nProperties=species:S:1:pos:R:3 energy=1.0 {text}\nH 0 0 0\n")
    (frame,) = read_frames(path)
    assert text.partition("=")[0] in frame.info
    (again,) = read_frames(write_frames(tmp_path / "b.xyz", [frame]))
    assert same(kept(frame), kept(again))


@example("two\nlines")
@given(text)
@settings(max_examples=50, deadline=None)
def test_text_is_one_line_of_the_file(value):
    assert to_text(two_atoms(info={"note": value, value: 1})).count("\n") == 4
