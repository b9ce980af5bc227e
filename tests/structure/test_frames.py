import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from tlpot.structure.frames import Batch, Frame
from tlpot.structure.neighbours import heights, neighbour_pairs

CUTOFF = 4.05
CELLS = {
    "no cell": (None, False),
    "tiny cube": (2.0 * np.eye(3), True),
    "skewed": (np.array([[3.0, 0, 0], [2.5, 2.5, 0], [1.0, -2.0, 3.5]]), True),
    "left-handed": (np.array([[0, 3.0, 0], [3.0, 0, 0], [0, 0, 3.0]]), True),
    "wire": (np.diag([2.5, 9.0, 9.0]), (True, False, False)),
    "slab": (np.array([[3.0, 0, 0], [1.0, 3.0, 0], [0, 0, 5.0]]), (True, True, False)),
    "slab without third vector": (np.diag([3.0, 3.0, 0.0]), (True, True, False)),
}


def scattered(cell, pbc) -> Atoms:
    """Four atoms, some far outside the box, no two on top of each other."""
    positions = [(0.1, 0.2, 0.3), (1.1, -7.0, 1.2), (-11.3, 1.1, 0.9), (0.9, 1.0, 5.9)]
    return Atoms("HCNO", positions, cell=cell, pbc=pbc)


def brute_force(atoms: Atoms) -> list[tuple]:
    """Every pair of atoms and images within the cutoff, once, by trying many images."""
    found, reach = [], [range(-14, 15) if p else [0] for p in atoms.pbc]
    images = np.array(list(itertools.product(*reach)))
    shifts, upper = images @ atoms.cell.array, [tuple(n) > (0, 0, 0) for n in images]
    for i, j in itertools.combinations_with_replacement(range(len(atoms)), 2):
        lengths = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + shifts, axis=1)
        near = lengths[(lengths <= CUTOFF) & (upper if i == j else True)]
        found += [(i, j, round(length, 6)) for length in near.tolist()]
    return sorted(found)


@pytest.mark.parametrize("name", CELLS)
def test_neighbours_are_all_images_within_the_cutoff_once(name):
    atoms = scattered(*CELLS[name])
    pairs, vectors = neighbour_pairs(atoms, CUTOFF)
    lengths = np.linalg.norm(vectors, axis=1).round(6).tolist()
    ends = np.sort(pairs.T, axis=1).tolist()
    found = sorted((i, j, d) for (i, j), d in zip(ends, lengths, strict=True))
    expected = brute_force(atoms)
    assert [f[:2] for f in found] == [e[:2] for e in expected]
    np.testing.assert_allclose([f[2] for f in found], [e[2] for e in expected], atol=2e-6)


@pytest.mark.parametrize("name", CELLS)
def test_vectors_lead_to_an_image_of_the_second_atom(name):
    atoms = scattered(*CELLS[name])
    (first, second), vectors = neighbour_pairs(atoms, CUTOFF)
    rest = vectors - (atoms.positions[second] - atoms.positions[first])
    shifts = rest @ np.linalg.inv(atoms.cell.complete().array)
    np.testing.assert_allclose(shifts, shifts.round(), atol=1e-9)
    assert not shifts[:, ~atoms.pbc].any()


def test_lone_atom_has_no_pairs():
    pairs, vectors = neighbour_pairs(Atoms("H"), CUTOFF)
    assert pairs.shape == (2, 0)
    assert vectors.shape == (0, 3)


def test_join_renumbers_and_sums_by_frame():
    atoms = [molecule("H2O"), Atoms("H"), molecule("CH4", cell=[4, 4, 4], pbc=True)]
    frames = [Frame(a, energy=float(i)) for i, a in enumerate(atoms)]
    batch = Batch.join([Batch.of_frame(f, CUTOFF) for f in frames])
    assert batch.n_atoms.tolist() == [3, 1, 5]
    assert batch.numbers.tolist() == [n for a in atoms for n in a.numbers]
    assert (batch.frame[batch.pairs[0]] == batch.frame[batch.pairs[1]]).all()
    assert batch.sum_frames(torch.ones(2, 9)).tolist() == [[3, 1, 5], [3, 1, 5]]
    assert batch.energy.tolist() == [0.0, 1.0, 2.0]
    last = Batch.of_frame(frames[2], CUTOFF)
    assert torch.equal(batch.pairs[:, -last.pairs.shape[1] :], last.pairs + 4)


