"""The page, data and picture of `powder.py`, from its run folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.machine import RESULTS, machine, machine_lines, table, write_results
from tlpot.evaluation.plots import write
from tlpot.powder.lines import SYSTEMS
from tlpot.powder.report import confusion_figure

TITLES = {
    "original-950": "at most 950 of a system, split at random",
    "original-600-copies": "at most 600 and copies shifted by ±0.01°, split at random",
    "original-600-together": "the same patterns, copies of a crystal on one side",
    "original-compound": "all, no compound on both sides",
    "original-prototype": "all, no structure prototype on both sides",
    "lines-950": "at most 950 of a system, split at random",
    "lines-600-copies": "at most 600 and copies shifted by ±0.01°, split at random",
    "lines-600-together": "the same patterns, copies of a crystal on one side",
    "lines-compound": "all, no compound on both sides",
    "lines-prototype": "all, no structure prototype on both sides",
    "flawed-compound": "no compound on both sides, trained for measured patterns",
    "flawed-prototype": "no prototype on both sides, trained for measured patterns",
}
FIGURES = ("accuracy", "top2", "balanced_accuracy", "macro_f1", "calibration_error")


def report(runs: Path, names: Sequence[str]) -> None:
    """Write ``results/powder.{json,md,png}`` of whatever has finished."""
    found = {name: _finished(runs, name) for name in names}
    found = {name: seeds for name, seeds in found.items() if seeds}
    neighbours = json.loads((runs / "nearest.json").read_text())
    cost = json.loads((runs / "full_step.json").read_text())
    about = machine()
    data = {
        "machine": about,
        "crystals": 6862,
        "full_resolution": cost,
        "nearest_neighbour": neighbours,
        "runs": found,
    }
    write_results("powder", data, "\n".join(_page(found, neighbours, cost, about)))
    shown = {
        f"{name.replace('-', ', split by ')}": _summed(found[name], kind)
        for name, kind in (("lines-compound", "ideal"), ("lines-prototype", "ideal"))
        if name in found
    }
    if shown:
        write(confusion_figure(shown), RESULTS / "powder.png")


def _finished(runs: Path, name: str) -> dict[str, Any]:
    """By seed: test metrics, sizes of the parts, epochs, processor seconds."""
    found = {}
    for folder in sorted(runs.glob(f"{name}-[0-9]*")):
        if (folder / "seconds.json").exists():
            manifest = json.loads((folder / "manifest.json").read_text())
            found[folder.name.rpartition("-")[2]] = {
                "test": json.loads((folder / "metrics.json").read_text())["test"],
                "patterns": {k: len(v) for k, v in manifest["split"].items() if k != "seed"},
                "best_epoch": manifest["best_epoch"],
                **json.loads((folder / "seconds.json").read_text()),
            }
    return found


def _page(
    found: Mapping[str, Any],
    neighbours: Mapping[str, list[float]],
    cost: Mapping[str, float],
    about: Mapping[str, Any],
) -> list[str]:
    rows = []
    for name, title in TITLES.items():
        near = neighbours.get(name)
        if name in found:
            seeds = found[name]
            size = next(iter(seeds.values()))["patterns"]
            rows.append(
                [
                    "original's" if name.startswith("original") else "lines",
                    title,
                    f"{size['train']} / {size['test']}",
                    _mean(seeds, "ideal", "accuracy"),
                    _mean(seeds, "ideal", "balanced_accuracy"),
                    _mean(seeds, "measured", "accuracy") if "flawed" in name else "–",
                    "–" if near is None else _percent(near),
                    f"{len(seeds)} ({np.mean([s['cpu_seconds'] for s in seeds.values()]):.0f} s)",
                ]
            )
        elif near is not None:
            rows.append(["not run", title, "–", "–", "–", "–", _percent(near), "0"])
    header = (
        "network", "protocol", "training / test patterns", "right", "balanced",
        "right, with flaws", "nearest neighbour", "seeds (CPU time each)",
    )  # fmt: skip
    steps = 6862 * 0.7 / 64
    hour = (
        6862 * 0.7 * cost["seconds_per_pattern"] + steps * cost["seconds_per_step_of_adam"]
    ) / 3600
    lines = [
        "# Crystal system from a powder pattern",
        "",
        "6,862 binary compounds of the Materials Project, their lines by pymatgen (CuKα, 0–135°);",
        "rendered at 0.01°, 0.1° wide. 70 % training, 10 % validation (chooses the epoch and the",
        "temperature), 20 % test. Mean ± standard deviation over seeds (split and weights).",
        "The nearest neighbour (no training, three seeds) copies the training pattern with the",
        "largest cosine.",
        "",
        *table(header, rows),
        "",
        "- *original's*: three convolutions of 60 filters, average pooling, dropout 0.3, dense 700",
        "  and 70, Adam 1e-3, batch 64, after Torres Arroyave et al. **Reduced**: input pooled",
        "  50-fold (270 of 13,500 points, kernels of 3 instead of 100, 50, 25), 12 epochs",
        "  (8 with copies, 10 on all). Three crystal systems have fewer than 600 compounds",
        "  (trigonal 494, monoclinic 566, triclinic 126): all of them are taken, none is repeated.",
        "- *lines*: what `tlpot xrd train` does by default: the first 40 lines found in the",
        "  pattern, two dense layers; 30 epochs on ideal patterns. *Trained for measured ones*:",
        "  60 epochs on ideal and five flawed patterns of each crystal (strain, texture, zero",
        "  error, width, background, noise, range), all made after splitting; *with flaws* are",
        "  test patterns of that kind.",
        f"- In full the original's network has {cost['parameters'] / 1e6:.0f} million weights; a",
        f"  pattern costs {cost['seconds_per_pattern']:.2f} s of processor time (forward and back)",
        f"  and a step of Adam {cost['seconds_per_step_of_adam']:.2f} s on this machine: "
        f"{hour:.2f} h an epoch of 4,803 patterns",
        f"  on one core, {50 * hour:.0f} h for 50 epochs. It was not run.",
        "",
        *_by_system(found),
        *machine_lines(about),
    ]
    return lines


def _by_system(found: Mapping[str, Any]) -> list[str]:
    names = [name for name in TITLES if name in found and not name.startswith("flawed")]
    rows = []
    for system in SYSTEMS:
        row = [system]
        for name in names:
            values = [s["test"]["ideal"]["by_system"][system]["f1"] for s in found[name].values()]
            there = [v for v in values if v is not None]
            row.append(f"{np.mean(there):.2f}" if there else "–")
        rows.append(row)
    lines = ["## F1 by crystal system, ideal test patterns", "", *table(["", *names], rows), ""]
    for name in names + [n for n in TITLES if n in found and n.startswith("flawed")]:
        seeds = found[name]
        kinds = ("ideal", "measured") if name.startswith("flawed") else ("ideal",)
        for kind in kinds:
            some = ", ".join(f"{k.replace('_', ' ')} {_mean(seeds, kind, k)}" for k in FIGURES)
            lines.append(f"- {name}, {kind}: {some}")
    return [*lines, "", "![confusion](powder.png)", ""]


def _mean(seeds: Mapping[str, Any], kind: str, figure: str) -> str:
    return _percent([seed["test"][kind][figure] for seed in seeds.values()])


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread} %"


def _summed(seeds: Mapping[str, Any], kind: str) -> dict[str, Any]:
    confusion = sum(np.array(seed["test"][kind]["confusion"]) for seed in seeds.values())
    return {"confusion": confusion, "accuracy": np.trace(confusion) / confusion.sum()}
