import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell

from tlpot.property.graph import ABSENT, NEIGHBOURS, Graph, gaussians, nearest_neighbours


def test_copper_has_its_first_shell():
    neighbours, distances = nearest_neighbours(bulk("Cu", "fcc", 3.6))
    assert neighbours.shape == (1, 12)
    assert (neighbours == 0).all()
    assert distances == pytest.approx(3.6 / np.sqrt(2))


def test_caesium_chloride_has_eight_unlike_and_four_of_six_like_neighbours():
    neighbours, distances = nearest_neighbours(bulk("CsCl", "cesiumchloride", 4.1))
    for atom in range(2):
        assert sorted(neighbours[atom]) == sorted([1 - atom] * 8 + [atom] * 4)
    assert distances[0] == pytest.approx([4.1 * np.sqrt(3) / 2] * 8 + [4.1] * 4)


def test_of_neighbours_equally_far_the_lighter_come_first():
    """In the layered CuAu cell with c = a every atom has twelve neighbours at one distance; made
    slightly larger, the twelfth of NaCl's second shell has to be chosen among equals."""
    rocksalt = bulk("NaCl", "rocksalt", 5.64)
    neighbours, _distances = nearest_neighbours(rocksalt)
    assert (neighbours[0, :6] == 1).all()
    assert (neighbours[0, 6:] == 0).all()
    gold = Atoms("CuAu", [[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True)
    simple = gold.repeat((2, 1, 1))  # 8 of the other kind, then 6 of the own
    numbers = simple.numbers[nearest_neighbours(simple)[0]]
    assert (numbers[simple.numbers == 29][:, 8:] == 29).all()


def test_a_molecule_alone_has_itself_beyond_reach_as_its_missing_neighbours():
    neighbours, distances = nearest_neighbours(Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]))
    assert neighbours[:, 0].tolist() == [1, 0]
    assert neighbours[:, 1:].tolist() == [[0] * 11, [1] * 11]
    assert (distances[:, 1:] == ABSENT).all()
    assert gaussians(torch.tensor([ABSENT])).max() < 1e-10


def test_sparse_crystals_are_searched_further():
    _, distances = nearest_neighbours(Atoms("Xe", cell=[6.2, 6.2, 6.2], pbc=True))
    assert distances[0] == pytest.approx([6.2] * 6 + [ABSENT] * 6)


def test_neighbours_are_the_nearest_of_all_images():
    random = np.random.default_rng(0)
    atoms = Atoms("C3", random.uniform(0, 3, (3, 3)), cell=[3.1, 3.4, 3.9], pbc=True)
    images = np.array(np.meshgrid(*[np.arange(-4, 5)] * 3)).reshape(3, -1).T @ atoms.cell.array
    far = atoms.positions[None, :, None] + images - atoms.positions[:, None, None]
    expected = np.sort(np.linalg.norm(far, axis=-1).reshape(3, -1), axis=1)[:, 1 : NEIGHBOURS + 1]
    assert nearest_neighbours(atoms)[1] == pytest.approx(expected)


def test_join_renumbers():
    one, two = Graph.of(bulk("Cu")), Graph.of(bulk("NaCl", "rocksalt", 5.64))
    both = Graph.join([one, two, one])
    assert both.size == 3
    assert both.crystal.tolist() == [0, 1, 1, 2]
    assert both.neighbours[3].tolist() == [3] * 12
    assert torch.equal(both.distances[1:3], two.distances)


def test_supercells_see_the_same_neighbours():
    atoms = bulk("ZnS", "zincblende", 5.41)
    large = make_supercell(atoms, [[1, 1, 0], [0, 2, 1], [1, 0, 1]])
    for symbol in ("Zn", "S"):
        small, big = (a.symbols.search(symbol) for a in (atoms, large))
        here, there = nearest_neighbours(atoms), nearest_neighbours(large)
        assert there[1][big] == pytest.approx(np.repeat(here[1][small], len(big), axis=0))
        assert np.array_equal(
            large.numbers[there[0][big]], np.repeat(atoms.numbers[here[0][small]], len(big), axis=0)
        )


def test_a_wire_in_much_vacuum_has_the_neighbours_along_it():
    """vesin's bins, on its own, end the process."""
    wire = Atoms("Ar", cell=(1e4, 1e4, 1.2), pbc=True)
    _, distances = nearest_neighbours(wire)
    np.testing.assert_allclose(distances[0], 1.2 * np.repeat(np.arange(1, 7), 2), atol=2e-3)
