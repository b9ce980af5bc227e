"""Symmetry operators: out of their text, or of the symbols that files give instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from ase.spacegroup import Spacegroup

from tlpot.errors import TlpotError
from tlpot.optional import require

MISFIT = 0.03
"""Relative to the longest axis: how far an operator may take a cell from itself."""
DENOMINATOR = 24
"""Translations are multiples of 1/24, however they are rounded in a file."""

SYMMETRY_SEARCH = "a crystal whose file lists no symmetry operators"

_TERM = re.compile(r"([+-]?)(?:(\d+/\d+|\d*\.?\d+)\*?)?([xyz])?")
_ORIGINS = {"s": "1", "z": "2"}


@dataclass(frozen=True, eq=False)
class Operators:
    """Of a space group, on fractional coordinates: ``rotations @ x + translations``.

    Attributes
    ----------
    rotations, translations
        ``(g, 3, 3)`` and ``(g, 3)``.
    """

    rotations: np.ndarray
    translations: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)

    @classmethod
    def of_text(cls, lines: list[str]) -> Operators:
        """Of ``x, y, z`` and the like; repeated ones once.

        Raises
        ------
        TlpotError
            Naming the one that is none.
        """
        rotations, translations = zip(*map(_operator, lines), strict=True)
        return cls.unique(np.array(rotations), np.array(translations))

    @classmethod
    def unique(cls, rotations: np.ndarray, translations: np.ndarray) -> Operators:
        """Each operator once; translations by whole cells do not count."""
        steps = np.round(translations * 1000).astype(int) % 1000
        rows = np.column_stack([np.round(rotations.reshape(-1, 9)).astype(int), steps])
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        return cls(rotations[first], translations[first])

    def fit(self, cell: np.ndarray) -> bool:
        """Whether they leave the lengths and angles of a cell (rows) as they are."""
        metric = cell @ cell.T
        turned = np.einsum("gji,jk,gkl->gil", self.rotations, metric, self.rotations)
        return bool(np.abs(turned - metric).max() < MISFIT * np.diag(metric).max())


IDENTITY = Operators(np.eye(3)[None], np.zeros((1, 3)))


def settings_of(
    hall: str | None, symbol: str | None, number: int | None, cell: np.ndarray
) -> list[Operators]:
    """The tabulated settings that a Hall or Hermann-Mauguin symbol or a number may mean.

    Those that do not fit the cell are left out; of a short monoclinic symbol (P 21/n) the one
    with unique axis b is meant, unless only another fits. An empty list: the symbol is in no table.

    Raises
    ------
    TlpotError
        If spglib, which has the tables, is not installed.
    """
    if number == 1 or (symbol and _plain(symbol) == "p1"):
        return [IDENTITY]
    rows = _table()
    chosen: list[tuple[int, Any]] = []
    if hall:
        wanted = " ".join(hall.lower().split())
        chosen = [row for row in rows if row[1].hall_symbol.lower() == wanted]
    if symbol and not chosen:
        chosen = _named(rows, symbol, number)
    elif number and not chosen:
        chosen = [row for row in rows if row[1].number == number]
    fitting = []
    for i, row in {row.hall_symbol: (i, row) for i, row in chosen}.values():
        database = require("spglib", "use", SYMMETRY_SEARCH).get_symmetry_from_database(i)
        operators = Operators(database["rotations"].astype(float), database["translations"])
        if operators.fit(cell):
            fitting.append((row, operators))
    usual = [pair for pair in fitting if pair[0].choice.startswith("b")]
    if symbol and usual and 3 <= usual[0][0].number <= 15:
        fitting = usual
    return [operators for _, operators in fitting]


@lru_cache
def _table() -> list[tuple[int, Any]]:
    """Every tabulated setting, by spglib's number."""
    library = require("spglib", "use", SYMMETRY_SEARCH)
    return [(i, library.get_spacegroup_type(i)) for i in range(1, 531)]


@lru_cache
def point_order(number: int) -> int:
    """Operators of the point group of a space group.

    Raises
    ------
    TlpotError
        If there is no space group of that number.
    """
    if not 1 <= number <= 230:
        raise TlpotError(f"there is no space group {number}")
    return len({rotation.tobytes() for rotation, _ in Spacegroup(number).get_symop()})


def _operator(text: str) -> tuple[np.ndarray, np.ndarray]:
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    parts = re.sub(r"\s", "", text.lower()).split(",")
    for row, part in enumerate(parts[:3]):
        terms = [match for match in _TERM.finditer(part) if match[0]]
        whole = "".join(m[0] for m in terms) == part and not re.search(r"/0+(?!\d)", part)
        if len(parts) < 3 or not whole or not terms:
            raise TlpotError(f"'{text}' is no symmetry operator like -x,y+1/2,-z")
        for sign, size, axis in (match.groups() for match in terms):
            value = float(Fraction(size or "1")) * (-1 if sign == "-" else 1)
            if axis:
                rotation[row, "xyz".index(axis)] += value
            else:
                translation[row] += value
    exact = np.round(translation * DENOMINATOR) / DENOMINATOR
    near = np.abs(translation - exact) < 0.005
    translation = np.where(near, exact, translation) % 1.0
    if abs(abs(np.linalg.det(rotation)) - 1.0) > 1e-6:
        raise TlpotError(f"'{text}' is no symmetry operator: it changes volumes")
    return rotation, translation


def _plain(symbol: str) -> str:
    return re.sub(r"[\s_()]", "", symbol.lower())


def _named(rows: list[tuple[int, Any]], symbol: str, number: int | None) -> list[tuple[int, Any]]:
    """Rows of the table that a Hermann-Mauguin symbol in any spelling may mean."""
    match = re.fullmatch(r"(.*?)(?:\s*:\s*([12hr])|\s+([hrsz]))?", symbol.strip().lower())
    assert match is not None
    wanted, choice = _plain(match[1]), match[2] or match[3] or ""
    choice = _ORIGINS.get(choice, choice)
    exact, older = [], []
    for i, row in rows:
        names = {row.international_short, row.international_full, *row.international.split("=")}
        if 3 <= row.number <= 15:
            full = row.international_full.split()
            names = {row.international_full, "".join(part for part in full if part != "1")}
        plain = {_plain(name) for name in names}
        if not row.choice.lower().startswith(choice):
            continue
        if wanted in plain:
            exact.append((i, row))
        elif any(_older(name, wanted) for name in plain):
            older.append((i, row))
    operators = exact or older
    return [row for row in operators if row[1].number == number] or operators


def _older(name: str, wanted: str) -> bool:
    """Whether `wanted` is the symbol before e glides, or m3 for m-3."""
    if "e" in name:
        return re.fullmatch(re.escape(name).replace("e", "[abc]"), wanted) is not None
    return name.replace("-3", "3") == wanted and len(name) > 2 and name[2] != "3"
