"""Which atoms are how close: contacts by pair of elements, and bonds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from tlpot.structure.frames import neighbour_pairs

REACH = 4.0
"""Å up to which contacts are looked for."""

BONDED, UNBONDED = 1.3, 1.45
"""Times the sum of covalent radii (Cordero et al. 2008): surely a bond below, surely none above."""


def shortest_contacts(structures: Iterable[Atoms]) -> dict[str, float]:
    """The shortest distance (Å) of every pair of elements within `REACH`, ``{"C-H": 1.06}``."""
    shortest: dict[str, float] = {}
    for atoms in structures:
        pairs, vectors = neighbour_pairs(atoms, REACH)
        low, high = np.sort(atoms.numbers[pairs], axis=0)
        distances = np.linalg.norm(vectors, axis=1)
        kinds, kind = np.unique(low * 128 + high, return_inverse=True)
        least = np.full(len(kinds), np.inf)
        np.minimum.at(least, kind, distances)
        for code, distance in zip(kinds.tolist(), least.tolist(), strict=True):
            name = "-".join(sorted(chemical_symbols[z] for z in divmod(code, 128)))
            shortest[name] = min(round(distance, 4), shortest.get(name, np.inf))
    return dict(sorted(shortest.items()))


def bond_changes(before: Atoms, after: Atoms) -> tuple[list[str], list[str]]:
    """Bonds broken and made on the way, as ``["C3-H17"]``; atoms must not have been wrapped.

    Between `BONDED` and `UNBONDED` a distance counts as what it was.
    """
    was, near = _bonds(before, BONDED), _bonds(before, UNBONDED)
    now, still = _bonds(after, BONDED), _bonds(after, UNBONDED)
    return _names(was - still, after), _names(now - near, after)


def changed_bonds(before: Atoms, after: Atoms) -> str | None:
    """`bond_changes` in words, or None."""
    changes = zip(("broken", "new"), bond_changes(before, after), strict=True)
    return ", ".join(f"{kind} bonds {_some(names)}" for kind, names in changes if names) or None


def _bonds(atoms: Atoms, factor: float) -> set[tuple[int, ...]]:
    """``(i, j, shift …)`` of pairs closer than so many times their covalent radii."""
    radii = covalent_radii[atoms.numbers]
    pairs, vectors = neighbour_pairs(atoms, 2 * factor * radii.max())
    close = np.linalg.norm(vectors, axis=1) < factor * radii[pairs].sum(axis=0)
    (first, second), vectors = pairs[:, close], vectors[close]
    apart = vectors - (atoms.positions[second] - atoms.positions[first])
    shifts = np.zeros((len(first), 3), int)
    if atoms.pbc.any():
        shifts = np.rint(atoms.cell.scaled_positions(apart)).astype(int)
    forth = np.column_stack([first, second, shifts]).tolist()
    back = np.column_stack([second, first, -shifts]).tolist()
    return {tuple(min(ends)) for ends in zip(forth, back, strict=True)}


def _names(bonds: set[tuple[int, ...]], atoms: Atoms) -> list[str]:
    return [f"{atoms.symbols[i]}{i}-{atoms.symbols[j]}{j}" for i, j, *_ in sorted(bonds)]


def _some(names: list[str]) -> str:
    return " ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
