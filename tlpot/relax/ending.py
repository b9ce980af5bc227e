"""When a relaxation is at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from tlpot.relax.settings import Relaxation
from tlpot.structure.frames import Frame

SWELLING = 2.5
"""Factor by which a volume may grow or shrink before it counts as exploded."""
PRESSING = 20.0
"""GPa under which a volume may shrink twice as far, a molecular crystal's by half or more."""
NOT_CONVERGED = "not converged"
"""What the reason of a relaxation begins with that was good so far."""


@dataclass(frozen=True)
class Minimum:
    """Where a minimiser ended.

    Attributes
    ----------
    atoms
        Last geometry, not wrapped, atoms in the order of the input.
    steps
        Evaluations.
    reason
        Why it is no minimum; None if it is.
    """

    atoms: Atoms
    steps: int
    reason: str | None


def deforms(atoms: Atoms, settings: Relaxation) -> bool:
    """Whether the cell changes: not that of a molecule, alone in a box or without one."""
    return settings.free != "positions" and Frame(atoms).kind == "crystal"


def ending(
    force: float, stress: float, growth: float, steps: int, settings: Relaxation
) -> str | None:
    """How a relaxation ends here: empty at a minimum, else the reason; None: it goes on.

    Parameters
    ----------
    force, stress
        Largest force, eV/Å, and deviation of the stress from the pressure, GPa.
    growth
        Volume over that of the input.
    steps
        Evaluations so far.
    """
    if not np.isfinite(force + stress):
        return "exploded: its forces are not finite"
    if force < settings.fmax and stress < settings.smax:
        return ""
    shrinking = SWELLING * (1 + max(settings.pressure, 0.0) / PRESSING)
    if not 1 / shrinking < growth < SWELLING:
        return f"exploded: its volume changed {growth:.2g}-fold"
    if steps >= settings.steps:
        return f"{NOT_CONVERGED} in {steps} steps: {still(force, stress)}"
    return None


def still(force: float, stress: float) -> str:
    """What is left to relax, in words."""
    return f"force {force:.3g} eV/Å, stress {stress:.3g} GPa off"
