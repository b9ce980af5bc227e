"""The verdict on a classifier: pictures and one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tlpot.data.fingerprints import base_lines
from tlpot.evaluation.plots import History, read_history, write
from tlpot.evaluation.report import environment, epoch_lines, inline
from tlpot.files import write_whole
from tlpot.model.card import card, card_rows
from tlpot.palette import AFTER, BEFORE, HELD_OUT
from tlpot.powder.config import PowderConfig
from tlpot.powder.judge import Metrics
from tlpot.powder.lines import SYSTEMS

CHANCE = 1 / len(SYSTEMS)


def write_report(
    folder: Path, config: PowderConfig, metrics: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    """Write ``report.html`` and ``confusion.png`` into a run folder that has a history."""
    history = read_history(folder / "history.csv")
    part = "test" if metrics["test"]["ideal"]["n"] else "validation"
    shown = {k: v for k, v in metrics[part].items() if v["n"]}
    figures = {"learning": accuracy_curve(history)}
    if shown:
        figures["confusion"] = confusion_figure(shown)
        write(figures["confusion"], folder / "confusion.png")
    page = (
        environment("tlpot.powder")
        .get_template("report.html.j2")
        .render(
            config=config,
            manifest=manifest,
            card=list(card_rows(card(folder))),
            part=part,
            shown=shown,
            temperature=metrics["temperature"],
            remarks=[*base_lines(metrics["seen_by_base"], "crystals"), *epoch_lines(history)],
            systems=[name for name in SYSTEMS if manifest["data"]["by_system"][name]],
            figures={name: inline(figure) for name, figure in figures.items()},
        )
    )
    write_whole(folder / "report.html", page)


def confusion_figure(judged: Mapping[str, Metrics]) -> Figure:
    """Confusion matrices side by side: shares of each true crystal system, counts in the cells."""
    figure = _figure(5.6 * len(judged), 5.2)
    axes = figure.subplots(1, len(judged), squeeze=False)[0]
    for axis, (title, entry) in zip(axes, judged.items(), strict=True):
        confusion = np.array(entry["confusion"])
        shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(confusion):
            colour = "white" if shares[row, column] > 0.55 else "black"
            axis.text(column, row, count, ha="center", va="center", color=colour, fontsize=9)
        axis.set_xticks(range(len(SYSTEMS)), SYSTEMS, rotation=40, ha="right")
        axis.set_yticks(range(len(SYSTEMS)), SYSTEMS)
        axis.set_xlabel("predicted")
        axis.set_title(f"{title}: {100 * entry['accuracy']:.1f} % right", fontsize=11)
    axes[0].set_ylabel("true")
    return figure


def accuracy_curve(history: History) -> Figure:
    """Loss and accuracy by epoch, of training and validation patterns."""
    figure = _figure(8.6, 3.6)
    for axis, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        for part, colour in (("train", AFTER), ("validation", HELD_OUT)):
            axis.plot(history["epoch"], history[f"{part}_{name}"], color=colour, label=part)
        axis.set_xlabel("epoch")
        axis.set_ylabel(name)
    axis.axhline(CHANCE, color=BEFORE, lw=1, ls="--", label="chance")
    axis.legend(frameon=False, fontsize=10)
    return figure


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), layout=layout)
