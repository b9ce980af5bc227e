"""CGCNN on band gaps to where it levels off, beside Peña Angeles 2023 (0.39 eV).

36,738 crystals of the Materials Project (PBE) from ``$TLPOT_DATA/seeds/crystals_mp36k.npz``, split
85/8/7 by seed, with the gate that tells metals from others. Stopped trainings go on where they
were; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import cellpar_to_cell
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine, machine_lines
from benchmarks.lib.page import fill, spread, table
from benchmarks.lib.study import Results, Study
from tlpot.property.data import Crystals
from tlpot.property.run import train
from tlpot.structure.frames import Frame
from tlpot.training.trainer import HISTORY

PROPERTY, UNIT = "band_gap", "eV"
PARTS = ("train", "validation", "test")
ORIGINAL = 0.39
"""eV, the thesis's test error."""
SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""Of the epochs, whose validation errors the page states."""


def source() -> Path:
    """The file of all crystals."""
    return Path(os.environ["TLPOT_DATA"]) / "seeds" / "crystals_mp36k.npz"


@cache
def crystals() -> Crystals:
    """All of them with their band gaps."""
    with np.load(source()) as file:
        data = {name: file[name] for name in file}
    ends = np.cumsum(data["n_atoms"])[:-1]
    parts = zip(
        np.split(data["Z"], ends), np.split(data["frac"], ends), data["cellpar"], strict=True
    )
    frames = [
        Frame(
            Atoms(numbers, scaled_positions=places, cell=cellpar_to_cell(cell), pbc=True),
            source=str(source()),
            index=i,
            info={"id": data["mp_id"][i]},
        )
        for i, (numbers, places, cell) in enumerate(parts)
    ]
    return Crystals(frames, data[PROPERTY], PROPERTY)


def run(seed: int, epochs: int, gate: bool, folder: Path) -> dict[str, Any]:
    """One training, begun or taken up, and what it says."""
    config = {
        "data": {
            "files": [str(source())],
            "property": PROPERTY,
            "unit": UNIT,
            "split": {"validation": 0.08, "test": 0.07, "seed": seed},
        },
        "model": {"gate": gate},
        "training": {"epochs": epochs, "device": "cpu", "seed": seed},
        "output": str(folder),
    }
    about, before = machine(), time.process_time()
    resumed = (folder / "config.yaml").exists()
    done = train(config, resumed, crystals=crystals(), on_epoch=lambda row: print(row, flush=True))
    history = np.genfromtxt(folder / HISTORY, delimiter=",", names=True)
    return {
        "seed": seed,
        "epochs": epochs,
        "gate": gate,
        "machine": about,
        "test": done.metrics["trained"]["test"],
        "median": done.metrics["baseline"]["test"]["mae"],
        "crystals": {part: len(at) for part, at in done.manifest["split"].items() if part in PARTS},
        "best_epoch": done.manifest["best_epoch"],
        "seconds": done.manifest["seconds"],
        "processor_seconds": None if resumed else time.process_time() - before,
        "validation": history["validation_loss"].tolist(),
    }


def measure(given: argparse.Namespace) -> Iterator[Results]:
    """Seed by seed."""
    gate, wanted = not given.plain, {}
    for seed in given.seeds:
        name = f"{'gate' if gate else 'plain'}-{given.epochs}-{seed}"
        folder = given.runs / given.name / name
        wanted[name] = {"seed": seed}, partial(run, seed, given.epochs, gate, folder)
    yield from STUDY.answers(given, {"epochs": given.epochs, "gate": gate}, wanted)


def page(results: Results) -> str:
    """All figures."""
    runs = results["runs"]
    tests = [row["test"] for row in runs]
    rows = [
        ["all", spread((t["mae"] for t in tests), ".3f")],
        ["metals", spread((t["zero"]["mae"] for t in tests), ".3f")],
        ["others", spread((t["other"]["mae"] for t in tests), ".3f")],
        ["guessing the median", spread((row["median"] for row in runs), ".3f")],
    ]
    counts = runs[0]["crystals"]
    return fill(
        __file__,
        epochs=results["epochs"],
        gate="with" if results["gate"] else "without",
        counts=", ".join(f"{counts[part]:,} {part}" for part in PARTS),
        seeds=", ".join(str(row["seed"]) for row in runs),
        errors=table(["test crystals", "MAE, eV"], rows),
        curve=table(["epoch", "validation MAE, eV"], _curve(runs)),
        rmse=spread((t["rmse"] for t in tests), ".3f"),
        minutes=spread((t / 60 for row in runs if (t := row["processor_seconds"])), ".0f"),
        machine=machine_lines(results["machine"]),
    )


def _curve(runs: list[Results]) -> Iterator[list[object]]:
    epochs = len(runs[0]["validation"])
    for epoch in sorted({1, *(round(share * epochs) for share in SHARES)}):
        yield [epoch, spread((row["validation"][epoch - 1] for row in runs), ".3f")]


def draw(results: Results) -> Figure:
    """Validation error by epoch."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for row in results["runs"]:
        axes.plot(range(1, len(row["validation"]) + 1), row["validation"], label=row["seed"])
    axes.axhline(ORIGINAL, color="0.6", linestyle="--", label="the original, test")
    axes.set(xlabel="epoch", ylabel="validation MAE, eV")
    axes.legend(title="seed", fontsize="small")
    return figure


STUDY = Study(__file__, __doc__, page, draw, seeds=[0, 1, 2], have_only=True)
STUDY.options.add_argument("--epochs", type=int, default=40)
STUDY.options.add_argument("--plain", action="store_true", help="without the gate")

if __name__ == "__main__":
    STUDY.main(measure)
