"""CGCNN on 36,738 crystals: training from scratch, and transfer to few crystals.

Data: ``$TLPOT_DATA/seeds/crystals_mp36k.npz`` (Materials Project, PBE) and ``seeds/cgcnn`` (the
released checkpoints of github.com/txie-93/cgcnn, their element features). Questions:

- *scratch*: a property from all crystals, split 85/8/7, a split and weights a seed.
- *curve*: 300, 1000, 3000 training crystals: band gap from scratch, and from the released network
  of formation energies, which never saw a band gap.

Finished runs are kept under ``runs/property`` and not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.geometry import cellpar_to_cell
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, spread, table
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import DATA
from tlpot.evaluation.plots import AFTER, BEFORE, panels_of, parity_panel, shared_limits, write
from tlpot.frames import Frame
from tlpot.property.data import Crystals
from tlpot.property.memory import keep_memory
from tlpot.property.model import PropertyModel, as_graph
from tlpot.property.released import import_checkpoint
from tlpot.property.run import train

FILE = DATA / "seeds/crystals_mp36k.npz"
RELEASED = DATA / "seeds/cgcnn/formation-energy-per-atom.pth.tar"
UNITS = {"band_gap": "eV", "formation_energy": "eV/atom"}
HELD_OUT, POOL = (2000, 300), 3000
"""Test and validation crystals of the small runs, and crystals to train on."""
EPOCHS = {300: 60, 1000: 40, 3000: 25}
THESIS, PUBLISHED = 0.39, 0.039
"""MAE, eV of the band gap (thesis), eV/atom of the formation energy (Xie and Grossman 2018)."""
NAMES = {"scratch": "from scratch", "transfer": "from the released formation-energy network"}
Runs = list[dict[str, Any]]


@cache
def source() -> dict[str, np.ndarray]:
    """``crystals_mp36k.npz``, and where the atoms of each crystal begin."""
    with np.load(FILE) as file:
        data = {name: file[name] for name in file}
    return data | {"starts": np.concatenate([[0], np.cumsum(data["n_atoms"])])}


def structure(i: int) -> Atoms:
    data = source()
    part = slice(data["starts"][i], data["starts"][i + 1])
    cell = cellpar_to_cell(data["cellpar"][i])
    return Atoms(data["Z"][part], scaled_positions=data["frac"][part], cell=cell, pbc=True)


@cache
def everything(name: str) -> Crystals:
    return crystals(name, np.arange(len(source()["n_atoms"])))


@cache
def pool() -> Crystals:
    """The same 5,300 crystals, drawn at random, for every small run."""
    random = np.random.default_rng(1)
    chosen = random.choice(len(source()["n_atoms"]), sum(HELD_OUT) + POOL, replace=False)
    return crystals("band_gap", chosen)


def crystals(name: str, chosen: np.ndarray) -> Crystals:
    """Crystals with a property, as `tlpot property train` takes them in memory."""
    ids = source()["mp_id"]
    frames = [
        Frame(structure(i), source=str(FILE), index=int(i), info={"id": ids[i]}) for i in chosen
    ]
    return Crystals(frames, source()[name][chosen], name)


def measure(given: argparse.Namespace) -> Iterator[Results]:
    torch.set_num_threads(1)
    keep_memory()
    given.small_width = given.small_width or given.width
    kept = {k: str(v) for k, v in vars(given).items() if k not in ("runs", "results", "page")}
    results: Results = {"options": kept, "scratch": {}, "curve": {}}
    for name in given.property:
        for gate in [True, False] if given.plain else [name == "band_gap"]:
            runs = [scratch(name, gate, seed, given) for seed in given.scratch_seeds]
            if have := [run for run in runs if run]:
                results["scratch"][f"{name}, {'with' if gate else 'without'} gate"] = have
    for label in NAMES:
        results["curve"][label] = {}
        for size in given.sizes:
            runs = [small(label, size, seed, given) for seed in given.seeds]
            if have := [run for run in runs if run]:
                results["curve"][label][str(size)] = have
    yield results
    write(picture(results, given.runs / "property"), STUDY.folder(given) / "property.png")


def scratch(name: str, gate: bool, seed: int, given: argparse.Namespace) -> Results | None:
    """All crystals, 85/8/7, split and weights by seed."""
    data = {"property": name, "split": {"validation": 0.08, "test": 0.07, "seed": seed}}
    model = {"gate": gate, "width": given.width}
    kind = "gate" if gate else "plain"
    folder = f"{name}_{kind}_{given.epochs}_{given.width}_{seed}"
    training = {"epochs": given.epochs, "seed": seed}
    return run(folder, lambda: everything(name), data, model, training, given)


def small(label: str, size: int, seed: int, given: argparse.Namespace) -> Results | None:
    """A run on `size` of the pool's crystals, from scratch or from the released network."""
    total = sum(HELD_OUT) + POOL
    split = {"test": HELD_OUT[0] / total, "validation": HELD_OUT[1] / total}
    data = {"property": "band_gap", "train_fraction": size / POOL, "split": split}
    training = {"epochs": max(round(given.shorter * EPOCHS[size]), 1), "seed": seed}
    model: dict[str, Any] = {"width": given.small_width}
    if label == "transfer":
        base = given.runs / "property/released_formation_energy.safetensors"
        if not base.exists():
            features = str(RELEASED.with_name("atom_init.json"))
            import_checkpoint(RELEASED, features, "formation_energy", "eV/atom").save(base)
        model, training["learning_rate"] = {"base": str(base)}, 5e-3
    name = "plain" if label == "scratch" else label
    return run(f"{name}_{size}_{seed}", pool, data, model, training, given)


