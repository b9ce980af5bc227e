"""Crystals with the number to learn of each: CSV files beside CIF files, or structures with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from tlpot.config.sections import no_effect
from tlpot.data.compression import plain_name
from tlpot.data.crystals.cif import Unreadable
from tlpot.data.find import Files, find_files
from tlpot.data.read import read_entries
from tlpot.data.tables.table import Line, read_table
from tlpot.errors import MachineError, TlpotError
from tlpot.property.config import PropertyData
from tlpot.property.graph import Graph
from tlpot.structure.frames import Frame, bare
from tlpot.structure.soundness import find_flaw


@dataclass(frozen=True)
class Crystals:
    """Structures and the property of each.

    Attributes
    ----------
    frames
        Structures; of one from a CSV, ``info["id"]`` is its name there.
    values
        ``(frames,)``.
    name
        Of the property.
    rejected
        One line for each entry that was left out.
    """

    frames: list[Frame]
    values: np.ndarray
    name: str
    rejected: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def graphs(self) -> list[Graph]:
        """Of every frame; computed once."""
        return [Graph.of(frame.atoms) for frame in self.frames]


def read_labelled_crystals(settings: PropertyData) -> Crystals:
    """Read ``data.files``.

    A CSV holds one crystal a row: its id, or the name of its file, then the value; with a header,
    ``data.property`` picks the column. The structure of ``id`` is ``id`` itself or ``id.cif`` in
    ``data.structures``. Any other file holds structures with ``data.property`` in their info.

    Raises
    ------
    TlpotError
        Naming file and row: no such structure, no atoms, sites that are only partly occupied, a
        value that is missing or no finite number, an id given twice, a row longer than the
        first, an empty file. With ``bad_frames: drop`` such entries, if not broken tables, are left
        out instead.
    """
    entries: list[tuple[Frame, float]] = []
    rejected: list[str] = []

    def take(make: Callable[[], tuple[Frame, float]]) -> None:
        try:
            entries.append(make())
        except MachineError:
            raise
        except TlpotError as error:
            if settings.bad_frames == "refuse":
                raise
            rejected.append(str(error))

    names = set()
    files = find_files(settings.files)
    if settings.structures and not any(_is_table(path) for path, _ in files):
        raise TlpotError(no_effect("data.structures", "without a CSV among data.files"))
    for path, index in files:
        if _is_table(path):
            folder = Path(settings.structures) if settings.structures else path.parent
            name, place, rows = _rows(path, folder, settings.property)
            for row in rows:
                take(lambda: _of_row(row, place, folder))  # noqa: B023
        else:
            if settings.property is None:
                raise TlpotError(
                    f"data.property: name the key under which {path} holds the property"
                )
            name = settings.property
            for place, entry in _entries(path, index):
                take(lambda: _with_value(_frame(path, place, entry), name))  # noqa: B023
        names.add(name)
    if len(names) > 1:
        raise TlpotError(f"data.files hold different properties: {', '.join(sorted(names))}")
    if not entries:
        raise TlpotError("data.files: no crystal is left" + "".join(f"\n  {r}" for r in rejected))
    frames, values = zip(*entries, strict=True)
    return Crystals(list(frames), np.array(values), names.pop(), rejected)


def _is_table(path: Path) -> bool:
    return plain_name(path).endswith((".csv", ".tsv"))


def _rows(path: Path, folder: Path, column: str | None) -> tuple[str, int, list[Line]]:
    """The property's name, its column, and the rows."""
    table = read_table(path, lambda text: _structure_file(folder, text) is not None)
    name, place = column or "property", 1
    if column is not None and column in table.header[1:]:
        place = table.header.index(column, 1)
    elif table.header:
        if column is not None:
            raise TlpotError(
                f"{path}: no column '{column}'; data.property may be {', '.join(table.header[1:])}"
            )
        name = "".join(table.header[1:2])
    if not table.rows:
        raise TlpotError(f"{path}: the file holds no crystal")
    structures: dict[Path | None, Line] = {}
    for row in table.rows:
        file = _structure_file(folder, row.ident)
        if file is not None and file in structures:
            raise TlpotError(f"{row.where}: {file} is there already: {structures[file].where}")
        structures[file] = row
        if len(row.cells) <= place:
            raise TlpotError(
                f"{row.where}: needs an id and a value, separated by a comma, has "
                f"{','.join(row.cells)}"
            )
    return name, place, table.rows


