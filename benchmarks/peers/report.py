"""The page and the picture of ``peers.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.lib.machine import RESULTS, machine_lines, table

NAMES = {
    "thesis": "tlpot, thesis preset",
    "default": "tlpot, default",
    "mace": "MACE from scratch",
    "mace-short": "MACE, schedule as short as tlpot's default",
    "graph-pes": "PaiNN (graph-pes) from scratch",
}
COLOURS = {
    "thesis": "#E69F00",
    "default": "#0072B2",
    "mace": "#D55E00",
    "mace-short": "#CC79A7",
    "graph-pes": "#009E73",
}
KEYS = {
    "energy RMSE, meV/atom": "energy_rmse_meV_per_atom",
    "centred": "energy_rmse_centered_meV_per_atom",
    "force RMSE, meV/Å, per component": "force_rmse_meV_per_A_component",
    "per vector": "force_rmse_meV_per_A_vector",
}
ENERGY, FORCE = KEYS["energy RMSE, meV/atom"], KEYS["force RMSE, meV/Å, per component"]
LEVELS = {"energy": (2, (5.0, 2.0, 1.0, 0.7)), "force": (3, (100.0, 60.0, 40.0, 30.0))}
"""Column of the curve, and the validation errors whose time is told."""


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Fine-tuning against MACE and PaiNN from scratch",
        "",
        f"`x23/{results['crystal']}` (VASP, vdW-DF2), tlpot's split of seed {results['seed']}; "
        "errors on the periodic test frames, which no model trained on or was chosen by. One seed: "
        "differences of some per cent mean nothing. MACE reports forces per component; per vector "
        "is √3 × that.",
        "",
        "Time is CPU time of the training process (user + system, one thread, start-up, neighbour "
        "lists and validation included) up to its last epoch: the machine ran other jobs, so wall "
        "time says little, and what they take from caches lengthens CPU time too, for all alike.",
        "",
        "Every model has the same training and validation frames, batch size 2 and one thread. "
        "MACE: 32 channels, L = 1, r_max 5 Å, two layers, average E0s, energies, forces and "
        "stresses, EMA, AMSGrad, stage two over the last quarter of the epochs, float32 "
        "(`peers/mace.yaml`). PaiNN of graph-pes: 64 channels, three layers, energies and "
        "forces, rate times 0.8 on plateaus, early stopping, float32 (`peers/graph_pes.yaml`). "
        "*default* and *thesis*: tlpot's presets on ANI-2x, whose pretraining is not in the time.",
    ]
    parts = [part for entry in results["frames"].values() for part in entry.values()]
    for frames, entry in results["frames"].items():
        done = {name: part for name, part in entry.items() if "curve" in part}
        if not done:
            lines += ["", f"## {frames.capitalize()} training frames", "", "Not run."]
            continue
        count = next(iter(done.values()))["train_frames"]
        lines += [
            "",
            f"## {count} training frames",
            "",
            *test_errors(entry),
            "",
            *verdicts(done),
            "",
        ]
        lines += ["CPU seconds until the *validation* error first falls below a level:", ""]
        lines += times(done)
    versions = {k: v for part in parts for k, v in (part.get("versions") or {}).items()}
    lines += ["", "Peers' versions: " + ", ".join(f"{k} {v}" for k, v in versions.items())]
    return "\n".join(
        [*lines, "", "![error against time](peers.png)", "", *machine_lines(results["machine"])]
    )


def test_errors(entry: dict[str, Any]) -> list[str]:
    header = ["model", "epochs", "CPU, s", *KEYS]
    rows = []
    for name, part in sorted(entry.items(), key=lambda item: [*NAMES].index(item[0])):
        if "curve" not in part:
            rows.append([NAMES[name], part.get("skipped", "not run"), *["–"] * (1 + len(KEYS))])
            continue
        errors = [f"{part['test'][key]:.2f}" for key in KEYS.values()]
        rows.append([NAMES[name], part["epochs"], f"{part['cpu_seconds']:.0f}", *errors])
    return table(header, rows)


def verdicts(done: dict[str, Any]) -> list[str]:
    """Each model's test errors and time against the default's."""
    if "default" not in done:
        return []
    default, lines = done["default"], []
    for name in (n for n in NAMES if n in done and n != "default"):
        part = done[name]
        energy, force = (part["test"][key] / default["test"][key] - 1 for key in (ENERGY, FORCE))
        time = part["cpu_seconds"] / default["cpu_seconds"]
        lines.append(
            f"- {NAMES[name]}, against tlpot's default: energy RMSE {100 * energy:+.0f} %, "
            f"force RMSE {100 * force:+.0f} %, {time:.1f} × the CPU time."
        )
    return lines


def times(done: dict[str, Any]) -> list[str]:
    levels = [
        (f"{kind} {level:g}", at, level) for kind, (at, all_) in LEVELS.items() for level in all_
    ]
    rows = []
    for name in (n for n in NAMES if n in done):
        curve = done[name]["curve"]
        first = [
            next((row[1] for row in curve if row[at] <= level), None) for _, at, level in levels
        ]
        rows.append([NAMES[name], *("–" if s is None else f"{s:.0f}" for s in first)])
    units = {"energy": "meV/atom", "force": "meV/Å"}
    header = [f"{label} {units[label.split()[0]]}" for label, _, _ in levels]
    return table(["model", *header], rows)


def picture(results: dict[str, Any], folder: Path = RESULTS) -> None:
    """Validation error against CPU time, a star for the test error of the chosen model."""
    entries = [e for e in results["frames"].values() if any("curve" in p for p in e.values())]
    if not entries:
        return
    figure, axes = plt.subplots(
        2,
        len(entries),
        figsize=(5.2 * len(entries), 7),
        squeeze=False,
        sharex="col",
        sharey="row",
        layout="constrained",
    )
    for column, entry in enumerate(entries):
        done = {name: entry[name] for name in NAMES if "curve" in entry.get(name, {})}
        count = next(iter(done.values()))["train_frames"]
        axes[0, column].set_title(f"{count} training frames")
        for row, (key, at) in enumerate(((ENERGY, 2), (FORCE, 3))):
            axis = axes[row, column]
            for name, part in done.items():
                _, seconds, *_ = zip(*part["curve"], strict=True)
                errors = [epoch[at] for epoch in part["curve"]]
                axis.plot(seconds, errors, color=COLOURS[name], lw=1.3, label=NAMES[name])
                axis.plot(
                    part["cpu_seconds"],
                    part["test"][key],
                    "*",
                    ms=11,
                    color=COLOURS[name],
                    mec="white",
                    zorder=5,
                )
            axis.set(xscale="log", yscale="log")
            axis.grid(alpha=0.3, which="both", lw=0.5)
        axes[1, column].set_xlabel("CPU time of training, s")
    axes[0, 0].set_ylabel("energy RMSE, meV/atom")
    axes[1, 0].set_ylabel("force RMSE, meV/Å per component")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    what = {"title": "lines: validation; stars: test", "title_fontsize": 8, "fontsize": 8}
    figure.legend(handles, labels, loc="outside lower center", ncols=2, **what)
    figure.savefig(folder / "peers.png", dpi=130)
    plt.close(figure)
