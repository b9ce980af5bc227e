import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data import covalent_radii

from tlpot.data.crystals.read import read_crystals
from tlpot.structure.bonds import BONDED, UNBONDED, bond_changes, bonds
from tlpot.structure.molecules import find_molecules
from tlpot.structure.neighbours import neighbour_pairs


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


def test_one_criterion_for_bonds_molecules_and_changes():
    """Two atoms at `BONDED` make a molecule, and a bond that both verbs of a change know."""
    reach = 2 * covalent_radii[6]
    near, far, gone = (
        Atoms("C2", [[0, 0, 0], [stretch * reach, 0, 0]])
        for stretch in (BONDED - 0.01, BONDED + 0.01, UNBONDED + 0.01)
    )
    assert [len(find_molecules(atoms)) for atoms in (near, far, gone)] == [1, 2, 2]
    assert [bonds(atoms)[0].shape[1] for atoms in (near, far, gone)] == [1, 0, 0]
    assert bond_changes(near, gone) == (["C0-C1"], [])
    assert bond_changes(gone, near) == ([], ["C0-C1"])
    assert bond_changes(far, near) == bond_changes(far, gone) == ([], [])


def test_two_halogens_on_one_carbon_are_not_bonded():
    for name, apart in (("CH3Cl", 4), ("CF4", 4), ("CCl4", 4), ("HCOOH", 4), ("SO2", 2)):
        assert bonds(molecule(name))[0].shape[1] == apart
    iodoform = Atoms("CHI3", [[0, 0, 0.4], [0, 0, 1.5], *_triangle(2.05)])
    assert bonds(iodoform)[0].shape[1] == 4


def _triangle(radius):
    angles = np.radians([0, 120, 240])
    return np.column_stack([radius * np.cos(angles), radius * np.sin(angles), [-0.2] * 3])


def test_real_crystals_have_no_distance_at_the_criterion(tlpot_data):
    """Every landscape's every crystal: bonds end at 1.18, 1-3 distances begin at 1.35."""
    files = sorted((tlpot_data / "csp_genarris").rglob("*.cif"))[::7]
    frames, _ = read_crystals(files)
    assert len(frames) > 20
    for frame in frames:
        atoms = frame.atoms
        radii = covalent_radii[atoms.numbers]
        (i, j), vectors = neighbour_pairs(atoms, 2 * BONDED * 1.1 * radii.max())
        ratios = np.linalg.norm(vectors, axis=1) / (radii[i] + radii[j])
        assert not ((ratios > 0.95 * BONDED) & (ratios < 1.05 * BONDED)).any(), frame.name


def test_nothing_has_no_bonds():
    assert bonds(Atoms())[0].shape == (2, 0)
