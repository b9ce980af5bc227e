"""Does a committee pick better training frames than chance, at equal numbers?

Two pools: four molecular crystals and their molecules mixed (``$TLPOT_DATA/x23``: CO2, urea,
formamide, ethyl carbamate), and 184 unlike neutral molecules of H, C, N, O
(``$TLPOT_DATA/si_i_molecules``). 25 % test frames, drawn first and stratified by composition; no
strategy ever picks from them. All strategies begin with the same random frames and add as many a
round: *random* any, *committee* those of the largest ensemble spread per √N of the model trained
so far, *farthest* by the base's descriptors alone. Every model is the base (`mini`, four networks)
fine-tuned anew by the default recipe, shortened. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, FORCE, VECTOR, fill, table
from benchmarks.lib.runs import NoCheckpoints
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import DATA
from tlpot import load, read_frames
from tlpot.config import Data, Split, parse_config
from tlpot.data.check import check_frames
from tlpot.data.select import farthest, worst
from tlpot.data.split import split_frames
from tlpot.evaluation.metrics import metrics
from tlpot.frames import Frame
from tlpot.potential import Potential
from tlpot.run import prepare
from tlpot.sampling import committee, frame_features
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

TEST = 0.25
FLAT = 0.85
"""Last error over first from which a learning curve is called flat."""
CASES: dict[str, dict[str, Any]] = {
    "four crystals": {
        "files": [
            f"x23/{name}/train.traj"
            for name in ("07_co2", "21_urea", "11_formamide", "10_ethylcarbamate")
        ],
        "model": {"base": "mini"},
        "training": {"epochs": 30, "batch_size": 4, "learning_rate": 1e-3},
        "sizes": [20, 40, 60, 80],
    },
    "unlike molecules": {
        "files": ["si_i_molecules/aimnet2_configs.xyz"],
        "keys": {"energy": "REF_energy", "forces": "REF_forces"},
        "model": {"base": "mini"},
        "training": {"epochs": 30, "batch_size": 4, "learning_rate": 1e-3},
        "sizes": [20, 40, 60],
        "strategies": ("random", "committee"),
    },
}
STRATEGIES = ("random", "committee", "farthest")
KEYS = {
    "energy, meV/atom": ENERGY,
    "force, meV/Å, per component": FORCE,
    "force, per vector": VECTOR,
}


@cache
def read_case(name: str, seed: int) -> tuple[list[Frame], list[Frame]]:
    """Pool and test frames."""
    case = CASES[name]
    files = [str(DATA / name) for name in case["files"]]
    split = Split(test=TEST, validation=0.0, seed=seed)
    data = Data(files=files, keys=case.get("keys", {}), bad_frames="drop", split=split)
    base = load(case["model"]["base"])
    frames = check_frames(read_frames(files, data.keys), data, base.elements).frames
    parts = split_frames(frames, split)
    return [frames[i] for i in parts.train], [frames[i] for i in parts.test]


def measure(given: argparse.Namespace) -> Iterator[Results]:
    results = STUDY.committed(given) or {"cases": {}}
    for name in given.cases:
        for seed in given.seeds:
            entry = results["cases"].setdefault(name, {}).setdefault(str(seed), {})
            start = None
            for strategy in CASES[name].get("strategies", STRATEGIES):
                if strategy not in entry:
                    rows = learn(name, strategy, seed, start)
                    start = rows[0]
                    entry[strategy] = [
                        {k: v for k, v in row.items() if k != "model"} for row in rows
                    ]
                    yield results
    yield results


def train(case: Mapping[str, Any], frames: list[Frame], elements: set[str], seed: int) -> Potential:
    """The base fine-tuned on `frames`, none held out."""
    config = parse_config(
        {
            "data": {
                "files": IN_MEMORY,
                "split": {"test": 0.0, "validation": 0.0},
                "bad_frames": "drop",
            },
            "model": case["model"],
            "training": {**case["training"], "seed": seed, "device": "cpu"},
        }
    )
    potential = prepare(config, frames).potential.for_elements(elements)
    batches = [potential.batch([frame]) for frame in frames]
    task = PotentialTask(potential, batches, [], config.training)
    with TemporaryDirectory() as folder:
        Trainer(task, config.training, Path(folder), NoCheckpoints()).fit()
    return potential


def learn(
    name: str, strategy: str, seed: int, start: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Errors on the test frames at every size, with the model; `start` is the first if known."""
    pool, test = read_case(name, seed)
    case = CASES[name]
    sizes = case["sizes"]
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    chosen = order[: sizes[0]]
    rows = [dict(start or judge(case, pool, test, chosen, seed))]
    for size in sizes[1:]:
        left = [i for i in order if i not in chosen]
        number = size - len(chosen)
        if strategy == "random":
            chosen = chosen + left[:number]
        elif strategy == "committee":
            scores = committee(rows[-1]["model"], [pool[i] for i in left])
            chosen = chosen + [left[i] for i in worst(scores, number)]
        else:
            base = load(case["model"]["base"])
            features = frame_features(base, pool)
            chosen = chosen + farthest(features, number, chosen)
        rows.append(judge(case, pool, test, chosen, seed))
        print(strategy, seed, {k: v for k, v in rows[-1].items() if k != "model"}, flush=True)
    return rows


