"""What trainings show while they run: a bar in a terminal, elsewhere a line an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape

from tlpot.ablation.run import OnEpoch
from tlpot.ablation.sweep import Outcome, Point
from tlpot.ablation.table import brief
from tlpot.cli.console import COMPARED, Bar
from tlpot.evaluation.panels import short
from tlpot.training.trainer import Row

VALIDATED = {
    "validation_energy_rmse_meV_per_atom": "{} meV/atom",
    "validation_force_rmse_meV_per_A_component": "{} meV/Å",
    "validation_accuracy": "accuracy {}",
}
"""Columns of ``history.csv`` that tell more than the validation loss."""


def losses(row: Row) -> str:
    """Training loss and validation errors of an epoch."""
    texts = [text.format(short(row[k])) for k, text in VALIDATED.items() if row.get(k) is not None]
    if not texts and row["validation_loss"] is not None:
        texts = [short(row["validation_loss"])]
    validation = f" · validation {', '.join(texts)}" if texts else ""
    return f"loss {short(row['train_loss'])}{validation}"


def seconds_left(row: Row, epochs: int) -> float:
    """What the remaining epochs take if they last as those so far."""
    done = row["epoch"] or 1
    return (row["seconds"] or 0.0) / done * max(epochs - done, 0)


class TrainingDisplay(Bar):
    """What was prepared, and then each epoch.

    Parameters
    ----------
    epochs
        Of the whole run.
    show
        Prints what was prepared.
    """

    def __init__(self, epochs: int, show: Callable[[Any, Console], None], console: Console) -> None:
        super().__init__("epoch", console, epochs, visible=False, each=True)
        self.epochs, self.show = epochs, show

    def on_compared(self, done: int, total: int) -> None:
        """Move the bar, of frames that the base is asked about."""
        self.each = False
        self.update(self.task, description=COMPARED)
        self.move(done, total)

    def on_start(self, prepared: Any) -> None:
        """Say what is about to train, and show the bar."""
        self.show(prepared, self.console)
        self.epochs, self.each = prepared.config.training.epochs, True
        self.restart("epoch", self.epochs)

    def on_epoch(self, row: Row) -> None:
        """Move the bar, with the errors of the epoch."""
        left = seconds_left(row, self.epochs)
        self.move(int(row["epoch"] or 0), note=losses(row), seconds=left)


@contextmanager
def sweep_display(
    console: Console,
) -> Iterator[tuple[Callable[[Sequence[Outcome], int], None], OnEpoch | None]]:
    """A bar over the points of a sweep, failures above it; elsewhere a line a point and an epoch.

    Yields what to call when a point ends, and (None where there is a bar) after an epoch.
    """
    with Bar("point", console, each=True) as bar:

        def on_point(done: Sequence[Outcome], total: int) -> None:
            bar.move(len(done), total, _named(done[-1].point) if done else "")
            if done and done[-1].reason:
                what = f"{_named(done[-1].point)}: {brief(done[-1])}"
                console.print(f"[red]failed[/] {escape(what)}", soft_wrap=True)

        def on_epoch(point: Point, row: Row) -> None:
            epochs = point.config.training.epochs
            left = timedelta(seconds=round(seconds_left(row, epochs)))
            line = f"{_named(point)} · epoch {row['epoch']:.0f}/{epochs} · {left} left"
            line += f" · {losses(row)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield on_point, on_epoch if bar.disable else None


def _named(point: Point) -> str:
    return ", ".join([*(f"{k}={v}" for k, v in point.labels.items()), f"seed {point.seed}"])
