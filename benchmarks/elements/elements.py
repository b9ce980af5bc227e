"""New elements: alias or clone of a donor, which donor, or from scratch?

Data: molecules with Si and I (``$TLPOT_DATA/si_i_molecules``, the neutral closed-shell ones),
formate on Cu(110) (``$TLPOT_DATA/cu_formate``) and our own crystals under ``datasets``. Base
ANI-2x. Every run keeps its folder under ``runs/elements``, every finished point is kept in the
results file: run again, with other ``--systems``, ``--models`` or ``--seeds`` too, the script does
only what is missing. Frames that were added to a dataset since make its points missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from benchmarks.elements.report import page, picture
from benchmarks.lib.machine import RESULTS, machine, write_results
from benchmarks.lib.sweep import with_members
from tlpot.config import parse_config
from tlpot.evaluation.metrics import evaluate
from tlpot.run import Prepared, finetune

RUNS = Path("runs/elements")
DATASETS = Path(__file__).parents[2] / "datasets"
MODELS = ("alias", "clone", "own parts", "scratch")
MEMBERS = 2
"""Of ANI-2x's eight networks."""
RATE, SCRATCH_RATE = 4e-4, 1e-3
"""Few epochs need larger steps than the default 1e-4, and random weights larger ones yet."""


@dataclass(frozen=True)
class System:
    """One dataset, the thesis's donors for its new elements, and all donors to compare."""

    title: str
    file: Path
    donors: dict[str, str]
    together: bool
    """Whether an element and its donor occur in one structure."""
    epochs: int = 150
    frames: int | None = None
    keys: dict[str, str] = field(default_factory=dict)
    other_donors: tuple[dict[str, str], ...] = ()


def systems() -> dict[str, System]:
    data = Path(os.environ["TLPOT_DATA"])
    return {
        "si_i_molecules": System(
            "molecules with Si and I",
            RUNS / "si_i_molecules.extxyz",
            {"Si": "C", "I": "Cl"},
            together=True,
            epochs=30,
            keys={"energy": "REF_energy", "forces": "REF_forces"},
        ),
        "methylsilane": System(
            "methylsilane, packed",
            DATASETS / "methylsilane/methylsilane.extxyz",
            {"Si": "C"},
            together=True,
            other_donors=({"Si": "S"}, {"Si": "H"}),
        ),
        "cuscn": System(
            "copper(I) thiocyanate, crystal",
            DATASETS / "cuscn/cuscn.extxyz",
            {"Cu": "S"},
            together=True,
        ),
        "iodoform": System(
            "iodoform, crystal",
            DATASETS / "iodoform/iodoform.extxyz",
            {"I": "Cl"},
            together=False,
        ),
        "cu_formate": System(
            "formate on Cu(110)",
            data / "cu_formate/deal_0.05_selected.xyz",
            {"Cu": "S"},
            together=False,
            epochs=30,
            frames=80,
        ),
    }


def select_molecules(path: Path, size: int = 100) -> None:
    """All neutral closed-shell molecules with Si or I, filled up to `size` with others."""
    known = {"H", "C", "N", "O", "F", "S", "Cl", "Si", "I"}
    source = Path(os.environ["TLPOT_DATA"], "si_i_molecules/aimnet2_configs.xyz")
    sound = [
        atoms
        for atoms in ase.io.read(source, ":")
        if set(atoms.symbols) <= known
        and atoms.info["charge"] == 0
        and atoms.numbers.sum() % 2 == 0
    ]
    new = [i for i, atoms in enumerate(sound) if {"Si", "I"} & set(atoms.symbols)]
    others = sorted(set(range(len(sound))) - set(new))
    rest = np.random.default_rng(0).choice(others, size - len(new), replace=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, [sound[i] for i in sorted({*new, *rest.tolist()})])


