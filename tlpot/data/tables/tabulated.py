"""Structures in files and their energies in a table: a folder of CIFs and a CSV become frames."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from tlpot.config.data import Group
from tlpot.data.crystals.read import Refused, origin, read_each, stem
from tlpot.data.find import find_files
from tlpot.data.tables.identity import Names, shown
from tlpot.data.tables.table import Line, Table, read_table
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import composition, find_molecules, find_unit
from tlpot.structure.units import ENERGY_UNITS

EV = {"eV": 1.0, **ENERGY_UNITS}
"""eV in each unit that a table's energies may be in."""
UNITS = {
    "kJ/mol": r"(?i:kj)[\s_·*./(]*(?i:per[\s_]*)?mol",
    "kcal/mol": r"(?i:kcal)[\s_·*./(]*(?i:per[\s_]*)?mol",
    "meV": r"(?i:mev)(?![a-zA-Z])",
    "eV": r"(?i:ev)(?![a-zA-Z])",
    "Hartree": r"((?i:hartrees?)|Eh|Ha|E_h|a\.u\.)(?![a-zA-Z])",
    "Rydberg": r"((?i:rydbergs?)|Ry)(?![a-zA-Z])",
}
"""How titles of columns write them, where no letter stands before."""
PER = {
    "molecule": r"molecules?|molec\.?",
    "atom": r"atoms?",
    "formula": r"formula([\s_]*units?)?|f\.?u\.?(?![a-z])",
    "cell": r"(unit[\s_]*)?cells?",
}
"""How they say what an energy is of, behind ``/`` or ``per``."""
ENERGY = re.compile(r"(?i)energ|(?<![a-z])d?e(_?(tot|rel|dft|latt))?(?![a-z])")
"""What titles of energies hold."""
RELATIVE = re.compile(
    r"(?i)(?<![a-z])(rel(ative)?|lattice|latt|e_?latt|e_?rel|d_?e|delta)(?![a-z])|[Δδ∆]"
)
"""What titles hold of energies whose zero is not that of the atoms."""
RELATIVE_NOTE = "relative_energy"
"""Note of a frame whose energy is known up to a constant of its composition."""


def read_tabulated(
    group: Group, on_remark: Callable[[str], None] = lambda remark: None
) -> list[Frame]:
    """Structures of a group, each with the energy (eV per cell) that its table gives it.

    A row belongs to the structure whose path ends with its id (`tlpot.data.tables.identity.Names`).
    Labels that the structure files hold are not read: they would be of another level.

    Parameters
    ----------
    group
        Its `table`; `column`, `unit`, `per` and `relative`, where the titles do not say them.
    on_remark
        Told which column was taken as what, of rows without a structure, of energies whose zero is
        not known.

    Returns
    -------
    Frames in file order. One that is in no row, or has no value there, has no energy and a note
    ``not_in_table``; a file that cannot be read is a frame without atoms and with a note
    ``unreadable``: `tlpot.data.check.check_frames` refuses both.

    Raises
    ------
    TlpotError
        If no id is of these structures, it is not clear which row is whose, or what the numbers
        are: of which column, in which unit, of how much of the crystal.
    """
    assert group.table is not None
    frames, unreadable = read_each(group.files)
    (path, _), *more = find_files(group.table)
    if more:
        raise TlpotError(f"{group.table}: a group has one table, these are {1 + len(more)}")
    file = str(path)
    names = {frame.name: origin(frame) for frame in frames}
    table, rows, unknown = matched_rows(list(names.values()), file, "energies")
    place = _column(table, file, group.column)
    title = table.header[place] if table.header else ""
    unit, per = _meaning(title, group, file)
    values = {name: row.number(place) for name, row in rows.items()}
    relative = _is_relative(title, [*values.values()], group)
    if relative and group.per is None and not _said(PER, title, r"(?:/|per)[\s_(]*"):
        _require_one_size([f for f in frames if names[f.name] in rows], file)
    labelled = [_labelled(f, values.get(names[f.name]), unit, per, relative, file) for f in frames]
    number = sum(frame.energy is not None for frame in labelled)
    others = [t for t in table.header[1:] if t != title and (_unit(t) or ENERGY.search(t))]
    on_remark(
        f"{file}: {number} energies of column {title or 2!r}, {unit} per {per}"
        + (f"; data.groups.column names another ({', '.join(others)})" if others else "")
    )
    if unknown:
        on_remark(f"{file}: {len(unknown)} ids are of no structure here: {shown(unknown)}.")
    if relative:
        kinds = sorted({composition(f.atoms) for f in labelled if f.energy is not None})
        on_remark(
            f"{file}: relative energies, of {', '.join(kinds)} known up to a constant, which the "
            "fitted energy reference takes up: differences among its crystals are learned, total "
            "energies mean nothing (data.groups.relative says otherwise)"
        )
    return labelled + [_without_atoms(refused) for refused in unreadable]


