"""Do 90 % intervals cover 90 % of unseen labels, and does a high spread flag a high error?

Data: ``$TLPOT_DATA/x23/<crystal>/train.traj`` (VASP, vdW-DF2). Each crystal is fine-tuned by
itself with the default recipe, fewer epochs, several split seeds; the spread is calibrated on its
validation frames by the run itself. Coverage is judged on its test frames; then the model is asked
about frames of the other crystals, which it knows nothing of. A run that is finished is not run
again; the page is rewritten after each.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, machine_lines, table, write_results
from scipy.stats import mannwhitneyu, spearmanr

from tlpot import load, read_frames
from tlpot.config import parse_config
from tlpot.evaluation.calibration import conformal_rank, rms
from tlpot.evaluation.metrics import energy_errors, group_means
from tlpot.frames import Frame
from tlpot.potential import Potential
from tlpot.run import finetune

CRYSTALS = ("21_urea", "07_co2", "06_benzene")
RUNS = Path("runs/uncertainty")
AREAS = ("rms_z", "miscalibration")
SCORES = (
    "other_against_own",
    "flagged_at_5_percent",
    "worse_half_of_others",
    "spearman_of_others",
)


def train(crystal: str, seed: int, epochs: int) -> Path:
    """The run folder; 20 % validation frames, so that the intervals stand on some thirty."""
    folder = RUNS / f"{crystal}-{epochs}-{seed}"
    if not (folder / "metrics.json").exists():
        split = {"test": 0.2, "validation": 0.2, "seed": seed}
        config = {
            "data": {"files": [str(data(crystal))], "split": split},
            "training": {"epochs": epochs, "seed": seed},
            "output": str(folder),
        }
        finetune(parse_config(config), resume=(folder / "config.yaml").exists())
    return folder


def data(crystal: str) -> Path:
    return Path(os.environ["TLPOT_DATA"]) / "x23" / crystal / "train.traj"


def judge(crystal: str, folder: Path, seed: int, foreign: int) -> dict[str, Any]:
    """`tlpot.evaluation.calibration.uncertainty` on test frames, and how well spread flags."""
    metrics = json.loads((folder / "metrics.json").read_text())["finetuned"]["test"]
    manifest = json.loads((folder / "manifest.json").read_text())
    potential = load(folder)
    frames = read_frames([str(data(crystal))])
    own = crystals([frames[i] for i in manifest["split"]["test"]])
    random = np.random.default_rng(seed)
    others = []
    for path in sorted(data(crystal).parents[1].glob("*/train.traj")):
        if path != data(crystal):
            some = crystals(read_frames([str(path)]))
            chosen = random.choice(len(some), min(foreign, len(some)), replace=False)
            others += [some[i] for i in sorted(chosen)]
    return {
        "uncertainty": metrics["uncertainty"],
        "errors": {k: v for k, v in metrics.items() if "rmse" in k},
        "frames": {
            name: len(chosen) for name, chosen in manifest["split"].items() if name != "seed"
        },
        "seconds": manifest["seconds"],
        "flags": flags(potential, own, others),
    }


def crystals(frames: Sequence[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.kind == "crystal"]


def flags(potential: Potential, own: list[Frame], others: list[Frame]) -> dict[str, Any]:
    """AUROC of the spread, frame by frame (forces: RMS over components; energy: per atom)."""
    found: dict[str, Any] = {"own_frames": len(own), "other_frames": len(others)}
    at_home, abroad = measure(potential, own), measure(potential, others)
    for quantity in at_home:
        error, spread = (np.array(column) for column in zip(*abroad[quantity], strict=True))
        own_error, own_spread = (
            np.array(column) for column in zip(*at_home[quantity], strict=True)
        )
        wrong = error > np.median(error)
        found[quantity] = {
            "other_against_own": auroc(spread, own_spread),
            "flagged_at_5_percent": float(np.mean(spread > np.quantile(own_spread, 0.95))),
            "worse_half_of_others": auroc(spread[wrong], spread[~wrong]),
            "spearman_of_others": float(spearmanr(error, spread).statistic),
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
    parser.add_argument("--crystals", nargs="+", default=CRYSTALS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="split, training")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--foreign", type=int, default=15, help="frames of each other crystal")
    parser.add_argument("--name", default="uncertainty", help="of the results files")
    given = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), **vars(given), "runs": []}
    for seed in given.seeds:
        for crystal in given.crystals:
            folder = train(crystal, seed, given.epochs)
            entry = judge(crystal, folder, seed, given.foreign)
            results["runs"].append({"crystal": crystal, "seed": seed} | entry)
            print(crystal, seed, f"{entry['seconds']:.0f} s", flush=True)
            write_results(given.name, results, page(results))


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    epochs, seeds = results["epochs"], ", ".join(map(str, results["seeds"]))
    return "\n".join(
        [
            "# Can the ensemble's spread be trusted?",
            "",
            "ANI-2x fine-tuned on one crystal at a time with the default recipe, but only "
            f"{epochs} epochs; split and training seeds {seeds}; 20 % test and 20 % validation "
            "frames, VASP vdW-DF2 labels.",
            "",
            "## 90 % intervals on test frames of the same crystal",
            "",
            *coverage_table(results["runs"]),
            "",
            "*expected*: what split conformal prediction promises from that many validation "
            "frames, ⌈0.9 (n+1)⌉/(n+1); forces are pooled, 90 %. *RMS z* (ideal 1) and "
            "*area* (miscalibration, ideal 0): raw → calibrated. Half-widths are medians; "
            "forces per component.",
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
        found = [(run, run["uncertainty"][quantity]) for run in runs]
        for run, entry in found:
            n = entry["calibrated_on"]
            expected = conformal_rank(n, 0.9) / (n + 1) if quantity == "energy" else 0.9
            rows.append(
                [quantity, run["crystal"], run["seed"], n, entry["n"]]
                + [f"{entry['factor']:.2f}"]
                + [f"{entry[f'{key}_raw']:.2f} → {entry[key]:.2f}" for key in AREAS]
                + [f"{entry['spearman']:.2f}", f"{entry[f'half_width_{unit}']:.3g}"]
                + [f"{100 * expected:.1f} %", f"{100 * entry['coverage']:.1f} %"]
            )
        labels = np.array([entry["n"] for _, entry in found])
        covered = labels @ [entry["coverage"] for _, entry in found] / labels.sum()
        total = f"**{100 * covered:.1f} %**"
        rows.append([quantity, "all", "", "", labels.sum(), *[""] * 6, total])
    header = "labels | crystal | seed | validation frames | test labels | factor | RMS z | area"
    header += " | Spearman | half-width, meV/atom or meV/Å | expected | covered"
    return table(header.split(" | "), rows)


def flag_table(runs: list[dict[str, Any]]) -> list[str]:
    """A row a run and quantity, then the mean over runs."""
    rows = []
    for quantity, unit in (("energy", "meV/atom"), ("forces", "meV/Å")):
        found = [run["flags"][quantity] for run in runs]
        for run, entry in zip(runs, found, strict=True):
            sizes = [
                f"{entry[f'rms_{what}_own']:.3g} → {entry[f'rms_{what}_others']:.3g} {unit}"
                for what in ("error", "spread")
            ]
            scores = [f"{entry[key]:.2f}" for key in SCORES]
            rows.append([quantity, run["crystal"], run["seed"], *scores, *sizes])
        means = [f"**{np.mean([entry[key] for entry in found]):.2f}**" for key in SCORES]
        rows.append([quantity, "mean", "", *means, "", ""])
    header = "labels | crystal | seed | AUROC, other or own | caught | AUROC, worse half"
    header += " | Spearman | error, own → other | spread, own → other"
    return table(header.split(" | "), rows)


if __name__ == "__main__":
    main()