def test_missing_labels_are_nan_and_stress_is_in_voigt_order():
    atoms = molecule("H2O", cell=[4, 5, 6], pbc=True)
    bare = Batch.of_frame(Frame(atoms), CUTOFF)
    assert torch.isnan(bare.energy).all()
    assert torch.isnan(bare.forces).all()
    assert bare.forces.shape == (3, 3)
    assert torch.isnan(bare.stress).all()
    batch = Batch.of_frame(Frame(atoms, stress=np.array([1, 2, 3, 4, 5, 6.0])), CUTOFF)
    assert batch.stress[0].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


@pytest.mark.parametrize(("pbc", "volume"), [(True, 120.0), ((True, True, False), np.nan)])
def test_volume_only_where_periodic_in_three_directions(pbc, volume):
    batch = Batch.of_frame(Frame(molecule("H2O", cell=[4, 5, 6], pbc=pbc)), CUTOFF)
    np.testing.assert_allclose(batch.volumes.numpy(), [volume])


@pytest.mark.parametrize(
    ("size", "shift", "pbc", "kind"),
    [
        (4.0, 0.0, True, "crystal"),
        (15.0, 0.0, True, "molecule"),
        (15.0, 7.6, True, "molecule"),
        (15.0, 7.6, (True, False, False), "molecule"),
        (None, 0.0, False, "molecule"),
        ((3.0, 3.0, 15.0), 0.0, True, "crystal"),
    ],
    ids=["dense", "boxed", "across the boundary", "wire", "no cell", "slab"],
)
def test_kind(size, shift, pbc, kind):
    cell = None if size is None else np.broadcast_to(size, 3)
    atoms = molecule("H2O", cell=cell, pbc=pbc)
    atoms.positions += shift
    assert Frame(atoms).kind == kind


def test_name_and_formula():
    frame = Frame(molecule("CH3OH"), source="a.xyz", index=3)
    assert (frame.name, frame.formula, len(frame)) == ("a.xyz#3", "CH4O", 6)


def test_heights_of_a_skewed_cell_and_of_many():
    """Of a sheared cell the height over the sheared face alone stays the edge's."""
    sheared = np.array([[3.0, 0, 0], [2.0, 4, 0], [0, 0, 5]])
    high = [12 / np.hypot(2, 4), 4.0, 5.0]
    np.testing.assert_allclose(heights(sheared), high)
    np.testing.assert_allclose(heights(np.array([sheared, np.eye(3)])), [high, [1, 1, 1]])


@pytest.mark.parametrize("box", [(1e3, 1e3, 0.9), (1e4, 1e4, 1.2), (1e6, 5.0, 5.0), (900, 7, 2e3)])
@pytest.mark.parametrize("pbc", [True, False])
def test_neighbours_in_a_thin_box_are_those_of_the_sum_over_images(box, pbc):
    """Wires and sheets in much vacuum: vesin's bins, on its own, end the process."""
    atoms = molecule("CH3OH", cell=box, pbc=pbc)
    atoms = atoms + Atoms("H", [np.array(box) / 2 if pbc else np.array(box)])
    pairs, vectors = neighbour_pairs(atoms, 2.5)
    images = [8 if b < 5 and pbc else 0 for b in box]
    count, points = 0, atoms.positions
    for shift in itertools.product(*(range(-n, n + 1) for n in images)):
        apart = points[None] + np.array(shift) * box - points[:, None]
        apart -= np.round(apart / box) * box * np.array([b > 50 and pbc for b in box])
        count += np.count_nonzero(np.linalg.norm(apart, axis=2) < 2.5)
    assert 2 * pairs.shape[1] + len(atoms) == count
    assert np.linalg.norm(vectors, axis=1).max() < 2.5
