"""Do 90 % intervals cover 90 % of unseen labels, and does a high spread flag a high error?

The models of ``crystals.py --full`` (ANI-2x on one crystal of X23 each, default recipe), taken from
finished runs under ``--runs``, else trained (``--have-only``: left out, and said), are calibrated
on their validation frames and judged on their test frames. Then validation and test frames,
neither of them trained on, are dealt out anew many times between calibration and judgement, as one
split says little about coverage. Last, each model is asked about frames of the other crystals of
``$TLPOT_DATA/x23``, of which it knows nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu, spearmanr

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.runs import Models, parts_of
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import X23, crystal_points
from tlpot import load, read_frames
from tlpot.evaluation.calibration import (
    calibrate,
    conformal_quantile,
    deviations,
    rms,
    uncertainty,
)
from tlpot.evaluation.errors import energy_errors, group_means
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame

LEVEL = 0.9
QUANTITIES = ("energy", "forces")
CALIBRATION = 19
"""Frames to calibrate a deal on: of these, split conformal prediction covers 18/20 = 90 %."""
DEALS = 1000
AREAS = ("rms_z", "miscalibration")
SCORES = (
    "other_against_own",
    "flagged_at_5_percent",
    "worse_half_of_others",
    "spearman_of_others",
)


def measure(given: argparse.Namespace) -> Iterator[Results]:
    models = Models(given.runs, train=not given.have_only)
    results: Results = {"seeds": given.seeds, "foreign": given.foreign, "runs": [], "missing": []}
    for point in crystal_points(given.crystals, given.seeds):
        if point.labels["recipe"] != "default":
            continue
        crystal, folder = point.labels["crystal"], models.folder(point.config)
        if folder is None:
            results["missing"].append(f"{crystal} {point.seed}")
            continue
        foreign = others(crystal, point.seed, given.foreign)
        entry = judge(load(folder), parts_of(point.config), foreign, point.seed)
        results["runs"].append({"crystal": crystal, "seed": point.seed} | entry)
        print(crystal, point.seed, flush=True)
    if not results["runs"]:
        raise models.none()
    yield results


def judge(
    potential: Potential, parts: dict[str, list[Frame]], foreign: list[Frame], seed: int
) -> Results:
    """Coverage in distribution, and how well the spread flags frames of other crystals."""
    validation, test = parts["validation"], parts["test"]
    potential.calibration = calibrate(potential, validation, LEVEL)
    predictions = potential.predict(test, members=True)
    return {
        "frames": {"validation": len(validation), "test": len(test)},
        "uncertainty": uncertainty(test, predictions, potential.calibration),
        "deals": deals(potential, validation + test, seed),
        "flags": flags(potential, crystals(test), foreign),
    }


def crystals(frames: Sequence[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.kind == "crystal"]


def others(crystal: str, seed: int, number: int) -> list[Frame]:
    """`number` crystal frames of each other crystal."""
    random, frames = np.random.default_rng(seed), []
    for path in sorted(X23.glob("*/train.traj")):
        if path.parent.name != crystal:
            some = crystals(read_frames([str(path)]))
            chosen = random.choice(len(some), min(number, len(some)), replace=False)
            frames += [some[i] for i in sorted(chosen)]
    return frames


def deals(potential: Potential, frames: list[Frame], seed: int) -> Results:
    """Mean and standard deviation of the coverage over random deals of held-out frames."""
    random = np.random.default_rng(seed)
    predictions = potential.predict(frames, members=True)
    results: Results = {"frames": len(frames), "calibration_frames": CALIBRATION}
    orders = [random.permutation(len(frames)) for _ in range(DEALS)]
    for quantity in QUANTITIES:
        scores = []
        for frame, prediction in zip(frames, predictions, strict=True):
            errors, spreads, _ = deviations([frame], [prediction], quantity, potential.calibration)
            scores.append(np.abs(errors / spreads))
        covered = []
        for order in orders:
            calibration = np.concatenate([scores[i] for i in order[:CALIBRATION]])
            new = np.concatenate([scores[i] for i in order[CALIBRATION:]])
            covered.append(np.mean(new <= conformal_quantile(calibration, LEVEL)))
        results[quantity] = {"mean": float(np.mean(covered)), "std": float(np.std(covered))}
    return results


def flags(potential: Potential, own: list[Frame], foreign: list[Frame]) -> Results:
    """AUROC of the spread, frame by frame (forces: RMS over components; energy: per atom)."""
    at_home, abroad = errors_and_spreads(potential, own), errors_and_spreads(potential, foreign)
    results: Results = {"own_frames": len(own), "other_frames": len(foreign)}
    for quantity in QUANTITIES:
        error, spread = np.array(abroad[quantity]).T
        own_error, own_spread = np.array(at_home[quantity]).T
        wrong = error > np.median(error)
        results[quantity] = {
            "other_against_own": auroc(spread, own_spread),
            "flagged_at_5_percent": float(np.mean(spread > np.quantile(own_spread, 0.95))),
            "worse_half_of_others": auroc(spread[wrong], spread[~wrong]),
            "spearman_of_others": float(spearmanr(error, spread).statistic),
            "spearman_of_own": float(spearmanr(own_error, own_spread).statistic),
            "rms_error_own": rms(own_error),
            "rms_error_others": rms(error),
            "rms_spread_own": rms(own_spread),
            "rms_spread_others": rms(spread),
        }
    return results


def errors_and_spreads(
    potential: Potential, frames: list[Frame]
) -> dict[str, list[tuple[float, float]]]:
    """Error and calibrated spread of each frame, meV/atom (centred by crystal) and meV/Å."""
    predictions = potential.predict(frames, members=True)
    offsets = energy_errors(frames, predictions)
    means, _ = group_means(offsets, np.array([frame.source for frame in frames]))
    rows: dict[str, list[tuple[float, float]]] = {"energy": [], "forces": []}
    for frame, p, error in zip(frames, predictions, offsets - means, strict=True):
        rows["energy"].append((abs(error), 1e3 * p.energy_std / len(frame)))
        rows["forces"].append((1e3 * rms(p.forces - frame.forces), 1e3 * rms(p.forces_std)))
    return rows


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive ranks above a negative (Mann and Whitney's U)."""
    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def page(results: Results) -> str:
    missing = ", ".join(results["missing"])
    return fill(
        __file__,
        seeds=", ".join(map(str, results["seeds"])),
        missing=f"Not run: {missing}." if missing else "",
        coverage=coverage_table(results["runs"]),
        deals=DEALS,
        calibration=CALIBRATION,
        flags=flag_table(results["runs"]),
        foreign=results["foreign"],
        machine=machine_lines(results["machine"]),
    )


