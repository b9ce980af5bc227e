"""What `tlpot property` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tlpot.cli.show.data import print_seen
from tlpot.data.fingerprints import base_lines, model_lines
from tlpot.evaluation.metrics import PARTS
from tlpot.evaluation.panels import short
from tlpot.evaluation.plots import read_history
from tlpot.evaluation.report import epoch_lines
from tlpot.property.evaluate import Metrics, flat
from tlpot.property.model import PropertyModel
from tlpot.property.prepare import PreparedProperty
from tlpot.property.report import MEASURES
from tlpot.training.job import Run


def print_prepared(prepared: PreparedProperty, console: Console) -> None:
    """What is about to be trained on what."""
    print_seen(base_lines(prepared.seen_by_base, "crystals"), console)
    parts = vars(prepared.splits)
    sizes = ", ".join(f"{len(parts[part])} {part}" for part in reversed(PARTS))
    console.print(f"{prepared.model.name} of {len(prepared.crystals)} crystals: {sizes}")
    print_left_out(prepared.crystals.rejected, console)
    kept = [layer.name for layer in prepared.layers if not layer.trained]
    console.print(f"layers kept: {', '.join(kept) or 'none'}")


def print_left_out(rejected: Sequence[str], console: Console) -> None:
    """One line for each entry that cannot be used."""
    for line in rejected:
        console.print(f"left out: {line}", markup=False)


def print_run(run: Run[PropertyModel], console: Console) -> None:
    """Errors of each part as "before → after", and where everything is."""
    print_seen(base_lines(run.metrics["seen_by_base"], "crystals"), console)
    before, after = run.metrics["baseline"], run.metrics["trained"]
    parts = [part for part in PARTS if after[part]["n"]]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("before → after")
    for part in parts:
        table.add_column(f"{part}\n{after[part]['n']} crystals", justify="right")
    for label, key in MEASURES:
        pairs = (f"{short(before[p][key])} → {short(after[p][key])}" for p in parts)
        table.add_row(f"{label} {run.model.unit if key != 'r2' else ''}", *pairs)
    console.print(table)
    for text in epoch_lines(read_history(run.folder / "history.csv")):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"model and report: {run.folder / 'report.html'}", soft_wrap=True)


def print_never_seen(strangers: Mapping[str, Sequence[str]], console: Console) -> None:
    """Warn of elements that no training crystal held."""
    for element, names in strangers.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        console.print(
            f"{element}: in no training crystal; the prediction for {names[0]}{more} is a guess",
            markup=False,
        )


def print_errors(metrics: Metrics, unit: str, console: Console) -> None:
    """What `tlpot property evaluate` says."""
    print_seen(model_lines(metrics["seen"], "crystals"), console)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in (
        "",
        "crystals",
        *(f"{name} {unit if key != 'r2' else ''}" for name, key in MEASURES),
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for name, part in (flat(metrics) | metrics.get("by_seen", {})).items():
        table.add_row(name, str(part["n"]), *(short(part[key]) for _, key in MEASURES))
    console.print(table)
    if trust := metrics.get("uncertainty"):
        numbers = {name: short(value) for name, value in trust.items()}
        console.print(
            f"spread of the models: mean {numbers['mean_spread']} {unit}; "
            f"rank correlation with the error {numbers['spearman']}; "
            f"RMS of error/spread {numbers['rms_z']}"
        )
        if "coverage" in trust:
            console.print(
                f"{trust['level']:.0%} intervals: mean half width {numbers['half_width']} {unit}; "
                f"{trust['coverage']:.0%} of the crystals lie inside"
            )
