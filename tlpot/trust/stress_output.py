"""What a stress test led to: counts, a row a case, and pictures of the worst."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.visualize.plot import plot_atoms
from matplotlib.figure import Figure

from tlpot.data.tables.cells import table_text
from tlpot.data.write import to_text
from tlpot.evaluation.panels import panels_of
from tlpot.evaluation.plots import write
from tlpot.files import write_whole
from tlpot.palette import AFTER, BEFORE, MUTED
from tlpot.structure.frames import Frame
from tlpot.trust.settings import Stress
from tlpot.trust.stress import FAILURES, VERDICTS, CaseEnd, Verdict, counted, failures, label
from tlpot.trust.stress_cases import APART

STRESS_REPORT = "stress.json"
PICTURED = 6
"""Cases, the worst ones, of which there are pictures."""

CaseEnds = dict[int, CaseEnd]


@dataclass(frozen=True)
class StressTest:
    """What became of the cases.

    Attributes
    ----------
    outcomes
        ``model``, and ``base`` where there is one: number of a case → outcome.
    models
        What each of them is called.
    remarks
        Why something is missing.
    """

    structure: str
    cases: list[Frame]
    outcomes: dict[str, CaseEnds]
    models: dict[str, str]
    settings: Stress
    remarks: list[str]

    @property
    def counts(self) -> dict[str, dict[str, dict[Verdict, int]]]:
        """Cases by ``model`` or ``base``, kind and verdict."""
        return {who: counted(self.cases, ends) for who, ends in self.outcomes.items()}

    @property
    def worst(self) -> list[int]:
        """Cases that failed, what collapsed first; cases that the base holds before others."""
        base, own = self.outcomes.get("base", {}), self.outcomes["model"]
        bad = [i for i, end in own.items() if end.verdict in FAILURES]

        def rank(i: int) -> tuple[int, bool, int]:
            kept = i in base and base[i].verdict not in FAILURES
            return -VERDICTS.index(own[i].verdict), not kept, i

        return sorted(bad, key=rank)

    def as_dict(self) -> dict[str, Any]:
        """As in ``stress.json``, but for the single cases."""
        counts = self.counts
        return {
            "structure": self.structure,
            "models": self.models,
            "settings": self.settings.model_dump(),
            "counts": counts,
            "failures": {who: failures(rows) for who, rows in counts.items()},
            "remarks": self.remarks,
        }


def write_stress(test: StressTest, folder: Path) -> None:
    """Write ``stress.json``, ``stress.csv``, ``failed.extxyz`` and the pictures."""
    rows: list[dict[str, object]] = []
    for i, case in enumerate(test.cases):
        row: dict[str, object] = {"case": i, "kind": label(case), "atoms": len(case)}
        for who, ends in test.outcomes.items():
            row |= {who: ends[i].verdict, f"{who}_detail": ends[i].detail or None}
        rows.append(row)
    failed = (
        to_text(Frame(end.atoms, info={"case": i, "verdict": end.verdict, "why": end.detail}))
        for i, end in test.outcomes["model"].items()
        if i in test.worst
    )
    write_whole(folder / "failed.extxyz", "".join(failed))
    write_whole(folder / "stress.csv", table_text(rows[0], rows))
    if worst := test.worst[:PICTURED]:
        write(picture(test, worst), folder / "worst.png")
    if any(end.curve for end in test.outcomes["model"].values()):
        write(curves(test), folder / "scans.png")
    write_whole(
        folder / STRESS_REPORT, json.dumps(test.as_dict() | {"cases": rows}, indent=1) + "\n"
    )


def picture(test: StressTest, numbers: Sequence[int]) -> Figure:
    """Where the model led some cases."""
    columns = min(3, len(numbers))
    figure, grid = panels_of(
        3.6 * columns, 3.4 * -(-len(numbers) // columns), -(-len(numbers) // columns), columns
    )
    for axis in np.ravel(grid):
        axis.set_axis_off()
    for axis, i in zip(np.ravel(grid), numbers, strict=False):
        end = test.outcomes["model"][i]
        shown = end.atoms.copy()
        if shown.pbc.any():
            shown.wrap()
        plot_atoms(shown, axis, rotation="10x,20y,0z", show_unit_cell=2)
        axis.set_title(f"{label(test.cases[i])}: {end.verdict}", fontsize=9)
    return figure


def curves(test: StressTest) -> Figure:
    """Energies of two molecules as they are pushed together, base and model."""
    figure, ((axis,),) = panels_of(6.6, 4.6)
    for who, colour in (("base", BEFORE), ("model", AFTER)):
        ends = test.outcomes.get(who, {})
        drawn = [end.curve for end in ends.values() if end.curve]
        for n, curve in enumerate(drawn):
            name = who if n == 0 else None
            axis.plot(APART, curve, color=colour, lw=0.9, alpha=0.6, label=name)
    axis.axhline(0.0, color=MUTED, lw=0.6)
    axis.set_ylim(-1.0, 4.0)
    axis.set_xlabel("closest atoms of two molecules, over van der Waals contact")
    axis.set_ylabel("energy above that far apart (eV)")
    axis.legend(frameon=False)
    return figure
