"""CGCNN on 36,738 crystals: the released networks, training from scratch, transfer, a gate.

Data: ``$TLPOT_DATA/seeds/crystals_mp36k.npz`` (Materials Project, PBE) and ``seeds/cgcnn`` (the
released checkpoints of github.com/txie-93/cgcnn, their element features and id lists). Questions:

- *released*: do the imported networks say what the published equations say, term by term, on
  pymatgen's neighbours; what do our neighbours change; how good are they?
- *scratch*: a property from all crystals, split 85/8/7, a split and weights a seed.
- *curve*: 300, 1000, 3000 training crystals: band gap from scratch, and from the released network
  of formation energies, which never saw a band gap.
- *choices*: at the largest of those sizes, a gate, elemental modes, CGCNN's own element features.
- *ensemble*: do the runs' seeds together do better, and is their spread an error bar?

Finished runs are kept under ``runs/property`` and not run again; what was not run is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.machine import RESULTS, machine, write_results
from benchmarks.property.data import FILE, RELEASED, SEEDS, Source, plain, pymatgen_graph
from benchmarks.property.ensemble import ensemble
from benchmarks.property.report import figure, page
from tlpot.evaluation.plots import write
from tlpot.property.data import Crystals
from tlpot.property.elements import element_table
from tlpot.property.memory import keep_memory
from tlpot.property.model import as_graph, batches
from tlpot.property.released import import_checkpoint
from tlpot.property.run import train

FEATURES = SEEDS / "cgcnn/atom_init.json"
UNITS = {"band_gap": "eV", "formation_energy": "eV/atom"}
HELD_OUT, POOL = (2000, 300), 3000
"""Test and validation crystals of the small runs, and crystals to train on."""
RADON = 86
"""The heaviest element that has elemental modes."""
EPOCHS = {300: 60, 1000: 40, 3000: 25}
CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gate": {"gate": True},
    "modes": {"elements": "modes"},
    "atom_init": {"elements": str(FEATURES)},
}


class Study:
    """Runs and answers, kept under one folder."""

    def __init__(
        self, folder: Path, source: Source, shorter: float, widths: tuple[int, int], have_only: bool
    ) -> None:
        self.folder, self.source, self.shorter = folder, source, shorter
        self.width, self.small_width = widths
        self.have_only = have_only
        self.pools: dict[int | None, Crystals] = {}

    def answer(self, name: str, work: Any) -> dict[str, Any]:
        """What `work` gives, once."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            found = work()
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n")
        return json.loads(path.read_text())

    def run(
        self, name: str, crystals: Callable[[], Crystals], settings: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Metrics, seconds and epochs of a run, trained or taken up where it stopped."""
        folder = self.folder / name
        seconds = folder / "processor_seconds.json"
        if not (folder / "report.html").exists():
            if self.have_only:
                return None
            config = settings | {"output": str(folder)}
            resume = (folder / "config.yaml").exists()
            before = time.process_time()
            train(config, resume, on_epoch=lambda row: print(name, row), crystals=crystals())
            seconds.write_text(f"{time.process_time() - before:.1f}\n")
        manifest = json.loads((folder / "manifest.json").read_text())
        return {
            "metrics": json.loads((folder / "metrics.json").read_text()),
            "processor_seconds": json.loads(seconds.read_text()) if seconds.exists() else None,
            "best_epoch": manifest["best_epoch"],
            "epochs": settings["training"]["epochs"],
            "folder": name,
        }

    def pool(self, heaviest: int | None = None) -> Crystals:
        """The same 5,300 crystals, drawn at random, for every small run; without those that hold
        an element heavier than the `heaviest`, if given."""
        if heaviest not in self.pools:
            some = np.random.default_rng(1).choice(len(self.source), sum(HELD_OUT) + POOL, False)
            kept = [i for i in some if max(self.source.atoms(i).numbers) <= (heaviest or np.inf)]
            self.pools[heaviest] = self.source.crystals("band_gap", np.array(kept))
        return self.pools[heaviest]

    def small(
        self,
        label: str,
        size: int,
        seed: int,
        model: dict[str, Any],
        heaviest: int | None = None,
    ) -> dict[str, Any] | None:
        """A run on `size` of the pool's crystals, fewer without the heaviest."""
        total = sum(HELD_OUT) + POOL
        split = {"test": HELD_OUT[0] / total, "validation": HELD_OUT[1] / total}
        settings = {
            "data": {
                "files": [str(FILE)],
                "property": "band_gap",
                "unit": "eV",
                "train_fraction": size / POOL,
                "split": split,
            },
            "model": model if "base" in model else {"width": self.small_width, **model},
            "training": {
                "epochs": max(round(self.shorter * EPOCHS[size]), 1),
                "device": "cpu",
                "seed": seed,
            },
        }
        if "base" in model:
            settings["training"]["learning_rate"] = 5e-3
        return self.run(f"{label}_{size}_{seed}", lambda: self.pool(heaviest), settings)


def released(study: Study, count: int) -> dict[str, Any]:
    """The imported networks against the equations in `property_data.plain`, and against PBE."""
    source = study.source
    random = np.random.default_rng(0)
    chosen = np.sort(random.choice(len(source), min(count, len(source)), replace=False))
    structures = [source.atoms(i) for i in chosen]
    theirs, ours = [pymatgen_graph(a) for a in structures], [as_graph(a) for a in structures]
    features, found = element_table(str(FEATURES)), {}
    groups = {
        "all": np.full(len(chosen), True),
        "27,430-list": source.with_gap[chosen],
        "others": ~source.with_gap[chosen],
        "metals": source.metal[chosen],
    }
    for name, file in RELEASED.items():
        path = SEEDS / f"cgcnn/{file}.pth.tar"
        stored = torch.load(path, weights_only=True, map_location="cpu")
        model = import_checkpoint(path, str(FEATURES), name, UNITS[name])
        with torch.no_grad():
            by_hand = torch.cat([plain(stored, features, g) for g in batches(theirs, 16)])
        same, own = model.predict(theirs), model.predict(ours)
        change = np.abs(own - same)
        values = source.data[name][chosen]
        found[name] = {
            "largest_difference": float(np.abs(same - by_hand.double().numpy()).max()),
            "own_neighbours": {
                "mean": float(change.mean()),
                "share_above_0.01": float((change > 0.01).mean()),
                "largest": float(change.max()),
            },
            "mae": {
                group: {
                    "n": int(some.sum()),
                    "pymatgen": float(np.abs(same - values)[some].mean()),
                    "ours": float(np.abs(own - values)[some].mean()),
                }
                for group, some in groups.items()
            },
        }
    return {"crystals": len(chosen), "properties": found}


def scratch(
    study: Study, name: str, epochs: int, gate: bool, seeds: list[int]
) -> list[dict[str, Any]]:
    """All crystals, 85/8/7, split and weights by seed."""
    kind = "gate" if gate else "plain"
    everything = cache(lambda: study.source.crystals(name))
    runs = []
    for seed in seeds:
        settings = {
            "data": {
                "files": [str(FILE)],
                "property": name,
                "unit": UNITS[name],
                "split": {"validation": 0.08, "test": 0.07, "seed": seed},
            },
            "model": {"gate": gate, "width": study.width},
            "training": {"epochs": epochs, "device": "cpu", "seed": seed},
        }
        folder = f"{name}_{kind}_{epochs}_{study.width}_{seed}"
        runs.append(study.run(folder, everything, settings))
    return [run for run in runs if run]


def curve(study: Study, sizes: list[int], seeds: list[int]) -> dict[str, Any]:
    """Learning curves from scratch and from the released network of formation energies."""
    base = study.folder / "released_formation_energy.safetensors"
    if not base.exists():
        path = SEEDS / f"cgcnn/{RELEASED['formation_energy']}.pth.tar"
        import_checkpoint(path, str(FEATURES), "formation_energy", "eV/atom").save(base)
    models = {"scratch": CHOICES["plain"], "transfer": {"base": str(base)}}
    found: dict[str, Any] = {}
    for label, model in models.items():
        name = "plain" if label == "scratch" else label
        found[label] = {}
        for size in sizes:
            runs = [study.small(name, size, seed, model) for seed in seeds]
            if have := [run for run in runs if run]:
                found[label][str(size)] = have
    return found


def choices(study: Study, size: int, seeds: list[int], names: list[str]) -> dict[str, Any]:
    """Networks with one thing changed, on elements that all know; seeds that all of them have."""
    runs = {
        n: [study.small(f"choice_{n}", size, seed, CHOICES[n], RADON) for seed in seeds]
        for n in names
    }
    common = [all(own) for own in zip(*runs.values(), strict=True)]
    return {n: [run for run, kept in zip(r, common, strict=True) if kept] for n, r in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=4000, help="of *released*; 36738 is all")
    parser.add_argument("--epochs", type=int, default=8, help="of *scratch*")
    parser.add_argument("--property", nargs="*", default=["band_gap"], help="of *scratch*")
    parser.add_argument("--scratch-seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--plain", action="store_true", help="*scratch* without the gate, too")
    parser.add_argument("--sizes", type=int, nargs="*", default=[300, 1000, 3000])
    parser.add_argument("--shorter", type=float, default=1.0, help="factor on their epochs")
    parser.add_argument("--width", type=int, default=64, help="numbers that an atom carries")
    parser.add_argument("--small-width", type=int, help="of the small runs; left out: the same")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--choices", nargs="*", default=list(CHOICES), choices=list(CHOICES))
    parser.add_argument("--choices-at", type=int, help="crystals; the largest size, left out")
    parser.add_argument("--ensemble-at", type=int, help="likewise")
    parser.add_argument("--have-only", action="store_true", help="train nothing")
    parser.add_argument("--only", nargs="*", default=None, help="questions, by name")
    parser.add_argument("--runs", type=Path, default=Path("runs/property"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.small_width = options.small_width or options.width
    widths = options.width, options.small_width
    torch.set_num_threads(1)
    keep_memory()
    about, study = (
        machine(),
        Study(options.runs, Source(), options.shorter, widths, options.have_only),
    )
    chosen = options.choices_at or max(options.sizes)
    work = {
        "released": lambda: study.answer("released", lambda: released(study, options.crystals)),
        "curve": lambda: curve(study, options.sizes, options.seeds),
        "choices": lambda: choices(study, chosen, options.seeds, options.choices),
        "ensemble": lambda: ensemble(study, options.ensemble_at or chosen, options.seeds, "plain"),
        "scratch": lambda: {
            f"{name}, {'with' if gate else 'without'} gate": runs
            for name in options.property
            for gate in ([True, False] if options.plain else [name == "band_gap"])
            if (runs := scratch(study, name, options.epochs, gate, options.scratch_seeds))
        },
    }
    wanted = options.only or list(work)
    found = {name: work[name]() for name in work if name in wanted}
    kept = {k: str(v) for k, v in vars(options).items() if k not in ("runs", "results")}
    data = {"machine": about, "options": kept, **found}
    write_results("property", data, "\n".join(page(data)), options.results)
    write(figure(study, data), options.results / "property.png")


if __name__ == "__main__":
    main()
