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
        pairs, vectors = neighbour_pairs(atoms, CONTACT_REACH)
        low, high = np.sort(atoms.numbers[pairs], axis=0)
        distances = np.linalg.norm(vectors, axis=1)
        kinds, kind = np.unique(low * 128 + high, return_inverse=True)
        least = np.full(len(kinds), np.inf)
        np.minimum.at(least, kind, distances)
        for code, distance in zip(kinds.tolist(), least.tolist(), strict=True):
            name = "-".join(sorted(chemical_symbols[z] for z in divmod(code, 128)))
            shortest[name] = min(round(distance, 4), shortest.get(name, np.inf))
    return dict(sorted(shortest.items()))
