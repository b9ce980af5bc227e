"""Crystals of a landscape, and how far the members of an ensemble agree on their energies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator

from tlpot.errors import TlpotError
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.potential import Potential, chunks
from tlpot.structure.molecules import density
from tlpot.structure.symmetry import Setting, standard_setting

NORMAL_QUANTILE = 1.6449
"""Half-width of a 90 % interval, in standard deviations, where the model has no quantile."""
SYMPREC = 0.1
"""Å within which the symmetry of a crystal is found."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One crystal of a landscape.

    Attributes
    ----------
    name
        ``file#index`` of the structure that it came from.
    atoms
        The geometry that was ranked.
    z
        Formula units in the cell.
    energies
        ``(members,)`` kJ/mol of formula units, lattice energy by each member of the ensemble.
    reference
        kJ/mol of formula units, energy by the reference method, from any zero; None: unknown.
    notes
        What else is known, by column name.
    total
        eV per cell, without pV; NaN: unknown.
    """

    name: str
    atoms: Atoms
    z: int
    energies: np.ndarray
    reference: float | None = None
    notes: dict[str, float] = field(default_factory=dict)
    total: float = float("nan")

    @property
    def energy(self) -> float:
        """Lattice energy, kJ/mol of formula units: the ensemble's mean."""
        return float(self.energies.mean())

    @property
    def density(self) -> float:
        """g/cm³."""
        return density(self.atoms)

    @cached_property
    def setting(self) -> Setting | None:
        """The crystal in the standard setting of its space group; None where none is found."""
        try:
            return standard_setting(self.atoms, SYMPREC)
        except TlpotError:
            return None


class Energies:
    """Energies by every member of an ensemble, dispersion added.

    Parameters
    ----------
    model
        The potential.
    extra
        A calculator whose energies, forces and stress are added (`tlpot.csp.dispersion`).
    """

    def __init__(self, model: Potential, extra: Calculator | None = None) -> None:
        self.model, self.extra = model, extra

    def calculator(self) -> Calculator:
        """A new calculator of the mean."""
        if self.extra is None:
            return TLPotCalculator(self.model)
        return cast(Calculator, SumCalculator([TLPotCalculator(self.model), self.extra]))

    def members(
        self, structures: Sequence[Atoms], on_done: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """``(structures, members)`` total energies, eV; `on_done` is told how many are done."""
        totals: list[np.ndarray] = []
        for group in chunks(structures):
            predictions = self.model.predict(group)
            extra = [0.0] * len(group) if self.extra is None else map(self._extra, group)
            totals += [p.energy_members + e for p, e in zip(predictions, extra, strict=True)]
            on_done(len(totals))
        return np.array(totals)

    def forces(self, atoms: Atoms) -> np.ndarray:
        """``(n, 3)`` eV/Å, of the mean."""
        forces = self.model.predict([atoms])[0].forces
        return forces if self.extra is None else forces + self.extra.get_forces(atoms)

    def _extra(self, atoms: Atoms) -> float:
        assert self.extra is not None
        return float(self.extra.get_potential_energy(atoms))


def spread_of_differences(energies: np.ndarray, factor: float) -> np.ndarray:
    """``(n, n)`` calibrated standard deviation of all energy differences, kJ/mol.

    What all members get wrong alike cancels in a difference, so that it is smaller than the
    spread of the energies; NaN for a single member, which has no spread.

    Parameters
    ----------
    energies
        ``(n, members)``.
    factor
        Calibrated / raw spread.
    """
    members = energies.shape[1]
    if members < 2:
        return np.full((len(energies),) * 2, np.nan)
    centred = energies - energies.mean(axis=1, keepdims=True)
    products = centred @ centred.T / (members - 1)
    own = np.diag(products)
    squares = own[:, None] + own[None] - 2 * products
    return factor * np.sqrt(squares.clip(min=0.0))


def centred_spread(energies: np.ndarray, factor: float) -> np.ndarray:
    """``(n,)`` calibrated standard deviation of each energy above the landscape's mean, kJ/mol.

    As in `spread_of_differences`, what the members get wrong alike is not counted.
    """
    if energies.shape[1] < 2:
        return np.full(len(energies), np.nan)
    spread: np.ndarray = (energies - energies.mean(axis=0)).std(axis=1, ddof=1)
    return factor * spread
