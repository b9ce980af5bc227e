"""Does a fine-tuned model keep its base's wall: pressed, packed, collided and heated?

The base (``--members`` of ANI-2x, ``--epochs`` of the default recipe) is fine-tuned on one crystal
of ``$TLPOT_DATA/x23`` or of ours, without replay and, where the base knows all elements, with
``training.replay: auto``; each model and its base go through ``tlpot stress`` of the lowest
training crystal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.runs import parts_of, trained, with_members
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import OURS, full_base
from tlpot.config.run import parse_config
from tlpot.trust.settings import Stress
from tlpot.trust.stress import FAILURES
from tlpot.trust.stress_output import STRESS_REPORT
from tlpot.trust.stress_run import run_stress

CRYSTALS = ("06_benzene", "11_formamide", "17_pyrazole", "21_urea", *OURS)
REPLAY: dict[str, dict[str, Any]] = {"none": {}, "auto": {"replay": "auto"}}
ERRORS = ("energy_rmse_meV_per_atom", "force_rmse_meV_per_A_component")


def measure(given: argparse.Namespace) -> Iterator[Results]:
    base = with_members("ani2x", given.members, given.runs)
    settings = Stress(count=given.count, steps=given.steps)
    results: Results = {"members": given.members, "epochs": given.epochs, "runs": []}
    results["settings"] = settings.model_dump()
    for crystal in given.crystals:
        for replay in given.replay if crystal not in OURS else ["none"]:
            config = full_base(crystal, epochs=given.epochs, **REPLAY[replay])
            config["model"]["base"] = base
            for key, value in OURS.get(crystal, {}).items():
                section, name = key.split(".")
                config[section][name] = value
            place = given.runs / "stress" / f"{crystal}-{replay}"
            folder = trained(place / "run", config)
            train = parts_of(parse_config(config))["train"]
            whole = [frame for frame in train if frame.kind == "crystal"]
            lowest = min(whole, key=lambda frame: frame.energy / len(frame))
            report = place / "stress" / STRESS_REPORT
            if not report.exists():
                run_stress(folder, lowest, report.parent, settings)
            test = json.loads(report.read_text())
            errors = json.loads((folder / "metrics.json").read_text())["finetuned"]["test"]
            entry = {"crystal": crystal, "replay": replay, "atoms": len(lowest)}
            entry |= {key: errors[key] for key in ERRORS}
            results["runs"].append(entry | {key: test[key] for key in ("counts", "failures")})
            print(*entry.values(), test["failures"], flush=True)
            yield results


def page(results: Results) -> str:
    runs = results["runs"]
    return fill(
        __file__,
        members=results["members"] or "All eight",
        epochs=results["epochs"] or "the default's",
        **results["settings"],
        failures=table(
            [
                "crystal",
                "replay",
                "energy, meV/atom",
                "force, meV/Å",
                "model failed",
                "base failed",
            ],
            [_row(run) for run in runs],
        ),
        kinds=table(
            ["case", "cases", *(f"{who}: {verdict}" for who in WHO for verdict in FAILURES)],
            _kinds(runs),
        ),
        machine=machine_lines(results["machine"]),
    )


WHO = ("model", "base")


def _row(run: Results) -> list[object]:
    energy, force = (run[key] for key in ERRORS)
    total = _cases(run["counts"]["model"])
    failed = [run["failures"].get(who) for who in WHO]
    counts = ["–" if count is None else f"{count}/{total}" for count in failed]
    return [run["crystal"], run["replay"], f"{energy:.2f}", f"{force:.1f}", *counts]


def _cases(rows: dict[str, dict[str, int]]) -> int:
    return sum(sum(row.values()) for row in rows.values())


def _kinds(runs: list[Results]) -> Iterator[list[object]]:
    """All crystals together, a row for each kind of case and replay."""
    for replay in dict.fromkeys(run["replay"] for run in runs):
        counts = [run["counts"] for run in runs if run["replay"] == replay]
        for kind in dict.fromkeys(kind for count in counts for kind in count["model"]):
            total = sum(sum(count["model"].get(kind, {}).values()) for count in counts)
            cells = [
                sum(count.get(who, {}).get(kind, {}).get(verdict, 0) for count in counts)
                for who in WHO
                for verdict in FAILURES
            ]
            yield [f"{kind}, replay {replay}", total, *cells]


STUDY = Study(__file__, __doc__, page)
add = STUDY.options.add_argument
add("--crystals", nargs="+", default=CRYSTALS, help="of X23, or ours")
add("--replay", nargs="+", default=list(REPLAY), choices=list(REPLAY), help="what is compared")
add("--members", type=int, help="of the base's ensemble; left out: all")
add("--epochs", type=int, help="left out: those of the recipe")
add("--count", type=int, default=Stress().count, help="random packings and compressed cells")
add("--steps", type=int, default=Stress().steps, help="evaluations that a relaxation may take")

if __name__ == "__main__":
    STUDY.main(measure)
