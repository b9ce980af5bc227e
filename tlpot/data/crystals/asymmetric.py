"""From the sites that a file lists to the atoms of the whole cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.cell import Cell
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tlpot.data.crystals.spacegroups import Operators
from tlpot.errors import TlpotError
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.structure.soundness import LEAST_VOLUME

SAME_SITE = 0.2
"""Å: images of a site, or sites of one element, that are this close are one atom."""
FULL = 0.01
"""How far the occupancy of a site may be from 1."""


@dataclass(frozen=True, eq=False)
class Site:
    """One atom of the list.

    Attributes
    ----------
    label
        As the file names it.
    symbol
        Element.
    position
        ``(3,)`` fractional.
    occupancy
        1: the atom is there in every cell.
    """

    label: str
    symbol: str
    position: np.ndarray
    occupancy: float = 1.0


def cell_of(lengths_angles: Sequence[float]) -> np.ndarray:
    """``(3, 3)`` Å, lattice vectors as rows.

    Raises
    ------
    TlpotError
        If there is no such cell.
    """
    with np.errstate(all="ignore"):
        try:
            cell = Cell.fromcellpar(lengths_angles).array
        except (AssertionError, ZeroDivisionError, FloatingPointError):
            cell = np.full((3, 3), np.nan)
    if not np.isfinite(cell).all() or np.linalg.det(cell) < LEAST_VOLUME:
        listed = " ".join(f"{value:g}" for value in lengths_angles)
        raise TlpotError(f"there is no cell of lengths and angles {listed}")
    return cell


def images(position: np.ndarray, operators: Operators, cell: np.ndarray) -> np.ndarray:
    """``(k, 3)`` fractional: a site by all operators, each place once.

    Images that meet within `SAME_SITE`, because coordinates are rounded, are averaged onto the
    special position that they mean.
    """
    moved = operators.rotations @ position + operators.translations
    apart = moved[:, None] - moved[None]
    apart -= np.round(apart)
    close = np.linalg.norm(apart @ cell, axis=2) < SAME_SITE
    if np.count_nonzero(close) == len(close):
        return np.asarray(moved % 1.0)
    number, place = connected_components(close, directed=False)
    first = [int(np.flatnonzero(place == k)[0]) for k in range(number)]
    return np.array([moved[i] + apart[place == place[i], i].mean(axis=0) for i in first]) % 1.0


def whole_cell(sites: Sequence[Site], operators: Operators, cell: np.ndarray) -> Atoms:
    """All atoms of the cell.

    A site that is listed twice counts once; two isotopes that share a site are one atom.

    Raises
    ------
    TlpotError
        Naming the sites that are partly occupied or shared by two elements.
    """
    orbits = [images(site.position, operators, cell) for site in sites]
    owner = np.repeat(np.arange(len(sites)), [len(places) for places in orbits])
    symbols = [sites[i].symbol for i in owner.tolist()]
    atoms = Atoms(symbols, scaled_positions=np.concatenate(orbits), cell=cell, pbc=True)
    pairs, vectors = neighbour_pairs(atoms, 1.0)
    near = pairs[:, np.linalg.norm(vectors, axis=1) < SAME_SITE]
    graph = coo_array((np.ones(near.shape[1]), tuple(near)), shape=(len(atoms),) * 2)
    number, place = connected_components(graph, directed=False)
    members = np.bincount(place, minlength=number)
    for k in np.flatnonzero(members > 1).tolist():
        _require_one(_sites(sites, owner[place == k]))
    _require_full(_sites(sites, owner[members[place] == 1]))
    return atoms[np.sort(np.unique(place, return_index=True)[1])]


def _sites(sites: Sequence[Site], numbers: np.ndarray) -> list[Site]:
    return [sites[i] for i in dict.fromkeys(numbers.tolist())]


def _require_one(sites: Sequence[Site]) -> None:
    """Sites in one place must be one atom."""
    if len({site.symbol for site in sites}) > 1:
        listed = " and ".join(f"{site.label} ({site.occupancy:g})" for site in sites)
        raise TlpotError(f"disordered: {listed} share one site; {KEEP_ONE}")
    if sum(site.occupancy for site in sites) < 1.0 - FULL:
        _require_full(sites)


def _require_full(sites: Sequence[Site]) -> None:
    partial = [site for site in sites if site.occupancy < 1.0 - FULL]
    if partial:
        more = f" and {len(partial) - 4} more" if len(partial) > 4 else ""
        listed = ", ".join(f"{site.label} {site.occupancy:g}" for site in partial[:4])
        raise TlpotError(f"disordered: {listed}{more} partly occupied; {KEEP_ONE}")


KEEP_ONE = "keep one orientation, delete the others and set its occupancy to 1"