def run(
    name: str,
    crystals: Callable[[], Crystals],
    data: dict[str, Any],
    model: dict[str, Any],
    training: dict[str, Any],
    given: argparse.Namespace,
) -> Results | None:
    """Metrics, seconds and epochs of a run, trained or taken up where it stopped."""
    folder = given.runs / "property" / name
    seconds = folder / "processor_seconds.json"
    if not (folder / "report.html").exists():
        if given.have_only:
            return None
        config = {
            "data": {"files": [str(FILE)], "unit": UNITS[data["property"]], **data},
            "model": model,
            "training": {"device": "cpu", **training},
            "output": str(folder),
        }
        resume = (folder / "config.yaml").exists()
        before = time.process_time()
        train(config, resume, on_epoch=lambda row: print(name, row), crystals=crystals())
        seconds.write_text(f"{time.process_time() - before:.1f}\n")
    return {
        "metrics": json.loads((folder / "metrics.json").read_text()),
        "processor_seconds": json.loads(seconds.read_text()) if seconds.exists() else None,
        "best_epoch": json.loads((folder / "manifest.json").read_text())["best_epoch"],
        "epochs": training["epochs"],
        "folder": name,
    }


def page(results: Results) -> str:
    scratch, curve = results["scratch"], results["curve"]
    rows = []
    for name, runs in scratch.items():
        parts = ("zero", "other") if "gap" in name else ()
        apart = [spread([t[k]["mae"] for t in tests(runs)], ".3f") for k in parts]
        median = spread([run["metrics"]["baseline"]["test"]["mae"] for run in runs], ".3f")
        minutes = fmean(run["processor_seconds"] for run in runs) / 60
        row = [name, len(runs), f"**{mae(runs)}**", *(apart or ["–", "–"]), median]
        rows.append([*row, runs[0]["epochs"], f"{minutes:.0f} min"])
    header = "property | seeds | test MAE | metals | others | median guessed | epochs | CPU each"
    sizes = list(curve["scratch"])
    return fill(
        __file__,
        machine=machine_lines(results["machine"]),
        options=results["options"],
        scratch=table(header.split(" | "), rows),
        tested=tests(next(iter(scratch.values())))[0]["n"],
        anchors=[anchor(name, runs) for name, runs in scratch.items()],
        pool=tests(curve["scratch"][sizes[0]])[0]["n"],
        curve=table(
            ["test MAE, eV", *(f"{size} crystals" for size in sizes)],
            [[NAMES[label], *(cell(of.get(n, [])) for n in sizes)] for label, of in curve.items()],
        ),
    )