def judge(
    case: Mapping[str, Any], pool: list[Frame], test: list[Frame], chosen: list[int], seed: int
) -> dict[str, Any]:
    """A model trained on the chosen frames, its errors, and whether its spread tells the error."""
    elements = {symbol for frame in (*pool, *test) for symbol in frame.atoms.symbols}
    model = train(case, [pool[i] for i in chosen], elements, seed)
    found = metrics(test, model.predict(test))
    rest = [frame for i, frame in enumerate(pool) if i not in chosen]
    errors = [
        abs(p.energy - (f.energy or 0.0)) / len(f) ** 0.5
        for p, f in zip(model.predict(rest), rest, strict=True)
    ]
    known = float(spearmanr(committee(model, rest), errors)[0])
    row = {"frames": len(chosen), "model": model, "spearman": known}
    return row | {key: found[key] for key in KEYS.values()}


def values(seeds: Mapping[str, Any], strategy: str, key: str) -> np.ndarray:
    """``(seeds, sizes)``"""
    return np.array([[row[key] for row in s[strategy]] for s in seeds.values() if strategy in s])


def gain(seeds: Mapping[str, Any], strategy: str, key: str) -> np.ndarray:
    """``(seeds,)`` percent by which the error is below random's, mean over sizes but the first."""
    done = {k: s for k, s in seeds.items() if strategy in s and "random" in s}
    ratio = values(done, strategy, key) / values(done, "random", key)
    return 100 * (1 - ratio[:, 1:].mean(axis=1))


def page(results: Results) -> str:
    return fill(
        __file__,
        intro=str(__doc__).partition("\n\n")[2],
        cases=[line for name, seeds in results["cases"].items() for line in case(name, seeds)],
        machine=machine_lines(results["machine"]),
    )


def case(name: str, seeds: Results) -> list[str]:
    """The section of one pool."""
    done = [s for s in STRATEGIES if any(s in entry for entry in seeds.values())]
    settings = CASES[name]
    rows = [
        [what, strategy, *cells(values(seeds, strategy, key))]
        for what, key in KEYS.items()
        for strategy in done
    ]
    recipe = ", ".join(f"{k} {v}" for k, v in {**settings["model"], **settings["training"]}.items())
    lines = [
        f"## {name}",
        "",
        f"RMSE on the test frames, mean ± standard deviation of {len(seeds)} seeds (of split, "
        f"start and training); {recipe}.",
        "",
        *table(["error", "strategy", *(f"{n} frames" for n in settings["sizes"])], rows),
        "",
    ]
    for strategy in done[1:]:
        energy, force = (gain(seeds, strategy, key) for key in (ENERGY, FORCE))
        lines.append(
            f"- **{strategy}**: at equal numbers the energy RMSE is {lower(energy)} and the "
            f"force RMSE {lower(force)} than random's; mean over sizes after the first."
        )
    energy = values(seeds, "random", ENERGY).mean(axis=0)
    if energy[-1] > FLAT * energy[0]:
        lines.append(
            "- More frames hardly help here whoever picks them: this base and recipe cannot "
            "learn these labels, so the comparison says little."
        )
    known = values(seeds, "random", "spearman")[:, 0]
    return [
        *lines,
        "- Spread per √N and |ΔE|/√N of the frames not yet picked, first round: Spearman "
        f"correlation {known.mean():.2f}.",
        "",
    ]


def cells(errors: np.ndarray) -> list[str]:
    digits = 1 if errors.mean() < 100 else 0
    pairs = zip(errors.mean(0), errors.std(0), strict=True)
    return [f"{mean:.{digits}f} ± {std:.{digits}f}" for mean, std in pairs]


def lower(percent: np.ndarray) -> str:
    each = ", ".join(f"{-p:+.0f}" for p in percent)
    mean = percent.mean()
    return f"{abs(mean):.0f} % {'lower' if mean >= 0 else 'higher'} (by seed {each} %)"


def draw(results: Results) -> Figure:
    """Learning curves, one row a pool: mean over seeds, band of one standard deviation."""
    cases = results["cases"]
    figure = Figure(figsize=(8, 3.2 * len(cases)))
    axes = figure.subplots(len(cases), 2, squeeze=False)
    labels = {ENERGY: "energy RMSE, meV/atom", FORCE: "force RMSE, meV/Å per component"}
    for row, (name, seeds) in zip(axes, cases.items(), strict=True):
        for axis, (key, label) in zip(row, labels.items(), strict=True):
            for strategy in [s for s in STRATEGIES if all(s in entry for entry in seeds.values())]:
                errors, sizes = values(seeds, strategy, key), CASES[name]["sizes"]
                mean, std = errors.mean(0), errors.std(0)
                axis.plot(sizes, mean, "o-", label=strategy, markersize=4)
                axis.fill_between(sizes, mean - std, mean + std, alpha=0.15)
            axis.set(xlabel="training frames", title=name, ylabel=label)
            axis.legend(frameon=False)
    figure.tight_layout()
    return figure


STUDY = Study(__file__, __doc__, page, draw, seeds=[0, 1, 2], dpi=130)
STUDY.options.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))

if __name__ == "__main__":
    STUDY.main(measure)
