"""The molecules of a crystal: found by their bonds, made whole, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import vdw_radii
from ase.symbols import Symbols
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from tlpot.errors import TlpotError
from tlpot.structure.bonds import bonds
from tlpot.structure.electrons import open_shell
from tlpot.structure.frames import Frame
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.structure.units import GRAM_PER_CM3

MISMATCH = 0.1
"""Å by which a bond may miss its atom before it must lead to another image of the molecule."""

NITROGEN = 7
SHELLS = 4
"""Bonds away from an atom that tell it from another of its element."""

NOBLE_GASES = ("He", "Ne", "Ar", "Kr", "Xe", "Rn")
GAP = 0.5
"""Å beyond van der Waals contact from which two atoms do not touch."""
VOLUMES = {
    **{"H": 5.08, "B": 13.24, "C": 13.87, "N": 11.8, "O": 11.39, "F": 11.17, "Si": 37.3},
    **{"P": 29.5, "S": 25.2, "Cl": 25.8, "Br": 32.7, "I": 46.2},
}
"""Å³ that an atom takes up in a crystal (Hofmann 2002, Acta Cryst. B58, 489)."""
LOOSE_VOLUME = 2.0
"""Times the volume of its atoms: what a crystal of molecules hardly has."""

RARE = 0.1
"""Share of the frames of a composition below which a formula unit is an accident."""


@dataclass(frozen=True)
class Unit:
    """The formula unit of a molecular crystal.

    Attributes
    ----------
    parts
        ``(("C6H6O", 1),)``: formulas of the molecules, Hill order, and how many of each.
    """

    parts: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return " + ".join(f"{n} {name}" if n > 1 else name for name, n in self.parts)

    @property
    def atoms_per_molecule(self) -> int | None:
        """Atoms in the molecule; None where there are several kinds."""
        return None if len(self.parts) > 1 else len(Symbols.fromsymbols(self.parts[0][0]))

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> tuple[Unit, int]:
        """The smallest unit of so many molecules of each formula, and Z, the number of units."""
        z = math.gcd(*counts.values())
        return cls(tuple((name, n // z) for name, n in sorted(counts.items()))), z


def find_molecules(atoms: Atoms) -> list[Atoms]:
    """Each molecule whole and without periodicity, in the order of its first atom.

    Bonds are those of `tlpot.structure.bonds`.

    Raises
    ------
    TlpotError
        If bonds run on for ever: a network, not molecules.
    """
    (i, j), vectors = bonds(atoms)
    n = len(atoms)
    step = dict(zip(zip(i.tolist(), j.tolist(), strict=True), vectors, strict=True))
    step |= {(b, a): -vector for (a, b), vector in step.items()}
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    count, member = connected_components(graph, directed=False)
    whole = atoms.positions.copy()
    for label in range(count):
        first = int(np.flatnonzero(member == label)[0])
        order, parents = breadth_first_order(graph, first, directed=False)
        for atom in order[1:].tolist():
            parent = int(parents[atom])
            whole[atom] = whole[parent] + step[parent, atom]
    if len(i) and np.abs(whole[j] - whole[i] - vectors).max() > MISMATCH:
        raise TlpotError("its bonds run on for ever: a network or polymer, not molecules")
    return [Atoms(atoms.numbers[member == m], whole[member == m]) for m in range(count)]


def constitution(molecule: Atoms) -> tuple[int, ...]:
    """The same for molecules that are bonded alike, whatever their shape and order of atoms.

    Elements, refined by those of their neighbours `SHELLS` times (Weisfeiler and Leman 1968).
    """
    (i, j), _ = bonds(molecule)
    labels: list[int] = molecule.numbers.tolist()
    for _ in range(SHELLS):
        around: list[list[int]] = [[] for _ in labels]
        for a, b in zip(i.tolist(), j.tolist(), strict=True):
            around[a].append(labels[b])
            around[b].append(labels[a])
        labels = [hash((own, *sorted(near))) for own, near in zip(labels, around, strict=True)]
    return tuple(sorted(labels))


def holds_cation(molecule: Atoms) -> bool:
    """Whether a nitrogen has four bonds to H and C: ammonium, as in zwitterions."""
    (i, j), _ = bonds(molecule)
    partners = [
        molecule.numbers[np.concatenate([j[i == atom], i[j == atom]])]
        for atom in np.flatnonzero(molecule.numbers == NITROGEN)
    ]
    return any(len(others) == 4 and set(others.tolist()) <= {1, 6} for others in partners)


def find_unit(molecules: Sequence[Atoms]) -> tuple[Unit, int]:
    """The formula unit that `molecules` make up, and how many of it (Z)."""
    return Unit.of(Counter(molecule.get_chemical_formula(mode="hill") for molecule in molecules))


def wrong_unit(molecules: Sequence[Atoms], unit: Unit) -> str | None:
    """Why these molecules are not a whole number of `unit`; None if they are."""
    actual, z = find_unit(molecules)
    if actual == unit:
        return None
    atoms = sum(map(len, molecules))
    counts = ", ".join(f"{z * n} {name}" for name, n in actual.parts)
    return (
        f"its {atoms} atoms are not Z × {unit}: bonds make {counts}. Look for missing or doubled "
        "atoms (symmetry of the CIF), or name the right molecule with --molecule"
    )


def ions_or_radicals(molecules: Sequence[Atoms]) -> str | None:
    """Which of them no model of neutral closed-shell molecules knows alone; None: all are known."""
    seen = {}
    for molecule in molecules:
        why = open_shell(Frame(molecule))
        if why and not (len(molecule) == 1 and molecule.symbols[0] in NOBLE_GASES):
            seen[molecule.get_chemical_formula(mode="hill")] = why
    if not seen:
        return None
    listed = ", ".join(f"{formula} ({why})" for formula, why in seen.items())
    return (
        f"its molecules are ions or radicals, or lack atoms: {listed}. Lattice energies are "
        "against neutral closed-shell gas molecules"
    )


def gaseous(atoms: Atoms, molecules: Sequence[Atoms]) -> str | None:
    """What to say of a crystal none of whose molecules touches another; None: some do."""
    if _contacts(atoms) > sum(map(_contacts, molecules)):
        return None
    return (
        f"its molecules do not touch: a gas, {density(atoms):.3f} g/cm³. Are atoms missing that "
        "symmetry would make?"
    )


def looseness(atoms: Atoms) -> float:
    """Volume over that of molecules as they pack; NaN where an element's volume is not known."""
    return float(atoms.get_volume() / sum(VOLUMES.get(s, np.nan) for s in atoms.symbols))


