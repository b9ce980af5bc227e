"""SchNet on QM9 until it levels off: the four hypotheses of Tibau Terma 2023.

RI-MP2 total energies of 10,000 molecules of QM9 (``$TLPOT_DATA/seeds/qm9_mp2_10k.npz``): 1,500 of
each seed's shuffle are the test, the others train. Every variant sees as many molecules, each time
counted. Stopped trainings go on where they were, finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean

import numpy as np
from ase import Atoms
from ase.units import Hartree
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MultipleLocator
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine, machine_lines
from benchmarks.lib.page import fill, spread, table
from benchmarks.lib.runs import trained
from benchmarks.lib.study import Results, Study
from tlpot import load
from tlpot.structure.frames import Frame

ELEMENTS = ("H", "C", "N", "O")
HELD_OUT, LARGE = 1500, 17
SIZES = range(10, 26)
"""Numbers of atoms that the original looks at."""
PER_SIZE = 350
"""Molecules of a size, at most, where sizes are balanced."""
GROUPS = {"all": (0, 99), "≤ 13": (0, 13), "14–17": (14, 17), "18–20": (18, 20), "≥ 21": (21, 99)}
NETWORK = {"cutoff": 5.0, "features": 38, "interactions": 3, "gaussians": 25, "members": 1}
SPLIT = {"test": 0.0, "validation": 0.06}
TRAINING = {
    **{"lambda": 0.0, "fit": "mean", "stress_weight": 0.0, "size_exponent": 0.0},
    **{"batch_size": 32, "learning_rate": 2e-3, "warmup_epochs": 1, "device": "cpu"},
}
"""MSE of the total energy, eV², as SchNetPack trains on QM9."""
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Of the epochs, whose validation errors the page states."""


@cache
def molecules() -> list[Frame]:
    """All molecules with their RI-MP2 energies."""
    path = Path(os.environ["TLPOT_DATA"]) / "seeds" / "qm9_mp2_10k.npz"
    with np.load(path) as file:
        data = {name: file[name] for name in file}
    ends = np.cumsum(data["n_atoms"])[:-1]
    parts = np.split(data["Z"], ends), np.split(data["R"], ends), data["E_MP2_Ha"] * Hartree
    return [
        Frame(Atoms(z, places), float(energy), source=str(path), index=i, labels="energy")
        for i, (z, places, energy) in enumerate(zip(*parts, strict=True))
    ]


def weighted(frames: Sequence[Frame]) -> list[Frame]:
    """With the original's weights by size, v = (s - 7)^r / 10^(r + 1) + 1 for r = 10."""
    return [replace(frame, weight=(len(frame) - 7.0) ** 10 / 1e11 + 1.0) for frame in frames]


def balanced(frames: Sequence[Frame]) -> list[Frame]:
    """No more than `PER_SIZE` of each size."""
    seen: dict[int, int] = {}
    kept = []
    for frame in frames:
        seen[len(frame)] = seen.get(len(frame), 0) + 1
        if seen[len(frame)] <= PER_SIZE:
            kept.append(frame)
    return kept


def as_many(frames: Sequence[Frame]) -> list[Frame]:
    """As many as `balanced` has, at random."""
    return list(frames[: len(balanced(frames))])


def large(frames: Sequence[Frame]) -> list[Frame]:
    """Of more than `LARGE` atoms."""
    return [frame for frame in frames if len(frame) > LARGE]


VARIANTS: Mapping[str, Callable[[Sequence[Frame]], list[Frame]]] = {
    "default": list,
    "size, r = 10": weighted,
    "balanced": balanced,
    "as many at random": as_many,
    f"only > {LARGE} atoms": large,
}
"""What a training takes of the molecules that do not test it."""


def parts(seed: int) -> tuple[list[Frame], list[Frame]]:
    """Molecules to train on, in random order, and the test."""
    frames = molecules()
    order = np.random.default_rng(seed).permutation(len(frames)).tolist()
    shuffled = [frames[i] for i in order]
    return shuffled[:-HELD_OUT], shuffled[-HELD_OUT:]


