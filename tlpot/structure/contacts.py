"""Which atoms are how close: contacts by pair of elements."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from tlpot.structure.neighbours import neighbour_pairs

CONTACT_REACH = 4.0
"""Å up to which contacts are looked for."""


def shortest_contacts(structures: Iterable[Atoms]) -> dict[str, float]:
    """Shortest distance (Å) of each pair of elements within `CONTACT_REACH`, ``{"C-H": 1.06}``."""
    shortest: dict[str, float] = {}
    for atoms in structures:
        own = contacts_of(atoms.numbers, *neighbour_pairs(atoms, CONTACT_REACH))
        for name, distance in own.items():
            shortest[name] = min(distance, shortest.get(name, np.inf))
    return dict(sorted(shortest.items()))


def contacts_of(numbers: np.ndarray, pairs: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """The same of one structure's neighbour pairs, as `neighbour_pairs` has them."""
    low, high = np.sort(numbers[pairs], axis=0)
    kinds, kind = np.unique(low * 128 + high, return_inverse=True)
    least = np.full(len(kinds), np.inf)
    np.minimum.at(least, kind, np.linalg.norm(vectors, axis=1))
    names = ("-".join(sorted(chemical_symbols[z] for z in divmod(k, 128))) for k in kinds.tolist())
    return {name: round(distance, 4) for name, distance in zip(names, least.tolist(), strict=True)}
