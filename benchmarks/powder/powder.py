"""What does a powder pattern tell of the crystal system? After Torres Arroyave et al.

Trains on the binaries of ``$TLPOT_DATA/seeds``; finished runs under ``--runs`` are kept, so that
the script can be stopped and started. ``--seeds 0`` runs one seed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.powder.data import read_binaries, with_shifted_copies
from benchmarks.powder.report import report
from tlpot.data.split import split_frames
from tlpot.powder.config import Network, PowderConfig, PowderData
from tlpot.powder.data import Example, capped
from tlpot.powder.network import CrystalSystemNet, Input
from tlpot.powder.render import ideal
from tlpot.powder.run import train

ORIGINAL = {
    "sees": "two_theta",
    "intensity": "linear",
    "pool": 50,
    "convolutions": {"filters": 60, "kernels": [3, 3, 3], "pooling": 2, "dropout": 0.3},
    "dense": [700, 70],
    "dropout": 0.0,
}
"""The original's network with the input pooled 50-fold; kernels keep about their width in angle."""
PLAIN = {
    "schedule": "constant",
    "warmup_epochs": 0,
    "weight_decay": 0.0,
    "ema": 0.0,
    "balance": 0.0,
    "augmentation": None,
}


def original(epochs: int) -> dict[str, Any]:
    """The original's network, and Adam at a constant rate on ideal patterns."""
    return {"model": ORIGINAL, "training": {**PLAIN, "epochs": epochs}}


LINES = {"model": {}, "training": {"epochs": 30, "augmentation": None}}
"""Ours, on ideal patterns as the original has them."""
FLAWED: dict[str, Any] = {"model": {}, "training": {"augmentation": {"variants": 5}}}
"""Ours as it ships, fit for measured patterns, with half the flawed patterns of each crystal."""

RUNS: dict[str, dict[str, Any]] = {
    "lines-compound": {"group": "composition", **LINES},
    "lines-prototype": {"group": "prototype", **LINES},
    "original-600-copies": {"cap": 600, "copies": True, "group": None, **original(8)},
    "original-600-together": {"cap": 600, "copies": True, "group": "crystal", **original(8)},
    "original-950": {"cap": 950, "group": None, **original(12)},
    "lines-600-copies": {"cap": 600, "copies": True, "group": None, **LINES},
    "lines-600-together": {"cap": 600, "copies": True, "group": "crystal", **LINES},
    "lines-950": {"cap": 950, "group": None, **LINES},
    "flawed-compound": {"group": "composition", **FLAWED},
    "flawed-prototype": {"group": "prototype", **FLAWED},
    "original-compound": {"group": "composition", **original(10)},
    "original-prototype": {"group": "prototype", **original(10)},
}
"""By name: largest number of a crystal system, shifted copies, what the split keeps together."""
PROTOCOLS = [name for name in RUNS if name.startswith("original")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/powder"))
    parser.add_argument("--only", nargs="+", default=list(RUNS))
    parser.add_argument("--report", action="store_true", help="only write the page again")
    arguments = parser.parse_args()
    if arguments.report:
        report(arguments.runs, list(RUNS))
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    everything = read_binaries(Path(os.environ["TLPOT_DATA"]) / "seeds")
    print(len(everything), "binaries", flush=True)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    neighbours = arguments.runs / "nearest.json"
    if not neighbours.exists():
        neighbours.write_text(json.dumps(nearest_neighbours(everything)))
    cost = arguments.runs / "full_step.json"
    if not cost.exists():
        cost.write_text(json.dumps(full_resolution_cost()))
    for seed in arguments.seeds:
        for name in arguments.only:
            run_one(name, seed, everything, arguments.runs / f"{name}-{seed}")
    report(arguments.runs, list(RUNS))


def run_one(name: str, seed: int, everything: Sequence[Example], folder: Path) -> None:
    """Train one, unless its metrics are there; an interrupted run goes on."""
    if (folder / "seconds.json").exists():
        return
    how = RUNS[name]
    config = config_of(name, seed, folder)
    examples = chosen(config.data, how, everything)
    started = time.process_time()
    done = train(config, (folder / "config.yaml").exists(), examples=examples)
    seconds = time.process_time() - started
    (folder / "seconds.json").write_text(json.dumps({"cpu_seconds": seconds}))
    test = done.metrics["test"]
    print(
        name,
        seed,
        *(f"{k} {test[k]['accuracy']:.3f}" for k in test),
        f"{seconds:.0f} s",
        flush=True,
    )


def config_of(name: str, seed: int, folder: Path) -> PowderConfig:
    """The config of a run."""
    how = RUNS[name]
    return PowderConfig.model_validate(
        {
            "data": {
                "files": ["seeds/xrd_binary_peaks.npz"],
                "per_class": how.get("cap"),
                "split": {"test": 0.2, "validation": 0.1, "seed": seed, "group": how["group"]},
            },
            "model": how["model"],
            "training": {**how["training"], "seed": seed},
            "output": str(folder),
        }
    )


def chosen(data: PowderData, how: dict[str, Any], everything: Sequence[Example]) -> list[Example]:
    """The examples of a run: balanced as it says, with copies if it has some."""
    examples = capped(everything, data)
    return with_shifted_copies(examples) if how.get("copies") else examples


def nearest_neighbours(everything: Sequence[Example]) -> dict[str, list[float]]:
    """Accuracy by protocol, a number a seed, of copying the most similar training pattern.

    Similar by the cosine between ideal patterns at 0.1°: no training, so that the split alone
    decides.
    """
    see = Input(Network(sees="two_theta", intensity="linear", pool=10))
    rows: dict[tuple[int, int], np.ndarray] = {}
    copies = with_shifted_copies(everything)
    for start in range(0, len(copies), 256):
        some = copies[start : start + 256]
        seen = see(ideal([one.lines for one in some])).numpy()
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        rows |= {key(one): row for one, row in zip(some, seen, strict=True)}
    found: dict[str, list[float]] = {}
    for name in PROTOCOLS:
        for seed in (0, 1, 2):
            data = config_of(name, seed, Path("unused")).data
            examples = chosen(data, RUNS[name], everything)
            splits = split_frames([one.frame for one in examples], data.split)
            train, test = (
                (np.stack([rows[key(examples[i])] for i in part]), part)
                for part in (splits.train, splits.test)
            )
            best = (test[0] @ train[0].T).argmax(axis=1)
            systems = np.array([one.system for one in examples])
            right = systems[train[1]][best] == systems[test[1]]
            found.setdefault(name, []).append(float(right.mean()))
        print("nearest neighbour", name, found[name], flush=True)
    return found


def key(one: Example) -> tuple[int, int]:
    """Which crystal, and which of its copies."""
    return int(str(one.frame.info["crystal"])), one.frame.index


def full_resolution_cost() -> dict[str, float]:
    """Processor seconds of the original's network on all 13,500 points."""
    how = Network.model_validate(
        ORIGINAL | {"pool": 1, "convolutions": {"filters": 60, "kernels": [100, 50, 25]}}
    )
    network, batch = CrystalSystemNet(how, Input(how).points), 4
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    seen, systems = torch.rand(batch, Input(how).points), torch.arange(batch)
    gradients, steps = [], []
    for _ in range(3):
        started = time.process_time()
        torch.nn.functional.cross_entropy(network(seen), systems).backward()
        between = time.process_time()
        adam.step()
        gradients.append((between - started) / batch)
        steps.append(time.process_time() - between)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds_per_pattern": min(gradients),
        "seconds_per_step_of_adam": min(steps),
    }


if __name__ == "__main__":
    main()
