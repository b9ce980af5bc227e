"""Lattice energies: crystals against their relaxed gas molecules, each member of an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from tlpot.relax.relax import Relaxed, relax
from tlpot.relax.settings import Relaxation
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.molecules import Unit, density, find_molecules, find_unit
from tlpot.structure.symmetry import Setting, standard_setting

NORMAL_QUANTILE = 1.6449
"""Half-width of a 90 % interval, in standard deviations, where the model has no quantile."""
SYMPREC = 0.1
"""Å within which the symmetry of a crystal is found."""
SHAKE = 0.02
"""Å: molecules are shaken before they relax; symmetry could hold them on a saddle."""
CONFORMERS = 3
"""Molecules of lowest energy that are relaxed to find the gas molecule."""
GAS = Relaxation(free="positions", engine="ase")
"""How they are relaxed."""


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
        found: list[np.ndarray] = []
        for group in chunks(structures):
            predictions = self.model.predict(group)
            extra = [0.0] * len(group) if self.extra is None else map(self._extra, group)
            found += [p.energy_members + e for p, e in zip(predictions, extra, strict=True)]
            on_done(len(found))
        return np.array(found)

    def forces(self, atoms: Atoms) -> np.ndarray:
        """``(n, 3)`` eV/Å, of the mean."""
        forces = self.model.predict([atoms])[0].forces
        return forces if self.extra is None else forces + self.extra.get_forces(atoms)

    def _extra(self, atoms: Atoms) -> float:
        assert self.extra is not None
        return float(self.extra.get_potential_energy(atoms))


def gas_energy(
    unit: Unit,
    molecules: Mapping[str, Sequence[Atoms]],
    energies: Energies,
    on_remark: Callable[[str], None] = lambda remark: None,
) -> tuple[np.ndarray, list[Atoms]]:
    """Energy of the molecules of a formula unit, each relaxed alone.

    Parameters
    ----------
    molecules
        Formula → geometries to start from; the `CONFORMERS` of lowest energy are relaxed, and
        the lowest minimum counts, before all of those that `tlpot.relax.relax` finds no fault with.
    on_remark
        Told of a molecule that has no minimum without fault, as a zwitterion whose proton goes
        back, and what that means.

    Returns
    -------
    ``(members,)`` eV of a formula unit, and one relaxed molecule for each part of it.

    Raises
    ------
    TlpotError
        If no molecule relaxes.
    """
    total, relaxed = np.zeros(1), []
    for formula, count in unit.parts:
        order = np.argsort(energies.members(molecules[formula]).mean(axis=1), kind="stable")
        starts = [molecules[formula][i].copy() for i in order[:CONFORMERS].tolist()]
        for start in starts:
            start.rattle(SHAKE, seed=0)
        ends = relax(starts, energies.model, GAS, extra=energies.extra)
        minima = [end for end in ends if end.reason is None]
        minima = minima or [end for end in ends if _is_minimum(end, energies)]
        if not minima:
            raise TlpotError(
                f"the gas molecule {formula} does not relax ({ends[0].reason}); name a better "
                "start with --molecule"
            )
        found = energies.members([end.atoms for end in minima])
        lowest = int(found.mean(axis=1).argmin())
        if minima[lowest].reason is not None:
            on_remark(_astray(formula, minima[lowest]))
        total = total + count * found[lowest]
        relaxed.append(minima[lowest].atoms)
    return total, relaxed


def _is_minimum(end: Relaxed, energies: Energies) -> bool:
    """Whether nothing but the verdict on the minimum is against it."""
    if end.energy is None:
        return False
    return bool(np.linalg.norm(energies.forces(end.atoms), axis=1).max() < 1.1 * GAS.fmax)


def _astray(formula: str, end: Relaxed) -> str:
    """What is wrong with a gas molecule, and which energies it touches."""
    rest = "Energies above the lowest do not depend on it."
    if not changed_bonds(end.start, end.atoms):
        return f"The gas molecule {formula}: {end.reason}. Lattice energies share its error. {rest}"
    fragments = find_molecules(end.atoms)
    apart = f"; it falls apart into {find_unit(fragments)[0]}" if len(fragments) > 1 else ""
    return (
        f"The gas molecule {formula} does not stay what it is in the crystal: {end.reason}{apart}. "
        "Lattice energies are against what it became: of a zwitterion against the neutral "
        f"molecule, as measured ones are; where the model is wrong there, they are too. {rest}"
    )


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
