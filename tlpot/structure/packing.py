"""Molecules put together: pairs in contact, random packings, cells deformed around rigid molecules.

How close two molecules are is told by their closest atoms: the distance over that in contact, the
sum of their van der Waals radii (or more, so that no bond is made at `CLOSEST`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.vdw import vdw_radii
from scipy.spatial.transform import Rotation

from tlpot.errors import TlpotError
from tlpot.structure.bonds import BONDED
from tlpot.structure.molecules import find_molecules
from tlpot.structure.neighbours import neighbour_pairs

CLOSEST = 0.65
"""Closeness down to which molecules are packed: a short hydrogen bond; no bond is made."""

UNKNOWN_RADIUS = 2.0
"""Å, van der Waals radius of an element that has none in the table."""

MOVES = 200
"""Moves of a molecule that a packing may take before its cell grows."""
GROWTH = 1.02
"""By which the edges of a cell grow where molecules find no room in it."""


def contacts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances in contact, Å, of atoms by their numbers."""
    wide = np.nan_to_num(vdw_radii, nan=UNKNOWN_RADIUS)
    bonded = BONDED * (covalent_radii[first] + covalent_radii[second])
    return np.maximum(wide[first] + wide[second], bonded / CLOSEST)


def turned(molecule: Atoms, random: np.random.Generator) -> Atoms:
    """A molecule about the origin, in a random orientation."""
    centred = molecule.positions - molecule.positions.mean(axis=0)
    turn = Rotation.random(None, random)  # by its place: the name changed in scipy 1.15
    return Atoms(molecule.numbers, turn.apply(centred))


def facing(first: Atoms, second: Atoms, line: np.ndarray, closeness: float) -> Atoms:
    """Two molecules about the origin, the second moved out along a line to where they are so close.

    Parameters
    ----------
    line
        ``(3,)`` of unit length.
    closeness
        Of their closest atoms.

    Returns
    -------
    Atoms of the first, then those of the second.
    """
    apart = second.positions - first.positions[:, None]
    reach = closeness * contacts(first.numbers[:, None], second.numbers)
    along = apart @ line
    # |apart + d·line| = reach; pairs that never come so close on this line do not count
    square = along**2 - (apart**2).sum(axis=-1) + reach**2
    meeting = np.where(square >= 0, np.sqrt(square.clip(min=0)) - along, -np.inf)
    distance = max(float(meeting.max()), 0.0)
    return first + Atoms(second.numbers, second.positions + distance * line)


def closeness(atoms: Atoms, member: np.ndarray) -> float:
    """That of the closest two molecules, images included; infinite where none are in contact.

    Parameters
    ----------
    member
        ``(n,)`` which molecule each atom is of; molecules are whole.
    """
    (i, j), vectors = neighbour_pairs(atoms, contacts(atoms.numbers, atoms.numbers).max())
    inside = atoms.positions[j] - atoms.positions[i]
    between = (member[i] != member[j]) | (np.abs(vectors - inside).max(axis=1, initial=0.0) > 1e-6)
    distances = np.linalg.norm(vectors[between], axis=1)
    touching = contacts(atoms.numbers[i], atoms.numbers[j])[between]
    return float((distances / touching).min(initial=np.inf))


def packing(molecules: Sequence[Atoms], volume: float, random: np.random.Generator) -> Atoms:
    """Molecules at random places of a random cell, none closer than `CLOSEST` to another.

    Parameters
    ----------
    volume
        Å³ of the cell to begin with; where there is no room in it, it grows.
    """
    shape = np.eye(3) + 0.2 * random.normal(size=(3, 3))
    while np.linalg.cond(shape) > 3.0:
        shape = np.eye(3) + 0.2 * random.normal(size=(3, 3))
    cell = shape * (volume / abs(np.linalg.det(shape))) ** (1 / 3)
    parts = [turned(molecule, random) for molecule in molecules]
    places = random.uniform(size=(len(parts), 3))
    member = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    numbers = np.concatenate([part.numbers for part in parts])

    def placed() -> Atoms:
        positions = [part.positions + at @ cell for part, at in zip(parts, places, strict=True)]
        return Atoms(numbers, np.concatenate(positions), cell=cell, pbc=True)

    best = closeness(placed(), member)
    while best < CLOSEST:
        for _ in range(MOVES):
            n = int(random.integers(len(parts)))
            before = parts[n], places[n].copy()
            parts[n] = turned(parts[n], random) if random.uniform() < 0.5 else parts[n]
            places[n] += 0.15 * random.normal(size=3)
            now = closeness(placed(), member)
            if now >= best:
                best = now
            else:
                parts[n], places[n] = before
            if best >= CLOSEST:
                break
        else:
            cell = cell * GROWTH
            best = closeness(placed(), member)
    return placed()


def whole_molecules(atoms: Atoms) -> list[Atoms]:
    """As `find_molecules`; none where bonds run on for ever."""
    try:
        return find_molecules(atoms)
    except TlpotError:
        return []


def deformed(atoms: Atoms, deformation: np.ndarray) -> Atoms:
    """A crystal whose cell is deformed: molecules go along and stay as they are.

    Where there are no molecules, all atoms follow the cell.

    Parameters
    ----------
    deformation
        ``(3, 3)``, by which rows of the cell are multiplied.

    Returns
    -------
    Atoms molecule by molecule, each whole.
    """
    cell = atoms.cell.array @ deformation
    parts = whole_molecules(atoms)
    if not parts:
        return Atoms(atoms.numbers, atoms.positions @ deformation, cell=cell, pbc=atoms.pbc)
    moved = Atoms(cell=cell, pbc=atoms.pbc)
    for part in parts:
        centre = part.positions.mean(axis=0)
        moved += Atoms(part.numbers, part.positions + centre @ deformation - centre)
    return moved


def squeeze(volume: tuple[float, float], shear: float, random: np.random.Generator) -> np.ndarray:
    """``(3, 3)`` deformation to a random share of the volume, within bounds, and random strain."""
    change = np.triu(random.normal(0.0, shear, (3, 3)))
    strain = np.eye(3) + change + np.triu(change, 1).T
    wanted = random.uniform(*volume) / np.linalg.det(strain)
    return strain * np.cbrt(wanted)
