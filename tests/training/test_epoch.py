from collections import Counter

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from tlpot.structure.frames import Batch, Frame
from tlpot.training.epoch import Epochs, chances

KINDS = ["none", "size", "composition", "element"]


def batches(*structures: Atoms) -> list[Batch]:
    return [Batch.of_frame(Frame(atoms), 5.0) for atoms in structures]


@pytest.fixture
def mixed() -> list[Batch]:
    """Six waters, two methanes, one carbon monoxide."""
    return batches(*[molecule("H2O")] * 6, *[molecule("CH4")] * 2, molecule("CO"))


def drawn(epochs: Epochs, times: int = 400) -> Counter:
    generator = torch.Generator().manual_seed(1)
    return Counter(i for _ in range(times) for i in epochs.order(generator))


def test_without_weighting_every_frame_comes_once(mixed):
    order = Epochs(mixed, "none").order(torch.Generator().manual_seed(0))
    assert sorted(order) == list(range(9)) != order


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_its_seeds(mixed, kind):
    epochs = Epochs(mixed, kind, replayed=3, share=0.4)
    first, again, other = (epochs.order(torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert first == again != other
    assert len(first) == len(epochs)


def test_large_frames_count_as_their_atoms(mixed):
    chance = chances(mixed, "size")
    assert (chance[6] / chance[8]).item() == pytest.approx(5 / 2)


def test_compositions_share_the_draws(mixed):
    count = drawn(Epochs(mixed, "composition"))
    kinds = [sum(count[i] for i in group) for group in (range(6), range(6, 8), [8])]
    assert max(kinds) < 1.15 * min(kinds)


def test_rare_elements_are_drawn_more_often(mixed):
    """Carbon is 3 of 30 atoms; drawn by element its share of the atoms grows."""
    symbols = [[6 * (n == 6) for n in b.numbers.tolist()] for b in mixed]
    carbons = torch.tensor([sum(s) / 6 for s in symbols])
    sizes = torch.tensor([float(len(b.numbers)) for b in mixed])
    chance = chances(mixed, "element")
    before = carbons.sum() / sizes.sum()
    assert (chance @ carbons.double()) / (chance @ sizes.double()) > 1.5 * before
    alike = chances(batches(*[molecule("H2O")] * 3), "element")
    torch.testing.assert_close(alike, torch.full((3,), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_replayed_frames_have_their_share_and_take_turns(mixed, share):
    epochs = Epochs(mixed, "none", replayed=4, share=share)
    count = drawn(epochs)
    again = [count[i] for i in range(9, 13)]
    assert set(count) == set(range(13))
    assert sum(again) / sum(count.values()) == pytest.approx(share, abs=0.03)
    assert [count[i] for i in range(9)] == [400] * 9
    assert max(again) < 1.2 * min(again)
