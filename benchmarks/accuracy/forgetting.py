"""What does fine-tuning on one crystal forget, and how much of that does replay keep?

Full: ANI-2x, fine-tuned on a crystal of ``$TLPOT_DATA/x23`` (vdW-DF2), judged on the 528 dimers
of S66x8 at ANI-2x's own level (``$TLPOT_DATA/comp6``). Reduced: `mini` on ``datasets/urea``,
judged on pairs of molecules against its own untouched predictions. With replay
(``training.replay``), molecules and pairs that are no part of S66 are mixed in at several shares,
labelled by the untouched base; nothing that is judged is ever replayed. *auto* makes its own pool
of the training crystals (``training.replay: auto``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.accuracy.dimers import (
    IN_S66,
    SEPARATIONS,
    TEMPERATURE,
    molecules_and_pairs,
    replayable,
    s66x8,
)
from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, FORCE, fill, spread, table
from benchmarks.lib.runs import Models, with_members
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import full_base, reduced_base, x23
from tlpot import load, read_frames
from tlpot.ablation.sweep import parse_sweep, points
from tlpot.data.write import write_frames
from tlpot.evaluation.calibration import rms
from tlpot.evaluation.metrics import metrics
from tlpot.model.potential import Potential
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame

SHARES = {"reduced": ["0", "0.25", "auto"], "full": ["0", "0.1", "0.25", "0.5", "auto"]}
EACH, PAIRS = 2, 2
"""Geometries of each replayed molecule; pairs for each geometry."""
COLUMNS = {
    ENERGY: "crystal: energy, meV/atom",
    FORCE: "force, meV/Å",
    "judged_energy_meV_per_atom": "judged: energy, meV/atom",
    "judged_force_meV_per_A": "force, meV/Å",
    "moved_force_meV_per_A": "force moved by, meV/Å",
    "curve_meV": "binding curve, meV",
}
Runs = list[dict[str, Any]]


def measure(given: argparse.Namespace) -> Iterator[Results]:
    size = "full" if given.full else "reduced"
    settings = full_base() if given.full else reduced_base()
    name = settings["model"]["base"]
    file = replay_file(name, given.runs)
    settings["model"]["base"] = with_members(name, given.members, given.runs)
    settings["training"] |= {"epochs": given.epochs} if given.epochs else {}
    base = load(settings["model"]["base"])
    crystals = {name: {"data.files": x23(name)} for name in given.crystals}
    shares = {share: replayed(share, file) for share in given.shares or SHARES[size]}
    axes = {"crystal": crystals if given.full else {"urea": {}}, "share": shares}
    frames = s66x8() if given.full else labelled(base)
    before = base.predict(frames)
    results: Results = {"size": size, "seeds": given.seeds, "runs": [], "members": given.members}
    results |= {"replayed": len(read_frames(str(file))), "judged": len(frames)}
    results["untouched"] = judge(frames, before, before)
    models = Models(given.runs)
    for point in points(parse_sweep({"base": settings, "axes": axes, "seeds": given.seeds})):
        folder = models.folder(point.config, f"forgetting/{size}")
        errors = json.loads((folder / "metrics.json").read_text())["finetuned"]["test"]
        errors |= judge(frames, load(folder).predict(frames), before)
        entry = {**point.labels, "seed": point.seed, "epochs": point.config.training.epochs}
        results["runs"].append(entry | {key: errors.get(key) for key in COLUMNS})
        print(*results["runs"][-1].values(), flush=True)
        yield results


def replayed(share: str, file: Path) -> dict[str, Any]:
    """The setting that replays a share of a file, none, or what ``auto`` makes."""
    if share == "auto":
        return {"training.replay": "auto"}
    return {"training.replay": {"files": str(file), "share": float(share)}} if share != "0" else {}


def replay_file(base: str, runs: Path) -> Path:
    """Structures to replay, written once for each base."""
    path = runs / "forgetting" / f"replay-{base}.extxyz"
    if not path.exists():
        write_frames(path, molecules_and_pairs(replayable(), load(base), EACH, PAIRS, seed=0))
    return path


def labelled(base: Potential) -> list[Frame]:
    """Molecules that are never replayed, and pairs of them, labelled by `base`."""
    frames = molecules_and_pairs(IN_S66, base, EACH, PAIRS, seed=1)
    labels = zip(frames, base.predict(frames), strict=True)
    return [replace(f, energy=p.energy, forces=p.forces) for f, p in labels]


def judge(
    frames: Sequence[Frame], after: Sequence[Prediction], before: Sequence[Prediction]
) -> dict[str, float | None]:
    """RMSE of energies (zero of energy of each element refitted) and of force components.

    ``curve_meV`` is that of E(separation) - E(largest separation) of each dimer, None if there
    are no separations; ``moved`` is how far the forces are from those `before`.
    """
    symbols = sorted({s for f in frames for s in f.atoms.symbols})
    shares = np.array([[np.mean(f.atoms.symbols == s) for s in symbols] for f in frames])
    error = np.array([p.energy - (f.energy or 0) for f, p in zip(frames, after, strict=True)])
    sizes = np.array([len(f) for f in frames])
    zero = np.linalg.lstsq(shares, error / sizes, rcond=None)[0]
    moved = [p.forces - b.forces for p, b in zip(after, before, strict=True)]
    curve = None
    if frames[0].source and frames[SEPARATIONS - 1].source == frames[0].source:
        curves = error.reshape(-1, SEPARATIONS)
        curve = 1e3 * rms(curves[:, :-1] - curves[:, -1:])
    return {
        "judged_energy_meV_per_atom": 1e3 * rms(error / sizes - shares @ zero),
        "judged_force_meV_per_A": metrics(frames, after)["force_rmse_meV_per_A_component"],
        "moved_force_meV_per_A": 1e3 * rms(np.concatenate(moved)),
        "curve_meV": curve,
    }


def page(results: Results) -> str:
    rows = [["untouched", "–", *(cell([results["untouched"]], key) for key in COLUMNS)]]
    for (crystal, share), runs in groups(results).items():
        rows.append([crystal, share, *(cell(runs, key) for key in COLUMNS)])
    full, members = results["size"] == "full", results["members"]
    return fill(
        __file__,
        results=results,
        base="ANI-2x" if full else "mini",
        members=f" (the first {members} members)" if members else "",
        rate="" if full else ", learning rate 1e-3,",
        epochs=results["runs"][0]["epochs"],
        seeds=", ".join(map(str, results["seeds"])),
        judged="dimers of S66x8 (COMP6, ωB97X/6-31G*)" if full else "molecules and pairs",
        labels="the file's (of [another level of theory](levels.md) than the crystal's)"
        if full
        else "those of the untouched base, whose own error is thus zero",
        molecules=len(replayable()),
        temperature=TEMPERATURE,
        errors=table(["crystal", "share", *COLUMNS.values()], rows),
        bounds=bounds(results),
        machine=machine_lines(results["machine"]),
    )


def bounds(results: Results) -> list[str]:
    """What each share of replay keeps, and what that costs."""
    lines, by_share, untouched = [], groups(results), results["untouched"]
    for (crystal, share), runs in by_share.items():
        without = by_share.get((crystal, "0"), [])
        if runs is without or not without:
            continue
        keys = ("moved_force_meV_per_A", *list(COLUMNS)[:2])
        kept, *costs = (ratio(runs, without, key) for key in keys)
        line = (
            f"- {crystal}, share {share}: forces on the judged structures moved {kept:.2f} times "
            f"as far as without replay; crystal energy error × {costs[0]:.2f}, force error × "
            f"{costs[1]:.2f}"
        )
        if results["size"] == "full":
            key = "judged_force_meV_per_A"
            now, before = (ratio(some, [untouched], key) for some in (runs, without))
            line += f"; judged forces: {now:.1f} times the error of the untouched base, not "
            line += f"{before:.1f} times"
        lines.append(line)
    return lines


def ratio(some: Runs, others: Runs, key: str) -> float:
    return fmean(run[key] for run in some) / fmean(run[key] for run in others)


def groups(results: Results) -> dict[tuple[str, str], Runs]:
    """Runs that differ in their seed alone."""
    grouped: dict[tuple[str, str], Runs] = {}
    for run in results["runs"]:
        grouped.setdefault((run["crystal"], run["share"]), []).append(run)
    return grouped


def cell(runs: Runs, key: str) -> str:
    return spread((run[key] for run in runs if run.get(key) is not None), ".3g", ".2g")


def draw(results: Results) -> Figure:
    """Error on the judged structures against the error on the crystal, a point a run."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    pairs = (
        (ENERGY, "judged_energy_meV_per_atom", "energy RMSE, meV/atom"),
        (FORCE, "judged_force_meV_per_A", "force RMSE, meV/Å"),
    )
    for axis, (crystal, judged, what) in zip(figure.subplots(1, 2), pairs, strict=True):
        for (name, share), runs in groups(results).items():
            x, y = [run[crystal] for run in runs], [run[judged] for run in runs]
            axis.plot(x, y, "o", label=f"{name}, replay {share}")
        axis.axhline(results["untouched"][judged], color="0.5", ls="--", label="untouched")
        axis.set(xlabel=f"crystal: {what}", ylabel=f"judged: {what}")
        axis.set_ylim(0, None)
    axis.legend(fontsize="small")
    return figure


STUDY = Study(__file__, __doc__, page, draw, full=True, seeds=[0])
add = STUDY.options.add_argument
add("--crystals", nargs="+", default=["21_urea"], help="of X23, with --full")
add("--shares", nargs="+", help="of replayed frames in an epoch, or auto")
add("--epochs", type=int, help="left out: those of the recipe")
add("--members", type=int, help="of ANI-2x's ensemble; left out: all eight")

if __name__ == "__main__":
    STUDY.main(measure)
