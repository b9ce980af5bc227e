"""What a file says its cell holds, and whether the atoms that were made of it agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd

from ase import Atoms
from ase.data import atomic_numbers

from tlpot.structure.molecules import density

ELEMENTS = set(atomic_numbers) - {"X"}
ISOTOPES = {"D": "H", "T": "H"}
DENSITY = 0.05
"""Relative: how far the density may be from the file's, where there is no formula."""
COUNT = 0.01
"""How far a number of atoms may be from the file's."""


@dataclass(frozen=True)
class Contents:
    """Of a cell, as its file has it.

    Attributes
    ----------
    formula
        Atoms of a formula unit by element; empty: unknown.
    z
        Formula units in the cell.
    density
        g/cm³.
    """

    formula: Mapping[str, float]
    z: float | None = None
    density: float | None = None

    @property
    def certain(self) -> bool:
        """Whether they say how many atoms the cell holds."""
        return bool(self.formula and self.z)

    def contradiction(self, atoms: Atoms) -> str | None:
        """Where `atoms` are not what the formula, or without one the density, says, or None."""
        made = {k: float(n) for k, n in atoms.symbols.formula.count().items()}
        cells = self._cells(made)
        if any(_same(made, cell) for cell in cells):
            return None
        if cells:
            told = f"{_text(self.formula)} × Z {self.z:g}" if self.z else _text(self.formula)
            return f"its atoms make {_text(made)} in the cell, its formula is {told}" + (
                _hydrogen(made, cells[0])
            )
        if self.density and abs(density(atoms) / self.density - 1) > DENSITY:
            return f"its atoms make {density(atoms):.3f} g/cm³, it says {self.density:g}"
        return None

    def _cells(self, made: Mapping[str, float]) -> list[dict[str, float]]:
        """What the cell may hold.

        Z times the formula. Where Z is the greatest divisor of the formula's counts, these may be
        the whole cell's, as pymatgen writes them; where Z is unknown, it is the likeliest.
        """
        if not self.formula:
            return []
        z = self.z or max(round(max(made.get(k, 0.0) / n for k, n in self.formula.items() if n)), 1)
        cells = [{k: n * z for k, n in self.formula.items()}]
        whole = all(float(n).is_integer() for n in self.formula.values())
        if whole and self.z == reduce(gcd, map(int, self.formula.values())):
            cells.append(dict(self.formula))
        return cells


def formula_of(text: str | None) -> dict[str, float]:
    """Atoms by element of ``'C8 H9 N O2'``; empty if it is no such formula."""
    plain = re.sub(r"\s", "", text or "")
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", plain)
    counts: dict[str, float] = {}
    for symbol, count in parts:
        element = ISOTOPES.get(symbol, symbol)
        counts[element] = counts.get(element, 0.0) + float(count or 1)
    return counts if "".join(map("".join, parts)) == plain and set(counts) <= ELEMENTS else {}


def _same(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    return all(abs(first.get(k, 0.0) - second.get(k, 0.0)) < COUNT for k in {*first, *second})


def _text(counts: Mapping[str, float]) -> str:
    first = [k for k in ("C", "H") if k in counts and "C" in counts]
    order = [*first, *sorted(set(counts) - set(first))]
    return " ".join(k if counts[k] == 1 else f"{k}{counts[k]:g}" for k in order)


def _hydrogen(made: Mapping[str, float], wanted: Mapping[str, float]) -> str:
    """What to say where hydrogen alone is wrong."""
    lacking = wanted.get("H", 0.0) - made.get("H", 0.0)
    others = {k: n for k, n in made.items() if k != "H"}
    if lacking > 0 and _same(others, {k: n for k, n in wanted.items() if k != "H"}):
        return f": {lacking:g} hydrogen atoms are missing; add them"
    return ""
