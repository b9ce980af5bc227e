"""What `tlpot xrd` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from tlpot.cli.show.data import print_seen
from tlpot.data.fingerprints import base_lines
from tlpot.evaluation.metrics import PARTS
from tlpot.evaluation.plots import read_history
from tlpot.evaluation.report import epoch_lines
from tlpot.powder.classifier import Classifier, Opinion
from tlpot.powder.lines import SYSTEMS
from tlpot.powder.prepare import PreparedClassifier
from tlpot.training.job import Run


def print_prepared(prepared: PreparedClassifier, console: Console) -> None:
    """How many crystals of each crystal system each part has, and what was refused."""
    print_seen(base_lines(prepared.seen_by_base, "crystals"), console)
    table = Table("crystals", *reversed(PARTS))
    counts = [
        Counter(example.system for example in prepared.part(name)) for name in reversed(PARTS)
    ]
    for i, system in enumerate(SYSTEMS):
        table.add_row(system, *(str(count[i]) for count in counts))
    console.print(table)
    if unseen := prepared.unseen():
        line = f"no training crystal is {' or '.join(unseen)}: the classifier will not know them"
        console.print(line, style="bold red", soft_wrap=True)
    if prepared.refused:
        first = prepared.refused[0]
        line = f"{len(prepared.refused)} not used, the first: {first.name}: {first.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_run(run: Run[Classifier], console: Console) -> None:
    """Accuracies on held-out crystals, and where to find the rest."""
    print_seen(base_lines(run.metrics["seen_by_base"], "crystals"), console)
    table = Table("patterns", "crystals", "right", "among two", "balanced", "macro F1")
    for part in ("validation", "test"):
        for kind, entry in run.metrics[part].items():
            if entry["n"]:
                names = ("accuracy", "top2", "balanced_accuracy", "macro_f1")
                cells = (f"{100 * entry[name]:.1f} %" for name in names)
                table.add_row(f"{kind}, {part}", str(entry["n"]), *cells)
    console.print(table)
    for text in epoch_lines(read_history(run.folder / "history.csv")):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {run.folder / 'report.html'}", soft_wrap=True)


def print_opinions(opinions: Mapping[str, Opinion], console: Console) -> None:
    """A line of probabilities a pattern, and why it may mean nothing."""
    for name, opinion in opinions.items():
        shares = ", ".join(f"{k} {100 * v:.0f} %" for k, v in opinion.probabilities.items())
        console.print(f"{name}: {shares}", markup=False, highlight=False, soft_wrap=True)
        for doubt in opinion.doubts:
            line = f"  outside what the classifier was trained on: {doubt}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if unseen := next((opinion.unseen for opinion in opinions.values()), []):
        console.print(f"no training crystal was {' or '.join(unseen)}: such are not recognised")
