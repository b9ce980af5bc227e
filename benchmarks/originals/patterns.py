"""The powder network of Torres Arroyave et al. at full resolution, both of their protocols.

Binaries of the Materials Project from ``$TLPOT_DATA/seeds/xrd_binary_peaks.npz``; 13,500 points,
kernels of 100, 50 and 25, 71 million weights. Every training goes to ``--epochs`` in steps of
``--step``, and its test is judged after each: stopped, it goes on where it was, and with more
epochs it goes further.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine, machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.study import Results, Study
from tlpot.powder.config import PowderConfig
from tlpot.powder.data import Example, capped
from tlpot.powder.lines import SYSTEMS, indexed
from tlpot.powder.run import train
from tlpot.structure.frames import Frame
from tlpot.structure.symmetry import symmetry

SYMPREC = 0.1
"""Å, with which the Materials Project finds symmetry."""
SHIFT = 0.01
"""Degrees 2θ, of the original's copies."""
NETWORK = {
    "sees": "two_theta",
    "intensity": "linear",
    "pool": 1,
    "convolutions": {"filters": 60, "kernels": [100, 50, 25], "pooling": 2, "dropout": 0.3},
    "dense": [700, 70],
    "dropout": 0.0,
}
TRAINING = {
    **{"schedule": "constant", "warmup_epochs": 0, "weight_decay": 0.0, "ema": 0.0},
    **{"balance": 0.0, "augmentation": None, "learning_rate": 1e-3, "batch_size": 64},
}
"""Adam at a constant rate on ideal patterns."""
SPLIT = {"test": 0.1, "validation": 0.18}
"""90/10, and of the 90 again 20 % for validation."""
PROTOCOLS: dict[str, dict[str, Any]] = {
    "950 of a system": {"per_class": 950, "group": None},
    "600 and shifted copies, shuffled before the split": {"per_class": 600, "group": None},
    "the same, a crystal's copies on one side": {"per_class": 600, "group": "crystal"},
}
ORIGINAL = {"950 of a system": 74.5, "600 and shifted copies, shuffled before the split": 97.3}
"""Per cent right, as the original has it."""
LAST = 0.2
"""Share of the epochs whose mean validation stands for a network that goes on to the end."""


@cache
def binaries() -> list[Example]:
    """All 6,862, with their lines."""
    folder = Path(os.environ["TLPOT_DATA"]) / "seeds"
    peaks, crystals = (
        dict(np.load(folder / f"{name}.npz")) for name in ("xrd_binary_peaks", "crystals_mp36k")
    )
    atoms_at = np.concatenate([[0], np.cumsum(crystals["n_atoms"], dtype=int)])
    lines_at = np.concatenate([[0], np.cumsum(peaks["n_peaks"], dtype=int)])
    angles, heights = (peaks[key].astype(float) for key in ("two_theta", "intensity"))
    examples = []
    for i, k in enumerate(peaks["idx"]):
        own, at = (slice(*ends[n : n + 2]) for ends, n in ((atoms_at, k), (lines_at, i)))
        atoms = Atoms(
            crystals["Z"][own],
            scaled_positions=crystals["frac"][own],
            cell=crystals["cellpar"][k],
            pbc=True,
        )
        frame = Frame(atoms, source=str(peaks["mp_id"][i]), info={"crystal": i})
        rotations = symmetry(atoms, SYMPREC).rotations
        lines = indexed(angles[at], heights[at], atoms.cell.array, rotations)
        examples.append(Example(frame, lines, SYSTEMS.index(str(peaks["crystal_system"][i]))))
    return examples


def with_copies(examples: Sequence[Example]) -> list[Example]:
    """Each crystal three times: as it is, and shifted by `SHIFT` to either side."""
    return [
        Example(
            replace(example.frame, index=place),
            replace(example.lines, two_theta=example.lines.two_theta + shift),
            example.system,
        )
        for example in examples
        for place, shift in enumerate((0.0, -SHIFT, SHIFT))
    ]


