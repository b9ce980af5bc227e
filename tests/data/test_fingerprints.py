"""Whether a model can tell what it has seen: fingerprints of structures, kept in its file."""

import hashlib
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from tlpot.config.data import Split
from tlpot.data.fingerprints import TrainingSet, base_lines, fingerprints, model_lines, overlap
from tlpot.data.split import Splits, hold_out_unseen
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame


def seen_by(train: list[Atoms], asked: list[Atoms]) -> list[str | None]:
    known = TrainingSet.of({}).with_frames([Frame(a) for a in train], [])
    kept = TrainingSet.of({"seen": known.as_dict()})  # as through a model's file
    return kept.parts([Frame(a) for a in asked])


@pytest.fixture
def snapshots(ideal_urea) -> list[Atoms]:
    """Forty geometries of urea, 0.02 Å off their symmetry."""
    found = [ideal_urea.copy() for _ in range(40)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.02, seed=seed)
    return found


@pytest.mark.parametrize("change", ["order", "wrapped", "moved", "turned", "cell", "supercell"])
def test_the_same_crystal_is_known_however_it_is_written(urea, change):
    other, random = urea.copy(), np.random.default_rng(1)
    if change == "order":
        other = other[random.permutation(len(other))]
    elif change == "wrapped":
        other.positions += random.integers(-2, 3, (len(other), 3)) @ other.cell.array
    elif change == "moved":
        other.positions += [0.3, -1.7, 9.1]
    elif change == "turned":
        other.rotate(37.0, (1, 2, 3), rotate_cell=True)
    elif change == "cell":  # another choice of lattice vectors
        other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ other.cell.array)
    else:
        other = other.repeat((2, 1, 1))
    assert seen_by([urea], [other]) == ["train"]


@pytest.mark.parametrize("name", ["a.extxyz", "a.cif", "POSCAR", "a.traj", "a.json", "a.xsf"])
def test_a_frame_is_known_from_any_file(snapshots, tmp_path, name):
    ase.io.write(tmp_path / name, snapshots[0])
    assert seen_by(snapshots[:1], [ase.io.read(tmp_path / name)]) == ["train"]


def test_rounding_to_four_decimals_changes_nothing(snapshots):
    rounded = [a.copy() for a in snapshots]
    for atoms in rounded:
        atoms.set_cell(np.round(atoms.cell.array, 4))
        atoms.positions = np.round(atoms.positions, 4)
    assert seen_by(snapshots, rounded) == ["train"] * len(snapshots)
    assert seen_by(rounded, snapshots) == ["train"] * len(snapshots)


def test_other_frames_are_not_known(snapshots, urea):
    assert seen_by(snapshots[1:], snapshots[:1]) == [None]
    moved, swapped, strained = urea.copy(), urea.copy(), urea.copy()
    moved.positions[4, 1] += 0.01
    swapped.numbers[[0, 2]] = swapped.numbers[[2, 0]]
    strained.set_cell(strained.cell.array * 1.0005, scale_atoms=True)
    assert seen_by([urea], [moved, swapped, strained]) == [None] * 3


def test_molecules_and_single_atoms_are_told_apart_too():
    water, ethanol = molecule("H2O"), molecule("CH3CH2OH")
    boxed = water.copy()
    boxed.center(8.0)
    boxed.pbc = True
    hydrogen, argon = Atoms("H"), Atoms("Ar")
    asked = [water, boxed, ethanol, hydrogen, argon]
    assert seen_by([water, argon], asked) == ["train", "train", None, None, "train"]


def test_many_frames_need_little_room_and_are_not_confused():
    random, frames = np.random.default_rng(0), []
    for _ in range(6000):
        atoms = molecule("CH3OH")
        atoms.positions += 0.03 * random.normal(size=(6, 3))
        frames.append(Frame(atoms))
    known = TrainingSet.of({}).with_frames(frames[:3000], [])
    assert known.parts(frames) == ["train"] * 3000 + [None] * 3000
    assert len(known.as_dict()["train"]) <= 16 * 3000  # characters: 160 kB of 10,000 frames


