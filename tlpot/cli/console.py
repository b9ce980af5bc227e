"""What a run shows in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tlpot.ablation.sweep import Outcome
from tlpot.ablation.table import ERRORS, brief, by_labels, cell
from tlpot.config.run import Config
from tlpot.csp.ranking import Ranked
from tlpot.data.crystals import stem
from tlpot.data.fingerprints import base_lines
from tlpot.data.identity import short_names
from tlpot.errors import TlpotError
from tlpot.evaluation.plots import short
from tlpot.evaluation.report import MODELS, judged_part, made_worse, print_seen, print_summary
from tlpot.finetuning.run import Prepared, Run
from tlpot.labelling.label import Summary
from tlpot.md.dynamics import Progress as MDProgress
from tlpot.relax.files import Outcome as RelaxedFolder
from tlpot.sampling.active import Round, active_learning
from tlpot.structure.frames import Frame, Labels
from tlpot.training.trainer import Row

SHOWN = 20
"""Failed frames that are listed one by one."""


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

    def on_start(self, prepared: Prepared) -> None:
        print_prepared(prepared, self.console)
        self.progress.update(self.task, visible=True)

    def on_epoch(self, row: Row) -> None:
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


def print_sweep(outcomes: Sequence[Outcome], folder: str, console: Console) -> None:
    """Test errors of every combination, mean ± spread over seeds, and where the files are."""
    axes = list(outcomes[0].point.labels)
    table = Table(*axes, *ERRORS.values(), "seeds")
    for labels, group in by_labels(outcomes).items():
        good = [o for o in group if o.reason is None]
        table.add_row(*labels, *(cell(good, name) for name in ERRORS), str(len(good)))
    console.print(table)
    if failed := sum(o.reason is not None for o in outcomes):
        console.print(f"{failed} of {len(outcomes)} points failed: the reasons are in points.csv")
    console.print(f"{folder}: points.csv, table.md, by-*.png")


def print_relaxed(outcome: RelaxedFolder, console: Console) -> None:
    """How many structures are relaxed, and why the others are not."""
    aside = outcome.quarantine
    last = f"{outcome.folder}: {outcome.relaxed} structures relaxed, {len(aside)} set aside"
    if outcome.held:
        last += f"\n{outcome.held} of them with fixed atoms, which kept their place in the cell"
    _print_with_reasons(aside, last, console)


def _print_with_reasons(failed: Sequence[tuple[str, str]], last: str, console: Console) -> None:
    for name, reason in failed[:SHOWN]:
        console.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(failed) > SHOWN:
        console.print(f"… and {len(failed) - SHOWN} more")
    console.print(last, markup=False, highlight=False, soft_wrap=True)


def print_md(summary: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Length, drift, means, and why it stopped."""
    lines = [f"{summary['time_ps']:g} ps of {summary['atoms']} atoms"]
    if (drift := summary["drift_meV_per_atom_per_ps"]) == drift:
        lines.append(f"drift {drift:+.3g} meV per atom and ps")
    for name, unit in (("temperature_K", "K"), ("pressure_GPa", "GPa"), ("volume_A3", "Å³")):
        mean, error = summary[name]["mean"], summary[name]["error"]
        if mean == mean:
            bar = f" ± {error:.2g}" if error == error else ""
            lines.append(f"{name.split('_')[0]} {mean:.4g}{bar} {unit}")
    if summary["stopped"]:
        lines.append(f"stopped at {summary['stopped']}")
    lines.append(f"{folder}: trajectory.extxyz, log.csv, md.png, rdf.png")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_labels(summary: Summary, console: Console) -> None:
    """How many frames have labels now, and why the others have none."""
    last = f"{summary.output}: {summary.labelled} frames labelled, {summary.kept} kept, "
    _print_with_reasons(summary.failed, f"{last}{len(summary.failed)} failed", console)


