"""The crystals that studies share: X23 (VASP, vdW-DF2) and our own, with recipes and bases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlpot import TlpotError
from tlpot.ablation.sweep import Point, parse_sweep, points

DATA = Path(os.environ.get("TLPOT_DATA", ""))
X23 = DATA / "x23"
PRESETS = {"default": {}, "thesis": {"training.preset": "thesis"}}
OURS = {
    name: {
        "data.files": f"datasets/{name}/{name}.extxyz",
        "model.elements": {element: {"from": donor, "as": "clone"}},
    }
    for name, element, donor in (
        ("methylsilane", "Si", "C"),
        ("iodoform", "I", "Cl"),
        ("cuscn", "Cu", "S"),
    )
}
"""GPAW, PBE+D3(BJ); paths from the repository's root, where the benchmarks are started."""


def reduced_base(**training: Any) -> dict[str, Any]:
    """`mini` on the bundled urea frames; its small networks take larger steps than ANI-2x."""
    return {
        "data": {"files": "datasets/urea/urea.extxyz"},
        "model": {"base": "mini"},
        "training": {"learning_rate": 1e-3, "epochs": 15, **training},
    }


def full_base(crystal: str = "21_urea", **training: Any) -> dict[str, Any]:
    """ANI-2x on one crystal of X23."""
    return {"data": {"files": x23(crystal)}, "model": {"base": "ani2x"}, "training": training}


def x23(crystal: str) -> str:
    return f"$TLPOT_DATA/x23/{crystal}/train.traj"


def crystals() -> dict[str, dict[str, str]]:
    """Every crystal of X23 that is there."""
    names = sorted(p.name for p in X23.glob("*") if (p / "train.traj").is_file())
    return {name: {"data.files": x23(name)} for name in names}


def crystal_points(names: Sequence[str], seeds: Sequence[int]) -> list[Point]:
    """The points of ``crystals.py --full`` for some crystals of X23, or all.

    Raises
    ------
    TlpotError
        If a crystal is not there.
    """
    files = crystals()
    if unknown := [name for name in names if name not in files] or ["*"] * (not files):
        raise TlpotError(f"no {unknown[0]}/train.traj under $TLPOT_DATA/x23; set TLPOT_DATA")
    axes = {"crystal": {n: files[n] for n in names or files}, "recipe": PRESETS}
    return points(parse_sweep({"base": full_base(), "axes": axes, "seeds": list(seeds)}))
