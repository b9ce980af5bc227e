"""Does a fine-tuned model follow DFT frame by frame (thesis Figures 4.6 to 4.10)?

Judges the default models of ``crystals.py --full`` on their test frames, beside the base they came
from, its energy reference fitted. Models are taken from finished runs under ``--runs``, missing
ones are trained (``--have-only``: left out, and said).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, FORCE, fill, table
from benchmarks.lib.runs import Models
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import OURS, crystals, full_base
from tlpot import load
from tlpot.ablation.sweep import parse_sweep, points
from tlpot.evaluation.calibration import rms
from tlpot.evaluation.metrics import metrics
from tlpot.evaluation.panels import (
    force_components,
    panels_of,
    relative_energies,
    shared_limits,
    short,
)
from tlpot.finetuning.prepare import prepare
from tlpot.palette import AFTER, BEFORE, FAINT

ACROSS = 3
"""Crystals in a row of the figure."""
UNITS = {"forces": "force component (eV/Å)", "energy": "energy − DFT mean (meV/atom)"}
SHORT = {"energy": (ENERGY, "meV/atom"), "forces": (FORCE, "meV/Å per component")}

Pairs = dict[str, tuple[np.ndarray, list[np.ndarray]]]
"""DFT's values of each quantity, and those of base and fine-tuned model."""


def measure(given: argparse.Namespace) -> Iterator[Results]:
    models = Models(given.runs, train=not given.have_only)
    results: Results = {"seed": given.seed, "crystals": {}, "missing": []}
    drawn: dict[str, Pairs] = {}
    sweep = {"base": full_base(), "axes": {"crystal": crystals() | OURS}, "seeds": [given.seed]}
    for point in points(parse_sweep(sweep)):
        crystal, folder = point.labels["crystal"], models.folder(point.config)
        if folder is None:
            results["missing"].append(crystal)
            continue
        prepared = prepare(point.config)
        test = prepared.parts["test"]
        answers = [model.predict(test) for model in (prepared.base, load(folder))]
        energies, forces = relative_energies(test, answers), force_components(test, answers)
        drawn[crystal] = {"energy": energies[:2], "forces": forces}
        entry: Results = {"frames": len(test)}
        for i, name in enumerate(("base", "finetuned")):
            errors = metrics(test, answers[i])
            entry[name] = {key: errors[key] for key, _ in SHORT.values()}
            for quantity, (dft, guesses) in drawn[crystal].items():
                entry[name][f"R2_{quantity}"] = explained(dft, guesses[i])
        results["crystals"][crystal] = entry
        print(crystal, flush=True)
    if not drawn:
        raise models.none()
    yield results
    picture(drawn).savefig(STUDY.shelf(STUDY.folder(given)) / "crystals_parity.png", dpi=100)


def explained(dft: np.ndarray, model: np.ndarray) -> float:
    """R², share of the variance of DFT's values that the model leaves no error in."""
    return float(1.0 - np.mean((model - dft) ** 2) / np.var(dft))


def picture(crystals: dict[str, Pairs]) -> Figure:
    """Two panels a crystal, energies and forces: base and fine-tuned against DFT."""
    rows = -(-len(crystals) // ACROSS)
    figure, grid = panels_of(6.0 * ACROSS, 3.3 * rows, rows, 2 * ACROSS)
    for axis in grid.flat[2 * len(crystals) :]:
        axis.remove()
    panels = iter(grid.flat)
    for crystal, pairs in crystals.items():
        for quantity in ("energy", "forces"):
            panel(next(panels), crystal, quantity, pairs)
    return figure


def panel(axis: Axes, crystal: str, quantity: str, pairs: Pairs) -> None:
    dft, models = pairs[quantity]
    limits = shared_limits(dft, models)
    axis.axline((0.0, 0.0), slope=1.0, color=FAINT, linewidth=1, zorder=0)
    size = 5.0 if quantity == "forces" else 16.0
    for name, colour, model in zip(("base", "fine-tuned"), (BEFORE, AFTER), models, strict=True):
        axis.scatter(dft, model, s=size, alpha=0.5, color=colour, lw=0, label=name)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.locator_params(nbins=4)
    axis.set_xlabel(f"DFT {UNITS[quantity]}", fontsize=8)
    axis.tick_params(labelsize=8)
    scale, unit = (1e3, "meV/Å") if quantity == "forces" else (1.0, "meV/atom")
    errors = " → ".join(short(scale * rms(model - dft)) for model in models)
    axis.set_title(f"{crystal}\nRMSE {errors} {unit}", fontsize=9, loc="left")
    if quantity == "energy":
        axis.set_ylabel("model", fontsize=8)
        axis.legend(fontsize=8, frameon=False, markerscale=1.5, handletextpad=0.1)


def page(results: Results) -> str:
    rows = []
    for crystal, entry in results["crystals"].items():
        row = [crystal, entry["frames"]]
        for quantity, (key, _) in SHORT.items():
            before, after = entry["base"], entry["finetuned"]
            row.append(f"{short(before[key])} → {short(after[key])}")
            row.append(f"{before[f'R2_{quantity}']:.3f} → {after[f'R2_{quantity}']:.4f}")
        rows.append(row)
    header = ["crystal", "test frames"]
    for quantity, (_, unit) in SHORT.items():
        header += [f"{quantity.removesuffix('s')} RMSE, {unit}", "R²"]
    missing = ", ".join(results["missing"])
    return fill(
        __file__,
        seed=results["seed"],
        errors=table(header, rows),
        missing=f"Not run: {missing}." if missing else "",
        machine=machine_lines(results["machine"]),
    )


STUDY = Study(__file__, __doc__, page, have_only=True)
STUDY.options.add_argument("--seed", type=int, default=0, help="of split and training")

if __name__ == "__main__":
    STUDY.main(measure)