def _contacts(atoms: Atoms) -> int:
    """Pairs of atoms no further apart than `GAP` beyond their van der Waals radii."""
    radii = np.nan_to_num(vdw_radii[atoms.numbers], nan=2.0)
    (i, j), vectors = neighbour_pairs(atoms, 2 * radii.max() + GAP)
    return int((np.linalg.norm(vectors, axis=1) < radii[i] + radii[j] + GAP).sum())


def composition(atoms: Atoms) -> str:
    """Smallest whole-number formula in Hill order: the same for a cell and its supercells."""
    return atoms.symbols.formula.reduce()[0].format("hill")


def units_of(frames: Sequence[Frame]) -> list[Unit | None]:
    """The formula unit that the molecules of each frame make up: benzene is ``C6H6``.

    None where bonds run on for ever. Units of several kinds where other frames of the composition
    have one (a proton on its way), and larger ones that fewer than `RARE` of them have (two
    molecules that touch), give way to the commonest.
    """
    own = [_unit(frame.atoms) for frame in frames]
    alike = [composition(frame.atoms) for frame in frames]
    usual: dict[str, list[Unit | None]] = {}
    for name in set(alike):
        counts = Counter(u for u, other in zip(own, alike, strict=True) if other == name)
        plain = {u: u.atoms_per_molecule for u in counts if u and u.atoms_per_molecule}
        if not plain:
            usual[name] = list(counts)
            continue
        common, rare = max(plain, key=lambda u: counts[u]), RARE * counts.total()
        kept = [u for u in plain if counts[u] >= rare or plain[u] < plain[common]]
        usual[name] = [common, *kept]
    return [u if u in usual[name] else usual[name][0] for u, name in zip(own, alike, strict=True)]


def _unit(atoms: Atoms) -> Unit | None:
    try:
        return find_unit(find_molecules(atoms))[0]
    except TlpotError:
        return None


def density(atoms: Atoms) -> float:
    """Of a crystal, g/cm³."""
    return float(atoms.get_masses().sum() / atoms.get_volume() / GRAM_PER_CM3)
