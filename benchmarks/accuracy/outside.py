"""Does a model say where it does not know its way: by spread, by descriptors, by either?

ANI-2x (``--members`` of it, ``--epochs`` of the default recipe) is fine-tuned on one crystal of
``$TLPOT_DATA/x23`` each and asked of its own test frames, of frames of all other crystals, and of
its own test frames made nonsense of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.accuracy.uncertainty import auroc, crystals, others
from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.runs import parts_of, trained, with_members
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import full_base
from tlpot import load
from tlpot.config.run import parse_config
from tlpot.model.domain import DOUBT
from tlpot.model.potential import Potential
from tlpot.structure.contacts import shortest_contacts
from tlpot.structure.frames import Frame

CRYSTALS = (
    *("02_acetic_acid", "05_anthracene", "06_benzene", "07_co2", "08_cyanamide"),
    *("11_formamide", "18_triazine", "21_urea"),
)
FOREIGN = 4
"""Frames of each other crystal."""
CHANGED = 8
"""Own test frames that are changed."""
NEAREST = 0.9
"""Å between atoms put at random: nearer ones are refused before a model is asked."""


def _scaled(factor: float) -> Callable[[Atoms, np.random.Generator], Atoms]:
    def change(atoms: Atoms, random: np.random.Generator) -> Atoms:
        atoms.set_cell(atoms.cell * factor, scale_atoms=True)
        return atoms

    return change


def _removed(atoms: Atoms, random: np.random.Generator) -> Atoms:
    del atoms[int(random.choice(_places(atoms)))]
    return atoms


def _added(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """An atom like the others at 1.0 Å of one, where there is most room."""
    ways = random.normal(size=(200, 3))
    heavy = int(random.integers(len(atoms)))
    places = atoms.positions[heavy] + ways / np.linalg.norm(ways, axis=1, keepdims=True)
    room = []
    for place in places:
        new = atoms + Atoms(_light(atoms), [place])
        distances = new.get_distances(len(atoms), range(len(atoms)), mic=True)
        room.append(np.sort(distances)[1])
    return atoms + Atoms(_light(atoms), [places[int(np.argmax(room))]])


def _stretched(factor: float) -> Callable[[Atoms, np.random.Generator], Atoms]:
    def change(atoms: Atoms, random: np.random.Generator) -> Atoms:
        end = int(random.choice(_places(atoms)))
        near = int(np.argsort(atoms.get_distances(end, range(len(atoms)), mic=True))[1])
        atoms.set_distance(near, end, factor * atoms.get_distance(near, end, mic=True), 0, mic=True)
        return atoms

    return change


def _rattled(atoms: Atoms, random: np.random.Generator) -> Atoms:
    atoms.positions += random.normal(scale=0.15, size=(len(atoms), 3))
    return atoms


def _random(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """The same atoms in the same cell, one after the other where there is room."""
    packed = atoms[:0]
    for symbol in atoms.symbols:
        while True:
            new = packed + Atoms(symbol, [random.random(3) @ atoms.cell.array])
            near = shortest_contacts([new])
            if not near or min(near.values()) > NEAREST:
                break
        packed = new
    return packed


def _light(atoms: Atoms) -> str:
    return "H" if "H" in atoms.symbols else str(atoms.symbols[-1])


def _places(atoms: Atoms) -> np.ndarray:
    return np.flatnonzero(np.array(atoms.symbols) == _light(atoms))


CASES: dict[str, Callable[[Atoms, np.random.Generator], Atoms]] = {
    "lengths × 0.8": _scaled(0.8),
    "lengths × 0.9": _scaled(0.9),
    "lengths × 1.1": _scaled(1.1),
    "lengths × 1.3": _scaled(1.3),
    "lengths × 2": _scaled(2.0),
    "one bond × 1.4": _stretched(1.4),
    "one bond × 2": _stretched(2.0),
    "atoms moved by 0.15 Å (RMS of a component)": _rattled,
    "one hydrogen less": _removed,
    "one hydrogen more": _added,
    "the atoms at random": _random,
}


def measure(given: argparse.Namespace) -> Iterator[Results]:
    base = with_members("ani2x", given.members, given.runs)
    results: Results = {"members": given.members, "epochs": given.epochs, "runs": []}
    for crystal in given.crystals:
        config = full_base(crystal, epochs=given.epochs)
        config = config | {"model": {"base": base}, "output": str(given.runs / "outside" / crystal)}
        folder = trained(given.runs / "outside" / crystal, config)
        parts = parts_of(parse_config(config))
        potential = load(folder)
        own = parts["test"]
        foreign = others(crystal, 0, FOREIGN)
        entry = {
            "crystal": crystal,
            "validation": len(parts["validation"]),
            "own": scores(potential, [frame.atoms for frame in own]),
            "crystals": [frame.kind == "crystal" for frame in own],
            "foreign": scores(potential, [frame.atoms for frame in foreign]),
            "from": [Path(frame.source).parent.name for frame in foreign],
            "cases": cases(potential, crystals(own)[:CHANGED]),
        }
        results["runs"].append(entry)
        print(crystal, flush=True)
        yield results


def cases(potential: Potential, frames: list[Frame]) -> Results:
    """Frames with one change each."""
    made = {}
    for name, change in CASES.items():
        random = np.random.default_rng(0)
        atoms = [change(Atoms(frame.atoms), random) for frame in frames]
        made[name] = scores(potential, atoms)
    return made


def scores(potential: Potential, structures: list[Atoms]) -> Results:
    """Spread over what is allowed, and distance over what is usual, of each: flagged above one."""
    domain = potential.domain
    batches = [potential.batch([Frame(atoms)]) for atoms in structures]
    spreads = [
        prediction.energy_std / np.sqrt(len(atoms)) / (DOUBT * domain.spread)
        for prediction, atoms in zip(potential.predict_batches(batches), structures, strict=True)
    ]
    distances = [float(domain.distances(atoms).max()) for atoms in structures]
    return {
        "spread": [round(float(value), 4) for value in spreads],
        "density": [round(min(value, 1e6), 4) for value in distances],
    }


def either(entry: Results) -> np.ndarray:
    return np.maximum(entry["spread"], entry["density"])


WAYS: dict[str, Callable[[Results], np.ndarray]] = {
    "spread": lambda entry: np.array(entry["spread"]),
    "density": lambda entry: np.array(entry["density"]),
    "either": either,
}


def page(results: Results) -> str:
    runs = results["runs"]
    return fill(
        __file__,
        members=results["members"],
        epochs=results["epochs"],
        foreign=FOREIGN,
        changed=CHANGED,
        doubt=f"{DOUBT:g}",
        crystals=table(
            ["crystal", "validation frames", *(f"own flagged by {way}" for way in WAYS)]
            + [f"foreign flagged by {way}" for way in WAYS]
            + [f"AUROC by {way}" for way in WAYS],
            [*map(_row, runs), _mean(runs)],
        ),
        missed=_missed(runs),
        cases=table(
            ["own frames with", *(f"flagged by {way}" for way in WAYS), "median distance"],
            [_case(name, runs) for name in CASES],
        ),
        machine=machine_lines(results["machine"]),
    )


def _figures(run: Results) -> list[list[float]]:
    own_crystals = np.array(run["crystals"])
    own = [np.mean(way(run["own"]) > 1) for way in WAYS.values()]
    foreign = [np.mean(way(run["foreign"]) > 1) for way in WAYS.values()]
    areas = [auroc(way(run["foreign"]), way(run["own"])[own_crystals]) for way in WAYS.values()]
    return [own, foreign, areas]


def _row(run: Results) -> list[str]:
    own, foreign, areas = _figures(run)
    count = len(run["crystals"])
    return [
        run["crystal"],
        str(run["validation"]),
        *(f"{round(share * count)}/{count}" for share in own),
        *(f"{share:.1%}" for share in foreign),
        *(f"{area:.3f}" for area in areas),
    ]


def _mean(runs: list[Results]) -> list[str]:
    own, foreign, areas = np.mean([_figures(run) for run in runs], axis=0)
    shares = [f"**{share:.1%}**" for share in (*own, *foreign)]
    return ["mean", "", *shares, *(f"**{area:.3f}**" for area in areas)]


def _missed(runs: list[Results]) -> str:
    """Pairs of crystals whose frames none of the two flags."""
    missed = []
    for run in runs:
        inside = either(run["foreign"]) <= 1
        names = [name for name, passed in zip(run["from"], inside, strict=True) if passed]
        missed += [
            f"{name} under {run['crystal']} ({names.count(name)} of {FOREIGN})"
            for name in sorted(set(names))
        ]
    return "; ".join(missed) or "none"


def _case(name: str, runs: list[Results]) -> list[str]:
    flagged = [np.concatenate([way(run["cases"][name]) for run in runs]) for way in WAYS.values()]
    distances = np.concatenate([run["cases"][name]["density"] for run in runs])
    counts = [f"{np.count_nonzero(values > 1)}/{len(values)}" for values in flagged]
    return [name, *counts, f"{np.median(distances):.2g}"]


STUDY = Study(__file__, __doc__, page)
STUDY.options.add_argument("--crystals", nargs="+", default=CRYSTALS, help="of X23")
STUDY.options.add_argument("--members", type=int, default=2, help="of ANI-2x's eight networks")
STUDY.options.add_argument("--epochs", type=int, default=6, help="of fine-tuning")

if __name__ == "__main__":
    STUDY.main(measure)
