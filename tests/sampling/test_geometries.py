"""Proposed geometries: the physics of the modes, of the heat bath, and of the strain."""

import itertools

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from tlpot.errors import TlpotError
from tlpot.sampling import geometries as sample
from tlpot.sampling.geometries import (
    LEAST_STIFFNESS,
    hessian,
    nearest_minimum,
    normal_modes,
    sample_md,
    sample_modes,
    sample_rattle,
    take,
)


class Springs(Calculator):
    """Exactly harmonic: ½ Δᵀ H Δ about a molecule, with H of springs between all its atoms."""

    implemented_properties = ("energy", "forces")

    def __init__(self, minimum: Atoms, constant: float = 5.0) -> None:
        super().__init__()
        self.minimum = minimum.positions.copy()
        n = len(minimum)
        self.matrix = np.zeros((n, 3, n, 3))
        for i, j in itertools.combinations(range(n), 2):
            along = self.minimum[j] - self.minimum[i]
            block = constant * np.outer(along, along) / (along @ along)
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                self.matrix[a, :, b, :] += sign * block
        self.matrix = self.matrix.reshape(3 * n, 3 * n)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        moved = (atoms.positions - self.minimum).ravel()
        forces = -self.matrix @ moved
        self.results = {"energy": -0.5 * moved @ forces, "forces": forces.reshape(-1, 3)}


@pytest.fixture
def acetamide() -> Atoms:
    return molecule("CH3CONH2")


def first(proposals, number: int) -> list[Atoms]:
    return list(itertools.islice(proposals, number))


def test_hessian_is_that_of_the_springs(acetamide):
    springs = Springs(acetamide)
    assert np.allclose(hessian(acetamide, springs), springs.matrix, atol=1e-9)


def test_a_diatomic_has_one_mode_with_the_constant_of_its_spring():
    modes = normal_modes(molecule("CO"), Springs(molecule("CO"), 7.0))
    # ½ K R² of a unit Cartesian direction, split by the masses: K = k · (change of length)²
    (direction,) = modes.directions
    stretch = direction[0] - direction[1]
    assert modes.stiffness == pytest.approx(7.0 * stretch @ stretch, rel=1e-6)
    masses = molecule("CO").get_masses()
    assert masses @ direction == pytest.approx([0, 0, 0], abs=1e-10)


@pytest.mark.parametrize(("name", "count"), [("CO2", 4), ("H2O", 3), ("CH3CONH2", 21)])
def test_translations_and_rotations_are_no_modes(name, count):
    atoms = molecule(name)
    modes = normal_modes(atoms, Springs(atoms))
    assert len(modes.stiffness) == count
    centred = atoms.positions - atoms.get_center_of_mass()
    masses = atoms.get_masses()[:, None]
    for direction in modes.directions:
        assert (masses * direction).sum(0) == pytest.approx(np.zeros(3), abs=1e-9)
        turn = (masses * np.cross(centred, direction)).sum(0)
        assert turn == pytest.approx(np.zeros(3), abs=1e-9)


def test_a_molecule_in_a_periodic_box_keeps_its_rotations_out(acetamide):
    boxed = acetamide.copy()
    boxed.set_cell([14, 15, 16])
    boxed.pbc = True
    shift = np.array([13.5, 0.2, 8.0])
    boxed.positions += shift
    calculator = Springs(boxed)
    boxed.wrap()
    calculator.minimum = boxed.positions.copy()
    free, cut = normal_modes(acetamide, Springs(acetamide)), normal_modes(boxed, calculator)
    assert cut.stiffness == pytest.approx(free.stiffness, rel=1e-6)


def test_harmonic_energy_of_thermal_modes_is_the_formulas(acetamide):
    kelvin, n = 300.0, len(acetamide)
    springs = Springs(acetamide)
    stiff = normal_modes(acetamide, springs).stiffness
    assert (stiff > LEAST_STIFFNESS).all()
    proposals = first(sample_modes(acetamide, springs, kelvin, np.random.default_rng(0)), 300)
    energies = np.array([springs.get_potential_energy(p) for p in proposals])
    full = 1.5 * n * units.kB * kelvin
    modes = len(stiff)
    assert energies.max() <= full * (1 + 1e-6)
    # Σ c of c uniform in the simplex is Beta(modes, 1)
    spread = np.sqrt(modes / (modes + 2)) / (modes + 1)
    assert energies.mean() / full == pytest.approx(modes / (modes + 1), abs=4 * spread / 300**0.5)
    assert energies.std() / full == pytest.approx(spread, rel=0.25)


def test_soft_and_unstable_modes_do_not_run_away():
    atoms = molecule("H2O")
    for constant in (1e-3, -1.0):
        springs = Springs(atoms, constant)
        bound = np.sqrt(3 * 3 * units.kB * 600 / LEAST_STIFFNESS)
        for moved in first(sample_modes(atoms, springs, 600, np.random.default_rng(1)), 20):
            assert np.linalg.norm(moved.positions - atoms.positions) < 2 * bound


