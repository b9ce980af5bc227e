import warnings

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from tlpot import TLPotCalculator
from tlpot.errors import TlpotError, TlpotWarning
from tlpot.model.load import load_base
from tlpot.model.uncertainty import Calibration, Scale
from tlpot.structure.frames import Frame


@pytest.fixture
def count_lists(monkeypatch):
    """How many neighbour lists were built since."""
    from tlpot.structure import neighbours

    built, finder = [], neighbours.NeighborList

    def counted(*args, **kwargs):
        built.append(1)
        return finder(*args, **kwargs)

    monkeypatch.setattr(neighbours, "NeighborList", counted)
    return lambda: len(built)


def same(atoms: Atoms, potential, tolerance: float = 1e-7) -> None:
    """The results of the atoms' calculator are the potential's own prediction."""
    expected = potential.predict([atoms])[0]
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=tolerance)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=tolerance)
    if atoms.pbc.all():
        np.testing.assert_allclose(atoms.get_stress(), expected.stress, atol=tolerance)


def test_results_are_the_potentials(small, urea):
    potential = small()
    urea.calc = TLPotCalculator(potential)
    same(urea, potential)
    expected = potential.predict([urea])[0]
    results = urea.calc.results
    assert results["free_energy"] == results["energy"]
    assert results["energies"].shape == (16,)
    assert results["energies"].sum() == pytest.approx(results["energy"], abs=1e-8)
    assert results["energy_std"] == pytest.approx(expected.energy_std, abs=1e-9)
    assert urea.get_potential_energy(force_consistent=True) == results["energy"]


def test_spread_of_the_forces_over_the_members(small, urea):
    potential = small()
    urea.calc = TLPotCalculator(potential)
    forces = urea.get_forces()
    spread = urea.calc.get_property("forces_std", urea)
    members = potential.evaluate(potential.batch([Frame(urea)]), members=True).forces.numpy()
    np.testing.assert_allclose(spread, members.std(axis=0, ddof=1), atol=1e-9)
    np.testing.assert_allclose(urea.get_forces(), forces, atol=1e-9)
    assert spread.max() > 1e-3
    single = TLPotCalculator(small(members=1))
    assert single.get_property("energy_std", urea) == 0.0
    assert not single.get_property("forces_std", urea).any()


def test_a_model_file_and_a_name_will_do(base_model, urea):
    a, b = urea, urea.copy()
    a.calc, b.calc = TLPotCalculator(base_model), TLPotCalculator(str(base_model))
    assert a.get_potential_energy() == b.get_potential_energy()
    with pytest.raises(TlpotError, match="nowhere"):
        TLPotCalculator("nowhere")


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_along_a_trajectory_it_stays_a_fresh_calculator(small, urea, count_lists, pbc):
    """Small steps keep the list, a drift renews it; both give what a new calculator gives."""
    potential, random = small(), np.random.default_rng(0)
    urea.pbc = pbc
    urea.calc = TLPotCalculator(potential, skin=0.6)
    drift = random.normal(size=urea.positions.shape)
    drift /= np.linalg.norm(drift, axis=1, keepdims=True)
    energies = set()
    for _ in range(20):
        urea.positions += 0.045 * drift
        energies.add(round(urea.get_potential_energy(), 6))
        urea.get_forces()
    ours = count_lists()
    assert len(energies) == 20
    assert 2 <= ours <= 5  # 0.9 Å in all, renewed after each 0.3 Å
    same(urea, potential)


def test_atoms_that_cross_the_boundary_keep_their_list(small, urea, count_lists):
    potential = small()
    urea.calc = TLPotCalculator(potential)
    urea.get_potential_energy()
    urea.positions += [0.05, 0, 0]
    urea.get_potential_energy()
    assert count_lists() == 1
    urea.wrap()
    same(urea, potential)


def test_without_skin_every_step_has_its_own_list(small, urea, count_lists):
    urea.calc = TLPotCalculator(small(), skin=0.0)
    for _ in range(3):
        urea.positions[0] += 0.01
        urea.get_potential_energy()
    assert count_lists() == 3


def test_changes_of_cell_periodicity_elements_and_size_are_seen(small, urea):
    potential = small()
    calculator = TLPotCalculator(potential)
    urea.calc = calculator
    same(urea, potential)
    urea.set_cell(urea.cell * 1.02, scale_atoms=True)
    same(urea, potential)
    urea.set_cell(urea.cell * [1.0, 1.0, 1.01])
    same(urea, potential)
    urea.pbc = (True, True, False)
    same(urea, potential)
    urea.symbols[0] = "N"
    same(urea, potential)
    for other in (molecule("CH4"), molecule("CO"), Atoms("O"), urea.repeat((2, 1, 1)), urea):
        other.calc = calculator
        same(other, potential)


def test_atoms_keep_their_own_symbols_and_masses(base_model):
    atoms = molecule("CH4")
    atoms.symbols[0] = "Si"
    atoms.calc = TLPotCalculator(load_base(base_model, {"Si": "C"}))
    atoms.get_forces()
    assert atoms.calc.atoms.get_chemical_symbols()[0] == "Si"
    assert atoms.get_masses()[0] == pytest.approx(28.085)


def test_what_cannot_be_answered_is_an_error(small, urea):
    urea.calc = TLPotCalculator(small())
    urea.pbc = (True, True, False)
    with pytest.raises(PropertyNotImplementedError):
        urea.get_stress()
    urea.symbols[0] = "Si"
    with pytest.raises(TlpotError, match="Si: C"):
        urea.get_potential_energy()
    urea.symbols[0] = "C"
    assert np.isfinite(urea.get_potential_energy())


