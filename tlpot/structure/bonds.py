"""Bonds: which atoms have one, and which are broken or made on the way."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from tlpot.structure.neighbours import neighbour_pairs

BONDED = 1.25
"""Times the sum of covalent radii (Cordero et al. 2008) below which two atoms are bonded. Crystals
of X23 and of three landscapes (CSP) have no distance between 1.18 and 1.35; two iodine atoms on one
carbon lie at 1.30."""

UNBONDED = 1.45
"""Times that sum above which a bond is broken: a stretched one is still there below."""


def bonds(atoms: Atoms, stretch: float = BONDED) -> tuple[np.ndarray, np.ndarray]:
    """Pairs ``(2, bonds)`` and the vectors r_j − r_i ``(bonds, 3)``, Å, images included.

    Parameters
    ----------
    stretch
        Times the sum of covalent radii below which there is a bond.
    """
    radii = covalent_radii[atoms.numbers]
    pairs, vectors = neighbour_pairs(atoms, 2 * stretch * radii.max(initial=1.0))
    close = np.linalg.norm(vectors, axis=1) < stretch * radii[pairs].sum(axis=0)
    return pairs[:, close], vectors[close]


def bond_changes(before: Atoms, after: Atoms) -> tuple[list[str], list[str]]:
    """Bonds broken and made on the way, as ``["C3-H17"]``; atoms must not have been wrapped.

    Between `BONDED` and `UNBONDED` a distance counts as what it was.
    """
    was, near = _bonded(before, BONDED), _bonded(before, UNBONDED)
    now, still = _bonded(after, BONDED), _bonded(after, UNBONDED)
    return _names(was - still, after), _names(now - near, after)


def changed_bonds(before: Atoms, after: Atoms) -> str | None:
    """`bond_changes` in words, or None."""
    changes = zip(("broken", "new"), bond_changes(before, after), strict=True)
    return ", ".join(f"{kind} bonds {_some(names)}" for kind, names in changes if names) or None


def _bonded(atoms: Atoms, stretch: float) -> set[tuple[int, ...]]:
    """``(i, j, shift …)`` of the bonds, whichever way a pair is listed."""
    (first, second), vectors = bonds(atoms, stretch)
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
