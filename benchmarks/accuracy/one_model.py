"""One model of all crystals, or one each? And a crystal that it never saw, and other bases?

Crystals of ``$TLPOT_DATA/x23`` (vdW-DF2). *single*: fine-tuned on one crystal's frames; *joint*:
on those of all; *left out*: on those of all but the one that is judged. All are judged on the
same test frames, those of ``crystals.py`` of the same seed; the joint models train and tune on
what is left. Reduced: `mini`, three crystals, few frames. Full: ANI-2x, all crystals, frames and
members, the single models those of ``crystals.py --full`` where they are finished; also ANI-1x
and ANI-1ccx as bases of the joint model. Its options make it smaller.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy.crystals import crystals
from benchmarks.lib.machine import RESULTS, machine, machine_lines, table, write_results
from benchmarks.lib.runs import Models, crystal_points, parts_of
from benchmarks.lib.sweep import reduced_base, with_members
from tlpot import load
from tlpot.config import Config, Training, parse_config
from tlpot.data.write import write_frames
from tlpot.evaluation.metrics import metrics
from tlpot.frames import Frame
from tlpot.potential import Potential

REDUCED = ("07_co2", "11_formamide", "21_urea")
VALIDATION = 0.125
"""Of the frames that are no test frames: 10 % of all, as everywhere else."""
KEYS = {
    "energy": "energy_rmse_meV_per_atom",
    "centred": "energy_rmse_centered_meV_per_atom",
    "force": "force_rmse_meV_per_A_component",
}
UNITS = {"energy": "meV/atom", "centred": "meV/atom", "force": "meV/Å"}
Errors = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--full", action="store_true", help="hours, resumable; else minutes")
    parser.add_argument("--crystals", nargs="+")
    parser.add_argument("--left-out", nargs="+", help="crystals to leave out in turn")
    parser.add_argument("--bases", nargs="+", help="of the joint model")
    parser.add_argument("--frames", type=int, help="of each crystal to train and tune on")
    parser.add_argument("--members", type=int, help="of the ensemble; left out: all")
    parser.add_argument("--epochs", type=int, help="left out: those of the recipe")
    parser.add_argument("--single-epochs", type=int, help="of single models, if others")
    parser.add_argument("--seed", type=int, default=0, help="of split and training")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    names = given.crystals or (list(crystals()) if given.full else REDUCED)
    frames = given.frames if given.full else given.frames or 15
    bases = given.bases or (["ani2x", "ani1x", "ani1ccx"] if given.full else ["mini"])
    training = {"seed": given.seed} | ({} if given.full else reduced_base()["training"])
    training |= {"epochs": given.epochs} if given.epochs else {}
    results: dict[str, Any] = {"machine": machine(), **vars(given), "runs": str(given.runs)}
    results |= {"frames": frames, "bases": bases, "size": "full" if given.full else "reduced"}
    results["epochs"] = Training.model_validate(training).epochs
    results["single_epochs"] = given.single_epochs or results["epochs"]
    points = {p.labels["crystal"]: p for p in crystal_points(names, [given.seed])}
    pools, tests = {}, {}
    for name, point in points.items():
        parts = parts_of(point.config)
        tests[name] = parts["test"]
        pools[name] = pool(parts["train"] + parts["validation"], name, frames, given)
    models, where = Models(given.runs, train=True), f"one_model/{results['size']}"

    def trained(base: str, crystals: Sequence[str], **more: Any) -> Potential:
        files = [pools[crystal] for crystal in crystals]
        config = settings(named(base, given), files, training | more)
        folder = models.folder(config, where)
        assert folder is not None
        print(base, *crystals, flush=True)
        return load(folder)

    def single(name: str) -> Potential:
        if not given.full or frames or given.members or given.epochs:
            return trained(bases[0], [name], epochs=results["single_epochs"])
        folder = models.folder(points[name].config)
        assert folder is not None
        return load(folder)

    untouched = load(named(bases[0], given))
    joint = {base: trained(base, names) for base in bases}
    errors: dict[str, dict[str, Errors]] = {name: {} for name in names}
    for name in names:
        found = errors[name]
        found["untouched"] = judge(untouched, tests[name], zero=False)
        found["single"] = judge(single(name), tests[name])
        found |= {f"joint, {base}": judge(m, tests[name]) for base, m in joint.items()}
        if name in (given.left_out or names):
            others = [other for other in names if other != name]
            found["left out"] = judge(trained(bases[0], others), tests[name], zero=False)
    results["errors"] = errors
    folder = RESULTS if given.full else RESULTS / "reduced"
    write_results("one_model", results, page(results), folder)
    draw(errors).savefig(folder / "one_model.png", dpi=150)


def pool(frames: list[Frame], name: str, number: int | None, given: argparse.Namespace) -> Path:
    """What of a crystal may be trained and tuned on, in a file."""
    path = given.runs / "one_model" / f"{name}-{number or 'all'}-{given.seed}.extxyz"
    if not path.exists():
        order = np.random.default_rng(given.seed).permutation(len(frames))[:number]
        write_frames(path, [frames[i] for i in sorted(order)])
    return path


def named(base: str, given: argparse.Namespace) -> str:
    return with_members(base, given.members, given.runs) if given.members else base


def settings(base: str, pools: Sequence[Path], training: dict[str, Any]) -> Config:
    split = {"test": 0.0, "validation": VALIDATION, "seed": training["seed"]}
    data = {"files": [str(path) for path in pools], "split": split}
    return parse_config({"data": data, "model": {"base": base}, "training": training})


def judge(potential: Potential, frames: Sequence[Frame], zero: bool = True) -> Errors:
    """Errors on test frames; without `zero` the model does not know the energies' zero."""
    found = metrics(frames, potential.predict(frames))
    return {name: found[key] for name, key in KEYS.items() if zero or name != "energy"}


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    errors = results["errors"]
    lines = [
        f"# {str(__doc__).splitlines()[0]}",
        "",
        f"{results['bases'][0]}, default recipe"
        f"{'' if results['size'] == 'full' else ', learning rate 1e-3'}, "
        f"{results['members'] or 'all'} members, {results['epochs']} epochs (*single*: "
        f"{results['single_epochs']}; an epoch of a joint model has {len(errors)} times the "
        "steps), "
        f"{results['frames'] or 'all'} frames of each crystal to train and tune on (crystal and "
        f"molecule), split and training seed {results['seed']}. RMSE over the same test frames "
        "for all; forces per component (per vector: √3 times). *centred*: the mean error of the "
        "crystal's composition removed, what ranking needs, and all that can be asked of a "
        "crystal that the model never saw. *untouched*: the base itself.",
        "",
    ]
    for quantity, unit in UNITS.items():
        models = list(dict.fromkeys(m for e in errors.values() for m in e if quantity in e[m]))
        rows = [
            [crystal, *(f"{e[m][quantity]:.2f}" if m in e else "–" for m in models)]
            for crystal, e in errors.items()
        ]
        rows.append(
            [
                "**mean**",
                *(_mean([e[m] for e in errors.values() if m in e], quantity) for m in models),
            ]
        )
        title = "energy, centred" if quantity == "centred" else quantity
        lines += [f"## {title}, {unit}", "", *table(["crystal", *models], rows), ""]
    return "\n".join([*lines, *machine_lines(results["machine"])])


def _mean(some: Sequence[Errors], quantity: str) -> str:
    return f"{fmean(e[quantity] for e in some):.2f} ({len(some)})"


def draw(errors: dict[str, dict[str, Errors]]) -> Figure:
    """Centred energy and force errors of each model, a row a crystal."""
    figure = Figure(figsize=(10, 1.6 + 0.27 * len(errors)), layout="constrained")
    models = list(dict.fromkeys(m for e in errors.values() for m in e))
    panels = figure.subplots(1, 2, sharey=True)
    for panel, quantity in zip(panels, ("centred", "force"), strict=True):
        for model in models:
            drawn = [(e[model][quantity], i) for i, e in enumerate(errors.values()) if model in e]
            panel.plot(*zip(*drawn, strict=True), "o", label=model, alpha=0.7)
        panel.set(xscale="log", xlabel=f"{quantity} RMSE, {UNITS[quantity]}")
        panel.grid(axis="y", color="0.9")
    panels[0].set_yticks(range(len(errors)), list(errors))
    panels[0].invert_yaxis()
    panels[0].set_xlabel("energy RMSE, centred, meV/atom")
    panels[1].legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
