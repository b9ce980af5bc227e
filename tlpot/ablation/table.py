"""What a sweep leaves behind: one tidy CSV, a Markdown table over seeds, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import floor, inf, isfinite, log10
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from tlpot.ablation.sweep import Outcome
from tlpot.data.tables.cells import table_text
from tlpot.files import figure_bytes, write_whole

ERRORS = {
    "energy_rmse_meV_per_atom": "energy RMSE, meV/atom",
    "force_rmse_meV_per_A_component": "force RMSE, meV/Å per component",
    "force_rmse_meV_per_A_vector": "force RMSE, meV/Å per vector",
}
"""Figures of the test frames that the table shows (the CSV holds all), and how it names them."""

FITS = 40
"""Letters of tick labels that fit side by side."""
DECADE = 10.0
"""Errors that differ by more than this factor are drawn on a logarithmic scale."""

LEGEND = 4
"""Entries of a picture's legend side by side."""

LEAST_GAP = 0.02
"""Numbers that lie closer, as a share of all that they span, are drawn at even distances."""

DRAWN = ("energy_rmse_meV_per_atom", "force_rmse_meV_per_A_component")


def write_results(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``points.csv``, ``table.md`` and one ``by-<axis>.png`` for each axis."""
    if not outcomes:
        return
    rows = [tidy(outcome) for outcome in outcomes]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_whole(folder / "points.csv", table_text(columns, rows))
    write_whole(folder / "table.md", markdown(outcomes))
    for axis in outcomes[0].point.labels:
        write_whole(folder / f"by-{axis}.png", figure_bytes(draw(outcomes, axis), dpi=150))


def tidy(outcome: Outcome) -> dict[str, Any]:
    """One row: the point, how it went, every test error before and after."""
    point = outcome.point
    row: dict[str, Any] = {"point": point.name, **point.labels, "seed": point.seed}
    row |= {"status": "failed" if outcome.reason else "done", "reason": outcome.reason or ""}
    if outcome.manifest is None or outcome.metrics is None:
        return row
    split = outcome.manifest["split"]
    row |= {f"n_{part}": len(split[part]) for part in ("train", "validation", "test")}
    row |= {"seconds": outcome.manifest["seconds"], "best_epoch": outcome.manifest["best_epoch"]}
    for model in ("baseline", "finetuned"):
        errors = outcome.metrics[model]["test"]
        row |= {f"{model}_{k}": v for k, v in errors.items() if not isinstance(v, dict)}
    return row


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Mean ± standard deviation over seeds of the test errors, one row a combination."""
    axes = list(outcomes[0].point.labels)
    lines = [
        "| " + " | ".join([*axes, *ERRORS.values(), "training, s", "seeds"]) + " |",
        "|---" * (len(axes) + len(ERRORS) + 2) + "|",
    ]
    for labels, group in by_labels(outcomes).items():
        good = [o for o in group if o.metrics is not None]
        cells = [*labels, *(cell(good, name) for name in ERRORS)]
        seconds = [o.manifest["seconds"] for o in good if o.manifest is not None]
        cells += [f"{fmean(seconds):.0f}" if seconds else "–", str(len(good))]
        lines.append("| " + " | ".join(cells) + " |")
    failed = [o for o in outcomes if o.reason]
    if failed:
        lines += ["", f"{len(failed)} of {len(outcomes)} points failed:", ""]
        for o in failed:
            what = ", ".join(f"{k} = {v}" for k, v in o.point.labels.items())
            lines.append(f"- {what or 'the base'}, seed {o.point.seed}: {brief(o)}")
    lines += [
        "",
        "Errors are of the test frames, which no point trained or tuned on; mean ± standard "
        "deviation over seeds (split and training). A vector RMSE is √3 times the component one.",
    ]
    return "\n".join(lines) + "\n"


def brief(outcome: Outcome) -> str:
    """Why a point failed, on one line; the CSV has all of it."""
    return " ".join(line.strip() for line in (outcome.reason or "").splitlines()[:2])


def by_labels(outcomes: Sequence[Outcome]) -> dict[tuple[str, ...], list[Outcome]]:
    """Outcomes that differ in their seed alone."""
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(tuple(outcome.point.labels.values()), []).append(outcome)
    return groups


def values(outcomes: Sequence[Outcome], name: str, model: str = "finetuned") -> list[float]:
    """One test error of each outcome that has it."""
    errors = [o.metrics[model]["test"].get(name) for o in outcomes if o.metrics is not None]
    return [value for value in errors if value is not None]


def draw(outcomes: Sequence[Outcome], axis: str) -> Figure:
    """Energy and force errors along one axis, a line for each combination of the others."""
    order = list(dict.fromkeys(o.point.labels[axis] for o in outcomes))
    places, numeric, even = _places(order)
    crowded = even and len("".join(order)) > FITS
    size = (max(9.0, 2.0 + 0.6 * len(order)), 5.0) if crowded else (9.0, 3.6)
    figure = Figure(figsize=size, layout="constrained")
    lines: dict[str, list[Outcome]] = {}
    for o in outcomes:
        rest = ", ".join(f"{v}" for k, v in o.point.labels.items() if k != axis)
        lines.setdefault(rest, []).append(o)
    for panel, name in zip(figure.subplots(1, len(DRAWN)), DRAWN, strict=True):
        for label, members in lines.items():
            runs = [
                (
                    places[choice],
                    values([o for o in members if o.point.labels[axis] == choice], name),
                )
                for choice in order
            ]
            drawn = [(x, fmean(v), stdev(v) if len(v) > 1 else 0.0) for x, v in runs if v]
            if drawn:
                x, y, spread = zip(*sorted(drawn), strict=True)
                style = "o-" if numeric else "o"
                panel.errorbar(x, y, spread, fmt=style, capsize=3, label=label or None)
        panel.set(xlabel=axis, ylabel=ERRORS[name])
        drawn_values = [v for v in values(outcomes, name) if 0 < v < inf]
        if drawn_values and max(drawn_values) > DECADE * min(drawn_values):
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
        elif isfinite(panel.dataLim.ymax):
            panel.set_ylim(0, 1.08 * max(drawn_values))
        if even:
            slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
            panel.set_xticks(list(places.values()), order, **(slanted if crowded else {}))
    if len(lines) > 1:
        named = panel.get_legend_handles_labels()
        figure.legend(*named, fontsize="small", loc="outside upper center", ncols=LEGEND)
    return figure


def _places(order: Sequence[str]) -> tuple[Mapping[str, float], bool, bool]:
    """Where the choices of an axis are drawn, whether all are numbers, and if it is evenly."""
    try:
        values = {choice: float(choice) for choice in order}
    except ValueError:
        return {choice: float(i) for i, choice in enumerate(order)}, False, True
    rising = sorted(values.values())
    gaps = [b - a for a, b in pairwise(rising)]
    if min(gaps, default=inf) >= LEAST_GAP * (rising[-1] - rising[0]):
        return values, True, False
    return {choice: float(rising.index(value)) for choice, value in values.items()}, True, True


def cell(outcomes: Sequence[Outcome], name: str) -> str:
    """Mean ± standard deviation of one test error."""
    errors = values(outcomes, name)
    if not errors:
        return "–"
    spread = stdev(errors) if len(errors) > 1 else 0.0
    digits = max(1 - floor(log10(spread or fmean(errors) / 10 or 1.0)), 0)
    mean = f"{fmean(errors):.{digits}f}"
    return f"{mean} ± {spread:.{digits}f}" if len(errors) > 1 else mean