def print_ranking(ranked: Ranked, folder: Path, console: Console) -> None:
    """The lowest crystals, the experimental ones, what was refused, and where the files are."""
    table = Table("rank", "structure", "kJ/mol", "above lowest", "±", "g/cm³", "in doubt against")
    names = short_names(one.name for one in ranked.candidates)
    for i, one in enumerate(ranked.candidates[:SHOWN]):
        doubt = ranked.not_told_from(i)
        table.add_row(
            str(i + 1),
            names[one.name],
            f"{one.energy:.2f}",
            f"{ranked.relative[i]:.2f}",
            short(ranked.spread[0, i]),
            f"{one.density:.3f}",
            "?" if doubt is None else f"{len(doubt)} others",
        )
    console.print(table)
    lines = [
        f"{stem(name)}: rank {ranked.place(m.candidate) + 1}, "
        f"{ranked.relative[ranked.place(m.candidate)]:.2f} kJ/mol above the lowest, RMSD "
        f"{m.rmsd:.2f} Å"
        if m
        else f"{stem(name)}: no crystal matches it"
        for name, m in ranked.experimental.items()
    ]
    if (best := ranked.best_pattern) is not None:
        like = short(ranked.candidates[best].notes["pattern_similarity"])
        lines.append(f"most like the measured pattern: rank {best + 1}, similarity {like}")
    if ranked.opinion is not None:
        share = 100 * ranked.opinion.probabilities[ranked.opinion.best]
        lines.append(f"the classifier takes it for {ranked.opinion.best} ({share:.0f} %)")
        lines += [f"  outside what it was trained on: {text}" for text in ranked.opinion.doubts]
    if ranked.scores["n"] > 1:
        named = (f"{name} {short(value)}" for name, value in ranked.scores.items() if name != "n")
        lines.append("against the reference: " + ", ".join(named))
    lines += ranked.remarks
    lines += [f"refused {r.name}: {r.reason}" for r in ranked.refused[:SHOWN]]
    lines.append(
        f"{folder}: {len(ranked.candidates)} ranked, {len(ranked.copies)} copies, "
        f"{len(ranked.refused)} refused (warnings); see ranking.html"
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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


def print_prepared(prepared: Prepared, console: Console) -> None:
    """Data used and rejected, split, energy reference, and the table of what trains."""
    print_seen(base_lines(prepared.seen_by_base), console)
    checked = prepared.checked
    if checked.rejected or checked.surplus:
        console.print(checked.table())
    else:
        console.print(f"all {len(checked.frames)} frames used")
    if labels := label_counts(checked.frames):
        console.print(labels)
    for remark in checked.remarks:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    sizes = ", ".join(f"{len(frames)} {name}" for name, frames in prepared.parts.items())
    console.print(f"split (seed {prepared.config.data.split.seed}): {sizes}")
    reference = prepared.potential.reference
    console.print(f"energy reference {reference.kind}: {reference.why}")
    table = Table("layer", title="what trains")
    columns = list(dict.fromkeys(x.name.split(".")[1] for x in prepared.layers))
    for column in columns:
        table.add_column(column, justify="right")
    rows: dict[str, list[str]] = {}
    for layer in prepared.layers:
        text = f"{layer.trained:,}" if layer.trained else "[dim]frozen[/]"
        if 0 < layer.trained < layer.parameters:
            text += f" of {layer.parameters:,}"
        rows.setdefault(layer.name.split(".")[0], []).append(text)
    for element, cells in rows.items():
        table.add_row(element, *cells)
    console.print(table)


def label_counts(frames: Sequence[Frame]) -> str:
    """How many frames have which labels; nothing where all have energy and forces."""
    names: dict[Labels, str] = {
        "full": "with forces",
        "relaxed": "minima",
        "energy": "with their energy alone",
    }
    counts = Counter(frame.labels for frame in frames)
    found = [f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind]]
    return "labels: " + ", ".join(found) if set(counts) != {"full"} else ""


def print_run(run: Run, console: Console) -> None:
    """Errors before and after, and where to find the rest."""
    print_seen(base_lines(run.metrics["seen_by_base"]), console)
    print_summary(run.metrics, console)
    before, after = (run.metrics[model][judged_part(run.metrics)] for model in MODELS)
    for line in made_worse(before, after):
        console.print(line, style="bold red")
    console.print(f"report: {run.folder / 'report.html'}", markup=False)
    console.print(f"use it: TLPotCalculator('{run.folder / 'model.safetensors'}')", markup=False)
