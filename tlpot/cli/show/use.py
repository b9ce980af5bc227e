"""What is said of what a model is used for: sweeps, labels, relaxing, ranking, dynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tlpot.ablation.sweep import Outcome
from tlpot.ablation.table import ERRORS, by_labels, cell
from tlpot.csp.ranking import Ranked
from tlpot.data.crystals.read import stem
from tlpot.data.tables.identity import short_names
from tlpot.evaluation.panels import short
from tlpot.labelling.label import Summary
from tlpot.relax.files import RelaxedFolder
from tlpot.trust.stress import VERDICTS, failures
from tlpot.trust.stress_output import StressTest

SHOWN = 20
"""Failed frames that are listed one by one."""


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


def print_labels(summary: Summary, console: Console) -> None:
    """How many frames have labels now, and why the others have none."""
    last = f"{summary.output}: {summary.labelled} frames labelled, {summary.kept} kept, "
    _print_with_reasons(summary.failed, f"{last}{len(summary.failed)} failed", console)


def print_relaxed(outcome: RelaxedFolder, console: Console) -> None:
    """How many structures are relaxed, and why the others are not."""
    aside = outcome.quarantine
    last = f"{outcome.folder}: {outcome.relaxed} structures relaxed, {len(aside)} set aside"
    if outcome.held:
        last += f"\n{outcome.held} of them with fixed atoms, which kept their place in the cell"
    _print_with_reasons(aside, last, console)


def print_ranking(ranked: Ranked, folder: Path, console: Console) -> None:
    """The lowest crystals, the experimental ones, what was refused, and where the files are."""
    table = Table("rank", "structure", "kJ/mol", "above lowest", "±", "g/cm³", "in doubt against")
    names = short_names(candidate.name for candidate in ranked.candidates)
    for i, candidate in enumerate(ranked.candidates[:SHOWN]):
        doubt = ranked.not_told_from(i)
        table.add_row(
            str(i + 1),
            names[candidate.name],
            f"{candidate.energy:.2f}",
            f"{ranked.relative[i]:.2f}",
            short(ranked.spread[0, i]),
            f"{candidate.density:.3f}",
            "?" if doubt is None else f"{len(doubt)} other{'s' * (len(doubt) != 1)}",
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
        f"{len(ranked.refused)} refused; see ranking.html"
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_md(summary: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Length, drift, means, and why it stopped."""
    lines = [f"{summary['time_ps']:g} ps of {summary['atoms']} atoms"]
    if (drift := summary["drift_meV_per_atom_per_ps"]) == drift:
        lines.append(f"drift {drift:+.3g} meV per atom and ps")
    for name, unit in (("temperature_K", "K"), ("pressure_GPa", "GPa"), ("volume_A3", "Å³")):
        mean, error = summary[name]["mean"], summary[name]["error"]
        if mean == mean:
            bar = f" ± {error:.2g}" if error > 1e-9 * abs(mean) else ""
            lines.append(f"{name.split('_')[0]} {mean:.4g}{bar} {unit}")
    if summary["stopped"]:
        lines.append(f"stopped at {summary['stopped']}")
    lines.append(f"{folder}: trajectory.extxyz, log.csv, md.png, rdf.png")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_stress(test: StressTest, folder: Path, console: Console) -> None:
    """What became of each kind of case, "base → model"."""
    counts = test.counts
    order = [who for who in ("base", "model") if who in counts]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(" → ".join(order), no_wrap=True)
    for column in ("cases", *VERDICTS):
        table.add_column(column, justify="right")
    for kind, row in counts["model"].items():
        cells = (" → ".join(str(counts[who][kind][v]) for who in order) for v in VERDICTS)
        table.add_row(kind, str(sum(row.values())), *cells)
    console.print(table)
    lines = [f"{who} {test.models[who]}: {failures(counts[who])} failures" for who in order]
    for line in (*lines, *test.remarks, f"{folder}: stress.json, stress.csv, failed.extxyz"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_with_reasons(failed: Sequence[tuple[str, str]], last: str, console: Console) -> None:
    for name, reason in failed[:SHOWN]:
        console.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(failed) > SHOWN:
        console.print(f"… and {len(failed) - SHOWN} more")
    console.print(last, markup=False, highlight=False, soft_wrap=True)