def run(name: str, seed: int, epochs: int, folder: Path) -> Results:
    """Train one network and judge it."""
    pool, test = parts(seed)
    chosen, about = VARIANTS[name](pool), machine()
    config = {
        "data": {"files": [test[0].source], "split": {**SPLIT, "seed": seed}},
        "model": {"base": "schnet", "schnet": NETWORK, "init": "scratch"},
        "training": {**TRAINING, "epochs": round(epochs * len(pool) / len(chosen)), "seed": seed},
    }
    here = trained(folder, config, chosen)
    predictions = load(here).predict([frame.atoms for frame in test])
    history = np.genfromtxt(here / "history.csv", delimiter=",", names=True)
    return {
        "variant": name,
        "seed": seed,
        "epochs": config["training"]["epochs"],
        "machine": about,
        "molecules": len(chosen),
        "sizes": np.bincount([len(frame) for frame in chosen], minlength=40).tolist(),
        "test_sizes": [len(frame) for frame in test],
        "test_atoms": {e: [f.atoms.symbols.count(e) for f in test] for e in ELEMENTS},
        "atoms": {e: sum(f.atoms.symbols.count(e) for f in chosen) for e in ELEMENTS},
        "errors_meV": [
            round(1e3 * (p.energy - f.energy), 2) for p, f in zip(predictions, test, strict=True)
        ],
        "validation_meV_per_atom": history["validation_energy_rmse_meV_per_atom"].tolist(),
        "seconds": float(history["seconds"][-1]),
    }


def measure(given: argparse.Namespace) -> Iterator[Results]:
    """The default of every seed first: two hypotheses need nothing else."""
    wanted = {}
    for name in given.only:
        for seed in given.seeds:
            kept = f"{list(VARIANTS).index(name)}-{given.epochs}-{seed}"
            work = partial(run, name, seed, given.epochs, given.runs / given.name / kept)
            wanted[kept] = {"variant": name, "seed": seed}, work
    yield from STUDY.answers(given, {"epochs": given.epochs, "network": NETWORK}, wanted)


def page(results: Results) -> str:
    """All figures."""
    runs = results["runs"]
    default = [row for row in runs if row["variant"] == "default"]
    epochs = len(default[0]["validation_meV_per_atom"])
    chosen = sorted({max(round(share * epochs), 1) for share in SHARES})
    curve = [
        [epoch, spread((row["validation_meV_per_atom"][epoch - 1] for row in default), ".1f")]
        for epoch in chosen
    ]
    return fill(
        __file__,
        network=", ".join(f"{key} {value}" for key, value in results["network"].items()),
        molecules=f"{default[0]['molecules']:,}",
        test=len(default[0]["errors_meV"]),
        epochs=epochs,
        seeds=", ".join(str(row["seed"]) for row in default),
        open=_open(runs),
        hypotheses=table(["hypothesis", "here", "by"], _hypotheses(runs)),
        curve=table(["epoch", "validation RMSE, meV/atom"], curve),
        mse=spread((1e-6 * float(np.mean(_errors(row) ** 2)) for row in default), ".4f"),
        rmse=spread((1e-3 * float(np.mean(_errors(row) ** 2)) ** 0.5 for row in default), ".3f"),
        variants=table(["trained on", "molecules", "seeds", *GROUPS], _variants(runs)),
        elements=table(["element", "atoms to train on", "MAE, meV/atom"], _elements(default)),
        minutes=spread((row["seconds"] / 60 for row in runs), ".0f"),
        machine=machine_lines(results["machine"]),
    )


def _open(runs: list[Results]) -> str:
    wanted = len(VARIANTS) * len({row["seed"] for row in runs})
    return f"So far {len(runs)} of {wanted} trainings." if len(runs) < wanted else ""


def _errors(row: Results, low: int = 0, high: int = 99) -> np.ndarray:
    """meV, of test molecules of so many atoms."""
    sizes = np.array(row["test_sizes"])
    return np.array(row["errors_meV"])[(sizes >= low) & (sizes <= high)]


def _mae(row: Results, low: int = 0, high: int = 99) -> float:
    return float(np.abs(_errors(row, low, high)).mean())


