from dataclasses import replace

import numpy as np
import pytest

from tlpot.powder.config import Augmentation
from tlpot.powder.lines import lines_of
from tlpot.powder.render import ANGLE_STEP, ANGLES, POINTS, ideal, measured

FLAWLESS = {"strain": 0, "texture": 0, "shift": 0, "background": 0, "counts": 0, "first": 0}
FLAWLESS |= {"last": 135, "width": (0.1, 0.1)}


@pytest.fixture(scope="module")
def lines(crystals):
    return lines_of(crystals["MgO_rocksalt"])


def test_lines_are_where_they_belong_and_as_wide_as_asked(lines):
    for width in (0.1, 0.3):
        pattern = ideal([lines], width)[0]
        assert pattern.shape == (POINTS,)
        assert pattern.max() == pytest.approx(1.0)
        top = ANGLES[pattern.argmax()]
        assert top == pytest.approx(lines.two_theta[lines.intensity.argmax()], abs=ANGLE_STEP)
        wide = np.count_nonzero(pattern[np.abs(ANGLES - top) < 1] > 0.5) * ANGLE_STEP
        assert wide == pytest.approx(width, abs=0.025)


def test_without_flaws_a_measured_pattern_is_the_ideal_one(lines):
    pattern = measured([lines], Augmentation(**FLAWLESS), np.random.default_rng(0))
    assert np.allclose(pattern, ideal([lines]), atol=1e-6)


def test_zero_error_moves_all_lines_alike(lines):
    how = Augmentation(**{**FLAWLESS, "shift": 0.5})
    pattern = measured([lines], how, np.random.default_rng(0))[0]
    moved = ideal([replace(lines, two_theta=lines.two_theta + 0.5)])[0]
    found = ANGLES[pattern.argmax()] - ANGLES[ideal([lines])[0].argmax()]
    assert 0.02 < abs(found) <= 0.51
    assert ANGLES[moved.argmax()] - ANGLES[ideal([lines])[0].argmax()] == pytest.approx(0.5)


def test_background_and_noise_stay_small_beside_the_lines(lines):
    how = Augmentation(**{**FLAWLESS, "background": 0.5, "counts": 10_000})
    patterns = measured([lines] * 5, how, np.random.default_rng(0))
    clean = ideal([lines])[0]
    assert (patterns >= 0).all()
    assert np.abs(patterns - clean).mean() < 0.02
    assert np.abs(patterns - clean).mean() > 1e-4
    assert (np.abs(patterns - clean).max(axis=1) < 0.15).all()


def test_beyond_its_range_there_is_nothing(lines):
    how = Augmentation(**{**FLAWLESS, "first": 30, "last": 60})
    patterns = measured([lines] * 8, how, np.random.default_rng(0))
    ends = [ANGLES[np.flatnonzero(row)[[0, -1]]] for row in patterns]
    assert max(first for first, _ in ends) <= 31
    assert min(last for _, last in ends) < 130
    assert len({round(last) for _, last in ends}) > 4


def test_same_seed_same_patterns_another_seed_others(lines):
    one, same, other = (
        measured([lines], Augmentation(), np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