def matched_rows(
    names: Sequence[str], file: str, what: str
) -> tuple[Table, dict[str, Line], list[str]]:
    """A table, the row of each structure in it, and the ids that are of no structure.

    Parameters
    ----------
    names
        ``path#index`` of each structure.
    what
        The numbers, for a message.

    Raises
    ------
    TlpotError
        As `read_table` and `Names.by_name`; if the table has one column, or nothing matches.
    """
    ends = Names(names)
    table = read_table(file, lambda text: bool(ends.find(text)))
    if not any(len(row.cells) > 1 for row in table.rows):
        raise TlpotError(f"{file}: no table of {what}; give a CSV of id and energy")
    rows = {row.ident: row for row in table.rows}
    idents = ends.by_name((ident, row.where) for ident, row in rows.items())
    if not idents:
        raise TlpotError(
            f"{file}: none of its ids ({shown(list(rows))}) is the name of a structure file, as "
            f"{shown([stem(name) for name in names])}"
        )
    used = {*idents.values()}
    matched = {name: rows[ident] for name, ident in idents.items()}
    return table, matched, [ident for ident in rows if ident not in used]


def require_one_zero(frames: Sequence[Frame]) -> None:
    """Refuse relative energies whose constant no energy reference can take up.

    It can where their composition is no combination of those of other frames.

    Raises
    ------
    TlpotError
        Naming a frame of either kind.
    """
    relative: dict[str, Frame] = {}
    total: dict[str, Frame] = {}
    for frame in frames:
        if frame.energy is not None and len(frame):
            kind = relative if frame.info.get(RELATIVE_NOTE) else total
            kind.setdefault(composition(frame.atoms), frame)
    fixing = list(total.values())
    for name, frame in relative.items():
        before, fixing = _rank(fixing), [*fixing, frame]
        if _rank(fixing) == before:
            other = total.get(name) or fixing[0]
            raise TlpotError(
                f"{frame.name} ({name}) has a relative energy, known up to a constant, and "
                f"{other.name} ({composition(other.atoms)}) has one that fixes it otherwise: give "
                "total energies in the table, or train on one of the two"
            )


def _rank(frames: Sequence[Frame]) -> int:
    counts = [np.bincount(f.atoms.numbers, minlength=119) / len(f) for f in frames]
    return int(np.linalg.matrix_rank(np.array(counts))) if counts else 0


def _column(table: Table, file: str, wanted: str | None) -> int:
    """Place of the column of energies: the one named, or the first that says so, or the second."""
    titles = table.header[1:]
    if wanted is not None:
        if wanted not in titles:
            raise TlpotError(
                f"{file}: has no column '{wanted}', which data.groups.column names; it has "
                f"{', '.join(titles) or 'no titles'}"
            )
        return 1 + titles.index(wanted)
    for says in (_unit, ENERGY.search):
        if told := [place for place, title in enumerate(titles, 1) if says(title)]:
            return told[0]
    if len(titles) > 1:
        raise TlpotError(
            f"{file}: which of its columns are energies ({', '.join(titles)})? Name one in "
            "data.groups.column"
        )
    return 1


