"""Crystals with the number to learn of each: CSV files beside CIF files, or structures with it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from tlpot.data.cif import Unreadable
from tlpot.data.read import Files, find_files, read_entries
from tlpot.errors import TlpotError
from tlpot.frames import Frame, bare
from tlpot.property.config import PropertyData
from tlpot.property.graph import Graph
from tlpot.sections import no_effect


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


def read_crystals(settings: PropertyData) -> Crystals:
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
        except TlpotError as error:
            if settings.bad_frames == "refuse":
                raise
            rejected.append(str(error))

    names = set()
    found = find_files(settings.files)
    if settings.structures and not any(_is_table(path) for path, _ in found):
        raise TlpotError(no_effect("data.structures", "without a CSV among data.files"))
    for path, index in found:
        if _is_table(path):
            name, rows = _rows(path, settings.property)
            folder = Path(settings.structures).expanduser() if settings.structures else path.parent
            for where, key, text in rows:
                take(lambda: (_structure(folder, key, where), _number(text, where)))  # noqa: B023
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
    return path.suffix.lower() == ".csv"


def _rows(path: Path, column: str | None) -> tuple[str, list[tuple[str, str, str]]]:
    """The property's name, and of each row where it is, its id and its value as text."""
    try:
        with path.open(newline="") as file:
            rows = [(i, [c.strip() for c in row]) for i, row in enumerate(csv.reader(file), 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TlpotError(f"{path}: cannot be read as CSV ({error})") from None
    rows = [(i, row) for i, row in rows if any(row)]
    if not rows:
        raise TlpotError(f"{path}: the file is empty")
    name, place = column or "property", 1
    header = rows[0][1]
    if column is not None and column in header:
        place, rows = header.index(column), rows[1:]
    elif len(header) > 1 and not _is_number(header[1]) and header[1].lower() != "nan":
        if column is not None:
            raise TlpotError(
                f"{path}: no column '{column}'; data.property may be {', '.join(header[1:])}"
            )
        name, rows = header[1], rows[1:]
    if not rows:
        raise TlpotError(f"{path}: the file holds no crystal")
    found = []
    seen: dict[str, int] = {}
    for i, row in rows:
        where = f"{path}, row {i}"
        if len(row) <= place:
            raise TlpotError(
                f"{where}: needs an id and a value, separated by a comma, has {','.join(row)}"
            )
        if len(row) > len(header):
            raise TlpotError(
                f"{where}: has {len(row)} cells, the first row {len(header)}: {','.join(row)}"
            )
        if row[0] in seen:
            raise TlpotError(f"{where}: '{row[0]}' is there already, in row {seen[row[0]]}")
        seen[row[0]] = i
        found.append((f"{where} ({row[0]})", row[0], row[place]))
    return name, found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: object, where: str) -> float:
    try:
        value = float(str(text))
    except ValueError:
        raise TlpotError(f"{where}: the property is no number: '{text}'") from None
    if not np.isfinite(value):
        raise TlpotError(f"{where}: the property is {value}; leave the entry out or mend it")
    return value


def _structure(folder: Path, key: str, where: str) -> Frame:
    path = next((p for p in (folder / key, folder / f"{key}.cif") if p.is_file()), None)
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
    return _sound(Frame(bare(entry), source=str(path), index=place, info=info))


def _sound(frame: Frame) -> Frame:
    if not len(frame):
        raise TlpotError(f"{frame.name}: the structure has no atoms")
    if not frame.atoms.numbers.all():
        raise TlpotError(f"{frame.name}: holds an atom of no known element")
    return frame


def _with_value(frame: Frame, name: str) -> tuple[Frame, float]:
    if name not in frame.info:
        known = ", ".join(sorted(frame.info)) or "nothing"
        raise TlpotError(f"{frame.name}: no '{name}' in its info, which holds {known}")
    return frame, _number(frame.info[name], frame.name)


def read_structures(files: Files, drop_bad: bool = False) -> tuple[list[Frame], list[str]]:
    """Structures to predict, without values, and one line for each that cannot be used.

    Raises
    ------
    TlpotError
        As `read_crystals`, naming everything that cannot be used; with `drop_bad` only if nothing
        is left.
    """
    frames: list[Frame] = []
    rejected: list[str] = []
    for path, index in find_files(files):
        try:
            entries = _entries(path, index)
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
