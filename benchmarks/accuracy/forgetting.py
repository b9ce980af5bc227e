"""What does fine-tuning on one crystal forget, and how much of that does replay keep?

Full: ANI-2x, fine-tuned on a crystal of ``$TLPOT_DATA/x23`` (vdW-DF2), judged on the 528 dimers
of S66x8 at ANI-2x's own level (``$TLPOT_DATA/comp6``). Reduced: `mini` on ``datasets/urea``,
judged on pairs of molecules against its own untouched predictions. With replay
(``training.replay``), molecules and pairs that are no part of S66 are mixed in at several shares,
labelled by the untouched base; nothing that is judged is ever replayed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy.dimers import (
    IN_S66,
    SEPARATIONS,
    TEMPERATURE,
    molecules_and_pairs,
    replayable,
    s66x8,
)
from benchmarks.lib.machine import RESULTS, machine, machine_lines, table, write_results
from benchmarks.lib.runs import Models
from benchmarks.lib.sweep import full_base, reduced_base, with_members, x23
from tlpot import load, read_frames
from tlpot.ablation.sweep import parse_sweep, points
from tlpot.data.write import write_frames
from tlpot.evaluation.calibration import rms
from tlpot.evaluation.metrics import metrics
from tlpot.frames import Frame
from tlpot.potential import Potential
from tlpot.prediction import Prediction

SHARES = {"reduced": [0.0, 0.25], "full": [0.0, 0.1, 0.25, 0.5]}
EACH, PAIRS = 2, 2
"""Geometries of each replayed molecule; pairs for each geometry."""
COLUMNS = {
    "energy_rmse_meV_per_atom": "crystal: energy, meV/atom",
    "force_rmse_meV_per_A_component": "force, meV/Å",
    "judged_energy_meV_per_atom": "judged: energy, meV/atom",
    "judged_force_meV_per_A": "force, meV/Å",
    "moved_force_meV_per_A": "force moved by, meV/Å",
    "curve_meV": "binding curve, meV",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--full", action="store_true", help="ANI-2x and S66x8; else minutes")
    parser.add_argument("--crystals", nargs="+", default=["21_urea"], help="of X23, with --full")
    parser.add_argument("--shares", nargs="+", type=float, help="of replayed frames in an epoch")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="left out: those of the recipe")
    parser.add_argument("--members", type=int, help="of ANI-2x's ensemble; left out: all eight")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    size, about = "full" if given.full else "reduced", machine()
    settings = full_base() if given.full else reduced_base()
    name = settings["model"]["base"]
    file = replay_file(name, given.runs)
    if given.members:
        settings["model"]["base"] = with_members(name, given.members, given.runs)
    base = load(settings["model"]["base"])
    settings["training"] |= {"epochs": given.epochs} if given.epochs else {}
    crystals = {name: {"data.files": x23(name)} for name in given.crystals}
    shares = {
        f"{share:g}": {"training.replay": {"files": str(file), "share": share}} if share else {}
        for share in given.shares or SHARES[size]
    }
    axes = {"crystal": crystals if given.full else {"urea": {}}, "share": shares}
    frames = s66x8() if given.full else labelled(base)
    before = base.predict(frames)
    results: dict[str, Any] = {"machine": about, "size": size, "seeds": given.seeds, "runs": []}
    results["members"] = given.members
    results |= {"replayed": len(read_frames(str(file))), "judged": len(frames)}
    results["untouched"] = judge(frames, before, before)
    models = Models(given.runs, train=True)
    for point in points(parse_sweep({"base": settings, "axes": axes, "seeds": given.seeds})):
        folder = models.folder(point.config, f"forgetting/{size}")
        assert folder is not None
        errors = json.loads((folder / "metrics.json").read_text())["finetuned"]["test"]
        errors |= judge(frames, load(folder).predict(frames), before)
        epochs = point.config.training.epochs
        entry = {**point.labels, "seed": point.seed, "epochs": epochs}
        results["runs"].append(entry | {key: errors.get(key) for key in COLUMNS})
        print(*results["runs"][-1].values(), flush=True)
    target = RESULTS if given.full else RESULTS / "reduced"
    write_results("forgetting", results, page(results), target)
    draw(results).savefig(target / "forgetting.png", dpi=150)


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
    frames: Sequence[Frame], found: Sequence[Prediction], before: Sequence[Prediction]
) -> dict[str, float | None]:
    """RMSE of energies (zero of energy of each element refitted) and of force components.

    ``curve_meV`` is that of E(separation) - E(largest separation) of each dimer, None if there
    are no separations; ``moved`` is how far the forces are from those `before`.
    """
    symbols = sorted({s for f in frames for s in f.atoms.symbols})
    shares = np.array([[np.mean(f.atoms.symbols == s) for s in symbols] for f in frames])
    error = np.array([p.energy - (f.energy or 0) for f, p in zip(frames, found, strict=True)])
    sizes = np.array([len(f) for f in frames])
    zero = np.linalg.lstsq(shares, error / sizes, rcond=None)[0]
    moved = [p.forces - b.forces for p, b in zip(found, before, strict=True)]
    curve = None
    if frames[0].source and frames[SEPARATIONS - 1].source == frames[0].source:
        curves = error.reshape(-1, SEPARATIONS)
        curve = 1e3 * rms(curves[:, :-1] - curves[:, -1:])
    return {
        "judged_energy_meV_per_atom": 1e3 * rms(error / sizes - shares @ zero),
        "judged_force_meV_per_A": metrics(frames, found)["force_rmse_meV_per_A_component"],
        "moved_force_meV_per_A": 1e3 * rms(np.concatenate(moved)),
        "curve_meV": curve,
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [["untouched", "–", *(cell([results["untouched"]], key) for key in COLUMNS)]]
    for (crystal, share), runs in groups(results).items():
        rows.append([crystal, share, *(cell(runs, key) for key in COLUMNS)])
    full = results["size"] == "full"
    members = f" (the first {results['members']} members)" if results["members"] else ""
    judged = "dimers of S66x8 (COMP6, ωB97X/6-31G*)" if full else "molecules and pairs"
    labels = "the file's" if full else "those of the untouched base, whose own error is thus zero"
    return "\n".join(
        [
            f"# {str(__doc__).splitlines()[0]}",
            "",
            f"{'ANI-2x' if full else 'mini'}{members}, fine-tuned with the default recipe"
            f"{'' if full else ', learning rate 1e-3,'} for "
            f"{results['runs'][0]['epochs']} epochs, split and training seeds "
            f"{', '.join(map(str, results['seeds']))}; *crystal*: test frames of the crystal. "
            f"*judged*: {results['judged']} {judged}, labels {labels}. RMSE, forces per component "
            "(per vector: √3 times); energies after the zero of energy of each element is refitted "
            "to the judged structures; *binding curve*: E(separation) − E(largest separation) of "
            "a dimer. *moved*: RMS change of the judged forces by fine-tuning.",
            "",
            f"*share*: of the frames of an epoch, those replayed. {results['replayed']} "
            f"structures: {len(replayable())} molecules of ase's G2 collection, none of S66's, "
            f"along normal modes at {TEMPERATURE:g} K, and random pairs of them, labelled by the "
            "untouched base.",
            "",
            *table(["crystal", "share", *COLUMNS.values()], rows),
            "",
            *bounds(results),
            "",
            *machine_lines(results["machine"]),
        ]
    )


def bounds(results: dict[str, Any]) -> list[str]:
    """What each share of replay keeps, and what that costs."""
    lines, found, untouched = [], groups(results), results["untouched"]
    for (crystal, share), runs in found.items():
        without = found.get((crystal, "0"), [])
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


def ratio(some: list[dict[str, Any]], others: list[dict[str, Any]], key: str) -> float:
    return fmean(run[key] for run in some) / fmean(run[key] for run in others)


def groups(results: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Runs that differ in their seed alone."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in results["runs"]:
        found.setdefault((run["crystal"], run["share"]), []).append(run)
    return found


def cell(runs: Sequence[dict[str, Any]], key: str) -> str:
    values = [run[key] for run in runs if run.get(key) is not None]
    if not values:
        return "–"
    return f"{fmean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def draw(results: dict[str, Any]) -> Figure:
    """Error on the judged structures against the error on the crystal, a point a run."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    pairs = (
        ("energy_rmse_meV_per_atom", "judged_energy_meV_per_atom", "energy RMSE, meV/atom"),
        ("force_rmse_meV_per_A_component", "judged_force_meV_per_A", "force RMSE, meV/Å"),
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


if __name__ == "__main__":
    main()
