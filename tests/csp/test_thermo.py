import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from tlpot.csp.thermo import vibrations


class EmtEnergies:
    """EMT in place of a model: its phonons of copper are known."""

    def forces(self, atoms):
        atoms.calc = EMT()
        return atoms.get_forces()


@pytest.fixture(scope="module")
def copper():
    return bulk("Cu", cubic=True, a=3.5895)


def test_free_energy_is_extensive_and_falls_with_temperature(copper):
    energies = EmtEnergies()
    cold, hot = (vibrations(copper, energies, t, 7.0) for t in (0.0, 500.0))
    assert cold.stable
    assert 0.02 < cold.free_energy / 4 < 0.05
    assert hot.free_energy < cold.free_energy
    double = vibrations(copper.repeat((2, 1, 1)), energies, 500.0, 7.0)
    assert double.free_energy == pytest.approx(2 * hot.free_energy, rel=0.03)


def test_hot_limit_is_classical(copper):
    found = vibrations(copper, EmtEnergies(), 3000.0, 7.0)
    other = vibrations(copper, EmtEnergies(), 6000.0, 7.0)
    heat = 12 * 8.617333e-5
    entropy = heat * (1 + np.log(2) - 1)
    slope = other.free_energy / 6000 - found.free_energy / 3000
    assert slope == pytest.approx(-entropy, rel=0.02)


def test_unstable_crystal_says_so():
    wrong = bulk("Cu", "bcc", a=2.87, cubic=True)
    assert not vibrations(wrong, EmtEnergies(), 300.0, 8.0).stable
