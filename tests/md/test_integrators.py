"""The ensembles, on systems whose averages are known exactly."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.harmonic import SpringCalculator

from tlpot.md.integrators import EVERY, conserved, draw_momenta, integrator, remembered
from tlpot.md.settings import Dynamics
from tlpot.md.summary import mean_and_error


class IdealGas(Calculator):
    """Atoms that do not see each other."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        zero = np.zeros((len(atoms), 3))
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": zero, "stress": np.zeros(6)}


@pytest.fixture
def springs() -> Atoms:
    """Sixty-four argon atoms, each on a spring."""
    grid = 5.0 * np.array(list(np.ndindex(4, 4, 4)), float)
    atoms = Atoms("Ar64", grid)
    atoms.calc = SpringCalculator(grid, 1.0)
    draw_momenta(atoms, 300, np.random.default_rng(0))
    return atoms


@pytest.mark.parametrize("thermostat", ["langevin", "bussi"])
def test_a_thermostat_holds_the_temperature(springs, thermostat):
    """From half the temperature: kinetic and potential energy go to 3/2 kT an atom."""
    settings = Dynamics(thermostat=thermostat, timestep=5, tau=100)
    moving = integrator(springs, settings, np.random.default_rng(1), {})
    moving.run(500)
    kinetic, potential = [], []
    for _ in range(400):
        moving.run(10)
        kinetic.append(springs.get_kinetic_energy() / 64)
        potential.append(springs.get_potential_energy() / 64)
    wanted = 1.5 * units.kB * 300
    for values in (kinetic, potential):
        mean, error = mean_and_error(np.array(values))
        assert error < 0.03 * wanted
        assert abs(mean - wanted) < 4 * error + 0.003 * wanted  # (ω Δt)²/2 of Verlet


def test_what_should_be_conserved_is(springs):
    for settings in (
        Dynamics(ensemble="nve", timestep=0.5),
        Dynamics(thermostat="bussi", timestep=0.5, tau=20),
    ):
        moving = integrator(springs, settings, np.random.default_rng(1), {})
        before, kinetic = conserved(moving, settings), springs.get_kinetic_energy()
        moving.run(200)
        assert abs(springs.get_kinetic_energy() - kinetic) > 1e-2
        assert conserved(moving, settings) == pytest.approx(before, abs=3e-4)
    assert remembered(moving)["transferred_energy"] != 0
    langevin = integrator(springs, Dynamics(), np.random.default_rng(1), {})
    assert np.isnan(conserved(langevin, Dynamics()))


@pytest.mark.parametrize("isotropic", [True, False])
def test_an_ideal_gas_has_its_volume(isotropic):
    """⟨V⟩ = (N + 1) kT/P, and fluctuations of V/√(N + 1)."""
    n, kelvin = 40, 300.0
    volume = 41 * units.kB * kelvin / (0.1 * units.GPa)
    atoms = Atoms(f"Ar{n}", cell=[volume ** (1 / 3)] * 3, pbc=True)
    atoms.calc = IdealGas()
    random = np.random.default_rng(2)
    draw_momenta(atoms, kelvin, random)
    settings = Dynamics(
        ensemble="npt",
        pressure=0.1,
        temperature=kelvin,
        isotropic=isotropic,
        timestep=5,
        tau=50,
        tau_cell=300,
        compressibility=10,
    )
    moving = integrator(atoms, settings, random, {})
    volumes = []
    for _ in range(600):
        moving.run(EVERY)
        volumes.append(atoms.get_volume() / volume)
    mean, error = mean_and_error(np.array(volumes[100:]))
    assert error < 0.04
    assert abs(mean - 1) < 4 * error
    assert np.std(volumes[100:]) == pytest.approx(41**-0.5, rel=0.3)
    angles = atoms.cell.angles()
    assert (np.abs(angles - 90) < 1e-6).all() == isotropic


def test_the_cell_moves_at_the_same_steps_after_a_restart():
    """Counting from the start of the run, not of the segment."""
    atoms = Atoms("Ar4", np.random.default_rng(0).random((4, 3)) * 9, cell=[9, 9, 9], pbc=True)
    draw_momenta(atoms, 300, np.random.default_rng(0))
    settings = Dynamics(ensemble="npt")
    atoms.calc = IdealGas()
    moving = integrator(atoms, settings, np.random.default_rng(1), {}, first=EVERY - 3)
    before = atoms.cell.array.copy()
    moving.run(2)
    assert np.array_equal(atoms.cell.array, before)
    moving.run(1)
    assert not np.array_equal(atoms.cell.array, before)
