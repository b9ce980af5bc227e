"""New elements: alias or clone of a donor, which donor, or from scratch?

Data: molecules with Si and I (``$TLPOT_DATA/si_i_molecules``, the neutral closed-shell ones),
formate on Cu(110) (``$TLPOT_DATA/cu_formate``) and our own crystals under ``datasets``. Base
ANI-2x. Every run keeps its folder under ``runs/elements``, every finished point is kept in the
results file: run again, with other ``--systems``, ``--models`` or ``--seeds`` too, the script does
only what is missing. Frames that were added to a dataset since make its points missing.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import ase.io
import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine, machine_lines
from benchmarks.lib.page import ENERGY, ERRORS, FORCE, VECTOR, fill, spread, table
from benchmarks.lib.runs import with_members
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import DATA
from tlpot import finetune
from tlpot.config.run import parse_config
from tlpot.evaluation.metrics import evaluate
from tlpot.finetuning.prepare import PreparedPotential

DATASETS = Path(__file__).parents[2] / "datasets"
MODELS = {
    "alias": "alias, fine-tuned",
    "clone": "clone, fine-tuned",
    "own parts": "clone, `train: new`",
    "scratch": "from scratch",
}
MEMBERS = 2
"""Of ANI-2x's eight networks."""
RATE, SCRATCH_RATE = 4e-4, 1e-3
"""Few epochs need larger steps than the default 1e-4, and random weights larger ones yet."""
TARGETS = {FORCE: -15.0, ENERGY: -35.0}
"""Change of the RMSE, per cent, asked of the clone where donor and new element occur together."""
COST = 30.0
"""Per cent of training time by which the clone may differ."""
Point = Mapping[str, Any]


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


SYSTEMS = {
    "si_i_molecules": System(
        "molecules with Si and I",
        Path("si_i_molecules.extxyz"),
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
        DATA / "cu_formate/deal_0.05_selected.xyz",
        {"Cu": "S"},
        together=False,
        epochs=30,
        frames=80,
    ),
}
"""A file without a folder is made of the data, under the folder of runs."""


def measure(given: argparse.Namespace) -> Iterator[Results]:
    points, runs = STUDY.committed(given).get("points", {}), given.runs / "elements"
    described = {
        name: {"title": system.title, "together": system.together, "donors": system.donors}
        for name, system in SYSTEMS.items()
    }
    for name, model, donors, seed in wanted(given):
        system = SYSTEMS[name]
        file = system.file
        if file.parent == Path():
            file = molecules(runs / file)
        if not file.exists():
            continue
        epochs = given.epochs or system.epochs
        sha = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        key = f"{name} {model} {arrows(donors, ',')} {seed}"
        if points.get(key, {}).get("data") != sha or points[key]["epochs"] != epochs:
            short = key.replace(" ", "-").replace("←", "_").replace(",", "_")
            config = {
                "data": {
                    "files": [str(file)],
                    "keys": system.keys,
                    "bad_frames": "drop",
                    "max_frames": system.frames,
                    "split": {"seed": seed},
                },
                **settings(model, donors, seed, epochs, runs),
                "output": str(runs / f"{short}-{epochs}-{sha}"),
            }
            about = {"system": name, "model": model, "donors": donors, "seed": seed, "data": sha}
            points[key] = about | run(config, set(donors), epochs)
            print(key, points[key]["after"], f"{points[key]['training_s']:.0f} s", flush=True)
            yield {"systems": described, "points": points}
    yield {"systems": described, "points": points}


def wanted(given: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, str], int]]:
    """Every point to have, the seeds outermost: one seed of all is worth more than all of one."""
    for seed in given.seeds:
        for name in given.systems:
            for model in given.models:
                yield name, model, SYSTEMS[name].donors, seed
            for other in SYSTEMS[name].other_donors if given.donors else ():
                for model in ("alias", "clone"):
                    yield name, model, other, seed


def molecules(path: Path, size: int = 100) -> Path:
    """All neutral closed-shell molecules with Si or I, filled up to `size` with others."""
    elements = {"H", "C", "N", "O", "F", "S", "Cl", "Si", "I"}
    source = DATA / "si_i_molecules/aimnet2_configs.xyz"
    if path.exists() or not source.exists():
        return path
    sound = [
        atoms
        for atoms in ase.io.read(source, ":")
        if set(atoms.symbols) <= elements
        and atoms.info["charge"] == 0
        and atoms.numbers.sum() % 2 == 0
    ]
    new = [i for i, atoms in enumerate(sound) if {"Si", "I"} & set(atoms.symbols)]
    others = sorted(set(range(len(sound))) - set(new))
    rest = np.random.default_rng(0).choice(others, size - len(new), replace=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, [sound[i] for i in sorted({*new, *rest.tolist()})])
    return path