def _said(phrases: dict[str, str], title: str, before: str) -> str | None:
    return next((name for name, text in phrases.items() if re.search(before + text, title)), None)


def _unit(title: str) -> str | None:
    return _said(UNITS, title, r"(?<![A-Za-z])")


def _meaning(title: str, group: Group, file: str) -> tuple[str, str]:
    """Unit of a column, and what its energies are of."""
    unit, per = _unit(title), _said(PER, title.lower(), r"(?:/|per)[\s_(]*(?:mol[\s_]+)?")
    for key, stated, option in (("unit", unit, group.unit), ("per", per, group.per)):
        if stated and option and stated != option:
            raise TlpotError(
                f"{file}: data.groups.{key}: {option} contradicts the column's title '{title}'"
            )
    unit, per = group.unit or unit, group.per or per
    if unit is None:
        raise TlpotError(
            f"{file}: in which unit are its energies? Write it into the title, as 'energy (eV)', "
            f"or into data.groups.unit ({', '.join(EV)})"
        )
    if per is None and unit.endswith("/mol"):
        raise TlpotError(
            f"{file}: {unit} of what? Write it into the title, as '({unit} per molecule)', or into "
            "data.groups.per (molecule, formula, cell, atom)"
        )
    return unit, per or "cell"


def _is_relative(title: str, values: list[float], group: Group) -> bool:
    """Whether energies have a zero of their own: as told, as titled, or if the lowest is zero."""
    if group.relative is not None:
        return group.relative
    finite = [value for value in values if np.isfinite(value)]
    return bool(RELATIVE.search(title)) or (len(finite) > 1 and min(finite) == 0.0)


def _require_one_size(frames: Sequence[Frame], file: str) -> None:
    sizes = sorted({len(frame) for frame in frames})
    if len(sizes) > 1:
        raise TlpotError(
            f"{file}: relative energies of cells of {' and '.join(map(str, sizes[:4]))} atoms "
            "cannot be compared per cell; say in data.groups.per what they are of"
        )


def _labelled(
    frame: Frame, value: float | None, unit: str, per: str, relative: bool, file: str
) -> Frame:
    """The structure with this energy, and nothing of what its file says of labels."""
    info = {k: v for k, v in frame.info.items() if not k.endswith("_key")}
    if value is None or np.isnan(value):
        what = "no row" if value is None else "no value"
        info["not_in_table"] = f"{file} has {what} for it"
        return replace(frame, energy=None, forces=None, stress=None, info=info)
    energy = value * EV[unit] * _count(frame, per)
    info |= {"energy_key": file} | ({RELATIVE_NOTE: True} if relative else {})
    return replace(frame, energy=energy, forces=None, stress=None, info=info)


def _count(frame: Frame, per: str) -> int:
    """How many of what an energy is of are in the cell."""
    if per in ("cell", "atom"):
        return 1 if per == "cell" else len(frame)
    try:
        molecules = find_molecules(frame.atoms)
    except TlpotError as error:
        if per == "molecule":
            raise TlpotError(f"{frame.name}: energies per molecule, and {error}") from None
        return int(frame.atoms.symbols.formula.reduce()[1])
    unit, z = find_unit(molecules)
    if per == "molecule" and Counter(dict(unit.parts)).total() > 1:
        raise TlpotError(
            f"{frame.name}: energies per molecule, and its molecules are unlike ({unit}); give "
            "them per formula, cell or atom"
        )
    return z


def _without_atoms(refused: Refused) -> Frame:
    path, _, index = refused.name.rpartition("#")
    if not path or not index.isdigit():
        path, index = refused.name, "0"
    return Frame(Atoms(), source=path, index=int(index), info={"unreadable": refused.reason})
