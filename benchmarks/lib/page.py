"""Markdown: tables, and pages whose text lies in a file beside the script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

ENERGY, CENTRED = "energy_rmse_meV_per_atom", "energy_rmse_centered_meV_per_atom"
FORCE, VECTOR = "force_rmse_meV_per_A_component", "force_rmse_meV_per_A_vector"
ERRORS = {
    "energy, meV/atom": ENERGY,
    "force, meV/Å, per component": FORCE,
    "per vector": VECTOR,
}
"""What tables of errors call the figures of ``metrics.json``."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def records(
    entries: Iterable[Mapping[str, Any]], columns: Mapping[str, str | Callable[[Any], object]]
) -> list[str]:
    """A table with a row for each entry.

    Parameters
    ----------
    columns
        Header → what fills the cell: a format string with its keys, or a function of it.
    """
    return table(
        list(columns),
        [
            [cell(entry) if callable(cell) else cell.format(**entry) for cell in columns.values()]
            for entry in entries
        ],
    )


def spread(values: Iterable[float], form: str = ".2f", deviation: str | None = None) -> str:
    """Mean ± standard deviation, the latter if there are two values or more; – if there is none.

    Parameters
    ----------
    form, deviation
        Formats of the two; left out, that of the mean serves both.
    """
    values = list(values)
    if not values:
        return "–"
    error = f" ± {stdev(values):{deviation or form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{fmean(values):{form}}{error}"


FINE_ANGLES_SINCE = "2026-11-27"
"""First day on which they were the default."""


def origins(results: Any) -> Iterator[tuple[str, str]]:
    """Date and commit of everything in some results that has them."""
    if isinstance(results, Mapping):
        if "date" in results and "commit" in results:
            yield results["date"], results["commit"]
        results = list(results.values())
    if isinstance(results, list):
        for part in results:
            yield from origins(part)


def origin(results: Mapping[str, Any]) -> str:
    """When and at which commits results were measured, and what the default recipe was then."""
    stamps = sorted(set(origins(results)))
    days = sorted({date for date, _ in stamps})
    angles = sorted({"with" if day >= FINE_ANGLES_SINCE else "without" for day in days})
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(c for _, c in stamps))
    return (
        f"*Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}, at {commits}. Recipe: as "
        f"said below; a default is that of then, {' or '.join(angles)} fine angles.*"
    )


def with_origin(page: str, results: Mapping[str, Any]) -> str:
    """A page with its `origin` under the title."""
    title, _, rest = page.partition("\n")
    return f"{title}\n\n{origin(results)}\n{rest}"


def fill(script: str, **values: Any) -> str:
    """The page beside a script, ``<script>.md``, with its ``{placeholders}`` filled.

    A list is lines. A line that is one placeholder goes, with the blank line before it, if there is
    nothing to put there.
    """
    text = Path(script).with_suffix(".md").read_text()
    for name, value in values.items():
        if isinstance(value, list):
            value = values[name] = "\n".join(value)
        if value == "":
            text = re.sub(rf"\n\n?\{{{name}\}}\n", "\n", text)
    return text.format_map(values)