def settings(
    model: str, donors: dict[str, str], seed: int, epochs: int, runs: Path
) -> dict[str, Any]:
    kind, scratch = "alias" if model == "alias" else "clone", model == "scratch"
    return {
        "model": {
            "base": with_members("ani2x", MEMBERS, runs),
            "elements": {e: {"from": d, "as": kind} for e, d in donors.items()},
            "train": "new" if model == "own parts" else "all",
            "init": "scratch" if scratch else "pretrained",
        },
        "training": {
            "epochs": epochs,
            "seed": seed,
            "learning_rate": SCRATCH_RATE if scratch else RATE,
        },
    }


def run(config: dict[str, Any], elements: set[str], epochs: int) -> Results:
    """Errors on the test frames before and after, on all of them and on those with new elements."""
    seen: list[PreparedPotential] = []
    resumed = Path(config["output"], "config.yaml").exists()
    cpu = time.process_time()
    done = finetune(parse_config(config), resume=resumed, on_start=seen.append)
    cpu = time.process_time() - cpu
    test = seen[0].parts["test"]
    new = [frame for frame in test if elements & set(frame.atoms.symbols)]
    return {
        "train_frames": len(seen[0].parts["train"]),
        "before": brief(evaluate(seen[0].base, test)),
        "before_new": brief(evaluate(seen[0].base, new)),
        "after": brief(done.metrics["finetuned"]["test"]),
        "after_new": brief(evaluate(done.potential, new)),
        "epochs": epochs,
        "best_epoch": done.manifest["best_epoch"],
        "training_s": done.manifest["seconds"],
        "cpu_s": None if resumed else cpu,
        "machine": machine(),
    }


def brief(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in ("n_frames", "n_atoms", ENERGY, FORCE, VECTOR)}


def page(results: Results) -> str:
    points = list(results["points"].values())
    systems = {n: s for n, s in results["systems"].items() if any(p["system"] == n for p in points)}
    epochs = {
        system["title"]: ", ".join(sorted({str(p["epochs"]) for p in points if p["system"] == n}))
        for n, system in systems.items()
    }
    return fill(
        __file__,
        errors=errors(systems, points),
        force=-TARGETS[FORCE],
        energy=-TARGETS[ENERGY],
        cost=COST,
        gains=gains(systems, points),
        donors=donors_compared(systems, points) or ["Not run (`--donors`)."],
        epochs="; ".join(f"{title} {n}" for title, n in epochs.items()),
        machine=machine_lines(points[-1]["machine"]),
    )


def errors(systems: Results, points: list[Point]) -> list[str]:
    rows = []
    for name, system in systems.items():
        title = f"{system['title']}, {arrows(system['donors'])}"
        runs = runs_of(points, name, system["donors"])
        first = next(iter(runs.values()))[0]
        for where, of in (("", "all test frames"), ("_new", "those with a new element")):
            if where and first["after_new"]["n_frames"] == first["after"]["n_frames"]:
                continue
            for model, entries in by_model(runs, where).items():
                counts = f"{first['train_frames']} / {entries[0]['n_frames']}"
                rows.append([title, of, counts, model, len(entries), *cells(entries)])
    header = ["data", "on", "training / test frames", "model", "seeds", *ERRORS]
    return table(header, rows)


def gains(systems: Results, points: list[Point]) -> list[str]:
    rows = []
    for system, where, pairs in compared(systems, points):
        change = {
            key: percent([a[where][key] for a, _ in pairs], [c[where][key] for _, c in pairs])
            for key in TARGETS
        }
        timed = [(a["cpu_s"], c["cpu_s"]) for a, c in pairs if a["cpu_s"] and c["cpu_s"]]
        met = ["met" if change[key] <= goal else "missed" for key, goal in TARGETS.items()]
        verdict = "force {}, energy {}".format(*met) if system["together"] else "to coincide"
        present = "yes" if system["together"] else "no"
        cost = f"{percent(*zip(*timed, strict=True)):+.0f} %" if timed else "–"
        changes = (f"{change[key]:+.1f} %" for key in (FORCE, ENERGY))
        title = system["title"] + (", frames with a new element" if where != "after" else "")
        rows.append([title, present, len(pairs), *changes, verdict, cost])
    header = ["data", "donor present", "seeds", "force RMSE", "energy RMSE", "target", "time"]
    return table(header, rows)


