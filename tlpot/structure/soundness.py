"""Is a structure sound? The one answer, and the one number by which atoms overlap.

What a *model* does not know is another question: `tlpot.model.domain`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame
from tlpot.structure.neighbours import neighbour_pairs, uncountable

SHORTEST = 0.5
"""Å below which two atoms cannot be meant to be there both, and the default of every setting that
says so. The shortest bond, of H2, has 0.74, and 0.66 in hot DFT frames of water."""

COINCIDENT = 1e-3
"""Å below which two atoms are at one place, whatever distance is allowed."""

LEAST_VOLUME = 1.0
"""Å³ below which a cell has no room for an atom."""

REACH = 6.0
"""Å within which neighbours must be countable, so that models see an end of them."""

PAIR_REACH = 2.5
"""Å up to which pairs are looked for at least: a shorter reach takes longer in large cells."""


class Flaw(NamedTuple):
    """Why a structure is not sound: the kind of flaw, and what was seen as a sentence."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return self.detail


NO_ATOMS = Flaw("no atoms", "it holds no atoms")


def find_flaw(
    atoms: Atoms,
    elements: Collection[str] | None = None,
    periodic: Literal["any", "whole", "crystal"] = "any",
    shortest: float | None = SHORTEST,
) -> Flaw | None:
    """The first flaw of a structure, or None.

    Parameters
    ----------
    elements
        Symbols that the model knows; None: any element will do.
    periodic
        ``any`` is all right, slabs and wires too; ``whole``: in three directions or none;
        ``crystal``: in three.
    shortest
        Å, images included, below which atoms overlap; 0: only those at the same place do; None:
        they are not looked for.

    Returns
    -------
    In this order: ``no atoms``, ``non-finite`` (positions or cell), ``unknown element`` (of no
    element at all), ``unsupported element`` (none of `elements`), ``not periodic``, ``broken
    cell`` (periodic without a cell vector, or below `LEAST_VOLUME`), ``overlapping atoms``.
    """
    if not len(atoms):
        return NO_ATOMS
    if not is_finite(atoms):
        return Flaw("non-finite", "its positions or its cell are not finite")
    if not ((atoms.numbers > 0) & (atoms.numbers < len(chemical_symbols))).all():
        return Flaw("unknown element", "it holds an atom of no known element")
    if elements is not None and (strange := sorted(set(atoms.symbols) - set(elements))):
        symbols = ", ".join(elements)
        return Flaw(
            "unsupported element", f"the model does not know {', '.join(strange)}, only {symbols}"
        )
    if periodic != "any" and 0 < atoms.pbc.sum() < 3:
        return Flaw("not periodic", "it is periodic in one or two directions only")
    if periodic == "crystal" and not atoms.pbc.any():
        return Flaw("not periodic", "it is not periodic")
    if (atoms.pbc & ~atoms.cell.any(1)).any():
        return Flaw("broken cell", "its cell has no volume: no vector along a periodic direction")
    if abs(atoms.cell.complete().volume) < LEAST_VOLUME:
        return Flaw("broken cell", "its cell has no volume")
    if flaw := uncountable(atoms, REACH):
        return Flaw("broken cell", flaw)
    close = None if shortest is None else closest(atoms, max(shortest, COINCIDENT))
    return None if close is None else Flaw("overlapping atoms", close)


def closest(atoms: Atoms, shortest: float = SHORTEST) -> str | None:
    """The two closest atoms in words, if they are closer than `shortest` (Å), or None."""
    pairs, vectors = neighbour_pairs(atoms, max(shortest, PAIR_REACH))
    distances = np.linalg.norm(vectors, axis=1)
    if distances.min(initial=np.inf) >= shortest:
        return None
    i, j = (f"{k} ({atoms.symbols[k]})" for k in pairs[:, distances.argmin()])
    return f"atoms {i} and {j} overlap, {distances.min():.2f} Å apart"


def require_sound(frames: Sequence[Frame], shortest: float = 0.0) -> None:
    """Refuse structures that are not sound.

    Parameters
    ----------
    shortest
        As for `find_flaw`.

    Raises
    ------
    TlpotError
        Naming the first and its flaw.
    """
    flaws = [(frame.name, find_flaw(frame.atoms, shortest=shortest)) for frame in frames]
    bad = [(name, flaw) for name, flaw in flaws if flaw]
    if bad:
        name, (reason, detail) = bad[0]
        more = f" ({len(bad)} of {len(frames)} structures are not sound)" if len(bad) > 1 else ""
        raise TlpotError(f"{name}: {reason}: {detail}; mend it or leave it out{more}")


def is_finite(atoms: Atoms) -> bool:
    """Whether positions and cell are numbers."""
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all())
