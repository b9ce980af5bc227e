"""One model of all crystals, or one each? And a crystal that it never saw, and other bases?

Crystals of ``$TLPOT_DATA/x23`` (vdW-DF2). *single*: fine-tuned on one crystal's frames; *joint*:
on those of all; *left out*: on those of all but the one that is judged. All are judged on the
same test frames, those of ``crystals.py`` of the same seed; the joint models train and tune on
what is left. Reduced: `mini`, three crystals, few frames. Full: ANI-2x, all crystals, frames and
members, the single models those of ``crystals.py --full`` where they are finished; also ANI-1x
and ANI-1ccx as bases of the joint model. Its options make it smaller.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import CENTRED, ENERGY, FORCE, fill, table
from benchmarks.lib.runs import Models, parts_of, with_members
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import crystal_points, crystals, reduced_base
from tlpot import load
from tlpot.config import Config, Training, parse_config
from tlpot.data.write import write_frames
from tlpot.evaluation.metrics import metrics
from tlpot.frames import Frame
from tlpot.potential import Potential

REDUCED = ("07_co2", "11_formamide", "21_urea")
VALIDATION = 0.125
"""Of the frames that are no test frames: 10 % of all, as everywhere else."""
KEYS = {"energy": ENERGY, "centred": CENTRED, "force": FORCE}
Errors = dict[str, float]


def measure(given: argparse.Namespace) -> Iterator[Results]:
    names = given.crystals or (list(crystals()) if given.full else REDUCED)
    frames = given.frames if given.full else given.frames or 15
    bases = given.bases or (["ani2x", "ani1x", "ani1ccx"] if given.full else ["mini"])
    training = {"seed": given.seed} | ({} if given.full else reduced_base()["training"])
    training |= {"epochs": given.epochs} if given.epochs else {}
    epochs = Training.model_validate(training).epochs
    single_epochs = given.single_epochs or epochs
    points = {p.labels["crystal"]: p for p in crystal_points(names, [given.seed])}
    pools, tests = {}, {}
    for name, point in points.items():
        parts = parts_of(point.config)
        tests[name] = parts["test"]
        pools[name] = pool(parts["train"] + parts["validation"], name, frames, given)
    size = "full" if given.full else "reduced"
    models = Models(given.runs)

    def trained(base: str, crystals: Sequence[str], **more: Any) -> Potential:
        base = with_members(base, given.members, given.runs)
        config = settings(base, [pools[crystal] for crystal in crystals], training | more)
        print(base, *crystals, flush=True)
        return load(models.folder(config, f"one_model/{size}"))

    def single(name: str) -> Potential:
        if not given.full or frames or given.members or given.epochs:
            return trained(bases[0], [name], epochs=single_epochs)
        return load(models.folder(points[name].config))

    untouched = load(with_members(bases[0], given.members, given.runs))
    joint = {base: trained(base, names) for base in bases}
    errors: dict[str, dict[str, Errors]] = {}
    for name in names:
        of = errors[name] = {
            "untouched": judge(untouched, tests[name], zero=False),
            "single": judge(single(name), tests[name]),
        }
        of |= {f"joint, {base}": judge(model, tests[name]) for base, model in joint.items()}
        if name in (given.left_out or names):
            others = [other for other in names if other != name]
            of["left out"] = judge(trained(bases[0], others), tests[name], zero=False)
    yield {
        "size": size,
        "bases": bases,
        "frames": frames,
        "members": given.members,
        "epochs": epochs,
        "single_epochs": single_epochs,
        "seed": given.seed,
        "errors": errors,
    }


def pool(frames: list[Frame], name: str, number: int | None, given: argparse.Namespace) -> Path:
    """What of a crystal may be trained and tuned on, in a file."""
    path = given.runs / "one_model" / f"{name}-{number or 'all'}-{given.seed}.extxyz"
    if not path.exists():
        order = np.random.default_rng(given.seed).permutation(len(frames))[:number]
        write_frames(path, [frames[i] for i in sorted(order)])
    return path


def settings(base: str, pools: Sequence[Path], training: dict[str, Any]) -> Config:
    split = {"test": 0.0, "validation": VALIDATION, "seed": training["seed"]}
    data = {"files": [str(path) for path in pools], "split": split}
    return parse_config({"data": data, "model": {"base": base}, "training": training})


def judge(potential: Potential, frames: Sequence[Frame], zero: bool = True) -> Errors:
    """Errors on test frames; without `zero` the model does not know the energies' zero."""
    errors = metrics(frames, potential.predict(frames))
    return {name: errors[key] for name, key in KEYS.items() if zero or name != "energy"}


def page(results: Results) -> str:
    tables = {quantity: error_table(results["errors"], quantity) for quantity in KEYS}
    return fill(
        __file__,
        results=results,
        rate="" if results["size"] == "full" else ", learning rate 1e-3",
        members=results["members"] or "all",
        number=len(results["errors"]),
        frames=results["frames"] or "all",
        machine=machine_lines(results["machine"]),
        **tables,
    )


def error_table(errors: dict[str, dict[str, Errors]], quantity: str) -> list[str]:
    """A row a crystal, then the mean over those that each model has, and their number."""
    models = list(dict.fromkeys(m for e in errors.values() for m in e if quantity in e[m]))
    rows = [
        [crystal, *(f"{e[m][quantity]:.2f}" if m in e else "–" for m in models)]
        for crystal, e in errors.items()
    ]
    of = [[e[m][quantity] for e in errors.values() if m in e] for m in models]
    rows.append(["**mean**", *(f"{fmean(values):.2f} ({len(values)})" for values in of)])
    return table(["crystal", *models], rows)


def draw(results: Results) -> Figure:
    """Centred energy and force errors of each model, a row a crystal."""
    errors = results["errors"]
    figure = Figure(figsize=(10, 1.6 + 0.27 * len(errors)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    units = {"centred": "energy RMSE, centred, meV/atom", "force": "force RMSE, meV/Å"}
    for panel, (quantity, label) in zip(panels, units.items(), strict=True):
        for model in dict.fromkeys(m for e in errors.values() for m in e):
            drawn = [(e[model][quantity], i) for i, e in enumerate(errors.values()) if model in e]
            panel.plot(*zip(*drawn, strict=True), "o", label=model, alpha=0.7)
        panel.set(xscale="log", xlabel=label)
        panel.grid(axis="y", color="0.9")
    panels[0].set_yticks(range(len(errors)), list(errors))
    panels[0].invert_yaxis()
    panels[1].legend(fontsize="small")
    return figure


STUDY = Study(__file__, __doc__, page, draw, full=True)
add = STUDY.options.add_argument
add("--crystals", nargs="+", help="of X23; left out: three, with --full all")
add("--left-out", nargs="+", help="crystals to leave out in turn; left out: all")
add("--bases", nargs="+", help="of the joint model")
add("--frames", type=int, help="of each crystal to train and tune on")
add("--members", type=int, help="of the ensemble; left out: all")
add("--epochs", type=int, help="left out: those of the recipe")
add("--single-epochs", type=int, help="of single models, if others")
add("--seed", type=int, default=0, help="of split and training")

if __name__ == "__main__":
    STUDY.main(measure)