def percent(old: Sequence[float], new: Sequence[float]) -> float:
    """Change of the mean."""
    return 100 * (fmean(new) / fmean(old) - 1)


def donors_compared(systems: Results, points: list[Point]) -> list[str]:
    """On the seeds that were run with every donor."""
    rows = []
    for name, system in systems.items():
        some = [p for p in points if p["system"] == name and p["model"] in ("alias", "clone")]
        choices = {arrows(p["donors"]): p["donors"] for p in some}
        common = set.intersection(
            *({p["seed"] for p in some if p["donors"] == d} for d in choices.values())
        )
        for label, donors in choices.items() if len(choices) > 1 else ():
            runs = runs_of([p for p in some if p["seed"] in common], name, donors)
            for model, entries in by_model(runs).items():
                rows.append([system["title"], label, model, len(entries), *cells(entries)])
    return table(["data", "donor", "model", "seeds", *ERRORS], rows) if rows else []


def draw(results: Results) -> Figure | None:
    """RMSE of the clone over that of the alias."""
    rows = list(compared(results["systems"], list(results["points"].values())))
    if not rows:
        return None
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    for axes, (key, label) in zip(
        figure.subplots(1, 2, sharey=True),
        ((FORCE, "force RMSE, clone / alias"), (ENERGY, "energy RMSE, clone / alias")),
        strict=True,
    ):
        ticks = []
        for system, where, pairs in rows:
            old, new = ([p[where][key] for p in side] for side in zip(*pairs, strict=True))
            ratios = [c / a for a, c in zip(old, new, strict=True)]
            colour = "#0065a3" if system["together"] else "#8a8a8a"
            axes.plot(ratios, [len(ticks)] * len(ratios), "o", color=colour, alpha=0.7, ms=6)
            axes.plot([fmean(new) / fmean(old)], [len(ticks)], "|", color=colour, ms=18, mew=2)
            part = "" if where == "after" else "\nthose with a new element"
            ticks.append(system["title"] + part)
        axes.axvline(1.0, color="black", lw=0.8)
        axes.axvline(1 + TARGETS[key] / 100, color="black", lw=0.8, ls="--")
        axes.set_yticks(range(len(ticks)), ticks)
        axes.set_ylim(len(ticks) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(
        "a dot a seed, bar: ratio of means; dashed: aim where donor and element meet (blue)",
        fontsize=9,
    )
    return figure


def compared(
    systems: Results, points: list[Point]
) -> Iterator[tuple[Results, str, list[tuple[Point, Point]]]]:
    """Alias and clone of each seed, on all test frames and on those with a new element."""
    for name, system in systems.items():
        runs = runs_of(points, name, system["donors"])
        kinds = [
            {(p["seed"], p["data"], p["epochs"]): p for p in runs.get(kind, [])}
            for kind in ("alias", "clone")
        ]
        pairs = [(kinds[0][key], kinds[1][key]) for key in kinds[0] if key in kinds[1]]
        if pairs:
            yield system, "after", pairs
        if any(a["after"]["n_frames"] != a["after_new"]["n_frames"] for a, _ in pairs):
            yield system, "after_new", pairs


def runs_of(points: list[Point], system: str, donors: Mapping[str, str]) -> dict[str, list[Point]]:
    """Model → its points by seed."""
    runs = {
        model: [
            p
            for p in points
            if (p["system"], p["model"], p["donors"]) == (system, model, dict(donors))
        ]
        for model in MODELS
    }
    return {model: sorted(some, key=lambda p: p["seed"]) for model, some in runs.items() if some}


def by_model(runs: dict[str, list[Point]], where: str = "") -> dict[str, list[Point]]:
    """Errors of the untouched alias and of each fine-tuned model."""
    some = runs.get("alias", next(iter(runs.values())))
    before = {"zero-shot": [p["before" + where] for p in some]}
    return before | {MODELS[m]: [p["after" + where] for p in r] for m, r in runs.items()}


def cells(entries: Sequence[Point]) -> Iterator[str]:
    for key in ERRORS.values():
        values = [e[key] for e in entries]
        yield spread(values, ".1f" if fmean(values) > 20 else ".2f")


def arrows(donors: Mapping[str, str], between: str = ", ") -> str:
    return between.join(f"{element}←{donor}" for element, donor in donors.items())


STUDY = Study(__file__, __doc__, page, draw, seeds=[0, 1, 2])
add = STUDY.options.add_argument
add("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
add("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
add("--epochs", type=int, help="instead of each system's own number")
add("--donors", action="store_true", help="other donors than the thesis's too")

if __name__ == "__main__":
    STUDY.main(measure)
