"""How long until a fine-tuned potential is as good as the thesis preset's, on urea crystals."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.machine import sampler
from benchmarks.speed.memory import as_lists
from benchmarks.speed.origin import OriginTraining
from tlpot.config import Config, parse_config
from tlpot.run import finetune, prepare
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

FRAMES = "$TLPOT_DATA/x23/21_urea/train.traj@10:180"
"""The 170 crystals; the ten frames before them are gas-phase molecules."""
ENERGY, FORCE = "energy_rmse_meV_per_atom", "force_rmse_meV_per_A_component"


class Reached(Exception):  # noqa: N818
    """The target error; ends the run."""


def time_to_error(device: torch.device, epochs_of_origin: int = 1) -> dict[str, Any]:
    """Wall time to the thesis preset's final test errors: tlpot's default, and the origin's way.

    The final errors come from tlpot's own `thesis` preset (the same recipe and loss). The origin's
    time is extrapolated: seconds of `epochs_of_origin` epochs of its steps, validation left out,
    times the 100 epochs of its recipe. tlpot's default is judged on the test frames after every
    epoch; its time counts from reading the data and includes that judging.
    """
    if not (Path(os.environ.get("TLPOT_DATA", "nowhere")) / "x23").is_dir():
        return {"skipped": "TLPOT_DATA does not name the data"}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        thesis = finetune(_config("thesis", f"{folder}/thesis", device))
        thesis_seconds = time.perf_counter() - started
        test = thesis.metrics["finetuned"]["test"]
        target = {ENERGY: test[ENERGY], FORCE: test[FORCE]}
        default = _until(target, _config("default", f"{folder}/default", device), device)
        recipe = _config("thesis", folder, device)
    origin = _origin_epoch(recipe, device, epochs_of_origin)
    total = origin["seconds_per_epoch"] * recipe.training.epochs
    result = {
        "target": target,
        "thesis_preset_in_tlpot_s": thesis_seconds,
        "thesis_best_epoch": thesis.manifest["best_epoch"],
        "default": default,
        "origin": origin | {"epochs": recipe.training.epochs, "extrapolated_s": total},
    }
    if default["reached"]:
        best = origin["seconds_per_epoch"] * thesis.manifest["best_epoch"]
        result["ratio"] = total / default["seconds"]
        result["ratio_to_best_epoch"] = best / default["seconds"]
    return result


def _config(preset: str, output: str, device: torch.device) -> Config:
    training = {"preset": preset, "device": str(device)}
    return parse_config({"data": {"files": [FRAMES]}, "training": training, "output": output})


def _until(target: dict[str, float], config: Config, device: torch.device) -> dict[str, Any]:
    """Train until both errors on the test frames are at most `target`."""
    started = time.perf_counter()
    prepared = prepare(config)
    present = {s for part in prepared.parts.values() for f in part for s in f.atoms.symbols}
    compact = prepared.potential.for_elements(present).to(device)
    train, test = ([compact.batch([f]) for f in prepared.parts[part]] for part in ("train", "test"))
    folder = Path(config.output)
    folder.mkdir(parents=True)
    trainer = Trainer(PotentialTask(compact, train, test, config.training), config.training, folder)
    seen: dict[str, Any] = {"reached": False}

    def judge(row: Any) -> None:
        errors = {name: row[f"validation_{name}"] for name in target}
        seen.update(epoch=row["epoch"], seconds=time.perf_counter() - started, errors=errors)
        if all(errors[name] <= target[name] for name in target):
            seen["reached"] = True
            raise Reached

    with contextlib.suppress(Reached):
        trainer.fit(judge)
    return seen


def _origin_epoch(config: Config, device: torch.device, epochs: int) -> dict[str, Any]:
    """Seconds of an epoch of the origin's way on the real training frames."""
    frames = [as_lists(frame) for frame in prepare(config).parts["train"]]
    training = OriginTraining(frames, str(device))
    size = config.training.batch_size
    training.step(range(size))

    def run() -> None:
        for start in range(0, len(frames), size):
            training.step(range(start, min(start + size, len(frames))))

    seconds = [sampler(run, device)() for _ in range(epochs)]
    return {
        "seconds_per_epoch": sum(seconds) / epochs,
        "measured_epochs": epochs,
        "frames": len(frames),
        "batch_size": size,
    }
