"""A fine-tuned message-passing network, SevenNet-0, against tlpot's default on the same frames.

Data: crystals of ``$TLPOT_DATA/x23`` (VASP, vdW-DF2), tlpot's split; the default's errors are those
of ``crystals.py``. SevenNet-0 lives in an environment of its own (``pip install sevenn`` after
torch's CPU wheel), named by ``--venv`` or ``TLPOT_SEVENNET``; ``sevennet_train.py`` says how it is
fine-tuned. Every training keeps its folder under ``runs/sevennet``; one that is finished is not run
again, one that was cut short begins anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, ERRORS, FORCE, fill, table
from benchmarks.lib.study import RESULTS, Results, Study
from benchmarks.lib.x23 import full_base
from benchmarks.peers.peers import MACE, answered, follow, installed, write_labelled
from tlpot.config.run import parse_config
from tlpot.errors import TlpotError
from tlpot.evaluation.metrics import metrics
from tlpot.files import write_whole
from tlpot.finetuning.prepare import prepare

TRAINER = Path(__file__).with_name("sevennet_train.py")


def measure(given: argparse.Namespace) -> Iterator[Results]:
    venv = Path(given.venv).absolute()
    versions = installed("sevennet", venv)
    if versions is None:
        raise TlpotError(f"sevenn is not installed in {venv}; name its environment by --venv")
    rows = {(row["crystal"], row["seed"]): row for row in STUDY.committed(given).get("rows", ())}
    for crystal in given.crystals:
        for seed in given.seeds:
            folder = given.runs / "sevennet" / f"{crystal}-{seed}-{given.epochs}"
            row = train(crystal, seed, given.epochs, folder, venv)
            now = {key: given.machine[key] for key in ("commit", "date")}
            rows[crystal, seed] = {**row, "versions": versions, **now}
            yield {"rows": [rows[key] for key in sorted(rows)]}


def train(crystal: str, seed: int, epochs: int, folder: Path, venv: Path) -> dict[str, Any]:
    """Test errors and time of one fine-tuning, from its folder if it was done before."""
    kept = folder / "row.json"
    if kept.exists():
        return json.loads(kept.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = full_base(crystal, seed=seed)
    values["data"]["split"] = {"seed": seed}
    prepared = prepare(parse_config({**values, "output": str(folder / "run")}))
    for part, frames in prepared.parts.items():
        write_labelled(folder / f"{part}.xyz", frames)
    files = [f"{part}.xyz" for part in ("train", "validation", "test")]
    options = ["--epochs", str(epochs), "--seed", str(seed)]
    command = [str(venv / "bin/python"), str(TRAINER), *files, "test.json", *options]
    print("training", folder, flush=True)
    curve = follow(command, folder, MACE)
    row = {
        "crystal": crystal,
        "seed": seed,
        "train_frames": len(prepared.parts["train"]),
        "epochs": epochs,
        "cpu_seconds": curve[-1][1],
        "validation": dict(zip((ENERGY, FORCE), curve[-1][2:], strict=True)),
        "test": metrics(prepared.parts["test"], answered(folder / "test.json")),
    }
    write_whole(kept, json.dumps(row))
    return row


def page(results: Results) -> str:
    rows = []
    for row in results["rows"]:
        about = [row["crystal"], row["seed"], row["train_frames"]]
        if ours := default_of(row["crystal"], row["seed"]):
            cells = [f"{ours[f'finetuned_{key}']:.2f}" for key in ERRORS.values()]
            rows.append([*about, "tlpot, default", f"{ours['seconds']:.0f}", *cells])
        cells = [f"{row['test'][key]:.2f}" for key in ERRORS.values()]
        name = f"SevenNet-0, {row['epochs']} epochs"
        rows.append([*about, name, f"{row['cpu_seconds']:.0f}", *cells])
    header = ["crystal", "seed", "training frames", "model", "s", *ERRORS]
    versions = {k: v for row in results["rows"] for k, v in row["versions"].items()}
    return fill(
        __file__,
        rows=table(header, rows),
        versions=", ".join(f"{k} {v}" for k, v in versions.items()),
        machine=machine_lines(results["machine"]),
    )


def default_of(crystal: str, seed: int) -> dict[str, Any] | None:
    """The row of ``crystals.py`` of the default on this crystal and seed, if it is committed."""
    path = RESULTS / "crystals.json"
    points = json.loads(path.read_text())["points"] if path.exists() else []
    wanted = {"crystal": crystal, "recipe": "default", "seed": seed, "status": "done"}
    return next((p for p in points if wanted.items() <= p.items()), None)


STUDY = Study(__file__, __doc__, page, seeds=[0])
add = STUDY.options.add_argument
add("--crystals", nargs="+", default=["11_formamide", "06_benzene", "21_urea"], help="of X23")
add("--epochs", type=int, default=30, help="of SevenNet-0")
add("--venv", default=os.environ.get("TLPOT_SEVENNET", ".venv-sevennet"), help="that has sevenn")

if __name__ == "__main__":
    STUDY.main(measure)
