import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from tlpot.structure.contacts import REACH, bond_changes, shortest_contacts


def test_shortest_contact_of_each_pair_of_elements():
    near, far = (Atoms("HCO", [[0, 0, 0], [d, 0, 0], [d, 1.2, 0]]) for d in (1.06, 1.3))
    found = shortest_contacts([far, near])
    assert found == pytest.approx({"C-H": 1.06, "C-O": 1.2, "H-O": np.hypot(1.06, 1.2)}, abs=1e-4)
    assert shortest_contacts([Atoms("HC", [[0, 0, 0], [REACH + 0.1, 0, 0]])]) == {}


def test_contacts_with_images_count():
    atoms = Atoms("O", cell=[2.5, 3, 3], pbc=True)
    assert shortest_contacts([atoms]) == {"O-O": 2.5}


def test_a_bond_broken_and_one_made():
    before = Atoms("CHO", [[0, 0, 0], [1.1, 0, 0], [3, 0, 0]])
    after = Atoms("CHO", [[0, 0, 0], [2.0, 0, 0], [3, 0, 0]])
    assert bond_changes(before, after) == (["C0-H1"], ["H1-O2"])
    assert bond_changes(before, before) == ([], [])


def test_a_stretched_bond_is_neither_broken_nor_made():
    short, long = (Atoms("CH", [[0, 0, 0], [d, 0, 0]]) for d in (1.1, 1.45))
    assert bond_changes(short, long) == bond_changes(long, short) == ([], [])


def test_bonds_across_the_boundary_of_a_changing_cell():
    """Also where an atom crosses it, or is bonded to its own image."""
    atoms = molecule("CH3OH", cell=[4, 5, 6], pbc=True)
    atoms.positions += [3.9, 0, 0]
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ (np.eye(3) + 0.05), scale_atoms=True)
    moved.positions += [0.3, 0.1, 0.2]
    assert bond_changes(atoms, moved) == ([], [])
    chain, longer = (Atoms("C", cell=[d, 9, 9], pbc=True) for d in (1.5, 3.0))
    assert bond_changes(chain, longer) == (["C0-C0"], [])
