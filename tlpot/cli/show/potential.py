"""What is said of the training of a potential and of its errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tlpot.cli.show.data import checked_table, print_lines, print_seen, suspect_table
from tlpot.data.check import FRAMES_LISTED
from tlpot.data.fingerprints import base_lines
from tlpot.evaluation.metrics import PARTS, Metrics
from tlpot.evaluation.panels import short
from tlpot.evaluation.phonons import PhononErrors
from tlpot.evaluation.plots import read_history
from tlpot.evaluation.report import (
    FRAME_ROWS,
    MAIN_ROWS,
    MODELS,
    epoch_lines,
    judged_part,
    made_worse,
    outlier_lines,
    percent,
    rows_of,
)
from tlpot.finetuning.prepare import PreparedPotential
from tlpot.finetuning.run import PotentialRun
from tlpot.structure.frames import Frame, Labels
from tlpot.training.cost import Cost


def print_prepared(prepared: PreparedPotential, console: Console) -> None:
    """Data used and rejected, split, energy reference, and the table of what trains."""
    print_seen(base_lines(prepared.seen_by_base), console)
    checked = prepared.checked
    if checked.rejected or checked.surplus:
        console.print(checked_table(checked))
    else:
        console.print(f"all {len(checked.frames)} frames used")
    print_lines((*label_names(checked.frames), *new_elements(prepared)), console)
    if labels := label_counts(checked.frames):
        console.print(labels)
    if prepared.suspects:
        console.print(suspect_table(prepared.suspects))
    for remark in checked.remarks:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    sizes = ", ".join(f"{len(frames)} {name}" for name, frames in prepared.parts.items())
    data = prepared.config.data
    origin = f"(seed {data.split.seed})" if data.shuffled or not data.train else "as named"
    console.print(f"split {origin}: {sizes}")
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


def label_names(frames: Sequence[Frame]) -> Iterator[str]:
    """What labels are called in the files, where that is not their name here."""
    for label in ("energy", "forces", "stress"):
        names = Counter(
            str(frame.info.get(f"{label}_key", label))
            for frame in frames
            if getattr(frame, label) is not None
        )
        if names.keys() - {label}:
            counts = (f"'{name}' in {number} frames" for name, number in names.items())
            yield f"{label}: read from {', '.join(counts)}"


def new_elements(prepared: PreparedPotential) -> Iterator[str]:
    """What each element that stands on another is, and what that means."""
    means = {
        "alias": "uses {0}'s networks and looks like {0} to its neighbours",
        "clone": "has networks and descriptors of its own, which began as {0}'s",
    }
    for element, new in prepared.new_elements.items():
        kind, donor = new["as"], new["from"]
        noun = "an alias" if kind == "alias" else f"a {kind}"
        absent = "" if element in prepared.present else "; no frame holds it"
        yield f"{element} is {noun} of {donor}: it {means[kind].format(donor)}{absent}"


def cost_line(cost: Cost) -> str:
    """What a training will take, and what that rests on."""
    total, memory = timedelta(seconds=round(cost.epochs * cost.epoch)), ""
    if cost.memory is not None:
        memory = f", at least {cost.memory / 1e9:.2g} GB of memory"
    return (
        f"training: about {total} for {cost.epochs} epochs{memory}, as {cost.timed} of the "
        f"{cost.steps} steps of an epoch on {cost.device} ({cost.threads} threads) took now; "
        "checkpoints, and the predictions for the report, come on top"
    )


def print_run(run: PotentialRun, console: Console) -> None:
    """Errors before and after, and where to find the rest."""
    print_seen(base_lines(run.metrics["seen_by_base"]), console)
    print_summary(run.metrics, console)
    before, after = (run.metrics[model][judged_part(run.metrics)] for model in MODELS)
    for line in made_worse(before, after):
        console.print(line, style="bold red")
    for line in (
        *outlier_lines(after),
        *epoch_lines(read_history(run.folder / "history.csv")),
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if stress := run.metrics.get("stress"):
        failed = stress["failures"]
        counts = " → ".join(str(failed[who]) for who in ("base", "model") if who in failed)
        cases = sum(sum(row.values()) for row in stress["counts"]["model"].values())
        console.print(f"stress test: {counts} of {cases} cases failed (tlpot stress: at length)")
    for row in run.metrics["unfitted"][:FRAMES_LISTED]:
        line = f"look at {row['frame']}: {row['cause']} ({row['evidence']})"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if more := len(run.metrics["unfitted"][FRAMES_LISTED:]):
        console.print(f"… and at {more} more training frames: the report lists them")
    console.print(f"report: {run.folder / 'report.html'}", markup=False)
    console.print(f"use it: TLPotCalculator('{run.folder / 'model.safetensors'}')", markup=False)


def print_summary(metrics: Mapping[str, Mapping[str, Metrics]], console: Console) -> None:
    """Print the errors of each part as "before → after"."""
    before, after = (metrics[model] for model in MODELS)
    parts = [part for part in PARTS if after[part]["n_frames"]]
    table = _table(
        "before → after", "", *(f"{part}\n{after[part]['n_frames']} frames" for part in parts)
    )
    for label, unit, key in rows_of(after.values()):
        pairs = (f"{short(before[part][key])} → {short(after[part][key])}" for part in parts)
        table.add_row(label, unit, *pairs)
    if any(after[part]["n_force_frames"] < after[part]["n_frames"] for part in parts):
        counts = (str(after[part]["n_force_frames"]) for part in parts)
        table.add_row("frames with forces", "", *counts)
    console.print(table)


def print_evaluation(result: Metrics, console: Console) -> None:
    """Print what `evaluate` gives.

    Errors of all frames, of those that the model has seen and has not, of kinds, systems,
    elements; crystals against gas molecules; the worst frames; coverage of intervals.
    """
    table = _table("", "frames", *_headings(MAIN_ROWS))
    names = ("by_seen", "by_kind", "by_system", "by_element")
    groups = ({"all": result}, *(result[name] for name in names if name in result))
    for group in groups:
        for name, entry in group.items():
            errors = (short(entry.get(key)) for _, _, key in MAIN_ROWS)
            table.add_row(name, str(entry.get("n_frames", "")), *errors)
        table.add_row()
    console.print(table)
    if result["by_offset"]:
        print_offsets(result["by_offset"], console)
    if result["n_frames"] > len(result["by_frame"]):
        rows = rows_of(result["by_frame"], FRAME_ROWS)
        worst = _table("worst frames", *_headings(rows))
        for entry in result["by_frame"]:
            name = Text(f"{entry['file']}#{entry['index']}", overflow="fold")
            worst.add_row(name, *(short(entry[key]) for _, _, key in rows))
        worst.add_row()
        console.print(worst)
    for line in outlier_lines(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    print_lines(_outside_lines(result), console)
    if result["n_force_frames"] < result["n_frames"]:
        console.print(f"force errors: {result['n_force_frames']} frames have forces")
    unseen = result.get("by_seen", {}).get("unseen")
    console.print(_trust((unseen or result)["uncertainty"], "unseen frames" if unseen else ""))


def print_phonons(errors: PhononErrors, console: Console) -> None:
    """Errors of forces on displacements and of frequencies."""
    summary = errors.summary
    kinds = {"computed": "less those at rest", "unknown": "less their mean, those at rest unknown"}
    rows = [("displacements", "", f"{summary['n_displacements']}")]
    if (relative := summary.get("force_error")) is not None:
        what = f"forces on displacements, {kinds[summary['forces_at_rest']]}"
        rows.append((what, "%", short(100 * relative)))
    if (at_rest := summary["rest_rmse_meV_per_A_component"]) is not None:
        rows.append(("forces at rest, RMSE", "meV/Å", short(at_rest)))
    if summary["n_frequencies"]:
        rows.append(("frequencies", "", f"{summary['n_frequencies']} at {summary['n_q']} q"))
        for key, name in (("rmse", "RMSE"), ("mean", "mean error"), ("max", "largest error")):
            for unit, place in (("cm⁻¹", "per_cm"), ("THz", "THz")):
                value = short(summary[f"frequency_{key}_{place}"])
                rows.append((f"frequencies, {name}", unit, value))
        imaginary = f"{summary['n_imaginary_dft']} and {summary['n_imaginary_model']}"
        rows.append(("imaginary, DFT and model", "", imaginary))
    table = _table(f"{summary['formula']}, {summary['n_atoms']} atoms", "", "")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if summary["no_frequencies"]:
        print_lines([f"no frequencies: {summary['no_frequencies']}"], console)


def _outside_lines(result: Metrics) -> Iterator[str]:
    """Of frames that lie outside the model's training."""
    outside = result.get("outside")
    if outside is None:
        return
    yield f"outside the model's training: {len(outside)} of {result['n_frames']} frames"
    for entry in outside[:OUTSIDE_SHOWN]:
        yield f"  {entry['file']}#{entry['index']}: {entry['reason']}"
    if len(outside) > OUTSIDE_SHOWN:
        yield f"  and {len(outside) - OUTSIDE_SHOWN} more"


