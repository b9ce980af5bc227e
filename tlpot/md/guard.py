"""Stop a run that leaves what the model knows, with its last good frame."""

from __future__ import annotations

from collections import deque

import numpy as np
from ase import Atoms, units

from tlpot.md.settings import Dynamics
from tlpot.model.domain import too_close
from tlpot.model.potential import Potential
from tlpot.structure.bonds import bond_changes
from tlpot.structure.frames import bare
from tlpot.structure.soundness import is_finite

KEPT = 5
"""Frames up to the last that are kept for labelling."""


class Guard:
    """Looks at a run from time to time.

    Parameters
    ----------
    start
        The first frame, whose bonds are to stay.
    energy
        eV, its potential energy.

    Attributes
    ----------
    good
        The last frame that passed, or None.
    recent
        The last frames seen, finite ones.
    """

    def __init__(
        self, start: Atoms, energy: float, potential: Potential, settings: Dynamics
    ) -> None:
        self.start, self.energy, self.settings = start, energy, settings
        kelvin = settings.temperature
        self.max_temperature = settings.max_temperature or 3 * kelvin + 300
        self.max_energy = settings.max_energy or 0.1 + 10 * units.kB * kelvin
        self.domain = potential.domain
        self.good: Atoms | None = None
        self.recent: deque[Atoms] = deque(maxlen=KEPT)

    def check(self, atoms: Atoms) -> str | None:
        """Why the run must stop here, or None.

        Parameters
        ----------
        atoms
            With a calculator that has just computed it.
        """
        now = bare(atoms)
        now.set_momenta(atoms.get_momenta())
        if not (is_finite(now) and np.isfinite(atoms.get_forces()).all()):
            return "positions or forces are not finite"
        self.recent.append(now)
        if (kelvin := atoms.get_temperature()) > self.max_temperature:
            return f"the temperature is {kelvin:.0f} K, more than {self.max_temperature:.0f}"
        change = (atoms.get_potential_energy() - self.energy) / len(atoms)
        if abs(change) > self.max_energy:
            return (
                f"the potential energy is {change:+.2f} eV per atom off that of the start, "
                f"more than {self.max_energy:.2f}"
            )
        if self.settings.bonds:
            broken, made = bond_changes(self.start, now)
            if broken or made:
                what = f"broke: {broken[0]}" if broken else f"formed: {made[0]}"
                return f"a bond {what}"
        if close := too_close(now, {}):
            return f"atoms collide: {close}"
        limits = self.settings.max_spread, self.settings.max_distance
        if doubt := next(self.domain.doubts(now, atoms.calc.results["energy_std"], *limits), None):
            return doubt
        self.good = now
        return None
