"""Paths between elements: their ends, their smoothness, their slope."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from tlpot.errors import TlpotError
from tlpot.model.alchemy import alchemical_energies

LAMBDAS = np.linspace(0.0, 1.0, 41)


def ethanol_dimer() -> tuple[Atoms, dict[int, str | None], np.ndarray]:
    """Two ethanols, what turns them into waters, and where the atoms end up."""
    one = molecule("CH3CH2OH")
    other = one.copy()
    other.rotate(180, "x")
    other.positions += [0.6, 1.2, 3.4]
    dimer = one + other
    changes: dict[int, str | None] = {}
    end = dimer.positions.copy()
    for start in (0, len(one)):
        oxygen = start + int(np.flatnonzero(one.symbols == "O")[0])
        away = np.linalg.norm(dimer.positions - dimer.positions[oxygen], axis=1)
        mine = range(start, start + len(one))
        kept = min((i for i in mine if dimer.symbols[i] == "H"), key=away.__getitem__)
        carbon = min((i for i in mine if dimer.symbols[i] == "C"), key=away.__getitem__)
        changes |= {i: None for i in mine if i not in (oxygen, kept)}
        changes[carbon] = "H"
        bond = dimer.positions[carbon] - dimer.positions[oxygen]
        end[carbon] = dimer.positions[oxygen] + 0.96 * bond / np.linalg.norm(bond)
    return dimer, changes, end


@pytest.mark.parametrize("moving", [False, True])
def test_ends_are_the_potentials_own_energies(small_emodes, moving):
    potential = small_emodes()
    dimer, changes, end = ethanol_dimer()
    end = end if moving else dimer.positions
    path = alchemical_energies(potential, dimer, changes, [0.0, 1.0], end if moving else None)
    water = dimer.copy()
    water.positions = end
    for index, symbol in changes.items():
        water.symbols[index] = symbol or "X"
    water = water[water.numbers > 0]
    assert water.get_chemical_formula() == "H4O2"
    for found, expected in enumerate(potential.predict([dimer, water])):
        assert path.energy[found] == pytest.approx(expected.energy, abs=1e-8)
        assert path.energy_std[found] == pytest.approx(expected.energy_std, abs=1e-8)
    assert abs(path.energy[1] - path.energy[0]) > 1.0


def test_the_path_is_smooth_and_the_slope_is_its_derivative(small_emodes):
    dimer, changes, end = ethanol_dimer()
    path = alchemical_energies(small_emodes(), dimer, changes, LAMBDAS, end)
    # Simpson's rule over each pair of steps: a jump anywhere would show
    middle = path.slope[:-2:2] + 4 * path.slope[1:-1:2] + path.slope[2::2]
    np.testing.assert_allclose(np.diff(path.energy[::2]), middle * LAMBDAS[1] / 3, atol=5e-3)
    assert np.ptp(path.energy - np.linspace(path.energy[0], path.energy[-1], 41)) > 0.1
    for at, step in ((0.3, 1e-4), (0.5, 1e-5), (0.999, 1e-4)):
        near = alchemical_energies(small_emodes(), dimer, changes, [at - step, at, at + step], end)
        rise = (near.energy[2] - near.energy[0]) / (2 * step)
        assert rise == pytest.approx(near.slope[1], abs=1e-3)


def test_an_element_turns_into_another(small_emodes):
    potential, lambdas = small_emodes(), [0.0, 0.3, 1.0]
    methane, silane = molecule("CH4"), molecule("CH4")
    silane.symbols[0] = "Si"
    there = alchemical_energies(potential, methane, {0: "Si"}, lambdas)
    back = alchemical_energies(potential, silane, {0: "C"}, [1.0, 0.7, 0.0])
    np.testing.assert_allclose(there.energy, back.energy, atol=1e-9)
    np.testing.assert_allclose(there.slope, -back.slope, atol=1e-9)
    still = alchemical_energies(potential, methane, {0: "C"}, lambdas)
    np.testing.assert_allclose(still.slope, 0.0, atol=1e-9)


def test_periodic_structures_too(small_emodes, urea):
    potential = small_emodes()
    path = alchemical_energies(potential, urea, {0: "Si", 3: None}, [0.0, 1.0])
    changed = urea.copy()
    changed.symbols[0] = "Si"
    del changed[3]
    for found, expected in zip(path.energy, potential.predict([urea, changed]), strict=True):
        assert found == pytest.approx(expected.energy, abs=1e-8)


@pytest.mark.parametrize(
    ("changes", "lambdas", "end", "message"),
    [
        ({0: "Uuo"}, [0.5], None, "Uuo"),
        ({9: None}, [0.5], None, "no atom 9 among 3"),
        ({-1: None}, [0.5], None, "no atom -1"),
        ({0: None}, [1.5], None, "1.5 is not between 0 and 1"),
        ({0: None}, [0.5], np.zeros((2, 3)), "expected 3 positions"),
    ],
)
def test_paths_that_make_no_sense_are_refused(small_emodes, changes, lambdas, end, message):
    with pytest.raises(TlpotError, match=message):
        alchemical_energies(small_emodes(), molecule("H2O"), changes, lambdas, end)


def test_a_backbone_without_vectors_is_refused(small):
    with pytest.raises(TlpotError, match="base: emodes"):
        alchemical_energies(small(), molecule("H2O"), {0: None}, [0.5])