def _hypotheses(runs: list[Results]) -> Iterator[list[str]]:
    default = [row for row in runs if row["variant"] == "default"]
    by_frequency = [_by_frequency(row) for row in default]
    yield [
        "errors fall with the frequency of a size",
        _sign([value + 0.5 for value in by_frequency]),
        f"Spearman {spread(by_frequency)} over {len(SIZES)} sizes; below -0.5 in every seed: holds",
    ]
    falling = [_by_element(row) for row in default]
    yield [
        "rarer elements have larger errors",
        _sign([-1.0 if all(np.diff(list(maes.values())) > 0) else 1.0 for maes in falling]),
        "meV/atom: "
        + ", ".join(f"{e} {fmean(maes[e] for maes in falling):.1f}" for e in falling[0]),
    ]
    for question, name, against in (
        ("balancing sizes helps large molecules", "balanced", "as many at random"),
        ("weights by size, r = 10, help them", "size, r = 10", "default"),
        ("training on large molecules alone helps them", f"only > {LARGE} atoms", "default"),
    ):
        changes = _changes(runs, name, against)
        if changes:
            each = ", ".join(f"{change:+.0f}" for change in changes)
            by = (
                f"MAE from {LARGE + 1} atoms on {fmean(changes):+.0f} % ({each}), against {against}"
            )
            yield [question, _sign(changes), by]


def _by_frequency(row: Results) -> float:
    there = set(row["test_sizes"])
    sizes = [size for size in SIZES if row["sizes"][size] and size in there]
    maes = [_mae(row, size, size) for size in sizes]
    return float(spearmanr([row["sizes"][size] for size in sizes], maes).statistic)


def _by_element(row: Results) -> dict[str, float]:
    """MAE an atom of the test molecules, weighted by atoms of each element, commonest first."""
    per_atom = np.abs(_errors(row)) / np.array(row["test_sizes"])
    common = sorted(ELEMENTS, key=lambda element: -row["atoms"][element])
    return {e: float(np.average(per_atom, weights=row["test_atoms"][e])) for e in common}


def _changes(runs: list[Results], name: str, against: str) -> list[float]:
    """Of the MAE of large molecules, %, by seed where both ran."""
    maes = {(row["variant"], row["seed"]): _mae(row, LARGE + 1) for row in runs}
    both = [seed for variant, seed in maes if variant == name and (against, seed) in maes]
    return [100 * (maes[name, seed] / maes[against, seed] - 1) for seed in both]


def _sign(values: Sequence[float]) -> str:
    """Whether three seeds agree that a hypothesis, which holds below zero, does."""
    if len(values) < 3:
        return "open: too few seeds"
    if max(values) < 0:
        return "holds"
    return "does not hold" if min(values) > 0 else "undecided"


def _variants(runs: list[Results]) -> Iterator[list[str]]:
    for name in VARIANTS:
        if own := [row for row in runs if row["variant"] == name]:
            maes = [spread((_mae(row, *group) for row in own), ".0f") for group in GROUPS.values()]
            yield [name, f"{own[0]['molecules']:,}", str(len(own)), *maes]


def _elements(default: list[Results]) -> Iterator[list[str]]:
    by_element = [_by_element(row) for row in default]
    for element in by_element[0]:
        atoms = fmean(row["atoms"][element] for row in default)
        yield [element, f"{atoms:,.0f}", spread((maes[element] for maes in by_element), ".1f")]


def draw(results: Results) -> Figure:
    """Validation error by epoch; errors by size over how many there are to train on."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in results["runs"]:
        if row["variant"] == "default":
            curve = row["validation_meV_per_atom"]
            left.plot(range(1, len(curve) + 1), curve, label=row["seed"])
    left.set(xlabel="epoch", ylabel="validation RMSE, meV/atom", yscale="log")
    left.yaxis.set_major_formatter(LogFormatter())
    left.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2.0, 0.5)))
    left.legend(title="seed", fontsize="small")
    behind = right.twinx()
    numbers = results["runs"][0]["sizes"][SIZES.start : SIZES.stop]
    behind.bar(SIZES, numbers, color="0.88")
    behind.set(ylabel="training molecules (bars)", ylim=(0, 2 * max(numbers)))
    right.set_zorder(behind.get_zorder() + 1)
    right.patch.set_visible(False)
    for name in VARIANTS:
        if own := [row for row in results["runs"] if row["variant"] == name]:
            maes = [fmean(_mae(row, size, size) for row in own) for size in SIZES[3:]]
            right.plot(SIZES[3:], maes, "o-", ms=3, label=name)
    right.set(xlabel="atoms in the molecule", ylabel="MAE, meV", ylim=(0, None))
    right.xaxis.set_major_locator(MultipleLocator(2))
    right.legend(fontsize="small")
    return figure


STUDY = Study(__file__, __doc__, page, draw, seeds=[0, 1, 2], have_only=True)
STUDY.options.add_argument("--epochs", type=int, default=200, help="of all molecules")
STUDY.options.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))

if __name__ == "__main__":
    STUDY.main(measure)
