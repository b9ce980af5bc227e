"""Do 90 % intervals cover 90 % of unseen labels, and does a high spread flag a high error?

The models of ``crystals.py --full`` (ANI-2x on one crystal of X23 each, default recipe), taken from
finished runs under ``--runs``, else trained (``--have-only``: left out, and said), are calibrated
on their validation frames and judged on their test frames. Then validation and test frames,
neither of them trained on, are dealt out anew many times between calibration and judgement, as one
split says little about coverage. Last, each model is asked about frames of the other crystals of
``$TLPOT_DATA/x23``, of which it knows nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu, spearmanr

from benchmarks.lib.machine import machine, machine_lines, table, write_results
from benchmarks.lib.runs import Models, crystal_points
from tlpot import load, read_frames
from tlpot.config import load_config
from tlpot.data.check import check_frames
from tlpot.evaluation.calibration import (
    calibrate,
    conformal_quantile,
    deviations,
    rms,
    uncertainty,
)
from tlpot.evaluation.metrics import energy_errors, group_means
from tlpot.frames import Frame
from tlpot.potential import Potential

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


def judge(folder: Path, crystal: str, seed: int, foreign: int) -> dict[str, Any]:
    """Coverage in distribution, and how well the spread flags frames of other crystals."""
    config, potential = load_config(folder / "config.yaml"), load(folder)
    frames = read_frames(config.data.files, config.data.keys, config.data.energy)
    frames = check_frames(frames, config.data, potential.elements).frames
    split = json.loads((folder / "manifest.json").read_text())["split"]
    parts = {name: [frames[i] for i in split[name]] for name in ("validation", "test")}
    potential.calibration = calibrate(potential, parts["validation"], LEVEL)
    test = uncertainty(
        parts["test"], potential.predict(parts["test"], members=True), potential.calibration
    )
    own = crystals(parts["test"])
    found = flags(potential, own, others(crystal, seed, foreign))
    return {
        "frames": {name: len(part) for name, part in parts.items()},
        "uncertainty": test,
        "deals": deals(potential, parts["validation"] + parts["test"], seed),
        "flags": found,
    }


def crystals(frames: Sequence[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.kind == "crystal"]


def others(crystal: str, seed: int, number: int) -> list[Frame]:
    """`number` crystal frames of each other crystal."""
    random = np.random.default_rng(seed)
    found = []
    for path in sorted(Path(os.environ["TLPOT_DATA"], "x23").glob("*/train.traj")):
        if path.parent.name != crystal:
            some = crystals(read_frames([str(path)]))
            chosen = random.choice(len(some), min(number, len(some)), replace=False)
            found += [some[i] for i in sorted(chosen)]
    return found


def deals(potential: Potential, frames: list[Frame], seed: int) -> dict[str, Any]:
    """Mean and standard deviation of the coverage over random deals of held-out frames."""
    random = np.random.default_rng(seed)
    predictions = potential.predict(frames, members=True)
    found: dict[str, Any] = {"frames": len(frames), "calibration_frames": CALIBRATION}
    orders = [random.permutation(len(frames)) for _ in range(DEALS)]
    for quantity in QUANTITIES:
        scores = []
        for frame, prediction in zip(frames, predictions, strict=True):
            errors, spreads, _ = deviations([frame], [prediction], quantity, potential.calibration)
            scores.append(np.abs(errors / spreads))
        covered = []
        for order in orders:
            known = np.concatenate([scores[i] for i in order[:CALIBRATION]])
            new = np.concatenate([scores[i] for i in order[CALIBRATION:]])
            covered.append(np.mean(new <= conformal_quantile(known, LEVEL)))
        found[quantity] = {"mean": float(np.mean(covered)), "std": float(np.std(covered))}
    return found


def flags(potential: Potential, own: list[Frame], foreign: list[Frame]) -> dict[str, Any]:
    """AUROC of the spread, frame by frame (forces: RMS over components; energy: per atom)."""
    at_home, abroad = measure(potential, own), measure(potential, foreign)
    found: dict[str, Any] = {"own_frames": len(own), "other_frames": len(foreign)}
    for quantity in QUANTITIES:
        error, spread = np.array(abroad[quantity]).T
        own_error, own_spread = np.array(at_home[quantity]).T
        wrong = error > np.median(error)
        found[quantity] = {
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
    return found


def measure(potential: Potential, frames: list[Frame]) -> dict[str, list[tuple[float, float]]]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", nargs="+", default=[], help="of X23; left out: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="split and training")
    parser.add_argument("--foreign", type=int, default=10, help="frames of each other crystal")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where models are")
    parser.add_argument("--have-only", action="store_true", help="train nothing")
    given = parser.parse_args()
    models = Models(given.runs, train=not given.have_only)
    results: dict[str, Any] = {"machine": machine(), "seeds": given.seeds}
    results |= {"foreign": given.foreign, "runs": [], "missing": []}
    for point in crystal_points(given.crystals, given.seeds):
        if point.labels["recipe"] != "default":
            continue
        crystal, folder = point.labels["crystal"], models.folder(point.config)
        if folder is None:
            results["missing"].append(f"{crystal} {point.seed}")
            continue
        entry = judge(folder, crystal, point.seed, given.foreign)
        results["runs"].append({"crystal": crystal, "seed": point.seed} | entry)
        print(crystal, point.seed, flush=True)
    write_results("uncertainty", results, page(results))


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    seeds = ", ".join(map(str, results["seeds"]))
    return "\n".join(
        [
            "# Can the ensemble's spread be trusted?",
            "",
            "The models of `crystals.py`: ANI-2x fine-tuned on one crystal at a time, default "
            f"recipe, split and training seed {seeds}, 20 % test and 10 % validation frames, VASP "
            "vdW-DF2 labels; molecules in a box, where the data have them, count here too.",
            *([f"Not run: {', '.join(results['missing'])}."] if results["missing"] else []),
            "",
            "## 90 % intervals on frames of the same crystal",
            "",
            *coverage_table(results["runs"]),
            "",
            "*factor*, RMS of error/spread (*z*, ideal 1) and miscalibration *area* (ideal 0) raw "
            "→ calibrated, Spearman correlation of size of error and spread, *half-width* (median) "
            "and *covered* are those of the model calibrated on its own validation frames, on its "
            "test frames (split conformal prediction, interpolated between ranks; forces are "
            "pooled), their mean weighted by labels. *over deals*: mean ± standard deviation over "
            f"{DEALS} random deals of validation and test frames, {CALIBRATION} to calibrate on, "
            "the others to judge: of energies the mean is 90 % by construction, the deviation "
            "says how far one split can be off. Validation frames picked the epoch, which makes "
            "their errors slightly too small.",
            "",
            "87 to 93 % were asked for.",
            "",
            "## High spread, high error? Frames of the fourteen other crystals",
            "",
            *flag_table(results["runs"]),
            "",
            f"{results['foreign']} crystal frames of each other crystal, picked by seed, against "
            "the crystal test frames of the model's own. AUROC of a frame's spread, 0.5 is "
            "chance: *other or own* tells foreign frames from those like the training frames, "
            "*worse half* tells the foreign frames with errors above their median from the rest. "
            "*caught*: foreign frames whose spread exceeds that of 95 % of the own test frames. "
            "Errors and calibrated spreads are RMS; energy errors after each crystal's mean is "
            "removed, as its zero of energy is not known to the model.",
            "",
            *machine_lines(results["machine"]),
        ]
    )


def coverage_table(runs: list[dict[str, Any]]) -> list[str]:
    """A row a run and quantity, then the mean over runs."""
    rows = []
    for quantity, unit in (("energy", "meV_per_atom"), ("forces", "meV_per_A_component")):
        found = [(one, one["uncertainty"][quantity]) for one in runs]
        for one, entry in found:
            n = entry["calibrated_on"]
            rows.append(
                [quantity, one["crystal"], one["seed"], n, entry["n"]]
                + [f"{entry['factor']:.2f}"]
                + [f"{entry[f'{key}_raw']:.2f} → {entry[key]:.2f}" for key in AREAS]
                + [f"{entry['spearman']:.2f}", f"{entry[f'half_width_{unit}']:.3g}"]
                + [f"{100 * entry['coverage']:.1f} %"]
                + ["{mean:.1%} ± {std:.1%}".format(**one["deals"][quantity])]
            )
        labels = np.array([entry["n"] for _, entry in found])
        covered = labels @ [entry["coverage"] for _, entry in found] / labels.sum()
        dealt = np.mean([one["deals"][quantity]["mean"] for one in runs])
        totals = [f"**{covered:.1%}**", f"**{dealt:.1%}**"]
        rows.append([quantity, "all", "", "", labels.sum(), *[""] * 5, *totals])
    header = "labels | crystal | seed | validation frames | test labels | factor | RMS z | area"
    header += " | Spearman | half-width, meV/atom or meV/Å | covered | over deals"
    return table(header.split(" | "), rows)


def flag_table(runs: list[dict[str, Any]]) -> list[str]:
    """A row a run and quantity, then the mean over runs."""
    rows = []
    for quantity, unit in (("energy", "meV/atom"), ("forces", "meV/Å")):
        found = [one["flags"][quantity] for one in runs]
        for one, entry in zip(runs, found, strict=True):
            sizes = [
                f"{entry[f'rms_{what}_own']:.3g} → {entry[f'rms_{what}_others']:.3g} {unit}"
                for what in ("error", "spread")
            ]
            scores = [f"{entry[key]:.2f}" for key in SCORES]
            rows.append([quantity, one["crystal"], one["seed"], *scores, *sizes])
        means = [f"**{np.mean([entry[key] for entry in found]):.2f}**" for key in SCORES]
        rows.append([quantity, "mean", "", *means, "", ""])
    header = "labels | crystal | seed | AUROC, other or own | caught | AUROC, worse half"
    header += " | Spearman | error, own → other | spread, own → other"
    return table(header.split(" | "), rows)


if __name__ == "__main__":
    main()
