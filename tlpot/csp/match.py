"""Which crystals are the same, and which is the experimental one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from tlpot.csp.landscape import Candidate
from tlpot.data.crystals.read import pymatgen_structure
from tlpot.optional import require

COMPARING = "comparing crystals"

LENGTH_TOLERANCE, SITE_TOLERANCE, ANGLE_TOLERANCE = 0.2, 0.3, 5.0
"""Tolerances of pymatgen's StructureMatcher: of cell lengths (relative), of sites (in units of
(V/N)^⅓), of angles (degrees). Cells are primitive and scaled to the same volume."""
SAME_CRYSTAL_ENERGY = 1.0
"""kJ/mol of formula units by which copies of one crystal may differ."""
SAME_CRYSTAL_DENSITY = 0.03
"""Relative; the same."""
EXPERIMENT_DENSITY = 0.2
"""Relative: by how much a match of an experimental structure may be denser or less dense."""


@dataclass(frozen=True)
class Match:
    """A candidate that is the experimental structure, and how near it is.

    Attributes
    ----------
    rmsd
        Å, of the atoms other than hydrogen after the best superposition of the (equally large)
        primitive cells.
    """

    candidate: Candidate
    rmsd: float


class Matcher:
    """Compares crystals with pymatgen's StructureMatcher (Ong et al. 2013); keeps what it converts.

    Mirror images count as the same.

    Parameters
    ----------
    hydrogen
        Whether hydrogen counts; in experimental structures it rarely stands where it is.
    """

    def __init__(self, hydrogen: bool = True) -> None:
        library = require("pymatgen.analysis.structure_matcher", "use", COMPARING)
        self._matcher = library.StructureMatcher(
            ltol=LENGTH_TOLERANCE,
            stol=SITE_TOLERANCE,
            angle_tol=ANGLE_TOLERANCE,
            primitive_cell=False,
        )
        self.hydrogen = hydrogen
        self._kept: dict[int, tuple[Atoms, Any]] = {}

    def same(self, first: Atoms, second: Atoms) -> bool:
        """Whether two structures are one crystal."""
        a, b = self._primitive(first), self._primitive(second)
        if a.composition != b.composition:
            return False
        return bool(self._matcher.fit(a, b, skip_structure_reduction=True))

    def rmsd(self, first: Atoms, second: Atoms) -> float | None:
        """Å; None if they are not the same within the tolerances."""
        a, b = self._primitive(first), self._primitive(second)
        if a.composition != b.composition:
            return None
        distances = self._matcher.get_rms_dist(a, b)
        if distances is None:
            return None
        length = (np.sqrt(a.volume * b.volume) / len(a)) ** (1 / 3)
        return float(distances[0] * length)

    def _primitive(self, atoms: Atoms) -> Any:
        if id(atoms) not in self._kept:
            heavy = atoms[atoms.numbers > 1]
            used = atoms if self.hydrogen or not len(heavy) else heavy
            structure = pymatgen_structure(used, COMPARING)
            reduced = structure.get_primitive_structure().get_reduced_structure("niggli")
            self._kept[id(atoms)] = (atoms, reduced)
        return self._kept[id(atoms)][1]


def find_duplicates(candidates: Sequence[Candidate]) -> dict[int, int]:
    """Which candidates repeat another, ``{copy: the one that stays}`` by their numbers.

    Of the copies of one crystal the one of lowest energy stays, by equal energy the first by
    name, so that the order of the candidates does not matter. Only structures within
    `SAME_CRYSTAL_ENERGY` and `SAME_CRYSTAL_DENSITY` of each other are compared.
    """
    matcher = Matcher()
    order = sorted(range(len(candidates)), key=lambda i: (candidates[i].energy, candidates[i].name))
    kept: list[int] = []
    copies: dict[int, int] = {}
    for i in order:
        candidate = candidates[i]
        for k in reversed(kept):
            other = candidates[k]
            if candidate.energy - other.energy > SAME_CRYSTAL_ENERGY:
                break
            if abs(candidate.density / other.density - 1) > SAME_CRYSTAL_DENSITY:
                continue
            if matcher.same(other.atoms, candidate.atoms):
                copies[i] = k
                break
        if i not in copies:
            kept.append(i)
    return copies


def find_experimental(candidates: Sequence[Candidate], experimental: Atoms) -> Match | None:
    """The candidate nearest to an experimental structure among those that match it, or None.

    Hydrogen is left out, and so are densities further off than `EXPERIMENT_DENSITY`.
    """
    matcher = Matcher(hydrogen=False)
    target = Candidate("", experimental, 1, np.zeros(1)).density
    best: Match | None = None
    for candidate in candidates:
        if abs(candidate.density / target - 1) > EXPERIMENT_DENSITY:
            continue
        rmsd = matcher.rmsd(experimental, candidate.atoms)
        if rmsd is not None and (best is None or rmsd < best.rmsd):
            best = Match(candidate, rmsd)
    return best
