"""The figures of a run: parity before and after, learning curves, errors by element, spread."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlpot.data.tables.cells import cell_number
from tlpot.evaluation.calibration import deviations, rms
from tlpot.evaluation.errors import is_known
from tlpot.evaluation.metrics import Judgement, by_element
from tlpot.evaluation.panels import MANY_POINTS, energy_row, force_row, log_scale, panels_of, short
from tlpot.files import figure_bytes, write_whole
from tlpot.model.uncertainty import Calibration, Quantity, Scale
from tlpot.palette import AFTER, BEFORE, FAINT, HELD_OUT
from tlpot.structure.frames import Frame

if TYPE_CHECKING:
    from tlpot.model.prediction import Prediction

History = dict[str, np.ndarray]


def figures(judgement: Judgement, history: History) -> dict[str, Figure]:
    """Every figure that the run has data for: ``parity``, ``learning``, ``elements``, ``spread``.

    Parity, elements and spread show `Judgement.shown_part`.
    """
    part = judgement.shown_part
    frames = judgement.frames[part]
    before, after = (judgement.predictions[model][part] for model in ("baseline", "finetuned"))
    drawn = {
        "parity": parity(
            frames, before, after, title="training frames" if part == "train" else f"{part} frames"
        ),
        "learning": learning_curve(history),
    }
    if any(frame.forces is not None for frame in frames):
        drawn["elements"] = element_errors(frames, before, after)
    if any(prediction.energy_std > 0 for prediction in after):
        drawn["spread"] = error_against_spread(frames, after, judgement.calibration)
    return drawn


def parity(
    frames: Sequence[Frame],
    before: Sequence[Prediction],
    after: Sequence[Prediction],
    title: str = "",
) -> Figure:
    """As `parity_of`: base left, fine-tuned right."""
    return parity_of(frames, {"before (base)": before, "after (fine-tuned)": after}, title)


def parity_of(
    frames: Sequence[Frame], models: Mapping[str, Sequence[Prediction]], title: str = ""
) -> Figure:
    """Models against DFT, a column each by name: forces above energies, as far as labelled.

    Of a single one the panels stand side by side.

    Forces are all Cartesian components, eV/Å. Energies are per atom, meV, counted from the mean
    DFT energy of their composition, so that unlike systems share one panel while an offset of
    the model stays visible; of more compositions than there are colours, the model's from its own
    mean, and one alone in its composition is left out. The panels of a row share their limits;
    points beyond them are counted in the panel. After Parunov (2022), Figures 4.6–4.10.
    """
    forces = any(frame.forces is not None for frame in frames) or not frames
    energies = any(is_known(frame.energy) for frame in frames) or not frames
    rows = [row for row, drawn in ((force_row, forces), (energy_row, energies)) if drawn]
    if len(models) > 1:
        figure, grid = panels_of(4.3 * len(models), 1.8 + 3.5 * len(rows), len(rows), len(models))
    else:
        figure, grid = panels_of(4.3 * len(rows), 5.3, 1, len(rows))
    for draw, axes in zip(rows, grid if len(models) > 1 else grid.T, strict=True):
        draw(axes, frames, [*models.values()])
    for axis, name in zip(grid[0], models, strict=False):
        axis.set_title(name, loc="left", pad=42, fontsize=13, fontweight="bold")
    figure.suptitle(title, fontsize=10, color=FAINT)
    return figure


def learning_curve(history: History) -> Figure:
    """Loss by epoch and, where there is a validation part, its energy and force errors."""
    panels = {
        "loss": {"train_loss": AFTER, "validation_loss": HELD_OUT},
        "validation energy RMSE (meV/atom)": {"validation_energy_rmse_meV_per_atom": HELD_OUT},
        "validation force RMSE\n(meV/Å, per component)": {
            "validation_force_rmse_meV_per_A_component": HELD_OUT
        },
    }
    finite = {name: np.isfinite(values) for name, values in history.items()}
    recorded = {column for column, some in finite.items() if some.any()}
    panels = {k: v for k, v in panels.items() if recorded & set(v)}
    figure, (axes,) = panels_of(max(4.0 * len(panels), 8.6), 3.6, 1, len(panels))
    for axis, (label, lines) in zip(axes, panels.items(), strict=True):
        for column, colour in lines.items():
            some = finite[column]
            if some.any():
                values, name = history[column][some], column.removesuffix("_loss")
                mark = "o" if len(values) == 1 else None
                axis.plot(history["epoch"][some], values, marker=mark, color=colour, label=name)
        log_scale(axis)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False, fontsize=10)
    return figure


def element_errors(
    frames: Sequence[Frame], before: Sequence[Prediction], after: Sequence[Prediction]
) -> Figure:
    """Force RMSE (vector) of each element, before and after."""
    figure, ((axis,),) = panels_of(5.4, 4.2)
    for shift, name, colour, predictions in (
        (-0.2, "before", BEFORE, before),
        (0.2, "after", AFTER, after),
    ):
        elements = by_element(frames, predictions)
        places = np.arange(len(elements))
        errors = [entry["force_rmse_meV_per_A_vector"] for entry in elements.values()]
        heights = np.array(errors, dtype=float)
        bars = axis.bar(places + shift, heights, 0.38, color=colour, label=name)
        axis.bar_label(bars, labels=[short(h) for h in heights], fontsize=9, padding=2)
        axis.set_xticks(places, list(elements))
    axis.set_ylabel("force RMSE (meV/Å, per vector)")
    axis.margins(y=0.12)
    axis.legend(frameon=False, fontsize=10, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    axis.tick_params(axis="x", length=0)
    return figure


def error_against_spread(
    frames: Sequence[Frame], predictions: Sequence[Prediction], calibration: Calibration | None
) -> Figure:
    """Size of the error against the calibrated spread: of energies left, of forces right.

    Large marks are the RMS error of the labels in equal shares by spread against their RMS
    spread: near the diagonal the spread is an error bar (Levi et al. 2022, Sensors 22, 5540);
    above it the ensemble is too sure. Below the dashed line lie the labels that the prediction
    interval covers.
    """
    figure, (axes,) = panels_of(8.6, 4.2, 1, 2)
    panels: tuple[tuple[Quantity, str], ...] = (("energy", "meV/atom"), ("forces", "meV/Å"))
    for axis, (quantity, unit) in zip(axes, panels, strict=True):
        scale: Scale | None = getattr(calibration, quantity, None)
        errors, spreads, _ = deviations(frames, predictions, quantity, calibration)
        axis.axline((0.0, 0.0), slope=1.0, color=FAINT, linewidth=1, zorder=0)
        if calibration and scale and scale.quantile is not None:
            label = f"{100 * calibration.level:.0f} % interval"
            axis.axline((0, 0), slope=scale.quantile, color=FAINT, lw=1, ls="--", label=label)
        if len(errors):
            _doubts(axis, 1e3 * np.abs(errors), 1e3 * spreads * (scale.factor if scale else 1.0))
        else:
            axis.text(0.5, 0.5, "not known", transform=axis.transAxes, ha="center", color=FAINT)
        axis.set_xlabel(f"{'calibrated' if scale else 'raw'} spread ({unit})")
        axis.set_ylabel(f"|error| of the {quantity.replace('forces', 'force component')} ({unit})")
    return figure


def _doubts(axis: Axes, errors: np.ndarray, spreads: np.ndarray) -> None:
    size, alpha = (22, 0.5) if len(errors) < MANY_POINTS else (5, 0.2)
    axis.scatter(spreads, errors, s=size, color=AFTER, alpha=alpha, lw=0)
    shares = np.array_split(np.argsort(spreads), np.clip(len(errors) // 8, 1, 10))
    x, y = (np.array([rms(values[some]) for some in shares]) for values in (spreads, errors))
    axis.plot(x, y, "o", ms=7, color=BEFORE, mec="white", label="RMS of equal shares")
    axis.set(xlim=(0, 1.05 * spreads.max()), ylim=(0, 1.05 * max(*y, np.quantile(errors, 0.995))))
    axis.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


_drawn: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()
"""What is in a file is on a page too: a figure is drawn once."""


def png(figure: Figure) -> bytes:
    """A figure as PNG, on white, at 150 dots per inch, as it is when first asked for."""
    if figure not in _drawn:
        _drawn[figure] = figure_bytes(figure, dpi=150, facecolor="white")
    return _drawn[figure]


def write(figure: Figure, path: str | Path) -> None:
    """Save as `png`; the file is whole or not there."""
    write_whole(path, png(figure))


def read_history(path: str | Path) -> History:
    """Columns of ``history.csv`` as float arrays ``(epochs,)``; an empty cell is NaN."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {
        name: np.array([cell_number(row[name]) for row in rows]) for name in reader.fieldnames or ()
    }
