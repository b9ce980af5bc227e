"""Pairs of atoms within a cutoff, in cells of any shape and size."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from vesin import NeighborList

from tlpot.errors import TlpotError


def heights(cells: np.ndarray) -> np.ndarray:
    """Distances between opposite faces of cells, in Å.

    Cells have shape ``(..., 3, 3)`` with the cell vectors as rows; the result has ``(..., 3)``.
    """
    return 1.0 / np.linalg.norm(np.linalg.inv(cells), axis=-2)


LONGEST = 1e7
"""Å: a longer cell vector is none."""

MOST_IMAGES, MOST_NEIGHBOURS = 1e5, 1e5
"""Images of a cell within a cutoff, and neighbours of an atom, above which a cell is none."""


def uncountable(atoms: Atoms, cutoff: float) -> str | None:
    """Why the neighbours within `cutoff` (Å) cannot be listed in this cell, or None if they can."""
    cell = atoms.cell.complete().array
    if not atoms.pbc.any():
        return None
    if not np.abs(cell).max() < LONGEST:
        return f"its cell is longer than {LONGEST:g} Å"
    volume = abs(np.linalg.det(cell))
    areas = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    if not volume or np.prod((2 * cutoff * areas / volume + 1)[atoms.pbc]) > MOST_IMAGES:
        return "its cell has no volume, or hardly any"
    if 4 / 3 * np.pi * cutoff**3 * len(atoms) / volume > MOST_NEIGHBOURS:
        return f"its {len(atoms)} atoms have no room in a cell of {volume:.3g} Å³"
    return None


BINS = 1e5
"""That vesin sorts atoms into, at most."""


def _reach(positions: np.ndarray, box: np.ndarray, cutoff: float) -> float:
    """A cutoff at which vesin finds room for its bins.

    Where a large box takes more than `BINS`, it makes fewer of them in each direction alike: in a
    thin one none, and divides by zero (0.6.2).
    """
    if box.any():
        normals = np.cross(box[[1, 2, 0]], box[[2, 0, 1]])
        lengths = abs(np.linalg.det(box)) / np.linalg.norm(normals, axis=1)
    else:
        lengths = np.ptp(positions, axis=0) if len(positions) else np.zeros(3)
    if not np.isfinite(lengths).all():
        return cutoff
    reach = cutoff
    while True:
        bins = np.maximum(lengths / reach, 1.0)
        fewer = min(np.cbrt(BINS / bins.prod()), 1.0)
        if fewer == 1.0 or bins.min() * fewer >= 2.0:
            return reach
        reach *= 1.1


def neighbour_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs of atoms within a cutoff, once each, in any cell with its periodic images.

    Returns
    -------
    pairs : np.ndarray
        ``(2, pairs)``, int64, the atoms i and j of each pair.
    vectors : np.ndarray
        ``(pairs, 3)``, float64, r_j − r_i in Å.

    Raises
    ------
    TlpotError
        If the neighbours cannot be listed (`uncountable`).
    """
    if flaw := uncountable(atoms, cutoff):
        raise TlpotError(flaw)
    pairs, vectors = search_pairs(atoms.positions, box_of(atoms), atoms.pbc, cutoff, "PD")
    return pairs.astype(np.int64).T.copy(), vectors


def box_of(atoms: Atoms) -> np.ndarray:
    """The cell in Å, ``(3, 3)``, completed where it is not periodic; zeros for a molecule."""
    return atoms.cell.complete().array if atoms.pbc.any() else np.zeros((3, 3))


def search_pairs(
    positions: np.ndarray,
    box: np.ndarray,
    periodic: bool | np.ndarray,
    cutoff: float,
    quantities: str,
    both: bool = False,
) -> list[np.ndarray]:
    """Find pairs of atoms within a cutoff with vesin.

    Parameters
    ----------
    positions
        ``(n, 3)`` in Å.
    box
        As `box_of` gives it.
    periodic
        Whether the structure is periodic, or whether it is in each of the three directions.
    cutoff
        Largest distance in Å.
    quantities
        What is returned, by vesin's letters: ``i`` and ``j`` or both as ``P``, ``d`` for distances,
        ``D`` for vectors, ``S`` for shifts by cells.
    both
        Whether each pair is listed from both its ends.
    """
    reach = _reach(positions, box, cutoff)
    finder = NeighborList(cutoff=reach, full_list=both)
    *values, distances = finder.compute(positions, box, periodic, f"{quantities}d")
    near = distances < cutoff
    return values if reach == cutoff else [value[near] for value in values]
