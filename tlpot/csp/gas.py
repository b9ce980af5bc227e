"""The gas molecules that lattice energies are against: minima, and what speaks against them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from ase import Atoms

from tlpot.csp.landscape import Energies
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.relax.relax import Relaxed, relax
from tlpot.relax.settings import Relaxation
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.molecules import (
    Unit,
    constitution,
    find_molecules,
    find_unit,
    holds_cation,
)
from tlpot.structure.soundness import require_sound

SHAKE = 0.02
"""Å: molecules are shaken before they relax; symmetry could hold them on a saddle."""
CONFORMERS = 3
"""Molecules of lowest energy that are relaxed to find the gas molecule."""
GAS = Relaxation(free="positions", engine="ase")
"""How they are relaxed."""


def given_molecules(file: str) -> list[Atoms]:
    """The molecules of a file, none of which is periodic."""
    frames = read_frames(file)
    require_sound(frames)
    atoms = frames[0].atoms
    atoms.pbc = False
    return find_molecules(atoms)


def gas_starts(given: str | None, crystals: Iterable[Sequence[Atoms]]) -> Mapping[str, list[Atoms]]:
    """Gas molecules to start from, by formula: those given, or the first of each crystal."""
    starts: dict[str, list[Atoms]] = defaultdict(list)
    for molecules in crystals if given is None else [given_molecules(given)]:
        first = {m.get_chemical_formula(mode="hill"): m for m in reversed(molecules)}
        for formula, molecule in first.items():
            starts[formula].append(molecule)
    return starts


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
        energy_members = energies.members([end.atoms for end in minima])
        lowest = int(energy_members.mean(axis=1).argmin())
        if minima[lowest].reason is not None:
            on_remark(_astray(formula, minima[lowest]))
        total = total + count * energy_members[lowest]
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


def gas_remarks(gas: Sequence[Atoms], crystals: Mapping[str, Sequence[Atoms]]) -> Iterator[str]:
    """Where lattice energies are against another species than the crystals hold, or an ion."""
    rest = "Energies above the lowest do not depend on the gas molecule."
    for alone in gas:
        formula, bonded = alone.get_chemical_formula(mode="hill"), constitution(alone)
        unlike = [
            name
            for name, molecules in crystals.items()
            for molecule in molecules
            if molecule.get_chemical_formula(mode="hill") == formula
            if constitution(molecule) != bonded
        ]
        if names := list(dict.fromkeys(unlike)):
            yield (
                f"{len(names)} of {len(crystals)} crystals ({names[0]}) hold {formula} with other "
                "bonds than the gas molecule: a zwitterion, tautomer or isomer of it, and lattice "
                f"energies count the difference. {rest}"
            )
        elif holds_cation(alone):
            yield (
                f"The gas molecule {formula} has a nitrogen with four bonds: an ion, or a "
                "zwitterion that stays one with this model, where a real one would be neutral. "
                "Lattice energies are not those of sublimation; give the neutral molecule with "
                f"--molecule. {rest}"
            )
