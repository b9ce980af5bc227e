import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from tlpot.csp.thermo import FREQUENCY_NOISE, free_energy, vibrations
from tlpot.structure.units import KJ_PER_MOL, SPRING_QUANTUM


class Forces:
    """Of a calculator or a function, in place of a model's."""

    def __init__(self, of):
        self.of = of

    def forces(self, atoms):
        return self.of(atoms)


def lennard_jones(atoms):
    return LennardJones(epsilon=0.0104, sigma=3.4, rc=8.0, ro=6.5, smooth=True).get_forces(atoms)


ARGON, COPPER = Forces(lennard_jones), Forces(lambda atoms: EMT().get_forces(atoms))
"""With every interaction's forces continuous; EMT's phonons of copper are known."""


@pytest.fixture(scope="module")
def copper():
    return bulk("Cu", cubic=True, a=3.5895)


def argon(a):
    return bulk("Ar", cubic=True, a=a)


def by_hand(energy, temperature):
    """F of one oscillator from its levels, eV."""
    if not temperature:
        return energy / 2
    levels = np.arange(200_000) + 0.5
    thermal = units.kB * temperature
    return -thermal * np.log(np.exp(-(levels * energy) / thermal).sum())


@pytest.mark.parametrize("temperature", [0.0, 20.0, 300.0])
def test_an_oscillator_is_that_of_its_levels(temperature):
    quanta = np.array([0.002, 0.03, 0.4])
    expected = sum(by_hand(energy, temperature) for energy in quanta)
    assert free_energy(quanta, temperature) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 300.0])
def test_dumb_bells_that_do_not_touch_have_their_stretch_alone(temperature):
    """Whatever else they do is free motion: its frequencies are 0 but for noise."""
    spring, rest, random = 50.0, 1.1, np.random.default_rng(0)

    def forces(atoms):
        carbon, oxygen = np.flatnonzero(atoms.numbers == 6), np.flatnonzero(atoms.numbers == 8)
        total = random.normal(0.0, 1e-7, (len(atoms), 3))
        for i in carbon:
            away = atoms.get_distances(i, oxygen, mic=True, vector=True)
            near = np.linalg.norm(away, axis=1).argmin()
            pull = spring * (away[near, 2] - rest)
            total[i, 2] += pull
            total[oxygen[near], 2] -= pull
        return total

    crystal = Atoms("CO", [[0, 0, 0], [0, 0, rest]], cell=[5.0, 6.0, 7.0], pbc=True)
    carbon, oxygen = crystal.get_masses()
    stretch = SPRING_QUANTUM * np.sqrt(spring * (1 / carbon + 1 / oxygen))
    found = vibrations(crystal, Forces(forces), temperature, 10.0)
    assert found.free_energy == pytest.approx(by_hand(stretch, temperature), rel=1e-4)
    assert not found.stable


@pytest.mark.parametrize("temperature", [0.0, 30.0, 300.0])
def test_springs_between_neighbours_agree_with_the_dispersion_by_hand(temperature):
    """ω² = 4 k/m Σ sin²(q a/2) for each of three polarisations of a simple cubic crystal."""
    spring, a = 1.5, 3.0

    def forces(atoms):
        grid = np.rint(atoms.positions / a).astype(int)
        times = np.rint(atoms.cell.lengths() / a).astype(int)
        at = {tuple(place % times): i for i, place in enumerate(grid)}
        moved = atoms.positions - a * grid
        total = np.zeros_like(moved)
        for step in np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
            other = [at[tuple((place + step) % times)] for place in grid]
            total += spring * (moved[other] - moved)
        return total

    crystal = Atoms("K", cell=3 * [a], pbc=True)
    angles = (np.arange(60) + 0.5) * np.pi / 120
    sines = (np.stack(np.meshgrid(*3 * [np.sin(angles) ** 2])).reshape(3, -1)).sum(axis=0)
    quanta = SPRING_QUANTUM * np.sqrt(4 * spring / crystal.get_masses()[0] * sines)
    expected = 3 * np.mean(
        [free_energy(quanta[i : i + 1], temperature) for i in range(len(quanta))]
    )
    found = vibrations(crystal, Forces(forces), temperature, 10.0)
    assert found.free_energy == pytest.approx(expected, abs=0.02 * KJ_PER_MOL)
    assert found.lowest > 0.05


def test_free_energy_follows_the_cell_smoothly():
    """Argon in steps of 0.2 %, through cells where supercell and grid get other divisions."""
    cells = 5.22 * 1.002 ** np.arange(-2, 3)
    length = 3 * 5.22 / np.sqrt(3)
    for temperature in (0.0, 298.15):
        found = np.array(
            [vibrations(argon(a), ARGON, temperature, length).free_energy for a in cells]
        )
        smooth = np.polyval(np.polyfit(cells, found, 2), cells)
        assert np.abs(found - smooth).max() < 0.1 * KJ_PER_MOL
    cold = np.array([vibrations(argon(a), ARGON, 20.0, length).free_energy for a in cells])
    assert np.abs(np.diff(cold)).max() < 0.1 * KJ_PER_MOL


@pytest.mark.parametrize("times", [(2, 1, 1), (3, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("temperature", [0.0, 298.15])
def test_free_energy_is_extensive(times, temperature):
    one = vibrations(argon(5.22), ARGON, temperature, 8.0).free_energy
    many = vibrations(argon(5.22).repeat(times), ARGON, temperature, 8.0).free_energy
    assert many / np.prod(times) == pytest.approx(one, abs=0.1 * KJ_PER_MOL)


def test_a_supercell_that_is_not_quite_periodic_has_almost_the_same():
    rattled = argon(5.22).repeat((3, 1, 1))
    rattled.rattle(0.004, seed=0)
    one = vibrations(argon(5.22), ARGON, 298.15, 10.0).free_energy
    many = vibrations(rattled, ARGON, 298.15, 10.0).free_energy
    assert many / 3 == pytest.approx(one, abs=0.1 * KJ_PER_MOL)


def test_translations_of_the_crystal_are_no_vibrations():
    found = vibrations(argon(5.22), ARGON, 0.0, 8.0)
    assert found.stable
    assert found.lowest > FREQUENCY_NOISE


def test_hot_limit_is_classical(copper):
    found = vibrations(copper, COPPER, 3000.0, 7.0)
    other = vibrations(copper, COPPER, 6000.0, 7.0)
    heat = 12 * units.kB
    slope = other.free_energy / 6000 - found.free_energy / 3000
    assert slope == pytest.approx(-heat * np.log(2), rel=1e-3)


def test_unstable_crystal_says_so():
    wrong = bulk("Cu", "bcc", a=2.87, cubic=True)
    assert not vibrations(wrong, COPPER, 300.0, 8.0).stable