def test_gamma_phonons_of_a_crystal_leave_its_centre_alone():
    crystal = bulk("Cu", cubic=True)
    modes = normal_modes(crystal, EMT())
    assert len(modes.stiffness) == 3 * 4 - 3
    assert (modes.stiffness > 1).all()
    lowest = EMT().get_potential_energy(crystal)
    proposals = first(sample_modes(crystal, EMT(), 20, np.random.default_rng(2)), 40)
    energies = [EMT().get_potential_energy(p) - lowest for p in proposals]
    assert np.mean(energies) == pytest.approx(1.5 * 4 * units.kB * 20 * 9 / 10, rel=0.1)
    for moved in proposals:
        assert moved.pbc.all()
        assert moved.get_center_of_mass() == pytest.approx(crystal.get_center_of_mass(), abs=1e-9)


def test_a_linear_molecule_that_is_not_quite_straight_keeps_all_its_vibrations():
    straight = Atoms("CO2", [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]])
    bent = straight.copy()
    bent.positions[0, 0] += 1e-3
    assert len(normal_modes(straight, EMT()).stiffness) == 4
    assert len(normal_modes(bent, EMT()).stiffness) == 4


def test_one_atom_a_cell_has_no_modes_to_sample():
    with pytest.raises(TlpotError, match=r"Cu has no vibration .* sample a supercell"):
        next(sample_modes(bulk("Cu"), EMT(), 300, np.random.default_rng(0)))


def test_relaxing_finds_the_minimum_or_says_that_it_cannot(acetamide, monkeypatch):
    start = acetamide.copy()
    start.rattle(0.1, seed=1)
    found = nearest_minimum(start, Springs(acetamide))
    assert np.abs(Springs(acetamide).get_forces(found)).max() < 0.01
    monkeypatch.setattr(sample, "RELAX_STEPS", 2)
    with pytest.raises(TlpotError, match="does not relax"):
        next(sample_modes(start, Springs(acetamide), 300, np.random.default_rng(0)))


def test_relaxing_into_another_molecule_is_an_error():
    water = molecule("H2O")
    torn = water.copy()
    torn.positions[1] += [0, 1.0, 0]
    with pytest.raises(TlpotError, match=r"H2O does not stay what it is .*new bonds O0-H1"):
        next(sample_modes(torn, Springs(water), 300, np.random.default_rng(0)))


def test_md_holds_the_temperature(acetamide, monkeypatch):
    monkeypatch.setattr(sample, "EQUILIBRATION", 300)
    monkeypatch.setattr(sample, "SPACING", 60)
    springs = Springs(acetamide)
    snapshots = first(sample_md(acetamide, springs, 300, np.random.default_rng(3)), 40)
    energies = [springs.get_potential_energy(s) for s in snapshots]
    equipartition = 0.5 * (3 * len(acetamide) - 6) * units.kB * 300
    assert np.mean(energies) == pytest.approx(equipartition, rel=0.2)
    assert all(s.calc is None and not s.constraints for s in snapshots)


def test_md_that_always_breaks_apart_says_so(acetamide, monkeypatch):
    monkeypatch.setattr(sample, "EQUILIBRATION", 200)
    with pytest.raises(TlpotError, match="breaks apart"):
        next(sample_md(acetamide, Springs(acetamide, -50.0), 300, np.random.default_rng(0)))


def test_rattle_has_the_strain_and_the_shifts_it_was_told():
    crystal = bulk("Cu", cubic=True).repeat(2)
    found = first(sample_rattle(crystal, 0.03, 0.0, np.random.default_rng(0)), 400)
    inverse = np.linalg.inv(crystal.cell.array)
    strains = np.array([inverse @ moved.cell.array - np.eye(3) for moved in found])
    assert strains == pytest.approx(strains.transpose(0, 2, 1), abs=1e-12)
    assert strains.std(axis=0) == pytest.approx(np.full((3, 3), 0.03), rel=0.15)
    scaled = [moved.get_scaled_positions(wrap=False) for moved in found]
    assert np.ptp(scaled, axis=0).max() < 1e-9
    shifted = first(sample_rattle(crystal, 0.0, 0.07, np.random.default_rng(0)), 50)
    moves = np.array([moved.positions - crystal.positions for moved in shifted])
    assert moves.std() == pytest.approx(0.07, rel=0.05)


def test_rattle_strains_only_what_is_periodic():
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    moved = next(sample_rattle(slab, 0.03, 0.0, np.random.default_rng(0)))
    assert moved.cell.array[2] == pytest.approx(slab.cell.array[2])
    assert (moved.cell.array[:2, :2] != slab.cell.array[:2, :2]).all()
    water = molecule("H2O")
    moved = next(sample_rattle(water, 0.03, 0.0, np.random.default_rng(0)))
    assert moved.positions == pytest.approx(water.positions)


def test_no_two_atoms_come_closer_than_allowed():
    crystal = bulk("Cu", cubic=True)
    proposals = sample_rattle(crystal, 0.0, 0.2, np.random.default_rng(0))
    doubled = [atoms.repeat(2) for atoms in take(proposals, 30, 2.0)]
    shortest = min(
        d for a in doubled for d in a.get_all_distances(mic=True)[~np.eye(32, dtype=bool)]
    )
    assert 2.0 <= shortest < 2.2
    with pytest.raises(TlpotError, match="closer than 4"):
        take(proposals, 1, 4.0)
