"""On the bundled model and urea: physics of minima, and what is set aside."""

import numpy as np
import pytest
import spglib
import torch
from ase import Atoms, units
from ase.build import molecule

from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.relax.relax import relax
from tlpot.relax.settings import Relaxation
from tlpot.structure.frames import Frame

ENGINES = ("torch-sim", "ase")


@pytest.fixture(scope="module")
def mini() -> Potential:
    return load("mini")


def test_both_engines_find_the_minimum_under_pressure(mini, urea):
    found = [relax([urea], mini, Relaxation(pressure=1.0, engine=e))[0] for e in ENGINES]
    for one in found:
        assert one.reason is None
        assert one.converged
        assert one.atoms.calc is None
        assert np.linalg.norm(one.forces, axis=1).max() < 0.01
        assert one.stress / units.GPa == pytest.approx([-1.0] * 3 + [0.0] * 3, abs=0.006)
        assert one.energy == pytest.approx(mini.predict([one.atoms])[0].energy, abs=1e-6)
    assert found[0].energy == pytest.approx(found[1].energy, abs=1e-3)
    assert found[0].atoms.get_volume() == pytest.approx(found[1].atoms.get_volume(), rel=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_positions_or_only_the_cell(mini, urea, engine):
    (fixed,) = relax([urea], mini, Relaxation(free="positions", engine=engine))
    assert np.array_equal(fixed.atoms.cell.array, urea.cell.array)
    assert np.linalg.norm(fixed.forces, axis=1).max() < 0.01
    (scaled,) = relax([urea], mini, Relaxation(free="cell", engine=engine))
    assert scaled.atoms.get_scaled_positions(wrap=False) == pytest.approx(
        urea.get_scaled_positions(wrap=False), abs=1e-6
    )
    assert np.abs(scaled.stress / units.GPa).max() < 0.006
    assert fixed.energy < mini.predict([urea])[0].energy > scaled.energy


def test_each_takes_the_steps_that_it_takes_alone(urea):
    """Unlike crystals, a molecule and one in a box, in small batches that are refilled."""
    precise = load("mini")
    precise.backbone.to(torch.float64)
    acid, boxed = molecule("HCOOH"), molecule("CH3OH", vacuum=5, pbc=True)
    packed = Atoms(urea.numbers, urea.positions * 0.98, cell=urea.cell * 0.98, pbc=True)
    everything = [urea, acid, packed, boxed, urea.repeat((1, 1, 2)), urea]
    settings = Relaxation(fmax=0.1, smax=0.2)
    together = relax(everything, precise, settings.model_copy(update={"batch_atoms": 40}))
    for atoms, found in zip(everything, together, strict=True):
        (alone,) = relax([atoms], precise, settings)
        assert found.energy == pytest.approx(alone.energy, abs=1e-5 * len(atoms))
        assert found.steps == alone.steps > 1
    assert [found.name for found in together] == list("012345")
    assert np.array_equal(together[3].atoms.cell, boxed.cell)
    assert together[1].stress is None


@pytest.mark.parametrize("engine", ENGINES)
def test_symmetry_is_kept_on_request(mini, ideal_urea, engine):
    ideal_urea.rattle(0.003, seed=1)
    settings = Relaxation(symmetry=True, symprec=0.05, engine=engine, pressure=1.0)
    (found,) = relax([ideal_urea], mini, settings)
    cell = (found.atoms.cell.array, found.atoms.get_scaled_positions(), found.atoms.numbers)
    assert spglib.get_spacegroup(cell, symprec=1e-4) == "P-42_1m (113)"
    assert found.converged
    assert np.linalg.norm(found.forces, axis=1).max() < 0.01


def test_a_bad_structure_is_set_aside_and_the_others_go_on(mini, urea):
    overlapping = urea.copy()
    overlapping.positions[1] = overlapping.positions[0] + [0.1, 0, 0]
    strange = Atoms("Xe", cell=[4, 4, 4], pbc=True)
    nowhere = urea.copy()
    nowhere.positions[0] = np.nan
    slab = urea.copy()
    slab.pbc = (True, True, False)
    flat = Atoms("C", cell=[3, 3, 0], pbc=True)
    inputs = [overlapping, urea, strange, nowhere, slab, Atoms(), flat]
    found = relax([Frame(a, source="in.extxyz", index=i) for i, a in enumerate(inputs)], mini)
    assert [one.converged for one in found] == [False, True, *[False] * 5]
    expected = ("overlap", None, "Xe", "not finite", "one or two", "no atoms", "volume")
    for one, reason in zip(found, expected, strict=True):
        assert reason is None or reason in one.reason
    assert found[2].name == "in.extxyz#2"


def test_symmetry_is_not_looked_for_beyond_the_bonds(mini, ideal_urea):
    """There spglib would crash; a wider cell may still be looked at."""
    wide = Atoms("CCl4", ideal_urea.positions[:5] * 4, cell=[30, 30, 30], pbc=True)
    wide.symbols[:] = "C"
    settings = Relaxation(symmetry=True, symprec=0.5, steps=2)
    found = relax([ideal_urea, wide], mini, settings)
    assert "no symmetry within 0.5 Å: atoms are only" in found[0].reason
    assert found[1].converged


@pytest.mark.parametrize("engine", ENGINES)
def test_too_few_steps_are_no_minimum(mini, urea, engine):
    (found,) = relax([urea], mini, Relaxation(steps=3, engine=engine))
    assert "not converged in 3 steps: force" in found.reason
    assert found.steps == 3
    assert found.energy < mini.predict([urea])[0].energy


def test_what_is_relaxed_already_stays(mini, urea):
    settings = Relaxation(free="positions")
    (once,) = relax([urea], mini, settings)
    (twice,) = relax([once.atoms], mini, settings)
    assert twice.steps == 1
    assert np.array_equal(twice.atoms.positions, once.atoms.positions)


def test_an_exploding_cell_is_set_aside(mini, urea):
    (found,) = relax([urea], mini, Relaxation(pressure=-60.0))
    assert "exploded" in found.reason
    assert found.start.get_volume() == pytest.approx(urea.get_volume())


def test_broken_bonds_are_set_aside_unless_allowed(small):
    """A model that knows nothing tears a molecule apart."""
    ignorant = small(fine=None)
    (found,) = relax([molecule("CH3CONH2")], ignorant)
    assert found.reason.startswith("broken bonds ")
    (allowed,) = relax([molecule("CH3CONH2")], ignorant, Relaxation(bonds=False))
    assert allowed.converged


def test_atoms_that_fall_into_each_other_are_set_aside(mini):
    """Of a hydrogen molecule, which the model has never seen."""
    (found,) = relax([Atoms("H2", [[0, 0, 0], [0.75, 0, 0]])], mini)
    assert found.reason.startswith("collapsed: H-H atoms 0.1")


def test_contacts_and_spread_beyond_training_are_set_aside(mini, urea):
    (good,) = relax([urea], mini)
    close = Potential(mini.backbone, mini.reference, {"domain": {"contacts": {"H-O": 2.5}}})
    (found,) = relax([urea], close)
    assert found.reason.endswith("the closest in training is 2.50 Å")
    limit = good.energy_std / 4 / 2
    (found,) = relax([urea], mini, Relaxation(max_spread=limit))
    assert "spread" in found.reason
    known = Potential(mini.backbone, mini.reference, {"domain": {"spread": limit / 3}})
    assert "spread" in relax([urea], known)[0].reason
