import numpy as np
import pytest

from tlpot.sampling.scores import disagreement, doubt_near_top, farthest, worst


def test_disagreement_does_not_grow_with_the_size_of_independent_errors():
    random = np.random.default_rng(0)
    sizes = np.array([4, 16, 64])
    spread = [random.normal(0, 0.01, (20000, n)).sum(1).std() for n in sizes]
    assert disagreement(np.array(spread), sizes) == pytest.approx(np.full(3, 0.01), rel=0.03)


def test_worst_first_and_ties_in_order():
    assert worst(np.array([1.0, 3.0, 2.0, 3.0]), 3) == [1, 3, 2]
    assert worst(np.array([1.0, 3.0]), 0) == []


def test_farthest_takes_every_cluster_before_any_twice():
    random = np.random.default_rng(0)
    centres = 10.0 * random.normal(size=(6, 4))
    points = np.repeat(centres, 20, axis=0) + 0.1 * random.normal(size=(120, 4))
    points = points[random.permutation(120)]
    picks = farthest(points, 6)
    nearest = np.linalg.norm(points[picks][:, None] - centres, axis=2).argmin(1)
    assert sorted(nearest) == list(range(6))
    assert farthest(points, 3) == picks[:3]


def test_each_pick_is_the_farthest_from_those_before():
    points = np.random.default_rng(1).normal(size=(40, 3))
    picks = farthest(points, 10)
    for k in range(1, 10):
        gaps = np.linalg.norm(points[:, None] - points[picks[:k]], axis=2).min(1)
        assert gaps[picks[k]] == gaps.max()


def test_copies_come_last_and_nothing_comes_twice():
    points = np.array([[0.0], [0.0], [5.0], [5.0], [1.0]])
    picks = farthest(points, 5)
    assert sorted(picks) == list(range(5))
    assert set(points[picks[:3], 0]) == {0.0, 1.0, 5.0}


def test_what_there_is_already_counts():
    points = np.random.default_rng(2).normal(size=(30, 3))
    picks = farthest(points, 8)
    assert farthest(points, 3, picks[:5]) == picks[5:]
    assert sorted([*picks[:5], *farthest(points, 99, picks[:5])]) == list(range(30))
    assert farthest(points, 0) == []


def test_doubt_near_the_top():
    above = np.array([0.0, 1.0, 30.0, 30.0, 6.9])
    above_std = np.array([0.0, 0.5, 1.0, 40.0, 0.1])
    doubt = np.array([2.0, 1.0, 5.0, 40.0, 0.1])
    scores = doubt_near_top(above, above_std, doubt, 7.0)
    assert scores[0] == pytest.approx(2.0)
    assert scores[1] == pytest.approx(1.0, rel=1e-3)
    assert scores[2] < 1e-6
    assert 0.2 * 40 < scores[3] < 0.4 * 40
    assert worst(scores, 3) == [3, 0, 1]
