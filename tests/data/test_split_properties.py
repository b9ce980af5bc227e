"""What holds of every split, whatever the frames."""

from collections import Counter

import numpy as np
from ase import Atoms
from hypothesis import assume, given
from hypothesis import strategies as st

from tlpot.config.data import Split
from tlpot.data.split import Splits, hold_out_unseen, split_frames, thin
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

shares = st.floats(0.0, 0.45)
splits = st.builds(
    Split,
    test=shares,
    validation=shares,
    seed=st.integers(0, 9),
)


@st.composite
def data(draw: st.DrawFn) -> list[Frame]:
    """Frames of few files, compositions, kinds and labels."""
    rows = st.tuples(
        st.sampled_from(["H2", "H4", "He", "CO2", "C2O4"]),
        st.sampled_from("abc"),
        st.booleans(),
        st.sampled_from(["full", "energy"]),
        st.none() | st.floats(-100, 100),
    )
    frames = []
    for i, (formula, file, periodic, labels, energy) in enumerate(
        draw(st.lists(rows, max_size=60))
    ):
        atoms = Atoms(formula, cell=[3, 3, 3], pbc=periodic)
        atoms.positions[:, 0] = np.linspace(0, 2, len(atoms))
        frames.append(Frame(atoms, energy, source=file, index=i, labels=labels))
    return frames


def parts(found: Splits) -> list[list[int]]:
    return [found.train, found.validation, found.test]


def drawn(frames: list[Frame], split: Split) -> Splits:
    try:
        return split_frames(frames, split)
    except TlpotError:
        wanted = 1 + (split.test > 0) + (split.validation > 0)
        units = {"file": {f.source for f in frames}, None: frames}.get(split.group, ())
        assert split.group == "composition" or len(units) < wanted
        assume(False)
        raise


def assert_whole(found: Splits, frames: list[Frame], split: Split) -> None:
    """Each frame is in one part; what is wanted is there."""
    assert Counter(i for part in parts(found) for i in part) == Counter(range(len(frames)))
    assert [bool(part) for part in parts(found)] == [True, split.validation > 0, split.test > 0]


@given(data(), splits)
def test_parts_are_disjoint_and_have_their_shares(frames, split):
    found = drawn(frames, split)
    assert_whole(found, frames, split)
    for part, share in ((found.test, split.test), (found.validation, split.validation)):
        assert abs(len(part) - share * len(frames)) <= 1.0
    assert split_frames(frames, split) == found


@given(data(), splits, st.sampled_from(["file", "composition"]))
def test_groups_are_whole_and_near_their_shares(frames, split, group):
    split = split.model_copy(update={"group": group})
    assume(split.test or split.validation)
    found = drawn(frames, split)
    assert_whole(found, frames, split)
    key = {
        "file": lambda frame: frame.source,
        "composition": lambda frame: str(frame.atoms.symbols.formula.reduce()[0]),
    }[group]
    groups = [{key(frames[i]) for i in part} for part in parts(found)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    largest = max(Counter(map(key, frames)).values())
    for part, share in ((found.test, split.test), (found.validation, split.validation)):
        assert abs(len(part) - share * len(frames)) <= largest


@given(data(), splits, st.randoms(use_true_random=False))
def test_what_a_base_has_seen_is_never_held_out(frames, split, random):
    before = drawn(frames, split)
    seen = [random.choice([None, None, "train", "validation", "file"]) for _ in frames]
    try:
        found = hold_out_unseen(before, frames, split, seen)
    except TlpotError:
        assert sum(part in (None, "file") for part in seen) < 3  # those that can test
        return
    assert_whole(found, frames, split)
    assert not {seen[i] for i in found.test} & {"train", "validation"}
    assert "train" not in {seen[i] for i in found.validation}
    kept = [i for i in before.test if seen[i] not in ("train", "validation")]
    assert set(kept) <= {*found.test}


@given(data(), splits, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_a_smaller_fraction_of_the_training_frames_is_part_of_a_larger(frames, split, a, b, seed):
    found = drawn(frames, split)
    small, large = (thin(found, fraction, seed) for fraction in sorted((a, b)))
    assert {*small.train} <= {*large.train} <= {*found.train}
    assert small.train
    assert (small.test, small.validation) == (found.test, found.validation)