def run(name: str, seed: int, epochs: int, folder: Path) -> Results:
    """Train up to so many epochs, from where it was, and judge."""
    protocol, about = PROTOCOLS[name], machine()
    config = PowderConfig.model_validate(
        {
            "data": {
                "files": ["seeds/xrd_binary_peaks.npz"],
                "per_class": protocol["per_class"],
                "split": {**SPLIT, "seed": seed, "group": protocol["group"]},
            },
            "model": NETWORK,
            "training": {**TRAINING, "epochs": epochs, "seed": seed, "device": "cpu"},
            "output": str(folder),
        }
    )
    examples = capped(binaries(), config.data)
    if "copies" in name:
        examples = with_copies(examples)
    before, resumed = time.process_time(), (folder / "config.yaml").exists()
    done = train(config, resumed, on_epoch=lambda row: print(row, flush=True), examples=examples)
    test = done.metrics["test"]["ideal"]
    history = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    return {
        "protocol": name,
        "seed": seed,
        "epochs": epochs,
        "machine": about,
        "patterns": {part: len(done.manifest["split"][part]) for part in PARTS},
        "test": test,
        "best_epoch": done.manifest["best_epoch"],
        "validation_accuracy": np.atleast_1d(history["validation_accuracy"]).tolist(),
        "validation_loss": np.atleast_1d(history["validation_loss"]).tolist(),
        "processor_seconds": time.process_time() - before,
    }


PARTS = ("train", "validation", "test")


def measure(given: argparse.Namespace) -> Iterator[Results]:
    """Step by step, so that every protocol has come as far."""
    wanted = {}
    for epochs in range(given.step, given.epochs + 1, given.step):
        for name in given.only:
            for seed in given.seeds:
                kept = f"{list(PROTOCOLS).index(name)}-{seed}"
                work = partial(run, name, seed, epochs, given.runs / given.name / kept)
                about = {"protocol": name, "seed": seed, "epochs": epochs}
                wanted[f"{kept}-{epochs}"] = about, work
    yield from STUDY.answers(given, {}, wanted)


def page(results: Results) -> str:
    """All figures."""
    latest = {(row["protocol"], row["seed"]): row for row in results["runs"]}
    rows = [
        [
            row["protocol"],
            row["seed"],
            f"{row['patterns']['train']:,} / {row['patterns']['test']:,}",
            row["epochs"],
            row["best_epoch"],
            f"**{100 * row['test']['accuracy']:.1f} %**",
            f"{100 * fmean(row['validation_accuracy'][-round(LAST * row['epochs']) :]):.1f} %",
            f"{ORIGINAL[row['protocol']]} %" if row["protocol"] in ORIGINAL else "–",
            f"{_hours(results, row):.1f} h",
        ]
        for row in latest.values()
    ]
    scores = [[system, *(_f1(row, system) for row in latest.values())] for system in SYSTEMS]
    header = [f"{row['protocol']}, seed {row['seed']}" for row in latest.values()]
    return fill(
        __file__,
        rows=table(
            [
                *("protocol", "seed", "training / test", "epochs", "best"),
                *("right", "validation, last", "original", "CPU"),
            ],
            rows,
        ),
        f1=table(["F1", *header], scores),
        machine=machine_lines(results["machine"]),
    )


def _f1(row: Results, system: str) -> str:
    value = row["test"]["by_system"][system]["f1"]
    return "–" if value is None else f"{value:.2f}"


def _hours(results: Results, latest: Results) -> float:
    """Processor time of all steps of a training."""
    same = (latest["protocol"], latest["seed"])
    steps = [row for row in results["runs"] if (row["protocol"], row["seed"]) == same]
    return sum(row["processor_seconds"] for row in steps) / 3600


def draw(results: Results) -> Figure:
    """Validation by epoch."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in {(row["protocol"], row["seed"]): row for row in results["runs"]}.values():
        epochs = range(1, len(row["validation_loss"]) + 1)
        left.plot(epochs, 100 * np.array(row["validation_accuracy"]), label=row["protocol"])
        right.plot(epochs, row["validation_loss"])
    left.set(xlabel="epoch", ylabel="validation, % right")
    right.set(xlabel="epoch", ylabel="validation loss")
    left.legend(fontsize="x-small")
    return figure


STUDY = Study(__file__, __doc__, page, draw, seeds=[0], have_only=True)
STUDY.options.add_argument("--epochs", type=int, default=70)
STUDY.options.add_argument("--step", type=int, default=5, help="epochs between two judgements")
STUDY.options.add_argument("--only", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))

if __name__ == "__main__":
    STUDY.main(measure)