def test_fingerprints_are_those_of_earlier_versions():
    """Model files keep them: what they are must never change."""
    crystal = Atoms(
        "OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[3, 3.1, 3.2], pbc=True
    )
    assert fingerprints([crystal, Atoms("He")]).tolist() == [
        [40756, 63742, 50776, 61542, 37605, 12738],
        [21714] * 6,
    ]


def test_a_chain_of_models_remembers_all(snapshots):
    frames = [Frame(a) for a in snapshots[:4]]
    first = TrainingSet.of({}).with_frames(frames[:1], frames[1:2])
    second = TrainingSet.of({"seen": first.as_dict()}).with_frames(frames[2:3], frames[:1])
    assert second.parts(frames) == ["train", "validation", "train", None]


def test_a_model_without_fingerprints_is_asked_by_its_files(snapshots, tmp_path):
    file, other = tmp_path / "a.xyz", tmp_path / "b.xyz"
    file.write_text("frames")
    other.write_text("others")
    about = {"path": "gone", "sha256": hashlib.sha256(b"frames").hexdigest(), "frames": 2}
    old = TrainingSet.of({"data": {"files": [about]}})
    asked = [Frame(snapshots[0], source=str(path)) for path in (file, other, "in memory")]
    assert old.parts(asked) == ["file", None, None]
    newer = TrainingSet.of({"seen": old.with_frames([Frame(snapshots[1])], []).as_dict()})
    assert newer.parts([asked[0], replace(asked[1], atoms=snapshots[1])]) == ["file", "train"]


def test_what_is_said_first():
    counts = overlap(["train", "train", "validation", None, None, None])
    assert model_lines(counts) == [
        "the model was trained on 2 and tuned on 1 of these 6 frames: judge it by the errors of "
        "the 3 unseen ones"
    ]
    assert base_lines(counts | {"moved_to_train": 1})[0].startswith("the base was trained on 2")
    assert "say little" in model_lines(overlap(["train"]))[0]
    assert "read the files of 1 of these 2" in model_lines(overlap(["file", None]))[0]
    assert model_lines(overlap([None])) == base_lines(overlap([None]) | {"moved_to_train": 0}) == []


# --- held-out frames ---------------------------------------------------------------------------


def held_out(seen: dict[int, str], split: Split, groups: dict[int, str] | None = None) -> Splits:
    frames = [Frame(Atoms("H"), index=i, info={"run": (groups or {}).get(i, i)}) for i in range(10)]
    drawn = Splits(train=[0, 1, 2, 3, 4, 5], validation=[6, 7], test=[8, 9])
    return hold_out_unseen(drawn, frames, split, [seen.get(i) for i in range(10)])


def test_what_the_base_has_seen_is_not_held_out():
    found = held_out({0: "train", 6: "train", 7: "validation", 8: "validation"}, Split())
    assert found == Splits(train=[0, 1, 2, 3, 4, 5, 6, 8], validation=[7], test=[9])


def test_a_whole_group_goes_where_one_of_it_must():
    groups = {8: "a", 9: "a", 0: "b", 1: "b"}
    found = held_out({8: "train"}, Split(group="run"), groups)
    assert {8, 9} <= set(found.train)
    assert found.test  # another group takes its place
    assert {0, 1}.isdisjoint(found.test) or {0, 1} <= set(found.test)


def test_an_emptied_part_takes_an_unseen_frame():
    known = dict.fromkeys([0, 1, 2, 3, 4, 6, 7, 8, 9], "train")
    with pytest.raises(TlpotError, match=r"data\.split\.validation: no frame is left"):
        held_out(known, Split())  # 5 is the only unseen one, and test has it
    known.pop(0)
    found = held_out(known, Split())
    assert sorted(found.test + found.validation) == [0, 5]


def test_no_test_frame_is_made_up():
    with pytest.raises(TlpotError, match=r"set data\.split\.test to 0"):
        held_out(dict.fromkeys(range(10), "train"), Split())
    parts = Splits(list(range(10)), [], [])
    frames = [Frame(Atoms("H"))] * 10
    split = Split(test=0.0, validation=0.0)
    assert hold_out_unseen(parts, frames, split, ["train"] * 10) == parts
