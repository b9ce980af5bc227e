"""Force constants that VASP writes at the end of a phonon run (IBRION = 5 to 8)."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlpot.data.compression import open_binary
from tlpot.data.vasp.output import is_outcar, is_vasprun, numbers
from tlpot.errors import TlpotError
from tlpot.structure.units import SPRING_QUANTUM, THZ

TITLE = "SECOND DERIVATIVES (NOT SYMMETRIZED)"
LABEL = re.compile(r"(\d+)([XYZ])(?![A-Za-z])")
"""A degree of freedom as OUTCAR has it: ``12Z``."""
ELEMENT = re.compile(r"<(dynmat|atominfo)\b|<structure name=\"initialpos\"")
"""What of a vasprun.xml tells of force constants, masses and held atoms."""


@dataclass(frozen=True, eq=False)
class Hessian:
    """Second derivatives of the energy.

    Attributes
    ----------
    freedoms
        Degrees of freedom that were displaced, 3 × atom + axis; all but with selective dynamics.
    matrix
        ``(freedoms, freedoms)`` eV/Å², symmetric: ∂²E/∂u∂u, positive on the diagonal.
    """

    freedoms: list[int]
    matrix: np.ndarray


def read_hessian(path: Path, n_atoms: int) -> Hessian | None:
    """Force constants of an OUTCAR or vasprun.xml of `n_atoms` atoms; None: it has none.

    OUTCAR lists ∂F/∂u = −∂²E/∂u∂u in eV/Å²; vasprun.xml the same over the root of both masses, in
    eV/Å²/u, and from VASP 6 on in THz², which it says. Of several runs in one file the last counts.

    Raises
    ------
    TlpotError
        If the table is cut or broken, or is of other atoms.
    """
    if not (is_outcar(path) or is_vasprun(path)):
        return None
    with open_binary(path) as file:
        lines = iter(io.TextIOWrapper(file, encoding="latin-1"))
        try:
            table = _outcar(lines) if is_outcar(path) else _vasprun(lines)
        except (ValueError, IndexError, ET.ParseError, AttributeError) as error:
            raise TlpotError(f"{path}: its force constants are cut or broken ({error})") from None
    if table is None:
        return None
    freedoms, matrix = table
    if matrix.shape != (len(freedoms),) * 2 or not np.isfinite(matrix).all():
        raise TlpotError(
            f"{path}: its force constants are cut or broken: {matrix.size} numbers for "
            f"{len(freedoms)} degrees of freedom"
        )
    if freedoms and max(freedoms) >= 3 * n_atoms:
        raise TlpotError(f"{path}: its force constants are not those of its {n_atoms} atoms")
    return Hessian(freedoms, (matrix + matrix.T) / 2)


def _outcar(lines: Iterator[str]) -> tuple[list[int], np.ndarray] | None:
    """A row a degree of freedom behind its label; wide rows may be broken."""
    table = None
    for line in lines:
        if TITLE not in line:
            continue
        next(lines, "")
        freedoms: list[int] = []
        values: list[float] = []
        for row in lines:
            labels = LABEL.findall(row)
            rest = LABEL.sub(" ", row)
            if not values and labels and not rest.strip():
                freedoms += [3 * (int(atom) - 1) + "XYZ".index(axis) for atom, axis in labels]
            elif rest.strip():
                values += numbers(rest).tolist()
            elif values:
                break
            if freedoms and len(values) >= len(freedoms) ** 2:
                break
        size = len(freedoms) if len(values) == len(freedoms) ** 2 else -1
        table = freedoms, -np.array(values).reshape(size, max(size, 1))
    return table


def _vasprun(lines: Iterator[str]) -> tuple[list[int], np.ndarray] | None:
    masses, free, table = np.empty(0), None, None
    for line in lines:
        if not (begin := ELEMENT.search(line)):
            continue
        name = begin[1] or "structure"
        end, parts = f"</{name}>", [line[begin.start() :]]
        while end not in parts[-1]:
            parts.append(next(lines, end))
        element = ET.fromstring("".join(parts).partition(end)[0] + end)
        if name == "atominfo":
            kinds = element.findall("array[@name='atomtypes']/set/rc")
            columns = [[(c.text or "") for c in kind.findall("c")] for kind in kinds]
            masses = np.repeat([float(c[2]) for c in columns], [int(c[0]) for c in columns])
        elif name == "structure":
            rows = element.findall("varray[@name='selective']/v")
            free = [word == "T" for row in rows for word in (row.text or "").split()] or None
        elif (rows := element.findall("varray[@name='hessian']/v")) and len(masses):
            matrix = -np.array([numbers(row.text or "") for row in rows])
            freedoms = np.flatnonzero(free or [True] * 3 * len(masses))
            unit = element.find("i[@name='unit']")
            if unit is not None and (unit.text or "").strip() == "THz^2":
                matrix /= (SPRING_QUANTUM / THZ) ** 2
            roots = np.sqrt(masses[freedoms // 3])
            if len(matrix) == len(freedoms):
                matrix = matrix * np.outer(roots, roots)
            table = freedoms.tolist(), matrix
    return table
