"""What do the choices of a fine-tuning bring? Tables 4.2 to 4.5 of the thesis, and our recipe.

Batch size, learning curves, λ, the form of the loss, the layers that train, and the default recipe
with one choice changed at a time: six sweeps. On ANI-2x (``--full``) two of the eight networks
train: what a setting changes shows in a quarter of the time; those after the thesis on three
crystals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import gmean

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.page import ENERGY, FORCE, table
from benchmarks.lib.sweep import Question, SweepStudy
from benchmarks.lib.x23 import crystals, full_base, reduced_base, x23
from tlpot.ablation.sweep import Outcome

FEW = 2
SHARE, SIZE = 0.03, 37.0
"""The default λ; mean number of atoms of the mixed crystals."""
EVERY = 8
"""One of so many frames of each crystal is in the mixed set."""


def batches(rate: float) -> dict[str, dict[str, Any]]:
    """Rates are scaled by the square root of batch/2, as Adam's noise is (Malladi et al. 2022)."""
    sizes = (1, 2, 4, 8, 16)
    choices = {f"{n}": {"training.batch_size": n} for n in sizes}
    for n in (n for n in sizes if n != 2):
        scaled = {"training.batch_size": n, "training.learning_rate": rate * (n / 2) ** 0.5}
        choices[f"{n}, rate scaled"] = scaled
    return choices


def judged_by(exponent: float) -> dict[str, float]:
    """MSE(E/N^p), λ such that an energy of a frame of mean size weighs as it does with p = 1."""
    forces = SHARE / (1.0 - SHARE) * SIZE ** (2.0 - 2.0 * exponent)
    return {"training.size_exponent": exponent, "training.lambda": forces / (1.0 + forces)}


def layers() -> dict[str, dict[str, Any]]:
    """From scratch, and with layers or elements frozen."""
    names = ("input", "hidden1", "hidden2", "output")
    alone = {name: [other for other in names if other != name] for name in names}
    return {
        "from scratch": {"model.init": "scratch"},
        "all layers free": {},
        "input and output frozen": {"model.freeze": ["input", "output"]},
        **{f"{name} frozen": {"model.freeze": [name]} for name in names},
        **{f"{name} alone free": {"model.freeze": others} for name, others in alone.items()},
        **{f"{element} frozen": {"model.freeze": [f"{element}.*"]} for element in "HCNO"},
    }


