import numpy as np
import pytest

from tlpot.property.evaluate import errors, flat


def test_errors_apart_for_zero_and_the_rest():
    values = np.array([0.0, 0.0, 1.0, 3.0])
    found = errors(values, np.array([0.5, 0.0, 1.0, 2.0]))
    assert found["n"] == 4
    assert found["mae"] == pytest.approx(1.5 / 4)
    assert found["rmse"] == pytest.approx(np.sqrt(1.25 / 4))
    assert found["r2"] == pytest.approx(1 - 1.25 / 6)
    assert (found["zero"]["n"], found["zero"]["mae"]) == (2, 0.25)
    assert (found["other"]["n"], found["other"]["mae"]) == (2, 0.5)
    assert list(flat(found)) == ["all", "property = 0", "property ≠ 0"]


def test_without_zeros_there_is_one_kind_and_without_crystals_no_error():
    assert list(flat(errors(np.ones(3), np.ones(3)))) == ["all"]
    assert errors(np.empty(0), np.empty(0)) == {"n": 0, "mae": None, "rmse": None, "r2": None}


def test_a_spread_as_large_as_the_errors_is_an_error_bar():
    random = np.random.default_rng(0)
    spread = random.uniform(0.1, 2.0, 4000)
    values = random.normal(size=4000)
    trust = errors(values, values + spread * random.normal(size=4000), spread)["uncertainty"]
    assert trust["rms_z"] == pytest.approx(1.0, abs=0.05)
    assert trust["spearman"] > 0.4
    assert trust["mean_spread"] == pytest.approx(spread.mean())
    assert "uncertainty" not in errors(values, values, np.zeros(4000))
