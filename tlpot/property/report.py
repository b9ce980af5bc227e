"""The verdict on a property model: tables for the terminal, one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tlpot.data.fingerprints import base_lines
from tlpot.evaluation.metrics import PARTS
from tlpot.evaluation.plots import (
    learning_curve,
    panels_of,
    parity_panel,
    read_history,
    shared_limits,
    short,
    write,
)
from tlpot.evaluation.report import environment, inline
from tlpot.files import write_whole
from tlpot.model.card import card, card_rows
from tlpot.property.evaluate import flat

if TYPE_CHECKING:
    from tlpot.property.prepare import PreparedProperty

MEASURES = (("MAE", "mae"), ("RMSE", "rmse"), ("R²", "r2"))


def write_report(
    folder: Path,
    prepared: PreparedProperty,
    metrics: Mapping[str, Any],
    manifest: Mapping[str, Any],
    predicted: np.ndarray,
) -> None:
    """Write ``parity.png`` and ``report.html`` of a finished run.

    Parameters
    ----------
    metrics, manifest
        The content of the folder's JSON files.
    predicted
        ``(crystals,)`` by the trained model.
    """
    history = read_history(folder / "history.csv")
    part = next((p for p in PARTS if metrics["trained"][p]["n"]), "train")
    shown = vars(prepared.splits)[part]
    picture = value_parity(
        prepared.crystals.values[shown],
        (prepared.baseline[shown], predicted[shown]),
        _label(manifest),
    )
    write(picture, folder / "parity.png")
    page = (
        environment("tlpot.property")
        .get_template("report.html.j2")
        .render(
            title=f"{manifest['data']['property']} of crystals",
            unit=manifest["data"]["unit"],
            part=part,
            parts=[p for p in PARTS if metrics["trained"][p]["n"]],
            rows=MEASURES,
            before=metrics["baseline"],
            after=metrics["trained"],
            groups=flat(metrics["trained"][part]),
            groups_before=flat(metrics["baseline"][part]),
            baseline=_baseline(prepared),
            seen=base_lines(metrics["seen_by_base"], "crystals"),
            figures={"parity": inline(picture), "learning": inline(learning_curve(history))},
            epochs=len(history["epoch"]),
            config=prepared.config,
            manifest=manifest,
            card=list(card_rows(card(folder))),
        )
    )
    write_whole(folder / "report.html", page)


def value_parity(values: np.ndarray, models: tuple[np.ndarray, np.ndarray], label: str) -> Figure:
    """Predictions against labels: the baseline left, the trained model right."""
    figure, (axes,) = panels_of(8.6, 4.6, 1, 2)
    limits = shared_limits(values, list(models))
    for axis, predicted, name in zip(axes, models, ("before", "after"), strict=True):
        note = f"{name}: MAE {short(float(np.abs(predicted - values).mean()))}"
        parity_panel(axis, values, predicted, limits, note)
        axis.set_xlabel(f"label, {label}")
    axes[0].set_ylabel(f"model, {label}")
    return figure


def _label(manifest: Mapping[str, Any]) -> str:
    data = manifest["data"]
    return f"{data['property']} ({data['unit']})" if data["unit"] else data["property"]


def _baseline(prepared: PreparedProperty) -> str:
    constant = np.ptp(prepared.baseline) == 0
    return "the median of the training crystals" if constant else "the base model"
