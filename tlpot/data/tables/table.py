"""Tables by id, as programs and spreadsheets write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlpot.data.tables.cells import GUARD, is_mistaken
from tlpot.data.text import read_text
from tlpot.errors import TlpotError

MISSING = frozenset({"", "-", "na", "n/a", "nan", "none", "null", "#n/a", "#nv", "#div/0!"})
"""What stands for no value, in any case of letters."""
SEPARATORS = "\t;,"
"""Of columns."""
ID = "id"
"""Title of a first column."""
WHOLE = re.compile(r"[+-]?\d+")
COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
POINT = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    where
        File, line and id, for messages.
    cells
        Without blanks around them; the first is the id.
    """

    where: str
    cells: list[str]

    @property
    def ident(self) -> str:
        """The first cell."""
        return self.cells[0]

    def value(self, column: int) -> str:
        """A cell, empty where the line ends before it."""
        return self.cells[column] if column < len(self.cells) else ""

    def number(self, column: int) -> float:
        """A cell as number; NaN where it is missing.

        Raises
        ------
        TlpotError
            If it is no finite number.
        """
        text = self.value(column)
        try:
            number = float("nan") if text.lower() in MISSING else float(text)
        except ValueError:
            raise TlpotError(f"{self.where}: '{text}' is no number") from None
        if np.isinf(number):
            raise TlpotError(f"{self.where}: '{text}' is no finite number")
        return number


@dataclass(frozen=True)
class Table:
    """A CSV file with an id in the first column.

    Attributes
    ----------
    header
        Names of the columns, that of the ids first; empty without a line of names.
    rows
        The other lines, but for empty ones.
    """

    header: list[str]
    rows: list[Line]


def read_table(path: str | Path, is_id: Callable[[str], bool]) -> Table:
    """Read a CSV file: columns between commas, semicolons or tabs, in any encoding of text.

    The first line has the names of columns if its first cell is no id, and its second no value or
    one of them ``id``, which is then moved to the front. Empty lines, columns without a name in it,
    and comments (a line of one cell that begins with #) are left out. Decimals may have a comma
    where columns have none between them.

    Parameters
    ----------
    is_id
        Whether a text is the id of something.

    Raises
    ------
    TlpotError
        Naming the line: no such file, nothing in it; a line with more cells than the first, without
        an id, or with one that was there already; decimals with a comma that cannot be told from
        columns, or of which others have a point.
    """
    path = Path(path)
    separator, lines = _lines(path)
    if not lines:
        raise TlpotError(f"{path}: the file is empty")
    first = lines[0][1]
    titles = [cell.lower() for cell in first]
    titled = ID in titles or (len(first) > 1 and not _is_value(first[1]))
    named = titled and not is_id(first[0])
    if separator == "," and not named and all(map(_is_split, (cells for _, cells in lines))):
        raise TlpotError(
            f"{path}: its decimals seem to have a comma, as the columns have between them "
            f"({','.join(first)}); write a point, or semicolons between columns"
        )
    if twice := [title for title in first if named and title and first.count(title) > 1]:
        raise TlpotError(f"{path}: two columns are called '{twice[0]}'; rename one")
    own = titles.index(ID) if named and ID in titles else 0
    order = [own, *(i for i, title in enumerate(first) if i != own and (title or not named))]
    rows: list[Line] = []
    seen: dict[str, int] = {}
    for line, cells in lines[named:]:
        where, text = f"{path}, row {line}", separator.join(cells)
        if _width(cells) > len(first):
            raise TlpotError(
                f"{where}: has {_width(cells)} cells, the first row {len(first)}: {text}"
            )
        row = Line(where, [cells[i] for i in order if i < len(cells)])
        if own >= len(cells) or not row.ident:
            raise TlpotError(f"{where}: has no id: {text}")
        if row.ident in seen:
            raise TlpotError(f"{where}: '{row.ident}' is there already, in row {seen[row.ident]}")
        seen[row.ident] = line
        rows.append(Line(f"{where} ({row.ident})", row.cells))
    return Table([first[i] for i in order] if named else [], rows)


def _lines(path: Path) -> tuple[str, list[tuple[int, list[str]]]]:
    """What separates columns; number and cells of each line that has some."""
    lines = list(io.StringIO(read_text(path), newline=""))
    told = re.fullmatch(r'"?sep=(.)"?\s*', lines[0]) if lines else None
    if told:
        lines[0] = "\n"
    separator = told[1] if told else _separator(lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [_bare(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise TlpotError(f"{path}, row {reader.line_num}: is no CSV ({error})") from None
    rows = [(n, cells) for n, cells in rows if any(cells) and not _is_comment(cells)]
    return separator, rows if separator == "," else _with_points(path, rows)


def _bare(cell: str) -> str:
    """Without the apostrophe that guards it from spreadsheets."""
    return cell[1:] if cell.startswith(GUARD) and is_mistaken(cell[1:]) else cell


def _with_points(path: Path, lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Decimal commas as points, which must not be there beside them."""
    comma, point = (
        next((n for n, cells in lines if any(map(kind.fullmatch, cells[1:]))), None)
        for kind in (COMMA, POINT)
    )
    if comma and point:
        raise TlpotError(
            f"{path}: decimals have a comma in row {comma} and a point in row {point}; write all "
            "with a point"
        )
    return [
        (n, [first, *(c.replace(",", ".") if COMMA.fullmatch(c) else c for c in others)])
        for n, (first, *others) in lines
    ]


def _separator(lines: list[str]) -> str:
    """What stands in the most lines, outside of quotes; of equals the first of `SEPARATORS`."""
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines]
    return max(SEPARATORS, key=lambda mark: sum(mark in line for line in bare))


def _width(cells: list[str]) -> int:
    """Without empty cells at the end."""
    return max((i for i, cell in enumerate(cells, 1) if cell), default=0)


def _is_comment(cells: list[str]) -> bool:
    return _width(cells) == 1 and cells[0].startswith("#")


def _is_split(cells: list[str]) -> bool:
    """Whether a line may be an id and one number, torn apart at its decimal comma."""
    return len(cells) == 3 and bool(WHOLE.fullmatch(cells[1])) and cells[2].isdecimal()


def _is_value(text: str) -> bool:
    """Whether a cell is a number, or stands for one that is missing."""
    if text.lower() in MISSING:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