def test_keywords_that_do_not_exist_are_refused_with_those_that_do(small, urea):
    for name in ("dtpye", "dtype", "label", "directory"):
        with pytest.raises(TlpotError, match=f"'{name}'; it takes model, skin, device, atoms"):
            TLPotCalculator(small(), **{name: "x"})
    with pytest.raises(TlpotError, match="skin cannot be set"):
        TLPotCalculator(small()).set(skin=1.0)
    with pytest.raises(TlpotError, match="skin is -1"):
        TLPotCalculator(small(), skin=-1)
    calculator = TLPotCalculator(small(), atoms=urea)
    assert urea.calc is calculator


def test_a_gpu_is_taken_when_there_is_one(small, monkeypatch):
    """By name or file; a potential stays where its owner put it."""
    asked = []
    monkeypatch.setattr("tlpot.model.load.usable", lambda name: asked.append(name) or "cpu")
    TLPotCalculator("mini")
    assert asked == ["auto"]
    potential = small()
    assert TLPotCalculator(potential).potential is potential


@pytest.mark.parametrize("device", ["gpu", "cuda:77", 9, torch.device("cuda", 88)])
def test_a_device_that_is_not_there_is_named(small, device):
    for model in ("mini", small()):
        with pytest.raises(TlpotError, match=r"device: .*cannot be used here"):
            TLPotCalculator(model, device=device)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_without_memory_it_says_what_helps(small, urea, monkeypatch, error):
    potential = small()

    def exhausted(*args, **kwargs):
        raise error("out of memory")

    monkeypatch.setattr("tlpot.model.potential.Potential.evaluate", exhausted)
    urea.calc = TLPotCalculator(potential)
    for ask in (urea.get_potential_energy, lambda: potential.predict(urea)):
        with pytest.raises(TlpotError, match=r"out of memory.*smaller structure"):
            ask()


def test_structures_that_are_not_sound_are_refused(small, urea):
    """An overlap gave NaN, a position that is none an error of the neighbour list's."""
    potential = small()
    nowhere, together, flat = urea.copy(), urea.copy(), urea.copy()
    nowhere.positions[3] = np.nan
    together.positions[1] = together.positions[0]
    flat.set_cell([0, 0, 0])
    for atoms, said in (
        (nowhere, "not finite"),
        (together, "overlap"),
        (flat, "no volume"),
        (Atoms(), "no atoms"),
    ):
        atoms.calc = TLPotCalculator(potential)
        for ask in (atoms.get_potential_energy, lambda atoms=atoms: potential.predict(atoms)):
            with pytest.raises(TlpotError, match=said):
                ask()


def test_no_gradient_of_the_weights_is_left_behind(small, urea):
    potential = small()
    potential.backbone.requires_grad_()
    urea.calc = TLPotCalculator(potential)
    urea.get_stress()
    assert all(p.grad is None for p in potential.backbone.parameters())
    assert all(not isinstance(value, torch.Tensor) for value in urea.calc.results.values())


# --- with ASE's dynamics and optimisers, on the model that ships with tlpot ----------------------


def test_energy_is_conserved(urea):
    """16-atom urea, 300 K, 0.5 fs, 0.15 ps: the means of the two halves of the last 0.1 ps."""
    urea.calc = TLPotCalculator("mini")
    BFGS(urea, logfile=None).run(fmax=0.3, steps=30)
    random = np.random.default_rng(0).normal(size=(16, 3))
    urea.set_momenta(random * np.sqrt(urea.get_masses() * units.kB * 300)[:, None])
    Stationary(urea)
    energies = []
    dynamics = VelocityVerlet(urea, timestep=0.5 * units.fs)
    dynamics.attach(lambda: energies.append(urea.get_total_energy() / len(urea)))
    dynamics.run(300)
    assert abs(np.mean(energies[101:201]) - np.mean(energies[201:])) < 3e-4
    assert np.ptp(energies) < 5e-3
    assert 50 < urea.get_temperature() < 600


def test_cell_and_atoms_relax_together(urea):
    urea.calc = TLPotCalculator("mini")
    start = urea.get_potential_energy()
    relaxation = BFGS(FrechetCellFilter(urea), logfile=None)
    relaxation.run(fmax=0.05, steps=150)
    assert relaxation.converged()
    assert urea.get_potential_energy() < start
    assert np.linalg.norm(urea.get_forces(), axis=1).max() < 0.05
    assert np.abs(urea.get_stress()).max() < 0.05


def test_a_spread_above_what_is_allowed_is_told_when_it_comes_to_be(small, urea):
    """In calibrated units, each time it comes to exceed, and not while it stays there."""
    potential = small()
    potential.calibration = Calibration(Scale(2.0, None, 20), None)
    near, far = urea.copy(), urea.copy()
    far.rattle(0.3, seed=1)
    spreads = [p.energy_std / np.sqrt(len(urea)) for p in potential.predict([near, far])]
    if spreads[0] > spreads[1]:  # the weights are random
        near, far, spreads = far, near, spreads[::-1]
    calculator = TLPotCalculator(potential, warn_above=float(np.mean(spreads)))
    messages = []
    for atoms in (near, far, far, near, far):
        atoms = atoms.copy()
        atoms.calc = calculator
        calculator.reset()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            atoms.get_potential_energy()
        messages.append([str(w.message) for w in caught if w.category is TlpotWarning])
    assert [len(lines) for lines in messages] == [0, 1, 0, 0, 1]
    assert f"(calibrated) is {1e3 * spreads[1]:.3g} meV per √N" in messages[1][0]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_warn_above_what_is_no_spread_is_refused(small, value):
    with pytest.raises(TlpotError, match="warn_above"):
        TLPotCalculator(small(), warn_above=value)


def test_warn_above_without_an_ensemble_is_refused(small):
    with pytest.raises(TlpotError, match="no effect"):
        TLPotCalculator(small(members=1), warn_above=0.1)