def point(
    system: System, model: str, donors: dict[str, str], seed: int, epochs: int, folder: Path
) -> dict[str, Any]:
    """Errors on the test frames before and after, on all of them and on those with new elements."""
    kind = "alias" if model == "alias" else "clone"
    config = {
        "data": {
            "files": [str(system.file)],
            "keys": system.keys,
            "bad_frames": "drop",
            "max_frames": system.frames,
            "split": {"seed": seed},
        },
        "model": {
            "base": with_members("ani2x", MEMBERS, RUNS),
            "elements": {e: {"from": d, "as": kind} for e, d in donors.items()},
            "train": "new" if model == "own parts" else "all",
            "init": "scratch" if model == "scratch" else "pretrained",
        },
        "training": {
            "epochs": epochs,
            "seed": seed,
            "learning_rate": SCRATCH_RATE if model == "scratch" else RATE,
        },
        "output": str(folder),
    }
    seen: list[Prepared] = []
    resumed = (folder / "config.yaml").exists()
    cpu = time.process_time()
    run = finetune(parse_config(config), resume=resumed, on_start=seen.append)
    cpu = time.process_time() - cpu
    test = seen[0].parts["test"]
    new = [frame for frame in test if set(donors) & set(frame.atoms.symbols)]
    return {
        "train_frames": len(seen[0].parts["train"]),
        "before": _brief(evaluate(seen[0].base, test)),
        "before_new": _brief(evaluate(seen[0].base, new)),
        "after": _brief(run.metrics["finetuned"]["test"]),
        "after_new": _brief(evaluate(run.potential, new)),
        "epochs": epochs,
        "best_epoch": run.manifest["best_epoch"],
        "training_s": run.manifest["seconds"],
        "cpu_s": None if resumed else cpu,
        "machine": machine(),
    }


def _brief(metrics: dict[str, Any]) -> dict[str, Any]:
    keys = ("n_frames", "n_atoms", "energy_rmse_meV_per_atom")
    keys += ("force_rmse_meV_per_A_component", "force_rmse_meV_per_A_vector")
    return {key: metrics[key] for key in keys}


def wanted(
    found: dict[str, System], models: Iterable[str], seeds: Iterable[int], donors: bool
) -> Iterable[tuple[str, str, dict[str, str], int]]:
    """Every point to have, the seeds outermost: one seed of all is worth more than all of one."""
    models = list(models)
    for seed in seeds:
        for name, system in found.items():
            for model in models:
                yield name, model, system.donors, seed
            for other in system.other_donors if donors else ():
                for model in ("alias", "clone"):
                    yield name, model, other, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", default=list(systems()), choices=list(systems()))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of each system's own number")
    parser.add_argument("--donors", action="store_true", help="other donors than the thesis's too")
    arguments = parser.parse_args()

    kept = RESULTS / "elements.json"
    points = json.loads(kept.read_text())["points"] if kept.exists() else {}
    if not systems()["si_i_molecules"].file.exists():
        select_molecules(systems()["si_i_molecules"].file)
    found = {name: systems()[name] for name in arguments.systems if systems()[name].file.exists()}
    for name, model, donors, seed in wanted(
        found, arguments.models, arguments.seeds, arguments.donors
    ):
        system = found[name]
        epochs = arguments.epochs or system.epochs
        sha = hashlib.sha256(system.file.read_bytes()).hexdigest()[:8]
        taken = ",".join(f"{e}←{d}" for e, d in donors.items())
        key = f"{name} {model} {taken} {seed}"
        if points.get(key, {}).get("data") == sha and points[key]["epochs"] == epochs:
            continue
        short = key.replace(" ", "-").replace("←", "_").replace(",", "_")
        folder = RUNS / f"{short}-{epochs}-{sha}"
        about = {"system": name, "model": model, "donors": donors, "seed": seed, "data": sha}
        points[key] = about | point(system, model, donors, seed, epochs, folder)
        print(key, points[key]["after"], f"{points[key]['training_s']:.0f} s", flush=True)
        _keep(points)
    _keep(points)


def _keep(points: dict[str, Any]) -> None:
    described = {
        name: {"title": system.title, "together": system.together, "donors": system.donors}
        for name, system in systems().items()
    }
    results = {"systems": described, "points": points}
    write_results("elements", results, page(results))
    picture(results, RESULTS / "elements.png")


if __name__ == "__main__":
    main()