def recipe(rate: float, epochs: int) -> dict[str, dict[str, Any]]:
    """The recipe itself, of this rate and length, then its neighbours."""
    changes: dict[str, dict[str, Any]] = {
        "learning rate: × 3": {"learning_rate": 3 * rate},
        "learning rate: ÷ 3": {"learning_rate": rate / 3},
        "epochs: ÷ 2": {"epochs": epochs // 2},
        "epochs: × 2": {"epochs": 2 * epochs},
        "schedule: plateau": {"schedule": "plateau"},
        "schedule: constant": {"schedule": "constant"},
        "weight decay: 0": {"weight_decay": 0.0},
        "weight decay: 0.1": {"weight_decay": 0.1},
        "batch: 4": {"batch_size": 4},
        "warm-up: none": {"warmup_epochs": 0},
        "EMA: none": {"ema": 0.0},
        "clipping: none": {"clip": None},
        "fit: mean": {"fit": "mean"},
        "stress: none": {"stress_weight": 0.0},
        "fine angles: none": {"fine_angles": False},
    }
    named = {
        name: {f"training.{k}": v for k, v in values.items()} for name, values in changes.items()
    }
    return {"default": {}, **named}


def exponents(outcomes: Sequence[Outcome]) -> list[str]:
    """Exponents of error ~ frames^s, least squares over all points in log–log."""
    lines = ["", "Fitted exponents s of error ~ (training frames)^s:", ""]
    curves: dict[tuple[str, ...], list[Outcome]] = {}
    for o in outcomes:
        if o.metrics is not None:
            labels = tuple(v for k, v in o.point.labels.items() if k != "data.train_fraction")
            curves.setdefault(labels, []).append(o)
    for labels, curve in curves.items():
        frames = np.log([len(o.manifest["split"]["train"]) for o in curve])
        slopes = []
        for name, key in {"energy": ENERGY, "force": FORCE}.items():
            errors = np.log([o.metrics["finetuned"]["test"][key] for o in curve])
            slopes.append(f"{name} {np.polyfit(frames, errors, 1)[0]:.2f}")
        lines.append(f"- {', '.join(labels)}: {', '.join(slopes)}")
    return lines


def beside(choice: str) -> Callable[[Sequence[Outcome]], list[str]]:
    """Remarks: errors of each setting over those of a `choice`, over all crystals and seeds."""

    def lines(outcomes: Sequence[Outcome]) -> list[str]:
        errors: dict[str, dict[tuple[str, int], tuple[float, ...]]] = {}
        for o in outcomes:
            if o.metrics is not None:
                setting, *crystal = o.point.labels.values()
                test = o.metrics["finetuned"]["test"]
                mine = errors.setdefault(setting, {})
                mine["".join(crystal), o.point.seed] = (test[ENERGY], test[FORCE])
        against = errors.get(choice, {})
        rows, idle = [], False
        for setting, mine in errors.items():
            both = mine.keys() & against.keys()
            changed = [k for k in both if setting not in IDLE.get(k[0], ())]
            idle |= len(changed) < len(both)
            if changed:
                energy, force = gmean([np.divide(mine[k], against[k]) for k in changed])
                rows.append((setting, len(changed), f"{energy:.2f}", f"{force:.2f}"))
        text = f"Over the errors of {choice}, geometric means over the same crystals and seeds"
        text += ", but where an element is frozen that the crystal lacks:" if idle else ":"
        return ["", text, "", *table(["setting", "pairs of runs", "energy", "force"], rows)]

    return lines


THESIS = full_base(preset="thesis")
LAMBDAS = {"training.lambda": [0.0, 0.01, 0.03, 0.1, 0.5, 0.9, 1.0]}
HUBER = {f"Huber {delta:g}": {"training.huber": delta} for delta in (0.01, 0.1)}
FORMS = {"E/N, squares": {}, "E/√N": judged_by(0.5), "E": judged_by(0.0)}
"""The exponent of N matters where frames differ in size: in the mixed crystals alone."""
MIXED = {**full_base(), "data": {"files": [f"{x23(name)}@::{EVERY}" for name in crystals()]}}
CURVE = {
    "data.train_fraction": [0.1, 0.25, 0.5, 0.75, 1.0],
    "start": {
        "transfer": {"model.init": "pretrained"},
        "scratch": {"model.init": "scratch", "training.fit": "mean"},
    },
}
CRYSTALS = {n: {"data.files": x23(n)} for n in ("21_urea", "06_benzene", "17_pyrazole")}
CHOSEN = {n: {"data.files": x23(n)} for n in ("21_urea", "06_benzene", "11_formamide")}
"""Few hydrogen bonds, none, and many for so few frames."""
IDLE = {"06_benzene": ("N frozen", "O frozen")}
"""Settings that change nothing there, but by rounding."""

STUDY = SweepStudy(
    __file__,
    __doc__,
    {
        "ablation_lambda": Question(
            "What does λ do in L = λ·MSE(F) + (1−λ)·MSE(E/N) (thesis Table 4.5)?",
            {"base": reduced_base(stress_weight=0.0), "axes": LAMBDAS},
            {"base": THESIS, "axes": LAMBDAS | {"crystal": CHOSEN}},
            FEW,
            remarks=beside("0.9"),
        ),
        "ablation_loss": Question(
            "Energies per atom, per √N or per frame; Huber or squares?",
            {"base": reduced_base(), "axes": {"loss": {"squares": {}, **HUBER}}},
            {"base": MIXED, "axes": {"loss": {**FORMS, **HUBER}}},
            FEW,
        ),
        "ablation_batch": Question(
            "What does the batch size do, at one learning rate or one scaled with it "
            "(thesis Table 4.3)?",
            {"base": reduced_base(), "axes": {"batch": batches(1e-3)}},
            {"base": THESIS, "axes": {"batch": batches(1e-4), "crystal": CHOSEN}},
            FEW,
            remarks=beside("2"),
        ),
        "ablation_transfer": Question(
            "What do pretrained weights bring, and which layers need to change (thesis Table 4.2)?",
            {"base": reduced_base(fit="mean"), "axes": {"trained": layers()}},
            {"base": THESIS, "axes": {"trained": layers(), "crystal": CHOSEN}},
            FEW,
            remarks=beside("all layers free"),
        ),
        "ablation_recipe": Question(
            "What does each choice of the default recipe bring? One of them changed at a time.",
            {"base": reduced_base(), "axes": {"changed": recipe(1e-3, 15)}},
            {"base": full_base("06_benzene"), "axes": {"changed": recipe(1e-4, 150)}},
            FEW,
        ),
        "ablation_data": Question(
            "How many frames does it take, from pretrained weights and from scratch "
            "(thesis Table 4.4)?",
            {"base": reduced_base(), "axes": CURVE},
            {"base": full_base(), "axes": CURVE | {"crystal": CRYSTALS}},
            FEW,
            remarks=exponents,
        ),
    },
)

if __name__ == "__main__":
    STUDY.main(STUDY.run)
