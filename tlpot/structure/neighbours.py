"""Pairs of atoms within a cutoff, in cells of any shape and size."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from vesin import NeighborList

from tlpot.errors import TlpotError


def heights(cells: np.ndarray) -> np.ndarray:
    """Distances between opposite faces, Å: ``(..., 3)`` of cells ``(..., 3, 3)``, rows vectors."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cells), axis=-2)


LONGEST = 1e7
"""Å: a longer cell vector is none."""

MOST_IMAGES, MOST_NEIGHBOURS = 1e5, 1e5
"""Images of a cell within a cutoff, and neighbours of an atom, above which a cell is none."""


def uncountable(atoms: Atoms, cutoff: float) -> str | None:
    """Why neighbours within `cutoff` (Å) cannot be listed in the cell, or None."""
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
    """Every pair of atoms within `cutoff` once, images included (any cell, any size).

    Returns
    -------
    pairs : ``(2, pairs)`` int64
    vectors : ``(pairs, 3)`` float64, r_j − r_i in Å

    Raises
    ------
    TlpotError
        If there is no end of them (`uncountable`).
    """
    if flaw := uncountable(atoms, cutoff):
        raise TlpotError(flaw)
    pairs, vectors = search_pairs(atoms.positions, box_of(atoms), atoms.pbc, cutoff, "PD")
    return pairs.astype(np.int64).T.copy(), vectors


def box_of(atoms: Atoms) -> np.ndarray:
    """``(3, 3)`` Å: the cell, with directions that are not periodic filled up; none: zeros."""
    return atoms.cell.complete().array if atoms.pbc.any() else np.zeros((3, 3))


def search_pairs(
    positions: np.ndarray,
    box: np.ndarray,
    periodic: bool | np.ndarray,
    cutoff: float,
    quantities: str,
    both: bool = False,
) -> list[np.ndarray]:
    """What vesin says of the pairs within `cutoff`, each once, or from `both` ends.

    Parameters
    ----------
    quantities
        Letters for what is returned: ``i`` and ``j`` or both as ``P``, ``d`` distances, ``D``
        vectors, ``S`` shifts by cells.
    """
    reach = _reach(positions, box, cutoff)
    finder = NeighborList(cutoff=reach, full_list=both)
    *values, distances = finder.compute(positions, box, periodic, f"{quantities}d")
    near = distances < cutoff
    return values if reach == cutoff else [value[near] for value in values]
