"""What a run shows in the terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from tlpot.cli.show.data import checked_table, refused_listed
from tlpot.config.run import Config
from tlpot.data.check import Checked
from tlpot.errors import TlpotError
from tlpot.md.dynamics import Pace
from tlpot.sampling.active import Round, active_learning
from tlpot.structure.frames import Frame

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between two lines of progress, at least and (of what moves) at most."""
WIDE, NARROW = 120, 100
"""Columns of a terminal with room for a long bar; below which a short one leaves more for words."""


class Bar(Progress):
    """What is done of how many and the time left: a bar, or lines where no terminal shows one.

    Bad input takes a bar away with it, so that only the message is left.

    Parameters
    ----------
    what
        Names what is counted.
    total
        How many there are; None: the first `move` says it.
    visible
        Whether a bar is there before the first `move`.
    each
        Whether every `move` is worth a line.
    """

    def __init__(
        self,
        what: str,
        console: Console,
        total: int | None = None,
        *,
        visible: bool = True,
        each: bool = False,
    ) -> None:
        shown = console.is_interactive and console.file.isatty()
        whole = Column(no_wrap=True)
        width = 40 if console.width >= WIDE else 15 if console.width >= NARROW else 8
        super().__init__(
            TextColumn("{task.description}", table_column=whole),
            MofNCompleteColumn(table_column=whole),
            BarColumn(width, table_column=whole),
            TextColumn("{task.fields[left]}", table_column=whole),
            _Note(),
            console=console,
            disable=not shown,
        )
        self.task = self.add_task(what, total=total, visible=visible, left="", note="")
        self.each = each
        self.first: tuple[float, int] | None = None
        self.line = (-LONGEST_WAIT, 0)

    def restart(self, what: str, total: int) -> None:
        """Count something else, from none of it."""
        self.first, self.line = None, (-LONGEST_WAIT, 0)
        self.update(self.task, description=what, completed=0, total=total, left="", visible=True)

    def move(
        self, done: int, total: int | None = None, note: str = "", seconds: float | None = None
    ) -> None:
        """Show so many done; time left from the pace so far, if `seconds` do not say it."""
        now = time.monotonic()
        begin, before = self.first = self.first or (now, done)
        self.update(self.task, completed=done, total=total, note=note, visible=True)
        total = int(self.tasks[0].total or 0)
        words = ""
        if seconds is None and before < done < total:
            seconds = (total - done) * (now - begin) / (done - before)
        if seconds is not None:
            words = f"{timedelta(seconds=round(seconds))} left"
        self.update(self.task, left=words)
        if self.disable and self._due(now, done, total):
            self.line = (now, done)
            parts = [f"{self.tasks[0].description} {done}/{total or '?'}", words, note]
            self.console.print(
                " · ".join(filter(None, parts)), markup=False, highlight=False, soft_wrap=True
            )

    def _due(self, now: float, done: int, total: int) -> bool:
        """Whether a line is worth while: after a second and a hundredth, or a minute."""
        since, more = now - self.line[0], done - self.line[1]
        if self.each or done == total:
            return done != self.line[1] or since >= LONGEST_WAIT
        return since >= LONGEST_WAIT or (since >= SHORTEST_WAIT and more >= total / 100)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.disable:  # rich up to 14.0 ends what it never began with an empty line
            self.live.transient = isinstance(error, TlpotError)
            super().__exit__(kind, error, trace)


class _Note(ProgressColumn):
    """What else is known, as far as there is room."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")


@contextmanager
def progress_bar(what: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar that the function it yields moves to so many done."""
    with Bar(what, console, total) as progress:
        yield progress.move


@contextmanager
def count_bar(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """As `progress_bar`, of what is counted only later: the function takes done and total."""
    with Bar(what, console) as progress:
        yield progress.move


COMPARED = "frames compared with the base"


@contextmanager
def compared_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """As `count_bar`, of labels that a base is asked about; seen only where there are many."""
    with Bar(COMPARED, console, visible=False) as progress:
        yield progress.move


@contextmanager
def md_bar(steps: int, console: Console) -> Iterator[Callable[[Pace], None]]:
    """A bar over the steps of a run, with its pace."""
    with Bar("step", console, steps) as progress:
        yield lambda now: progress.move(now.step, note=f"{now.ns_per_day:.3g} ns/day")


def show_learning(
    config: Config, number: int | None, refused: Path | None, console: Console
) -> list[Frame]:
    """Active learning with one line a round; the frames it chose.

    What is refused is shown, and listed in a table if there is a path for it.
    """

    def show(done: Round) -> None:
        console.print(
            f"round {done.number}: trained on {done.frames}; {done.in_doubt} of the other "
            f"{done.left} in doubt; spread per √N {1e3 * done.median:.2f} (median), "
            f"{1e3 * done.largest:.2f} meV (largest)",
            soft_wrap=True,
        )

    with refused_listed(refused, console) as listed:

        def say(checked: Checked) -> None:
            listed(checked.rejected)
            if checked.rejected:
                console.print(checked_table(checked))

        return active_learning(config, number, show, say)[0]
