"""Crystals out of SHELX files (.res, .ins): refinements, and what AIRSS makes of the format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot.data.compression import open_binary
from tlpot.data.crystals.asymmetric import Site, cell_of, images, whole_cell
from tlpot.data.crystals.cif import Unreadable, element_of
from tlpot.data.crystals.cif_text import decode
from tlpot.data.crystals.contents import Contents
from tlpot.data.crystals.spacegroups import Operators
from tlpot.errors import TlpotError

CENTRING = {
    1: [(0, 0, 0)],
    2: [(0, 0, 0), (1 / 2, 1 / 2, 1 / 2)],
    3: [(0, 0, 0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)],
    4: [(0, 0, 0), (0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0)],
    5: [(0, 0, 0), (0, 1 / 2, 1 / 2)],
    6: [(0, 0, 0), (1 / 2, 0, 1 / 2)],
    7: [(0, 0, 0), (1 / 2, 1 / 2, 0)],
}
"""Lattice points by the number of LATT: P, I, R (obverse), F, A, B, C."""

INSTRUCTIONS = re.findall(
    r"\S+",
    """ABIN ACTA AFIX ANIS ANSC ANSR BASF BIND BLOC BOND BUMP CELL CGLS CHIV CONF CONN DAMP DANG
    DEFS DELU DFIX DISP EADP END EQIV ESEL EXTI EXYZ FEND FLAT FMAP FRAG FREE FVAR GRID HFIX
    HKLF HOPE HTAB INIT ISOR LATT LAUE LIST L.S. MERG MOLE MORE MOVE MPLA NCSY NEUT OMIT PART
    PATT PHAS PLAN PRIG REM RESI RIGU RTAB SADI SAME SFAC SHEL SIMU SIZE SPEC STIR SUMP SWAT
    SYMM TEMP TEXP TITL TREF TWIN TWST UNIT WGHT WIGL WPDB XNPD ZERR""",
)
"""What a line may begin with that is no atom."""
VOLUME_TOLERANCE = 0.01
"""Relative: how far the volume may be from that of AIRSS's title."""


@dataclass
class _File:
    """What the instructions say."""

    title: list[str] = field(default_factory=list)
    cell: np.ndarray | None = None
    lattice: int = 1
    operators: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    unit: list[float] = field(default_factory=list)
    variables: list[float] = field(default_factory=list)
    atoms: list[list[str]] = field(default_factory=list)


def read_shelx(path: Path) -> list[Atoms | Unreadable]:
    """The crystals of a file, each from its TITL on, or why one is none.

    Symmetry is applied as LATT and SYMM say, elements are those of SFAC by number, 10 + x is a
    fixed x, free variables are put in, peaks (Q1 …) and what follows HKLF or END are no atoms.
    An energy in AIRSS's title is kept as the structure's.
    """
    with open_binary(path) as file:
        text = decode(file.read())
    return [_entry(block) for block in _blocks(text)]


def _blocks(text: str) -> list[str]:
    """Several files put together, one by one; what stands before the first title goes with it."""
    first, *others = re.split(r"^(?=TITL\b)", text, flags=re.I | re.M)
    if others and not re.search(r"^CELL\b", first, re.I | re.M):
        return [first + others[0], *others[1:]]
    return [first, *others]


def _entry(text: str) -> Atoms | Unreadable:
    try:
        return _crystal(_instructions(text))
    except TlpotError as error:
        return Unreadable("", str(error))


def _instructions(text: str) -> _File:
    parsed = _File()
    joined = re.sub(r"=[^\S\n]*(![^\n]*)?\n", " ", text)
    for line in joined.splitlines():
        words = line.partition("!")[0].split()
        name = words[0].upper()[:4] if words and not line.startswith("    ") else ""
        name = name.partition("_")[0] if name[:4] not in INSTRUCTIONS else name
        if name in ("HKLF", "END"):
            break
        if not name or name == "REM":
            continue
        if name == "TITL":
            parsed.title = words[1:]
        elif name == "CELL":
            parsed.cell = cell_of(_floats(words[2:8], 6, line))
        elif name == "LATT":
            parsed.lattice = int(_floats(words[1:2], 1, line)[0])
        elif name == "SYMM":
            parsed.operators.append(" ".join(words[1:]))
        elif name == "SFAC":
            long = len(words) > 2 and re.match(r"[-+.\d]", words[2])
            listed = words[1:2] if long else words[1:]
            parsed.elements += [element_of(word.lstrip("$")) for word in listed]
        elif name == "UNIT":
            parsed.unit = _floats(words[1:], 1, line)
        elif name == "FVAR":
            parsed.variables += _floats(words[1:], 1, line)
        elif name not in INSTRUCTIONS and not re.fullmatch(r"Q\d+", words[0], re.I):
            parsed.atoms.append(words)
    return parsed


