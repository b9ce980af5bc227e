"""Does a network that never saw chlorine know it? emodes against alias and clone of ANI.

The transfer test of Herr, Koh, Yao, Parkhill 2019: train without molecules that hold Cl, judge on
those that do; then give a few of them and judge again, on molecules that stay unseen. Small
molecules of twelve elements, labelled by GFN1-xTB (`emodes_molecules`, needs tblite); everything
starts from scratch. Runs are kept under ``runs/emodes_transfer``, finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, machine, machine_lines, table, write_results
from emodes_molecules import label

from tlpot.backbones.ani import ANI
from tlpot.backbones.emodes import Architecture, EModes
from tlpot.config import parse_config
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.evaluation.metrics import evaluate
from tlpot.frames import Frame
from tlpot.potential import Potential, load, load_base
from tlpot.run import finetune

RUNS = Path("runs/emodes_transfer/gfn1")
NEW = "Cl"
DONORS = ("Br", "F", "S")
"""Of chlorine among the elements in training; the first is the nearest by element vectors."""
EVERY = 3
"""One of so many frames is used, to keep the run short."""
FROM_SCRATCH = {"epochs": 25, "batch_size": 8, "learning_rate": 2e-3, "lambda": 0.1}
TUNING = {"epochs": 10, "batch_size": 4, "learning_rate": 2e-4, "lambda": 0.1}
REPLAY = 4
"""Frames without Cl for each with it in the tuning, so that what is known stays known."""
KEYS = {
    "energy, meV/atom": "energy_rmse_meV_per_atom",
    "force, meV/Å, per component": "force_rmse_meV_per_A_component",
    "per vector": "force_rmse_meV_per_A_vector",
}


def untrained_ani() -> Potential:
    """One network an element, sized as ANI-2x's (or as a donor's where it has none); no Cl."""
    ani2x = load_base("ani2x")
    symbols = ("H", "C", "N", "O", "F", "Si", "P", "S", "Se", "Br", "I")
    donors = {"Si": "C", "P": "N", "Se": "S", "Br": "Cl", "I": "Cl"}
    architecture = ani2x.backbone.architecture.with_symbols(symbols, donors)
    backbone = ANI(replace(architecture, members=1)).requires_grad_(False)
    return Potential(backbone, replace(ani2x.reference, values=dict.fromkeys(symbols, 0.0)))


def untrained_emodes() -> Potential:
    """One network, to compare with one of ANI's."""
    full = load_base("emodes")
    return Potential(EModes(Architecture.new(members=1)).requires_grad_(False), full.reference)


