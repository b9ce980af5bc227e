"""The verdict on a property model: tables for the terminal, one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tlpot.data.fingerprints import base_lines
from tlpot.evaluation.errors import WORST, is_made_by_one
from tlpot.evaluation.metrics import PARTS
from tlpot.evaluation.panels import panels_of, parity_panel, shared_limits, short
from tlpot.evaluation.plots import learning_curve, read_history, write
from tlpot.evaluation.report import environment, epoch_lines, inline
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
    shown = np.array(vars(prepared.splits)[part])
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
            cards=[row for row in MEASURES if metrics["trained"][part][row[1]] is not None],
            worst=_worst(prepared, shown, predicted),
            remarks=[
                *base_lines(metrics["seen_by_base"], "crystals"),
                *_outlier_lines(prepared, shown, predicted),
                *epoch_lines(history),
            ],
            before=metrics["baseline"],
            after=metrics["trained"],
            groups=flat(metrics["trained"][part]),
            groups_before=flat(metrics["baseline"][part]),
            baseline=_baseline(prepared),
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


def _worst(
    prepared: PreparedProperty, shown: np.ndarray, predicted: np.ndarray
) -> list[tuple[str, float, float]]:
    """The `WORST` of the crystals `shown`: name, label and prediction."""
    values = prepared.crystals.values
    order = shown[np.argsort(-np.abs(predicted - values)[shown], kind="stable")][:WORST]
    frames = prepared.crystals.frames
    return [(frames[i].name, float(values[i]), float(predicted[i])) for i in order.tolist()]


def _outlier_lines(
    prepared: PreparedProperty, shown: np.ndarray, predicted: np.ndarray
) -> Iterable[str]:
    """A sentence if one crystal makes the RMSE."""
    squares = np.sort(((predicted - prepared.crystals.values)[shown]) ** 2)
    if len(squares) < 2:
        return
    rmse, rest = (float(np.sqrt(some.mean())) for some in (squares, squares[:-1]))
    if is_made_by_one(rmse, rest, len(squares)):
        ((name, *_), *_) = _worst(prepared, shown, predicted)
        yield (
            f"One crystal makes the error: without {name} the RMSE is {short(rest)} instead of "
            f"{short(rmse)} {prepared.model.unit}".rstrip()
            + ". Look at it."
        )


def _label(manifest: Mapping[str, Any]) -> str:
    data = manifest["data"]
    return f"{data['property']} ({data['unit']})" if data["unit"] else data["property"]


def _baseline(prepared: PreparedProperty) -> str:
    constant = np.ptp(prepared.baseline) == 0
    return "the median of the training crystals" if constant else "the base model"
