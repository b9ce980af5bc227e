"""Panels of parity plots: what a model says against what is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter

from tlpot.evaluation.errors import center, group_means, is_known
from tlpot.evaluation.metrics import metrics
from tlpot.palette import AFTER, FAINT
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import composition, units_of

if TYPE_CHECKING:
    from tlpot.model.prediction import Prediction

SYSTEM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")
"""Okabe and Ito's colour-blind-safe palette; with more systems than colours all points are blue."""
MANY_POINTS = 500
"""From this many points on, colour shows their density."""


def short(value: float | None) -> str:
    """Three digits for tables and labels; a dash where the value is undefined."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def panels_of(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure (inches) and its axes, ``[rows, columns]``, in the style of the house."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def force_components(
    frames: Sequence[Frame], models: Sequence[Sequence[Prediction]]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Of the frames with forces, flat, eV/Å: DFT's, and each model's."""
    labelled = [i for i, frame in enumerate(frames) if frame.forces is not None]
    dft = _flat([frames[i].force_labels for i in labelled])
    finite = np.isfinite(dft)
    each = [_flat([predictions[i].forces for i in labelled])[finite] for predictions in models]
    return dft[finite], each


def relative_energies(
    frames: Sequence[Frame], models: Sequence[Sequence[Prediction]]
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Of the frames with an energy, meV/atom from DFT's mean of their composition.

    DFT's, each model's, and the compositions.
    """
    labelled = [i for i, frame in enumerate(frames) if is_known(frame.energy)]
    per_atom = 1e3 / np.array([len(frames[i]) for i in labelled])
    systems = np.array([composition(frames[i].atoms) for i in labelled])
    dft = per_atom * np.array([frames[i].energy for i in labelled], dtype=float)
    zero, _ = group_means(dft, systems)
    guesses = [per_atom * np.array([p[i].energy for i in labelled]) - zero for p in models]
    return dft - zero, guesses, systems


def force_row(
    axes: Sequence[Axes], frames: Sequence[Frame], models: Sequence[Sequence[Prediction]]
) -> None:
    """Force components of each model against DFT's, a model an axis."""
    dft, guesses = force_components(frames, models)
    limits = shared_limits(dft, guesses)
    for axis, predictions, guess in zip(axes, models, guesses, strict=True):
        error = metrics(frames, predictions)
        note = "\n".join(
            f"RMSE {short(error[f'force_rmse_meV_per_A_{kind}'])} meV/Å per {kind}"
            for kind in ("component", "vector")
        )
        parity_panel(axis, dft, guess, limits, note)
        axis.set_xlabel("DFT force component (eV/Å)")
    axes[0].set_ylabel("model force component (eV/Å)")


def energy_row(
    axes: Sequence[Axes], frames: Sequence[Frame], models: Sequence[Sequence[Prediction]]
) -> None:
    """Energies of each model against DFT's, a model an axis."""
    dft, guesses, systems = relative_energies(frames, models)
    labelled = [frame for frame in frames if is_known(frame.energy)]
    pairs = zip(units_of(labelled), systems, strict=True)
    names = np.array([str(unit or system) for unit, system in pairs])
    _, sizes = group_means(dft, systems)
    many = len(set(systems)) > len(SYSTEM_COLOURS) and bool((sizes > 1).any())
    if many:
        dft, systems, names = (values[sizes > 1] for values in (dft, systems, names))
        guesses = [center(guess, systems) for guess in (g[sizes > 1] for g in guesses)]
    own = "model" if many else "DFT"
    limits = shared_limits(dft, guesses)
    for axis, predictions, guess in zip(axes, models, guesses, strict=True):
        error = metrics(frames, predictions)
        note = (
            f"RMSE {short(error['energy_rmse_meV_per_atom'])} meV/atom\n"
            f"centred {short(error['energy_rmse_centered_meV_per_atom'])} meV/atom"
        )
        parity_panel(axis, dft, guess, limits, note, names)
        axis.set_xlabel("DFT energy − DFT mean of composition (meV/atom)")
    axes[0].set_ylabel(f"model energy − {own} mean of composition (meV/atom)")


def parity_panel(
    axis: Axes,
    dft: np.ndarray,
    model: np.ndarray,
    limits: tuple[float, float],
    note: str,
    groups: np.ndarray | None = None,
) -> None:
    """Model against DFT on axes of equal limits; `note` above, `groups` in colours of their own."""
    axis.axline((0.0, 0.0), slope=1.0, color=FAINT, linewidth=1, zorder=0)
    names = [] if groups is None else sorted(set(groups))
    if len(dft) >= MANY_POINTS:
        density, order = _density(dft, model, limits)
        axis.scatter(dft[order], model[order], c=density[order], s=7, cmap="cividis", lw=0)
    elif 1 < len(names) <= len(SYSTEM_COLOURS):
        for name, colour in zip(names, SYSTEM_COLOURS, strict=False):
            own = groups == name
            axis.scatter(dft[own], model[own], s=24, alpha=0.75, color=colour, lw=0, label=name)
        axis.legend(loc="lower right", fontsize=9, frameon=False, handletextpad=0.1)
    else:
        axis.scatter(dft, model, s=24, alpha=0.6, color=AFTER, lw=0)
    outside = np.count_nonzero(~((model >= limits[0]) & (model <= limits[1])))
    note += f" · {outside} of {len(model)} points outside" if outside else ""
    axis.text(0.0, 1.03, note, transform=axis.transAxes, va="bottom", fontsize=10, linespacing=1.4)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.locator_params(nbins=6)


def _density(
    x: np.ndarray, y: np.ndarray, limits: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Log of the number of points in each point's bin, and the order that draws dense ones last."""
    edges = np.linspace(*limits, 101)
    counts, _, _ = np.histogram2d(x, y, bins=(edges, edges))
    column, row = (np.clip(np.searchsorted(edges, v) - 1, 0, 99) for v in (x, y))
    density = np.log1p(counts[column, row])
    return density, np.argsort(density, kind="stable")


def shared_limits(dft: np.ndarray, models: Sequence[np.ndarray]) -> tuple[float, float]:
    """The DFT range with what lies up to half of it beyond, and a margin."""
    if not len(dft):
        return -1.0, 1.0
    low, high = np.nanmin(dft), np.nanmax(dft)
    seen = np.concatenate([v[np.isfinite(v)] for v in (dft, *models)])
    room = 0.5 * (high - low) or np.abs(seen - low).max() or 1e-3
    seen = np.clip(seen, low - room, high + room)
    low, high = seen.min(), seen.max()
    margin = 0.04 * (high - low) or room
    return float(low - margin), float(high + margin)


def log_scale(axis: Axes) -> None:
    """Logarithmic y where the data span more than a factor of three, with plain tick labels."""
    low, high = axis.dataLim.intervaly
    if low > 0 and high > 3 * low:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())


def _flat(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.concatenate([np.empty(0), *(np.ravel(a) for a in arrays if a is not None)])
