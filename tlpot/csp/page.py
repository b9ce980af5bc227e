"""``ranking.html``: a ranking for people."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure

from tlpot.csp.ranking import Ranked
from tlpot.data.crystals.read import stem
from tlpot.data.tables.identity import short_names
from tlpot.evaluation.report import environment, formula, inline

OPTIONAL_COLUMNS = {
    "free_energy_kJ_mol": "free energy<br>kJ/mol",
    "lowest_phonon_THz": "lowest phonon<br>THz",
    "pattern_similarity": "pattern<br>similarity",
    "pattern_system_probability": "of the pattern's<br>system",
    "reference_kJ_mol": "reference<br>kJ/mol",
}
"""Columns that the page shows where they are known, and their headings."""
OPEN_ROWS = 20
"""Crystals that are seen at once; the others are folded."""
MOST_FOLDS = 12
"""Groups that are folded one by one; what comes after is folded together."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PageSection:
    """Crystals of the page that follow each other.

    Attributes
    ----------
    rows
        Of the table.
    heading
        What holds for all of them.
    """

    rows: Rows
    heading: str

    @property
    def first(self) -> int:
        """Rank of the first; `last` of the last."""
        return int(self.rows[0]["rank"])

    @property
    def last(self) -> int:
        """Rank of the last."""
        return int(self.rows[-1]["rank"])

    @property
    def experimental(self) -> list[str]:
        """Experimental structures that some of them match."""
        return [stem(row["experimental"]) for row in self.rows if row["experimental"]]


def page(
    ranked: Ranked, rows: Rows, summary: Mapping[str, Any], pictures: Mapping[str, Figure]
) -> str:
    """One page with style and pictures inside, that loads nothing and needs no script.

    Parameters
    ----------
    rows, summary
        As `tlpot.csp.output.table` and `tlpot.csp.output.summary` give them.
    pictures
        ``landscape``, and with reference energies ``parity``.
    """
    templates = environment("tlpot.csp")
    names = short_names(candidate.name for candidate in ranked.candidates)
    templates.filters |= {"stem": stem, "name": names.__getitem__}
    templates.filters |= {"cell": cell_note, "z_prime": z_prime, "group": space_group}
    ordered = [row for row in rows if row["status"] == "ranked"]
    optional = {
        k: v for k, v in OPTIONAL_COLUMNS.items() if any(math.isfinite(row[k]) for row in ordered)
    }
    seen, *folded = sections(ordered, ranked.groups)
    return templates.get_template("ranking.html.j2").render(
        ranked=ranked,
        unit=formula(str(ranked.unit)),
        lowest=ordered[0],
        seen=seen,
        folded=folded,
        doubts=[_doubt(ranked.not_told_from(i)) for i in range(len(ordered))],
        others=[row for row in rows if row["status"] != "ranked"],
        open_rows=OPEN_ROWS,
        optional=optional,
        symmetric=any(row["space_group"] for row in ordered),
        summary=summary,
        pictures={name: inline(figure) for name, figure in pictures.items()},
    )


def sections(rows: Rows, groups: Sequence[range] | None) -> list[PageSection]:
    """The table in parts: first what is seen at once, then what is folded.

    A few are all seen. Of more, groups that cannot be told apart, one by one; neighbours that are
    all told apart, together. Where nothing is known of that, all in one.
    """
    if groups is None or len(rows) <= OPEN_ROWS:
        return list(_cut(rows, ""))
    parts: list[PageSection] = []
    for alone, some in groupby(groups, lambda group: len(group) == 1):
        if alone:
            places = [i for group in some for i in group]
            heading = "each told from the next" if len(places) > 1 else "told from the others"
            parts.append(PageSection([rows[i] for i in places], heading))
        else:
            parts += [
                PageSection(rows[g.start : g.stop], "not told from the first of them") for g in some
            ]
    first, *others = parts
    parts = [*_cut(first.rows, first.heading), *others]
    if len(parts) > MOST_FOLDS + 1:
        rest = [row for part in parts[MOST_FOLDS:] for row in part.rows]
        parts[MOST_FOLDS:] = [PageSection(rest, f"{len({row['group'] for row in rest})} groups")]
    return parts


def _cut(rows: Rows, heading: str) -> Iterator[PageSection]:
    yield PageSection(rows[:OPEN_ROWS], heading)
    if len(rows) > OPEN_ROWS:
        yield PageSection(rows[OPEN_ROWS:], heading.replace("of them", "of all"))


def _doubt(others: list[int] | None) -> str:
    """How many, and from which rank to which."""
    if not others:
        return "?" if others is None else "–"
    low, high = others[0] + 1, others[-1] + 1
    return f"{len(others)} ({low}–{high})" if len(others) > 1 else f"1 ({low})"


def cell_note(row: Mapping[str, Any]) -> str:
    """Lengths in Å, and the angles that are not 90°."""
    lengths = " ".join(f"{row[f'{axis}_A']:.2f}" for axis in "abc")
    angles = {"α": row["alpha_deg"], "β": row["beta_deg"], "γ": row["gamma_deg"]}
    oblique = [f"{name} {angle:.1f}" for name, angle in angles.items() if abs(angle - 90) > 0.05]
    return " ".join([lengths, *oblique])


def space_group(symbol: str) -> str:
    """``P2_1/c`` with subscripts."""
    return re.sub(r"_(\d)", lambda screw: formula(screw[1]), symbol)


def z_prime(number: float) -> str:
    """Z′: ``1``, ``0.5``; a dash where it is unknown."""
    return f"{number:g}" if math.isfinite(number) else "–"