def coverage_table(runs: list[Results]) -> list[str]:
    """A row a run and quantity, then the mean over runs."""
    rows = []
    for quantity, unit in (("energy", "meV_per_atom"), ("forces", "meV_per_A_component")):
        entries = [run["uncertainty"][quantity] for run in runs]
        for run, entry in zip(runs, entries, strict=True):
            rows.append(
                [quantity, run["crystal"], run["seed"], entry["calibrated_on"], entry["n"]]
                + [f"{entry['factor']:.2f}"]
                + [f"{entry[f'{key}_raw']:.2f} → {entry[key]:.2f}" for key in AREAS]
                + [f"{entry['spearman']:.2f}", f"{entry[f'half_width_{unit}']:.3g}"]
                + [f"{100 * entry['coverage']:.1f} %"]
                + ["{mean:.1%} ± {std:.1%}".format(**run["deals"][quantity])]
            )
        labels = np.array([entry["n"] for entry in entries])
        covered = labels @ [entry["coverage"] for entry in entries] / labels.sum()
        dealt = np.mean([run["deals"][quantity]["mean"] for run in runs])
        totals = [f"**{covered:.1%}**", f"**{dealt:.1%}**"]
        rows.append([quantity, "all", "", "", labels.sum(), *[""] * 5, *totals])
    header = "labels | crystal | seed | validation frames | test labels | factor | RMS z | area"
    header += " | Spearman | half-width, meV/atom or meV/Å | covered | over deals"
    return table(header.split(" | "), rows)


def flag_table(runs: list[Results]) -> list[str]:
    """A row a run and quantity, then the mean over runs."""
    rows = []
    for quantity, unit in (("energy", "meV/atom"), ("forces", "meV/Å")):
        entries = [run["flags"][quantity] for run in runs]
        for run, entry in zip(runs, entries, strict=True):
            sizes = [
                f"{entry[f'rms_{what}_own']:.3g} → {entry[f'rms_{what}_others']:.3g} {unit}"
                for what in ("error", "spread")
            ]
            scores = [f"{entry[key]:.2f}" for key in SCORES]
            rows.append([quantity, run["crystal"], run["seed"], *scores, *sizes])
        means = [f"**{np.mean([entry[key] for entry in entries]):.2f}**" for key in SCORES]
        rows.append([quantity, "mean", "", *means, "", ""])
    header = "labels | crystal | seed | AUROC, other or own | caught | AUROC, worse half"
    header += " | Spearman | error, own → other | spread, own → other"
    return table(header.split(" | "), rows)


STUDY = Study(__file__, __doc__, page, seeds=[0], have_only=True)
STUDY.options.add_argument("--crystals", nargs="+", default=[], help="of X23; left out: all")
STUDY.options.add_argument("--foreign", type=int, default=10, help="frames of each other crystal")

if __name__ == "__main__":
    STUDY.main(measure)
