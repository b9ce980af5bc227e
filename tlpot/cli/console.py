"""What a run shows in the terminal while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tlpot.ablation.sweep import Outcome
from tlpot.ablation.table import brief
from tlpot.cli.show.potential import print_prepared
from tlpot.config.run import Config
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import PreparedPotential
from tlpot.md.dynamics import Progress as MDProgress
from tlpot.sampling.active import Round, active_learning
from tlpot.structure.frames import Frame
from tlpot.training.trainer import Row


class Bar(Progress):
    """A progress bar that bad input takes away with it, so that only the message is left."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.transient = isinstance(error, TlpotError)
        super().__exit__(kind, error, trace)


class TrainingDisplay:
    """Tables before training and a progress bar with the latest errors during it."""

    def __init__(self, config: Config, console: Console) -> None:
        self.console = console
        self.progress = Bar(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
            console=console,
        )
        self.task = self.progress.add_task(
            "", total=config.training.epochs, errors="", visible=False
        )

    def __enter__(self) -> TrainingDisplay:
        self.progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.__exit__(kind, error, trace)

    def on_start(self, prepared: PreparedPotential) -> None:
        """Say what is about to train, and show the bar."""
        print_prepared(prepared, self.console)
        self.progress.update(self.task, visible=True)

    def on_epoch(self, row: Row) -> None:
        """Move the bar, with the errors of the epoch."""
        energy = row["validation_energy_rmse_meV_per_atom"]
        force = row["validation_force_rmse_meV_per_A_component"]
        errors = f"loss {row['train_loss']:.3g}"
        if energy is not None:
            errors += f" · validation {energy:.2f} meV/atom"
        if force is not None:
            errors += f", {force:.1f} meV/Å per component"
        self.progress.update(self.task, completed=row["epoch"], errors=errors)


@contextmanager
def epoch_bar(epochs: int, console: Console) -> Iterator[Callable[[Row], None]]:
    """A bar over epochs with training and validation loss, that the function it yields moves.

    Seen from the first epoch on, so that data that are refused leave no bar.
    """
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    losses = TextColumn("{task.fields[losses]}")
    with Bar(*columns, losses, console=console) as progress:
        task = progress.add_task("", total=epochs, losses="", visible=False)

        def on_epoch(row: Row) -> None:
            text = f"loss {row['train_loss']:.3g}"
            if row["validation_loss"] is not None:
                text += f" · validation {row['validation_loss']:.3g}"
            progress.update(task, completed=row["epoch"], losses=text, visible=True)

        yield on_epoch


@contextmanager
def progress_bar(what: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar that the function it yields moves to so many done."""
    columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def count_bar(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """As `progress_bar`, of what is counted only later: the function takes done and total."""
    columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def md_bar(steps: int, console: Console) -> Iterator[Callable[[MDProgress], None]]:
    """A bar over the steps of a run, with its pace."""
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    pace = TextColumn("{task.fields[pace]}")
    with Bar(*columns, pace, console=console) as progress:
        task = progress.add_task("", total=steps, pace="")

        def on_progress(so_far: MDProgress) -> None:
            progress.update(task, completed=so_far.step, pace=f"{so_far.ns_per_day:.3g} ns/day")

        yield on_progress


@contextmanager
def sweep_bar(console: Console) -> Iterator[Callable[[Sequence[Outcome], int], None]]:
    """A bar over the points of a sweep; failures are printed above it."""
    columns = (TextColumn("point"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as progress:
        task = progress.add_task("", total=None)

        def on_point(done: Sequence[Outcome], total: int) -> None:
            progress.update(task, total=total, completed=len(done))
            if done and done[-1].reason:
                what = ", ".join(f"{k}={v}" for k, v in done[-1].point.labels.items())
                what += f", seed {done[-1].point.seed}: {brief(done[-1])}"
                console.print(f"[red]failed[/] {escape(what)}", soft_wrap=True)

        yield on_point


def learn(config: Config, number: int | None, console: Console) -> list[Frame]:
    """Active learning with one line a round; the frames it chose."""

    def show(done: Round) -> None:
        console.print(
            f"round {done.number}: trained on {done.frames}; {done.in_doubt} of the other "
            f"{done.left} in doubt; spread per √N {1e3 * done.median:.2f} (median), "
            f"{1e3 * done.largest:.2f} meV (largest)",
            soft_wrap=True,
        )

    return active_learning(config, number, show)[0]
