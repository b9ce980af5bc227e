"""Tables as CSV: numbers come back as they were, and a spreadsheet leaves the text as it is."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

GUARD = "'"
"""Before a cell that spreadsheets are to leave as it is."""
MONTHS = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?"
    "|oct(ober)?|nov(ember)?|dec(ember)?"
)
DECIMAL = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?")
"""A number that a spreadsheet shows as it stands."""
MISTAKEN = re.compile(
    rf"[=+@\t\r-]|[\d\s.,:/%$€-]*\d[\d\s.,:/%$€-]*$|(\d+[\s./-]*)?({MONTHS})[\s./-]*\d+$"
    rf"|\d+[\s./-]*({MONTHS})$|\d[\d:]*\s+[ap]m?$",
    re.IGNORECASE,
)
"""Begins as a formula, has digits and marks alone, or a month or hour beside digits."""


def table_text(
    columns: Iterable[str], rows: Iterable[Mapping[str, Any]], digits: int | None = None
) -> str:
    """A table as CSV, with cells as `cell_text` writes them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell_text(row[key], digits) for key in row} for row in rows)
    return text.getvalue()


def cell_text(value: Any, digits: int | None = None) -> str:
    """A value as a cell of a CSV; None and NaN are an empty cell.

    Text that a spreadsheet would turn into something else (`is_mistaken`) begins with an
    apostrophe, which `tlpot.data.tables.table.read_table` removes.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return GUARD + value if is_mistaken(value) else value
    return f"{value:.{digits}g}" if isinstance(value, float) and digits else str(value)


def is_mistaken(text: str) -> bool:
    """Whether a spreadsheet takes a text for a formula, a date, a time or another number."""
    try:
        number = float(text)
    except ValueError:
        return bool(MISTAKEN.match(text))
    return math.isfinite(number) and text != repr(number) and not DECIMAL.fullmatch(text)


def cell_number(text: str) -> float:
    """The number in a cell of a CSV, or NaN if the cell is empty."""
    return float(text or "nan")
