import runpy
from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols

from tlpot.elements.modes import MODES, element_vectors, nearest_elements
from tlpot.errors import TlpotError

ANI2X = ("H", "C", "N", "O", "S", "F", "Cl")
TO_RADON = chemical_symbols[1:87]
TOOL = Path(__file__).parents[2] / "tools" / "element_modes.py"


def test_every_element_to_radon_has_a_vector_of_its_own():
    vectors = element_vectors(TO_RADON)
    assert vectors.shape == (86, 4)
    assert vectors.dtype == np.float64
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=-1)[~np.eye(86, dtype=bool)]
    assert apart.min() > 0.02


def test_modes_are_principal_axes_of_mean_square_one():
    vectors = element_vectors(TO_RADON)
    covariance = vectors.T @ vectors / len(vectors)
    np.testing.assert_allclose(vectors.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
    assert (np.diff(np.diag(covariance)) < 0).all()
    assert np.trace(covariance) == pytest.approx(4.0, abs=1e-4)


@pytest.mark.parametrize(
    ("element", "relatives"),
    [
        ("Si", {"C", "S"}),
        ("I", {"Cl", "S"}),
        ("Br", {"Cl"}),
        ("Se", {"S"}),
        ("P", {"C", "S"}),
    ],
)
def test_relatives_are_the_nearest(element, relatives):
    ranked = nearest_elements(element, ANI2X)
    assert {name for name, _ in ranked} == set(ANI2X)
    assert {name for name, _ in ranked[: len(relatives)]} == relatives
    distances = [distance for _, distance in ranked]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_distance_is_a_metric():
    assert nearest_elements("Cu", ["Cu"]) == [("Cu", 0.0)]
    assert nearest_elements("Cu", ["S"])[0][1] == nearest_elements("S", ["Cu"])[0][1]


def test_columns_of_the_periodic_table_lie_together():
    """Neighbours in a column are far closer than an element is to the average one."""
    everything = element_vectors(TO_RADON)
    for light, heavy in [("Si", "Ge"), ("P", "As"), ("Br", "I"), ("K", "Rb"), ("Zr", "Hf")]:
        first, second = element_vectors([light, heavy])
        typical = np.linalg.norm(everything - first, axis=1).mean()
        assert np.linalg.norm(first - second) < 0.35 * typical


@pytest.mark.parametrize("symbol", ["Xx", "X", "si", "", "U"])
def test_an_element_outside_the_table_is_named(symbol):
    with pytest.raises(TlpotError, match=f"'{symbol}'.*H to Rn"):
        element_vectors(["H", symbol])
    with pytest.raises(TlpotError, match=f"'{symbol}'"):
        nearest_elements(symbol, ANI2X)


def test_no_elements_give_no_vectors():
    assert element_vectors([]).shape == (0, 4)
    assert nearest_elements("Si", []) == []


def test_the_tool_reproduces_the_shipped_table():
    tool = runpy.run_path(str(TOOL))
    symbols, names, values = tool["read_properties"]()
    modes, _, _ = tool["train"](*tool["standardise"](names, values))
    assert MODES.samefile(tool["MODES"])
    assert symbols == TO_RADON
    np.testing.assert_allclose(modes, element_vectors(symbols), atol=0.01)
