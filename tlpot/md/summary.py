"""What a run was: drift, temperature, cell, and who is how far from whom."""

from __future__ import annotations

import csv
import json
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from tlpot.data.read import read_frames
from tlpot.data.tables.cells import cell_number
from tlpot.errors import TlpotError
from tlpot.evaluation.plots import write
from tlpot.files import write_whole
from tlpot.md.dynamics import LOG, STOPPED, SUMMARY, TRAJECTORY
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.structure.units import GRAM_PER_CM3

RDF_REACH, RDF_BINS = 8.0, 160
"""Å and number of bins of the radial distribution functions."""

BLOCKS = 10
"""Parts of a run whose means tell how well the mean is known."""


def summarise(folder: str | Path, discard: float = 0.2) -> dict[str, Any]:
    """Write ``summary.json``, ``md.png`` and ``rdf.png`` of a run; return the summary.

    Parameters
    ----------
    discard
        Share of the run at its start that means leave out.

    Raises
    ------
    TlpotError
        If there is no run, or not one frame.
    """
    folder = Path(folder)
    log = read_log(folder / LOG)
    frames = [frame.atoms for frame in read_frames(folder / TRAJECTORY)]
    late = log["step"] >= discard * log["step"][-1]
    n, time = len(frames[0]), log["time_ps"]
    summary: dict[str, Any] = {
        "atoms": n,
        "steps": int(log["step"][-1]),
        "time_ps": float(time[-1]),
        "frames": len(frames),
    }
    stopped = folder / STOPPED
    summary["stopped"] = stopped.read_text().strip() if stopped.exists() else None
    summary["drift_meV_per_atom_per_ps"] = slope(time, log["conserved_eV"]) * 1e3 / n
    for name in ("temperature_K", "pressure_GPa", "volume_A3", "a_A", "b_A", "c_A"):
        mean, error = mean_and_error(log[name][late])
        summary[name] = {"mean": mean, "error": error}
    mass = frames[0].get_masses().sum()
    summary["density_g_cm3"] = mass / summary["volume_A3"]["mean"] / GRAM_PER_CM3
    summary["largest_spread_meV_per_sqrt_atom"] = log["spread_eV"].max() / np.sqrt(n) * 1e3
    _draw_log(log, n, folder / "md.png")
    _draw_rdf(frames[int(discard * len(frames)) :], folder / "rdf.png")
    write_whole(folder / SUMMARY, json.dumps(_plain(summary), indent=2) + "\n")
    return summary


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Columns of ``log.csv``; raises TlpotError if there is none, or it is empty."""
    if not path.is_file():
        raise TlpotError(f"{path}: no such log; tlpot md writes it")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise TlpotError(f"{path} has no rows: the run was stopped before its first step")
    return {name: np.array([cell_number(row[name]) for row in rows]) for name in rows[0]}


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of the straight line through ``y(x)`` by least squares; NaN where y is."""
    if len(x) < 2 or not np.isfinite(y).all():
        return float("nan")
    return float(np.polyfit(x - x.mean(), y - y.mean(), 1)[0])


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error from the means of `BLOCKS` blocks; NaN where too few."""
    if len(values) < BLOCKS:
        return float(values.mean()), float("nan")
    means = np.array([block.mean() for block in np.array_split(values, BLOCKS)])
    return float(values.mean()), float(means.std(ddof=1) / np.sqrt(BLOCKS))


def radial_distribution(frames: list[Atoms], a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the bins, Å, and g(r) of two elements, mean over frames.

    1 is an even distribution over the cell; of a molecule, over the sphere of radius `RDF_REACH`.
    """
    edges = np.linspace(0.0, RDF_REACH, RDF_BINS + 1)
    counts = np.zeros(RDF_BINS)
    even = np.zeros(RDF_BINS)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    for atoms in frames:
        pairs, vectors = neighbour_pairs(atoms, RDF_REACH)
        centre, to = np.array(atoms.symbols)[pairs]
        wanted = ((centre == a) & (to == b)) | ((centre == b) & (to == a))
        counts += np.histogram(np.linalg.norm(vectors[wanted], axis=1), edges)[0]
        n, m = ((atoms.symbols == symbol).sum() for symbol in (a, b))
        volume = atoms.get_volume() if atoms.pbc.all() else shells.sum()
        even += (n * m if a != b else n * n / 2) / volume * shells
    return (edges[1:] + edges[:-1]) / 2, np.divide(counts, even, where=even > 0, out=even * 0)


def _draw_log(log: dict[str, np.ndarray], n: int, path: Path) -> None:
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    axes[0].plot(log["time_ps"], log["temperature_K"], lw=0.6)
    axes[0].set_ylabel("temperature, K")
    for name in ("potential_eV", "conserved_eV"):
        energy = (log[name] - log[name][0]) / n * 1e3
        if np.isfinite(energy).all():
            axes[1].plot(log["time_ps"], energy, lw=0.6, label=name.removesuffix("_eV"))
    axes[1].set_ylabel("energy since the start,\nmeV per atom")
    axes[1].legend()
    axes[2].plot(log["time_ps"], log["spread_eV"] / np.sqrt(n) * 1e3, lw=0.6)
    axes[2].set_ylabel("spread, meV per √N")
    axes[2].set_xlabel("time, ps")
    write(figure, path)


def _draw_rdf(frames: list[Atoms], path: Path) -> None:
    kinds = list(combinations_with_replacement(sorted(set(frames[0].symbols)), 2))
    figure = Figure(figsize=(7, 1.3 * len(kinds) + 0.6), layout="constrained")
    axes = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (first, second) in zip(axes, kinds, strict=True):
        r, g = radial_distribution(frames, first, second)
        axis.plot(r, g, lw=1)
        axis.set_ylim(0, max(1.5, 1.1 * np.quantile(g[r > 1.7], 0.98)))
        axis.set_ylabel(f"{first}–{second}")
    axes[-1].set_xlabel("distance, Å")
    figure.suptitle("radial distribution functions")
    write(figure, path)


def _plain(values: Any) -> Any:
    """NaN as null: JSON has no such number."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return None if isinstance(values, float) and not np.isfinite(values) else values