def _of_row(row: Line, place: int, folder: Path) -> tuple[Frame, float]:
    frame, value = _structure(folder, row.ident, row.where), row.number(place)
    if np.isnan(value):
        raise TlpotError(
            f"{row.where}: the property is no number, it is missing ('{row.value(place)}'); leave "
            "the entry out or mend it"
        )
    return frame, value


def _structure_file(folder: Path, key: str) -> Path | None:
    key = key.replace("\\", "/")
    names = (key, f"{key}.cif")
    return next((path for name in names if (path := folder / name).is_file()), None)


def _number(text: object, where: str) -> float:
    try:
        value = float(str(text))
    except ValueError:
        raise TlpotError(f"{where}: the property is no number: '{text}'") from None
    if not np.isfinite(value):
        raise TlpotError(f"{where}: the property is {value}; leave the entry out or mend it")
    return value


def _structure(folder: Path, key: str, where: str) -> Frame:
    path = _structure_file(folder, key)
    if path is None:
        raise TlpotError(
            f"{where}: no structure: neither {key} nor {key}.cif is in {folder}; "
            "data.structures names the folder"
        )
    try:
        entries = _entries(path, slice(None))
        if len(entries) != 1:
            raise TlpotError(f"{path} holds {len(entries)} structures, not one")
        frame = _frame(path, *entries[0])
    except MachineError:
        raise
    except TlpotError as error:
        raise TlpotError(f"{where}: {error}") from None
    return replace(frame, info={**frame.info, "id": key})


def _entries(path: Path, index: slice) -> list[tuple[int, Atoms | Unreadable]]:
    entries, places = read_entries(path, index)
    return list(zip(places, entries, strict=True))


def _frame(path: Path, place: int, entry: Atoms | Unreadable) -> Frame:
    """A structure with what its file says of it, labels or not."""
    if isinstance(entry, Unreadable):
        raise TlpotError(f"{path}#{place}: {entry}")
    info = {**entry.info, **entry.info.get("key_value_pairs", {})}
    info |= entry.calc.results if entry.calc else {}
    if flaw := find_flaw(entry):
        raise TlpotError(f"{path}#{place}: {flaw}")
    return Frame(bare(entry), source=str(path), index=place, info=info)


def _with_value(frame: Frame, name: str) -> tuple[Frame, float]:
    if name not in frame.info:
        notes = ", ".join(sorted(frame.info)) or "nothing"
        raise TlpotError(f"{frame.name}: no '{name}' in its info, which holds {notes}")
    return frame, _number(frame.info[name], frame.name)


def read_unlabelled(files: Files, drop_bad: bool = False) -> tuple[list[Frame], list[str]]:
    """Structures to predict, without values, and one line for each that cannot be used.

    Raises
    ------
    TlpotError
        As `read_labelled_crystals`, naming everything that cannot be used; with `drop_bad`
        only if nothing is left.
    """
    frames: list[Frame] = []
    rejected: list[str] = []
    for path, index in find_files(files):
        try:
            entries = _entries(path, index)
        except MachineError:
            raise
        except TlpotError as error:
            entries = []
            rejected.append(str(error))
        for place, entry in entries:
            try:
                frames.append(_frame(path, place, entry))
            except TlpotError as error:
                rejected.append(str(error))
    if rejected and not (drop_bad and frames):
        mend = "\n--drop-bad predicts the others" if frames else ""
        raise TlpotError("\n".join(rejected) + mend)
    return frames, rejected


def by_id(frames: Sequence[Frame]) -> list[str]:
    """What to call each structure in a table: its id, or file and place."""
    return [str(frame.info.get("id", frame.name)) for frame in frames]