def tests(runs: Runs) -> Runs:
    return [run["metrics"]["trained"]["test"] for run in runs]


def mae(runs: Runs) -> str:
    return spread([test["mae"] for test in tests(runs)], ".3f")


def cell(runs: Runs) -> str:
    return f"{mae(runs)} ({len(runs)}; {runs[0]['epochs']})" if runs else "not run"


def anchor(name: str, runs: Runs) -> str:
    """What others have."""
    if "gap" not in name:
        return (
            f"{name}: Xie and Grossman have {PUBLISHED} eV/atom, from 28,046 crystals of "
            "another selection."
        )
    below = sum(test["mae"] <= THESIS for test in tests(runs))
    return (
        f"{name}: the thesis has {THESIS} eV, {below} of {len(runs)} seeds are at or below it. "
        "Anchors, of 106 k structures (matbench_mp_gap): coGN 0.156, CGCNN 0.297."
    )


def picture(results: Results, runs: Path) -> Figure:
    """Parity of the first network from scratch; the learning curves."""
    figure, (axes,) = panels_of(9.6, 4.6, 1, 2)
    for name, first in list(results["scratch"].items())[:1]:
        folder = runs / first[0]["folder"]
        test = json.loads((folder / "manifest.json").read_text())["split"]["test"]
        values = source()[name.split(",")[0]][test]
        predicted = PropertyModel.load(folder).predict([as_graph(structure(i)) for i in test])
        error = float(np.abs(predicted - values).mean())
        note = f"from scratch, seed 0, {len(values):,} test crystals: MAE {error:.3f} eV"
        parity_panel(axes[0], values, predicted, shared_limits(values, [predicted]), note)
        axes[0].set(xlabel="band gap, PBE (eV)", ylabel="network (eV)")
    for (label, sizes), colour in zip(results["curve"].items(), (BEFORE, AFTER), strict=True):
        values = [[test["mae"] for test in tests(of)] for of in sizes.values()]
        error = [stdev(v) if len(v) > 1 else 0.0 for v in values]
        style: dict[str, Any] = {"marker": "o", "capsize": 3, "color": colour}
        axes[1].errorbar(
            [*map(int, sizes)], [*map(fmean, values)], error, label=NAMES[label], **style
        )
    axes[1].set(xscale="log", xlabel="training crystals", ylabel="test MAE of the band gap (eV)")
    axes[1].set_xticks([*map(int, results["curve"]["scratch"])], results["curve"]["scratch"])
    axes[1].minorticks_off()
    axes[1].legend(frameon=False, fontsize=9)
    return figure


STUDY = Study(__file__, __doc__, page, seeds=[0, 1, 2], runs=True)
add = STUDY.options.add_argument
add("--epochs", type=int, default=8, help="of *scratch*")
add("--property", nargs="*", default=["band_gap"], choices=list(UNITS), help="of *scratch*")
add("--scratch-seeds", type=int, nargs="*", default=[0, 1, 2])
add("--plain", action="store_true", help="*scratch* without the gate, too")
add("--sizes", type=int, nargs="*", default=[300, 1000, 3000], choices=list(EPOCHS))
add("--shorter", type=float, default=1.0, help="factor on their epochs")
add("--width", type=int, default=64, help="numbers that an atom carries")
add("--small-width", type=int, help="of the small runs; left out: the same")

if __name__ == "__main__":
    STUDY.main(measure)
