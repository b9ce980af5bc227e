"""Elements that ANI-2x never saw, standing on related ones (thesis: Cu←S, Si←C, I←Cl).

Data: ``$TLPOT_DATA/cu_formate`` (formate on Cu(110), 52 atoms a frame) and 300 neutral frames of
``$TLPOT_DATA/si_i_molecules``. 20 % test frames, seed 0, the default recipe for fewer epochs.
Every run keeps its folder under ``runs/stand_ins``; one that is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from common import machine, machine_lines, table, write_results

from tlpot.config import parse_config
from tlpot.run import finetune

RUNS = Path("runs/stand_ins")
CASES: dict[str, dict[str, Any]] = {
    "formate on Cu(110), Cu←S": {
        "folder": "cu_formate",
        "data": {"files": "cu_formate/deal_0.05_selected.xyz"},
        "elements": {"Cu": "S"},
    },
    "molecules with Si and I, Si←C, I←Cl": {
        "folder": "si_i_molecules",
        "data": {
            "files": "si_i_molecules/aimnet2_configs.xyz",
            "keys": {"energy": "REF_energy", "forces": "REF_forces"},
            "max_frames": 300,
        },
        "elements": {"Si": "C", "I": "Cl"},
    },
}
KEYS = {
    "energy, meV/atom": "energy_rmse_meV_per_atom",
    "force, meV/Å, per component": "force_rmse_meV_per_A_component",
    "per vector": "force_rmse_meV_per_A_vector",
}


def run(case: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Metrics on the test frames before and after, and what was used."""
    folder = RUNS / case["folder"]
    if not (folder / "metrics.json").exists():
        file = str(Path(os.environ["TLPOT_DATA"]) / case["data"]["files"])
        config = {
            "data": {**case["data"], "files": [file], "bad_frames": "drop"},
            "model": {"elements": case["elements"]},
            "training": {"epochs": epochs},
            "output": str(folder),
        }
        finetune(parse_config(config), resume=(folder / "config.yaml").exists())
    metrics = json.loads((folder / "metrics.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    return {
        "base": _overall(metrics["baseline"]["test"]),
        "fine-tuned": _overall(metrics["finetuned"]["test"]),
        "checked": manifest["data"]["checked"]["rejected"],
        "train_frames": len(manifest["split"]["train"]),
        "seconds": manifest["seconds"],
    }


def _overall(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in metrics.items()
        if key in ("by_kind", "by_element") or not key.startswith("by_")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "epochs": arguments.epochs, "cases": {}}
    for name, case in CASES.items():
        results["cases"][name] = run(case, arguments.epochs)
        write_results("stand_ins", results, page(results))


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [
        [name, model, entry["train_frames"], entry[model]["n_frames"]]
        + [f"{entry[model][key]:.1f}" for key in KEYS.values()]
        for name, entry in results["cases"].items()
        for model in ("base", "fine-tuned")
    ]
    dropped = [
        f"- {name}: left out {', '.join(f'{n} {why}' for why, n in entry['checked'].items())}"
        for name, entry in results["cases"].items()
    ]
    return "\n".join(
        [
            "# Stand-in elements",
            "",
            "RMSE on test frames (20 %, split and training seed 0). *base*: ANI-2x with the "
            "stand-ins, energy reference fitted to the training frames. *fine-tuned*: the default "
            f"recipe, {results['epochs']} epochs.",
            "",
            *table(["data", "model", "training frames", "test frames", *KEYS], rows),
            "",
            *dropped,
            "",
            *machine_lines(results["machine"]),
        ]
    )


if __name__ == "__main__":
    main()