def prepare() -> tuple[list[Frame], list[Frame]]:
    """The few frames with Cl and the test frames, of other molecules; writes the training files."""
    if not (RUNS / "frames.extxyz").exists():
        write_frames(RUNS / "frames.extxyz", label(frames_each=12))
    frames = read_frames([str(RUNS / "frames.extxyz")])[::EVERY]
    without = [f for f in frames if NEW not in f.atoms.symbols]
    new = [f for f in frames if NEW in f.atoms.symbols]
    given = set(sorted({str(f.info["molecule"]) for f in new})[::3])
    few = [f for f in new if f.info["molecule"] in given]
    replayed = without[:: max(len(without) // (REPLAY * len(few)), 1)][: REPLAY * len(few)]
    write_frames(RUNS / "without.extxyz", without)
    write_frames(RUNS / "few.extxyz", few + replayed)
    return few, [f for f in new if f.info["molecule"] not in given]


def train(name: str, base: Potential | Path, training: dict[str, Any], **model: Any) -> Path:
    """Run folder of a finished training; one that is finished is not run again."""
    folder, tuning = RUNS / name, isinstance(base, Path)
    if not (folder / "metrics.json").exists():
        if isinstance(base, Potential):
            base = base.save(RUNS / f"{name}-base.safetensors")
        file = RUNS / ("few.extxyz" if tuning else "without.extxyz")
        config = {
            "data": {"files": [str(file)], "split": {"test": 0.0 if tuning else 0.1}},
            "model": {"base": str(base), "init": "pretrained" if tuning else "scratch", **model},
            "training": {"stress_weight": 0.0, "device": "cpu", **training},
            "output": str(folder),
        }
        finetune(parse_config(config), resume=(folder / "config.yaml").exists())
    return folder


def untuned(potential: Potential, few: Sequence[Frame], test: Sequence[Frame]) -> dict[str, float]:
    """Errors on `test`; nothing of Cl was learned but its reference energy, from `few`."""
    predicted = potential.predict(list(few))
    count = np.array([f.atoms.symbols.count(NEW) for f in few])
    missing = np.array([f.energy - p.energy for f, p in zip(few, predicted, strict=True)])
    values = dict(potential.reference.values)
    values[NEW] += float(missing @ count / (count @ count))
    reference = replace(potential.reference, values=values)
    return errors(evaluate(Potential(potential.backbone, reference), test))


def errors(found: dict[str, Any]) -> dict[str, float]:
    return {key: found[key] for key in KEYS.values()}


def run(seed: int) -> dict[str, Any]:
    """Errors of all contenders with one seed."""
    few, test = prepare()
    scratch, tuning = FROM_SCRATCH | {"seed": seed}, TUNING | {"seed": seed}
    emodes = train(f"emodes-{seed}", untrained_emodes(), scratch)
    ani = train(f"ani-{seed}", untrained_ani(), scratch)
    found = {"emodes": untuned(load(emodes), few, test)}
    for donor in DONORS:
        found[f"ANI, {NEW} alias of {donor}"] = untuned(load_base(ani, {NEW: donor}), few, test)
    tuned = train(f"emodes-few-{seed}", emodes, tuning)
    found["emodes, tuned"] = errors(evaluate(load(tuned), test))
    for kind in ("alias", "clone"):
        elements = {NEW: {"from": DONORS[0], "as": kind}}
        tuned = train(f"{kind}-few-{seed}", ani, tuning, elements=elements)
        found[f"ANI, {NEW} {kind} of {DONORS[0]}, tuned"] = errors(evaluate(load(tuned), test))
    runs = {"emodes": emodes, "ANI": ani}
    metrics = {model: _read(path / "metrics.json") for model, path in runs.items()}
    return {
        "unseen": found,
        "known": {
            "energies per element alone": errors(metrics["emodes"]["baseline"]["test"]),
            **{model: errors(stored["finetuned"]["test"]) for model, stored in metrics.items()},
        },
        "seconds": {
            model: _read(path / "manifest.json")["seconds"] for model, path in runs.items()
        },
        "frames": {
            "train": metrics["emodes"]["finetuned"]["train"]["n_frames"],
            "validation": metrics["emodes"]["finetuned"]["validation"]["n_frames"],
            "held out": metrics["emodes"]["finetuned"]["test"]["n_frames"],
            f"given with {NEW}": len(few),
            f"test with {NEW}": len(test),
        },
    }


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipes = {"from scratch": FROM_SCRATCH, "tuned": TUNING}
    results: dict[str, Any] = {"machine": machine(), "recipes": recipes, "seeds": {}}
    kept = RESULTS / "emodes_transfer.json"
    if kept.exists() and _read(kept)["recipes"] == recipes:
        results["seeds"] = _read(kept)["seeds"]
    for seed in map(str, arguments.seeds):
        if seed not in results["seeds"]:
            results["seeds"][seed] = run(int(seed))
            write_results("emodes_transfer", results, page(results))


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    seeds = list(results["seeds"].values())
    frames = ", ".join(f"{n} {part}" for part, n in seeds[0]["frames"].items())
    seconds = {m: np.mean([s["seconds"][m] for s in seeds]) for m in seeds[0]["seconds"]}
    return "\n".join(
        [
            "# emodes: transfer to an element that was never seen",
            "",
            "Small molecules of H C N O F Si P S Cl Se Br I (G2 set and analogues), displaced "
            "along normal modes at 300 and 1000 K, labelled by GFN1-xTB: semi-empirical, not DFT. "
            "RMSE, mean over seeds ± their standard deviation; force labels are large (first row "
            "of the second table). A reduced test: few frames and epochs, one network each.",
            "",
            f"No molecule with {NEW} is in the training, all test molecules hold {NEW}. *tuned*: "
            f"trained on with the given frames with {NEW} and {REPLAY} times as many without; the "
            f"test molecules are others. The others know of {NEW} only a reference energy, fitted "
            "to the given frames.",
            "",
            *table([f"molecules with {NEW}", *KEYS], _rows(seeds, "unseen")),
            "",
            *table(["held-out frames of the training's molecules", *KEYS], _rows(seeds, "known")),
            "",
            f"- frames: {frames}; seeds {', '.join(map(str, results['seeds']))}",
            *(f"- {name}: {recipe}" for name, recipe in results["recipes"].items()),
            "- training from scratch took "
            + ", ".join(f"{s:.0f} s ({m})" for m, s in seconds.items())
            + " on one core of a busy machine",
            *machine_lines(results["machine"]),
        ]
    )


def _rows(seeds: Sequence[dict[str, Any]], what: str) -> list[list[str]]:
    rows = []
    for model in seeds[0][what]:
        values = np.array([[s[what][model][key] for key in KEYS.values()] for s in seeds])
        cells = [f"{mean:.0f}" for mean in values.mean(axis=0)]
        if len(seeds) > 1:
            spread = values.std(axis=0, ddof=1)
            cells = [f"{cell} ± {s:.0f}" for cell, s in zip(cells, spread, strict=True)]
        rows.append([model, *cells])
    return rows


if __name__ == "__main__":
    main()
