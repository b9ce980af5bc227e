"""How far apart are levels of theory? What learning one means, judged by the other.

``forgetting.py`` judges models that were fine-tuned to vdW-DF2 by the ωB97X/6-31G* forces of
S66x8. Here the levels themselves are judged so: the smallest dimers of S66 at their equilibrium
separation, forces by PySCF, in an environment of its own (``pip install pyscf ase``), named by
``--venv`` or ``TLPOT_PYSCF``. vdW-DF2 is taken without its non-local correlation: PySCF lacks it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.accuracy.dimers import SEPARATIONS, s66x8
from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.study import Results, Study
from benchmarks.peers.peers import installed, write_labelled
from tlpot import load
from tlpot.errors import TlpotError
from tlpot.evaluation.calibration import rms

EQUILIBRIUM = 2
"""Which of the separations it is."""
LEVELS = {
    "ωB97X/6-31G*, computed again": ("wb97x", "6-31g*"),
    "ωB97X/def2-TZVP": ("wb97x", "def2-tzvp"),
    "PBE/def2-TZVP": ("PBE", "def2-tzvp"),
    "vdW-DF2 without non-local correlation/def2-TZVP": ("GGA_X_RPW86,LDA_C_PW", "def2-tzvp"),
}
BASE = "ANI-2x, untouched"


def measure(given: argparse.Namespace) -> Iterator[Results]:
    venv = Path(given.venv).absolute()
    versions = installed("pyscf", venv)
    if versions is None:
        raise TlpotError(f"pyscf is not installed in {venv}; name its environment by --venv")
    frames = sorted(s66x8()[EQUILIBRIUM::SEPARATIONS], key=len)[: given.dimers]
    folder = given.runs / "levels"
    folder.mkdir(parents=True, exist_ok=True)
    write_labelled(folder / "dimers.xyz", frames)
    script = Path(__file__).with_name("levels_pyscf.py")
    command = [str(venv / "bin/python"), str(script), "dimers.xyz", "answers.json"]
    subprocess.run([*command, json.dumps(list(LEVELS.values()))], cwd=folder, check=True)
    answers = json.loads((folder / "answers.json").read_text())[: given.dimers]
    base = [p.forces for p in load("ani2x").predict(frames)]
    by_level = {BASE: base} | {
        name: [np.array(forces["/".join(level)]) for forces in answers]
        for name, level in LEVELS.items()
    }
    rows = [
        {
            "level": level,
            "errors_meV_per_A": [
                1e3 * rms(own - frame.forces) for own, frame in zip(forces, frames, strict=True)
            ],
        }
        for level, forces in by_level.items()
    ]
    about = {"dimers": [str(f.atoms.symbols) for f in frames], "atoms": [len(f) for f in frames]}
    yield {"versions": versions, **about, "rows": rows}


def page(results: Results) -> str:
    errors = {row["level"]: over_all(results, row["level"]) for row in results["rows"]}
    rows = [(level, f"{e:.0f}", f"{e / errors[BASE]:.1f}") for level, e in errors.items()]
    return fill(
        __file__,
        number=len(results["dimers"]),
        dimers=", ".join(results["dimers"]),
        rows=table(["forces by", "meV/Å per component", "over the untouched base's"], rows),
        versions=", ".join(f"{k} {v}" for k, v in results["versions"].items()),
        machine=machine_lines(results["machine"]),
    )


def over_all(results: dict[str, Any], level: str) -> float:
    """RMS over the atoms of all dimers."""
    errors = next(row["errors_meV_per_A"] for row in results["rows"] if row["level"] == level)
    return float(np.sqrt(np.average(np.square(errors), weights=results["atoms"])))


STUDY = Study(__file__, __doc__, page)
add = STUDY.options.add_argument
add("--dimers", type=int, default=12, help="the smallest of 66")
add("--venv", default=os.environ.get("TLPOT_PYSCF", ".venv-pyscf"), help="that has pyscf")

if __name__ == "__main__":
    STUDY.main(measure)