OUTSIDE_SHOWN = 5
"""Frames that are shown; ``--json`` and ``--output`` have all."""


def print_offsets(by_offset: Metrics, console: Console) -> None:
    """How far the crystals of each molecule are off against it alone."""
    table = _table("crystal against\ngas molecule", "crystals", "molecules", "meV/atom", "kJ/mol")
    for name, entry in by_offset.items():
        counts = (str(entry[key]) for key in ("n_crystals", "n_molecules"))
        table.add_row(name, *counts, *(short(entry[key]) for key in ("meV_per_atom", "kJ_mol")))
    table.add_row()
    console.print(table)


def label_counts(frames: Sequence[Frame]) -> str:
    """How many frames have which labels; nothing where all have energy and forces."""
    names: dict[Labels, str] = {
        "full": "with forces",
        "relaxed": "minima",
        "energy": "with their energy alone",
    }
    counts = Counter(frame.labels for frame in frames)
    parts = [f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind]]
    return "labels: " + ", ".join(parts) if set(counts) != {"full"} else ""


def _trust(entry: Metrics, what: str = "") -> str:
    if entry["level"] is None:
        return "The model's spread is raw: it has no calibration to make an error bar of it."
    interval = f"{100 * entry['level']:.0f} % intervals"
    covered = [
        f"{percent(entry[quantity]['coverage'])} of the {labels}"
        for quantity, labels in (("energy", "energies"), ("forces", "forces"))
        if entry[quantity]["coverage"] is not None
    ]
    if not covered:
        return f"The model has no {interval} of these labels: it had too few validation frames."
    of = f" of {what}" if what else ""
    return f"{interval} of the model cover {', '.join(covered)}{of}."


def _headings(rows: Iterable[tuple[str, str, str]]) -> Iterable[str]:
    return (f"{label.replace(', ', chr(10))}\n{unit}" for label, unit, _ in rows)


def _table(first: str, *columns: str) -> Table:
    table = Table(first, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right")
    return table
