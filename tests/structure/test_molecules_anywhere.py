"""The molecules of a crystal do not depend on how its cell is written down."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tlpot.errors import TlpotError
from tlpot.structure.molecules import constitution, find_molecules, find_unit

PARTS = ("H2O", "CO2", "CH3OH", "C6H6", "CH3CONH2", "HCN")
SPACING = 9.0
"""Å between the centres of molecules that are at most 5 Å long."""


@st.composite
def crystals(draw: st.DrawFn) -> tuple[Atoms, list[Atoms]]:
    """One to four known molecules, turned at random, in a row along a sheared cell."""
    parts = [
        molecule(name) for name in draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4))
    ]
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shear = [draw(st.floats(-3, 3)) for _ in range(3)]
    cell = [[SPACING * len(parts), 0, 0], [shear[0], SPACING, 0], [shear[1], shear[2], SPACING]]
    crystal = Atoms(cell=cell, pbc=True)
    for i, part in enumerate(parts):
        part.positions -= part.positions.mean(axis=0)
        part.positions = part.positions @ Rotation.random(random_state=random).as_matrix().T
        part.rattle(0.02, rng=random)
        placed = part.copy()
        placed.positions += [SPACING * i, 0, 0]
        crystal += placed
    return crystal, parts


def shapes(molecules: list[Atoms]) -> list[tuple]:
    """Formula, bonds and all distances of each, whatever their order and place."""
    found = [
        (m.get_chemical_formula(), constitution(m), np.sort(m.get_all_distances().ravel()))
        for m in molecules
    ]
    return sorted(found, key=lambda shape: (shape[0], shape[2].tolist()))


def assert_same(found: list[Atoms], expected: list[Atoms]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(shapes(found), shapes(expected), strict=True):
        assert mine[:2] == theirs[:2]
        np.testing.assert_allclose(mine[2], theirs[2], rtol=0, atol=1e-6)


@given(crystals(), st.tuples(*[st.floats(-30, 30)] * 3), st.booleans(), st.integers(0, 99))
def test_shifting_wrapping_and_numbering_change_nothing(made, shift, wrap, seed):
    crystal, parts = made
    crystal.positions += shift
    if wrap:
        crystal.wrap()
    else:  # each atom in an image of its own
        images = np.random.default_rng(seed).integers(-2, 3, size=(len(crystal), 3))
        crystal.positions += images @ crystal.cell.array
    crystal = crystal[np.random.default_rng(seed).permutation(len(crystal))]
    assert_same(find_molecules(crystal), parts)


@given(crystals(), st.tuples(*[st.integers(1, 3)] * 3), st.integers(-2, 2), st.integers(0, 2))
def test_supercells_and_other_cells_of_the_lattice_have_as_many_of_each(made, repeat, k, axis):
    crystal, parts = made
    twin = crystal.repeat(repeat)
    cell = twin.cell.array.copy()
    cell[axis] += k * cell[(axis + 1) % 3]
    twin.set_cell(cell)
    twin.rotate(37, (1, 2, 3), rotate_cell=True)
    twin.wrap()
    times = int(np.prod(repeat))
    found = find_molecules(twin)
    assert_same(found, parts * times)
    unit, z = find_unit(parts)
    assert find_unit(found) == (unit, z * times)


@given(st.integers(0, 99), st.integers(1, 3))
def test_a_chain_that_never_ends_is_no_molecule(seed, repeat):
    """Polyethyne, whose period is its two CH."""
    chain = Atoms("C2H2", [(0, 0, 0), (1.2, 0.7, 0), (0, -1.09, 0), (1.2, 1.79, 0)])
    chain.set_cell([2.46, 9, 9])
    chain.pbc = True
    chain = chain.repeat((repeat, 1, 1))
    chain.positions += np.random.default_rng(seed).uniform(-9, 9, 3)
    chain.wrap()
    with pytest.raises(TlpotError, match="network or polymer"):
        find_molecules(chain)
