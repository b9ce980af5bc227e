import numpy as np
import pytest

from tlpot.csp.scores import SCORES, score


def test_perfect_order_with_any_offset():
    energies = np.array([-3.0, -1.0, 0.5, 2.0, 9.0, 11.0])
    found = score(energies, energies - 1000.0)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["kendall"] == pytest.approx(1.0)
    assert found["rmse_centred_kJ_mol"] == pytest.approx(0.0, abs=1e-9)
    assert (found["top_1"], found["top_5"], found["hit_rank"]) == (1.0, 1.0, 1.0)


def test_hit_rank_counts_what_is_below():
    found = score([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    assert found["spearman"] == pytest.approx(-1.0)
    assert (found["top_1"], found["top_5"], found["hit_rank"]) == (0.0, 0.0, 7.0)


@pytest.mark.parametrize("one", [[], [1.0], [np.nan, 1.0]])
def test_too_few_is_undefined_never_zero(one):
    found = score(one, one)
    assert all(np.isnan(found[name]) for name in SCORES)


def test_constant_has_no_correlation():
    found = score([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    assert np.isnan(found["spearman"])
    assert np.isnan(found["kendall"])
    assert np.isnan(found["top_5"])
    assert found["rmse_centred_kJ_mol"] == pytest.approx(np.sqrt(2 / 3))


def test_unknown_references_are_left_out():
    assert score([1.0, 2.0, 3.0, 4.0], [1.0, np.nan, 3.0, 5.0])["n"] == 3
