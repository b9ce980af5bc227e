"""Held-out frames: how many, of what, and that they never move."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from tlpot.config.data import Split
from tlpot.data.read import read_frames
from tlpot.data.split import Splits, split_frames, thin
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame


@pytest.fixture
def frames(water: Callable[..., Frame]) -> list[Frame]:
    """85 crystals of two compositions and 15 molecules, in three files."""
    made = [water(0.001 * i) for i in range(60)]
    for i in range(25):
        atoms = Atoms("He", cell=[3, 3, 3 + 0.01 * i], pbc=True)
        made.append(Frame(atoms, energy=0.0, forces=np.zeros((1, 3))))
    for i in range(15):
        atoms = water(0.001 * i).atoms
        atoms.pbc = False
        made.append(water(atoms=atoms))
    return [
        replace(f, source=f"{i % 3}.xyz", index=i, info={"run": i // 10})
        for i, f in enumerate(made)
    ]


def parts(splits: Splits) -> list[list[int]]:
    return [splits.train, splits.validation, splits.test]


@pytest.mark.parametrize("group", [None, "file", "composition", "run"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_frame_is_in_one_part(frames: list[Frame], group: str | None, seed: int) -> None:
    validation = 0.0 if group == "composition" else 0.1
    splits = split_frames(frames, Split(seed=seed, group=group, validation=validation))
    assert sorted(i for part in parts(splits) for i in part) == list(range(100))
    assert all(part == sorted(part) for part in parts(splits))
    assert splits.train
    assert splits.test
    assert bool(splits.validation) == (validation > 0)


def test_every_kind_and_composition_gives_its_share(frames: list[Frame]) -> None:
    splits = split_frames(frames, Split(test=0.2, validation=0.1))
    test = Counter((frames[i].kind, frames[i].formula) for i in splits.test)
    assert test == {("crystal", "H2O"): 12, ("crystal", "He"): 5, ("molecule", "H2O"): 3}
    validation = Counter((frames[i].kind, frames[i].formula) for i in splits.validation)
    assert validation[("crystal", "H2O")] == 6
    assert sum(validation.values()) == 10


def test_seed_and_nothing_else_decides(frames: list[Frame]) -> None:
    assert split_frames(frames, Split(seed=3)) == split_frames(list(frames), Split(seed=3))
    assert split_frames(frames, Split(seed=3)) != split_frames(frames, Split(seed=4))


def test_unique_compositions_are_drawn_by_seed_too() -> None:
    frames = [Frame(Atoms(f"H{n}", np.eye(n, 3)), energy=0.0) for n in range(1, 51)]
    one, two = (split_frames(frames, Split(seed=seed)) for seed in (0, 1))
    assert len(one.test) == len(two.test) == 10
    assert len(one.validation) == 5
    assert one.test != two.test


@pytest.mark.parametrize(("test", "validation"), [(0.0, 0.1), (0.2, 0.0), (0.0, 0.0)])
def test_share_of_zero_is_an_empty_part(
    frames: list[Frame], test: float, validation: float
) -> None:
    splits = split_frames(frames, Split(test=test, validation=validation))
    assert (len(splits.test), len(splits.validation)) == (100 * test, 100 * validation)


def test_small_data_still_fills_every_part(frames: list[Frame]) -> None:
    few = [frames[i] for i in (0, 1, 5)]  # no even steps: no finite displacements
    splits = split_frames(few, Split(test=0.2, validation=0.1))
    assert [len(part) for part in parts(splits)] == [1, 1, 1]
    with pytest.raises(TlpotError, match=r"2 frames cannot be split .* data.split.test"):
        split_frames(frames[:60:59], Split(test=0.2, validation=0.1))
    assert split_frames(frames[:1], Split(test=0.0, validation=0.0)).train == [0]


@pytest.mark.parametrize("group", ["file", "composition", "run"])
def test_groups_stay_together(frames: list[Frame], group: str) -> None:
    key = {
        "file": lambda f: f.source,
        "composition": lambda f: f.formula,
        "run": lambda f: f.info["run"],
    }[group]
    validation = 0.0 if group == "composition" else 0.1
    splits = split_frames(frames, Split(test=0.2, validation=validation, group=group))
    groups = [{key(frames[i]) for i in part} for part in parts(splits)]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_groups_come_near_their_shares(frames: list[Frame]) -> None:
    splits = split_frames(frames, Split(test=0.2, validation=0.1, group="run"))
    assert [len(part) for part in parts(splits)] == [70, 10, 20]


def test_a_crystal_and_its_molecule_are_one_composition() -> None:
    names = ["CH4N2O", "C2H8N4O2", "CO2", "C4O8", "H2O", "H2O"]
    atoms = [Atoms(name, np.eye(len(Atoms(name)), 3)) for name in names]
    frames = [Frame(a, energy=0.0) for a in atoms]
    splits = split_frames(frames, Split(test=0.3, validation=0.3, group="composition"))
    assert sorted(parts(splits)) == [[0, 1], [2, 3], [4, 5]]


def test_group_that_is_missing_or_too_coarse(frames: list[Frame]) -> None:
    with pytest.raises(TlpotError, match=r"0.xyz#0: no 'rnu' to group by.*run"):
        split_frames(frames, Split(group="rnu"))
    with pytest.raises(TlpotError, match="2 groups by 'composition'"):
        split_frames(frames, Split(group="composition"))


def test_urea_holds_out_a_fifth_of_its_crystals(tlpot_data: Path) -> None:
    frames = read_frames(tlpot_data / "x23/21_urea/train.traj")
    splits = split_frames(frames, Split(test=0.2, validation=0.1, seed=0))
    kinds = Counter(frames[i].kind for i in splits.test)
    assert kinds == {"crystal": 34, "molecule": 2}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_frames_mirror_the_energies(water: Callable[..., Frame], seed: int) -> None:
    order = np.random.default_rng(7).permutation(60)
    made = [replace(water(0.001 * i), energy=float(order[i])) for i in range(60)]
    splits = split_frames(made, Split(seed=seed))
    held_out = sorted(order[i] // 10 for i in splits.test)
    assert held_out == sorted([*range(6)] * 2), "two test frames of every ten by energy"


def test_thinned_training_frames_are_nested_and_leave_the_rest_alone():
    whole = Splits(list(range(0, 40, 2)), [1, 3], [5, 7])
    parts = [thin(whole, fraction, seed=3) for fraction in (0.01, 0.25, 0.5, 1.0)]
    assert [len(p.train) for p in parts] == [1, 5, 10, 20]
    for smaller, larger in itertools.pairwise(parts):
        assert set(smaller.train) < set(larger.train)
    assert parts[-1] == whole
    assert all((p.validation, p.test) == ([1, 3], [5, 7]) for p in parts)
    assert thin(whole, 0.5, seed=4) != parts[2]
