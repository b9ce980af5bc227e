"""What is said of data: what is in files, what is refused, what a model has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tlpot.data.check import FRAMES_LISTED, Checked, RefusedFramesError, Rejection, refused_table
from tlpot.data.inspect import FrameGroup, Inspection
from tlpot.errors import TlpotError
from tlpot.files import write_new
from tlpot.trust.gate import grouped, named_frames
from tlpot.trust.suspects import Suspect

NO_FORCES = (
    "{} frames have no forces: tlpot finetune learns from them with data.relaxed: true if they are "
    "DFT minima, else with data.energy_only: true"
)


def print_lines(lines: Iterable[str], console: Console) -> None:
    """Write each as it comes."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Write all tables and messages."""
    print_lines((f"not read: {message}" for message in inspection.unreadable), console)
    print_lines(filter(None, [inspection.conflict]), console)
    print_lines((*inspection.levels, *inspection.checked.remarks), console)
    if inspection.groups:
        console.print(_groups(inspection.groups))
    if inspection.checked.rejected:
        console.print(checked_table(inspection.checked))
    if bare := sum(frame.labels == "energy" for frame in inspection.checked.frames):
        console.print(NO_FORCES.format(bare), soft_wrap=True, highlight=False)
    print_lines((f"wrote {picture}" for picture in inspection.pictures), console)


@contextmanager
def refused_listed(
    path: Path | None, console: Console
) -> Iterator[Callable[[Sequence[Rejection]], None]]:
    """Write the table of refused frames: what the function it yields is given, or what is raised.

    Raises
    ------
    TlpotError
        If there is another table already; as what goes on meanwhile, with how to see all frames.
    """

    def write(rejected: Sequence[Rejection]) -> None:
        if path is not None:
            write_new({path: refused_table(rejected)}, "name another file with --refused")
            print_lines([f"wrote {path}: {len(rejected)} frames refused"], console)

    try:
        yield write
    except RefusedFramesError as error:
        write(error.rejected)
        if path is not None or len(error.rejected) <= FRAMES_LISTED:
            raise
        raise TlpotError(f"{error}\n  All {len(error.rejected)}: --refused refused.csv") from None


def checked_table(checked: Checked) -> Table:
    """Each reason with its count, first example and mend."""
    total = len(checked.frames) + len(checked.rejected) + checked.surplus
    table = Table(title=f"{len(checked.frames)} of {total} frames used")
    table.add_column("reason")
    table.add_column("frames", justify="right")
    for column in ("first", "seen there", "mend"):
        table.add_column(column, overflow="fold")
    for reason, group in checked.by_reason().items():
        first = group[0]
        count = str(len(group))
        table.add_row(reason, count, escape(first.frame.name), escape(first.detail), first.mend)
    if checked.surplus:
        table.add_row("beyond data.max_frames", str(checked.surplus), "", "", "")
    return table


def suspect_table(suspects: Sequence[Suspect]) -> Table:
    """Frames to look at, one row a file and cause."""
    table = Table(title=f"look at these: the labels of {len(suspects)} frames do not fit")
    for column in ("frames", "likely cause", "seen in the first", "mend"):
        table.add_column(column, overflow="fold")
    for group in grouped(suspects):
        first = group[0]
        cells = (named_frames(group), first.cause, first.evidence, first.mend)
        table.add_row(*map(escape, cells))
    return table


def print_seen(lines: Iterable[str], console: Console) -> None:
    """Print what a model has seen of the frames that it is judged by."""
    for line in lines:
        console.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)


def _groups(groups: Sequence[FrameGroup]) -> Table:
    """Structures, energies and forces of every group (the thesis's Table 3.1)."""
    table = Table(
        title="Energies in eV/atom, their spread in meV/atom, |F| in eV/Å, of usable frames",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("group", overflow="fold")
    names = ["usable", "atoms", "E min…max", "spread", "mean", "max |F|", "stress"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(f"{group.file}\n{group.formula} {group.kind}", *_row(group))
    return table


def _row(group: FrameGroup) -> list[str]:
    usable = f"{len(group.frames)}/{group.n_read}"
    if not group.frames:
        return [usable, *"––––––"]
    sizes = sorted({len(frame) for frame in group.frames})
    atoms = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
    energies, forces = group.energies(), group.forces()
    stress = sum(frame.stress is not None for frame in group.frames)
    return [
        usable,
        atoms,
        f"{energies.min():.3f}…{energies.max():.3f}",
        f"{1e3 * energies.std():.1f}",
        *([f"{forces.mean():.2f}", f"{forces.max():.2f}"] if len(forces) else "––"),
        "yes" if stress == len(group.frames) else str(stress or "no"),
    ]
