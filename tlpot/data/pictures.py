"""Pictures of labelled data: energies by group, forces by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tlpot.palette import BLUE, GRID, INK, MUTED, ORANGE

if TYPE_CHECKING:
    from tlpot.data.summary import FrameGroup

COLOURS = {"crystal": BLUE, "molecule": ORANGE}
MOST_ROWS = 40
FEW = 100
"""Atoms below which forces are shown one by one."""
SMALLEST_FORCE = 1e-4


def draw_energies(groups: Sequence[FrameGroup]) -> Figure:
    """Energy per atom of every frame, group by group, above the lowest of its group."""
    rows = sorted(groups, key=lambda group: -len(group.frames))[:MOST_ROWS]
    rows = [group for group in groups if group in rows]
    figure, axes = _rows(len(rows))
    random = np.random.default_rng(0)
    several_files = len({group.file for group in rows}) > 1
    for row, group in enumerate(rows):
        energies = group.energies()
        energies = 1e3 * (energies - energies.min())
        colour = COLOURS[group.kind]
        heights = row + random.uniform(-0.26, 0.26, len(energies))
        axes.scatter(energies, heights, s=9, color=colour, alpha=0.45, linewidths=0)
        _quartiles(axes, row, energies)
    labels = [f"{g.file}  {g.formula}" if several_files else g.formula for g in rows]
    _finish_rows(
        axes, [f"{label}  ({len(g.frames)})" for label, g in zip(labels, rows, strict=True)]
    )
    axes.set_xlabel("energy above the group's lowest frame (meV/atom)")
    left_out = (
        f"; the {MOST_ROWS} largest of {len(groups)} groups" if len(groups) > MOST_ROWS else ""
    )
    axes.set_title(f"Energies: one point a frame, median and quartiles{left_out}", loc="left")
    kinds = [kind for kind in COLOURS if any(group.kind == kind for group in rows)]
    if len(kinds) > 1:
        handles = [
            Line2D([], [], marker="o", linestyle="", color=COLOURS[kind], label=kind)
            for kind in kinds
        ]
        figure.legend(handles=handles, frameon=False, loc="outside upper right", ncols=2)
    return figure


def draw_forces(groups: Sequence[FrameGroup]) -> Figure:
    """Distribution of |F| on the atoms of each element, on a logarithmic scale."""
    frames = [f for group in groups for f in group.frames if f.forces is not None]
    numbers = np.concatenate([frame.atoms.numbers for frame in frames])
    sizes = np.concatenate([group.forces() for group in groups])
    elements = sorted({int(n) for n in numbers})
    figure, axes = _rows(len(elements))
    bins = np.linspace(np.log10(SMALLEST_FORCE), np.log10(max(1.0, sizes.max())) + 0.2, 90)
    centres = 10 ** ((bins[1:] + bins[:-1]) / 2)
    for row, element in enumerate(elements):
        forces = sizes[numbers == element]
        logs = np.log10(np.maximum(forces, SMALLEST_FORCE))
        if len(forces) < FEW:
            axes.plot(10**logs, np.full(len(logs), row), "o", markersize=4, color=BLUE, alpha=0.5)
        else:
            heights = np.histogram(logs, bins=bins)[0].astype(float)
            heights = np.convolve(heights, [0.25, 0.5, 0.25], mode="same")
            heights *= 0.42 / heights.max()
            axes.fill_between(
                centres, row - heights, row + heights, color=BLUE, alpha=0.3, linewidth=0
            )
        low, middle, high = np.quantile(10**logs, [0.25, 0.5, 0.75])
        axes.plot([low, high], [row, row], color=INK, linewidth=1.6, solid_capstyle="round")
        axes.plot(middle, row, "o", markersize=5.5, color="white", markeredgecolor=INK)
        axes.plot(
            forces.max(), row, "|", markersize=13, markeredgewidth=2, color=COLOURS["crystal"]
        )
        axes.annotate(
            f"max {forces.max():.1f}",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=MUTED,
        )
    counts = {n: int((numbers == n).sum()) for n in elements}
    _finish_rows(axes, [f"{chemical_symbols[n]}  ({counts[n]:,} atoms)" for n in elements])
    axes.set_xscale("log")
    quiet = np.quantile(np.maximum(sizes, SMALLEST_FORCE), 0.001)
    axes.set_xlim(max(SMALLEST_FORCE, quiet / 2), max(1.0, sizes.max()) * 1.3)
    axes.set_xlabel("|F| on an atom (eV/Å)")
    axes.set_title("Forces by element: distribution, median, quartiles and largest", loc="left")
    return figure


def _rows(count: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 1.7 + 0.42 * count), dpi=150, layout="constrained")
    return figure, figure.subplots()


def _quartiles(axes: Axes, row: int, values: np.ndarray) -> None:
    if len(values) < 5:
        return
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    axes.plot([low, high], [row, row], color=INK, linewidth=1.6, solid_capstyle="round")
    axes.plot(middle, row, "o", markersize=5.5, color="white", markeredgecolor=INK)


def _finish_rows(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
