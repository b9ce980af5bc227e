"""The space group of a crystal, by spglib, and the crystal in its standard setting."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from ase import Atoms

from tlpot.errors import TlpotError
from tlpot.optional import require
from tlpot.structure.molecules import find_molecules

SYMMETRY_PURPOSE = "finding the symmetry of crystals"
SETTING_TOLERANCE = 1e-3
"""Å within which an operation takes atoms of an idealised crystal onto each other."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A crystal in the standard setting of its space group, moved onto that symmetry.

    Attributes
    ----------
    atoms
        The conventional cell, molecule by molecule, each whole.
    symbol, number
        International, as ``P2_1/c``, and of the International Tables.
    operations
        As ``-x,y+1/2,-z+1/2``; the first is the identity.
    sites
        Of `atoms`, the first of each set that the operations take onto each other, and the size of
        the set: the asymmetric unit.
    """

    atoms: Atoms
    symbol: str
    number: int
    operations: list[str]
    sites: dict[int, int]


def symmetry(atoms: Atoms, symprec: float) -> Any:
    """spglib's dataset: ``number``, ``international``, ``rotations``, ``wyckoffs`` and more.

    Raises
    ------
    TlpotError
        If there is none within `symprec` (Å), or no spglib.
    """
    spglib = require("spglib", "use", SYMMETRY_PURPOSE)
    given = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        dataset = spglib.get_symmetry_dataset(given, symprec=symprec)
    except Exception as error:  # newer spglib raises, older returns None
        raise TlpotError(f"has no symmetry within {symprec} Å ({error})") from None
    if dataset is None:
        raise TlpotError(f"has no symmetry within {symprec} Å")
    return dataset


def standard_setting(atoms: Atoms, symprec: float) -> Setting:
    """The crystal in the standard setting of its space group; errors as of `symmetry`."""
    dataset = symmetry(atoms, symprec)
    ideal = Atoms(
        dataset.std_types,
        scaled_positions=dataset.std_positions,
        cell=dataset.std_lattice,
        pbc=True,
    )
    molecules = find_molecules(ideal)
    whole = Atoms(
        np.concatenate([molecule.numbers for molecule in molecules]),
        np.concatenate([molecule.positions for molecule in molecules]),
        cell=ideal.cell,
        pbc=True,
    )
    group = require("spglib", "use", SYMMETRY_PURPOSE).get_symmetry_from_database(
        dataset.hall_number
    )
    rotations, shifts = group["rotations"], group["translations"]
    operations = [_text(*pair) for pair in zip(rotations, shifts, strict=True)]
    sites = _sites(whole, rotations, shifts)
    return Setting(whole, dataset.international, dataset.number, operations, sites)


def _sites(atoms: Atoms, rotations: np.ndarray, shifts: np.ndarray) -> dict[int, int]:
    places = atoms.get_scaled_positions(wrap=False)
    left, sites = set(range(len(atoms))), {}
    for atom in range(len(atoms)):
        if atom not in left:
            continue
        apart = (rotations @ places[atom] + shifts)[:, None] - places
        apart = (apart - np.rint(apart)) @ atoms.cell.array
        images = set(np.linalg.norm(apart, axis=2).argmin(axis=1).tolist())
        missed = np.linalg.norm(apart, axis=2).min(axis=1).max()
        if missed > SETTING_TOLERANCE or not images <= left:
            raise TlpotError(f"is {missed:.3f} Å off the symmetry that spglib finds")
        sites[atom] = len(images)
        left -= images
    return sites


def _text(rotation: np.ndarray, shift: np.ndarray) -> str:
    """``-x,y+1/2,-z+1/2``."""
    parts = []
    for row, along in zip(rotation.tolist(), shift.tolist(), strict=True):
        text = "".join(
            ("-" if n < 0 else "+") + axis for n, axis in zip(row, "xyz", strict=True) if n
        )
        move = Fraction(along).limit_denominator(24) % 1
        parts.append(text.removeprefix("+") + (f"+{move}" if move else ""))
    return ",".join(parts)