def _crystal(file: _File) -> Atoms:
    if file.cell is None:
        raise TlpotError("it has no CELL: without a cell it is no crystal")
    if not file.elements:
        raise TlpotError("it has no SFAC, which names the elements")
    if not file.atoms:
        raise TlpotError("it holds no atoms")
    operators = _operators(file)
    if not operators.fit(file.cell):
        raise TlpotError("LATT and SYMM do not fit the lengths and angles of its CELL")
    sites = []
    for words in file.atoms:
        site = _site(words, file)
        share = len(operators) / len(images(site.position, operators, file.cell))
        if site.occupancy != 1.0:  # SHELX counts a site on a mirror as half an atom
            site = Site(site.label, site.symbol, site.position, site.occupancy * share)
        if site.occupancy > 0.0:
            sites.append(site)
    atoms = whole_cell(sites, operators, file.cell)
    formula: dict[str, float] = {}
    for element, count in zip(file.elements, file.unit, strict=False):
        formula[element] = formula.get(element, 0.0) + count
    whole = len(file.unit) == len(file.elements) and all(file.unit)
    flaw = Contents(formula if whole else {}, 1.0).contradiction(atoms)
    if flaw:
        raise TlpotError(f"{flaw} (UNIT)")
    _note_energy(file.title, atoms)
    return atoms


def _operators(file: _File) -> Operators:
    if abs(file.lattice) not in CENTRING:
        raise TlpotError(f"LATT {file.lattice}: there is no such lattice")
    given = Operators.of_text(["x,y,z", *file.operators])
    rotations = np.concatenate([given.rotations, -given.rotations][: 1 + (file.lattice > 0)])
    shifts = np.concatenate([given.translations, -given.translations][: 1 + (file.lattice > 0)])
    points = np.array(CENTRING[abs(file.lattice)])
    return Operators.unique(
        np.tile(rotations, (len(points), 1, 1)),
        (shifts[None] + points[:, None]).reshape(-1, 3),
    )


def _site(words: Sequence[str], file: _File) -> Site:
    line = " ".join(words)
    try:
        number = int(words[1])
    except (IndexError, ValueError):
        raise TlpotError(f"'{line}' is neither an instruction of SHELX nor an atom") from None
    if not 1 <= number <= len(file.elements):
        raise TlpotError(f"'{line}': SFAC names {len(file.elements)} elements, none is {number}")
    values = _floats(words[2:6], 3, line)
    x, y, z, *share = (_value(value, file.variables, line) for value in values)
    symbol = file.elements[number - 1]
    return Site(words[0], symbol, np.array([x, y, z]), share[0] if share else 1.0)


def _value(given: float, variables: Sequence[float], line: str) -> float:
    """A parameter of an atom: free, fixed (10 + p), or tied to a free variable (10 m + p)."""
    m = int(np.sign(given) * ((abs(given) + 5.0) // 10))
    p = given - 10.0 * m
    if abs(m) < 2:
        return p
    if abs(m) > len(variables):
        raise TlpotError(f"'{line}': FVAR has no free variable {abs(m)}")
    variable = variables[abs(m) - 1]
    return p * variable if m > 0 else p * (variable - 1.0)


def _note_energy(title: Sequence[str], atoms: Atoms) -> None:
    """AIRSS: name, pressure (GPa), volume (Å³), energy or enthalpy (eV), spins, atoms, (group)."""
    try:
        _, volume, energy = map(float, title[1:4])
        number = int(title[6])
    except (ValueError, IndexError):
        return
    if number != len(atoms) or abs(volume / atoms.get_volume() - 1.0) > VOLUME_TOLERANCE:
        raise TlpotError(
            f"its title says {number} atoms in {volume:g} Å³, the file makes {len(atoms)} in "
            f"{atoms.get_volume():.4g}"
        )
    atoms.calc = SinglePointCalculator(atoms, energy=energy)


def _floats(words: Sequence[str], least: int, line: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) < least:
        raise TlpotError(f"'{line.strip()}' lacks numbers")
    return values
