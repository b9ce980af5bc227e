"""Does a network of elemental modes know chlorine without having seen it? After Herr et al. 2019.

10,000 molecules of QM9 (``$TLPOT_DATA/seeds/qm9_mp2_10k.npz``), in which atoms are exchanged so
that they hold eleven elements, labelled by GFN1-xTB (tblite). One network learns from molecules
with and without Cl, another from those without alone; both are judged on the same molecules that
hold Cl. Stopped trainings go on where they were, finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.data import covalent_radii
from ase.neighborlist import natural_cutoffs, neighbor_list
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine, machine_lines
from benchmarks.lib.page import fill, spread, table
from benchmarks.lib.runs import trained
from benchmarks.lib.study import Results, Study
from tlpot import load, read_frames
from tlpot.backbones.emodes import Architecture, EModes
from tlpot.data.write import write_frames
from tlpot.model.load import load_base
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame
from tlpot.structure.units import KCAL_PER_MOL

NEW, NEIGHBOURS = "Cl", ("F", "Br")
"""The element that is left out, and those whose mean reference energy stands in for its own."""
ELECTRONS = {"H": 1, "C": 2, "N": 3, "O": 2, "F": 1, "Si": 2, "P": 3, "S": 2, NEW: 1, "Br": 1}
"""Unpaired in a free atom."""
ELECTRONS["I"] = 1
HALOGENS = ("F", NEW, "Br", "I")
HEAVIER = {"C": "Si", "N": "P", "O": "S"}
SHARES = {"H": 0.06, "heavy": 0.25}
"""Of the hydrogens that become halogens, and of the ends of chains that become heavier."""
STRAIN = 6.0
"""eV/Å: molecules with a larger force, where what was exchanged has no room, are left out."""
HELD_OUT = 400
"""Test molecules with Cl, and as many without."""
DRAWN = np.arange(-45.0, 46.0, 3.0)
"""Edges of the histogram, kcal/mol."""
SETS = {"with Cl": True, "without Cl": False}


def molecules() -> Iterator[Atoms]:
    """QM9's geometries."""
    with np.load(Path(os.environ["TLPOT_DATA"]) / "seeds" / "qm9_mp2_10k.npz") as data:
        ends = np.cumsum(data["n_atoms"])[:-1]
        parts = np.split(data["Z"], ends), np.split(data["R"], ends)
    for numbers, positions in zip(*parts, strict=True):
        yield Atoms(numbers, positions)


def exchanged(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """The molecule with some hydrogens as halogens, and some ends of its chains a period lower.

    Each new bond is as much longer as its covalent radii are.
    """
    atoms = atoms.copy()
    near: dict[int, list[int]] = {i: [] for i in range(len(atoms))}
    for i, j in zip(*neighbor_list("ij", atoms, natural_cutoffs(atoms, 1.15)), strict=True):
        near[i].append(j)
    symbols = list(atoms.symbols)
    for i, symbol in enumerate(symbols):
        heavy = [j for j in near[i] if symbols[j] != "H"]
        light = [j for j in near[i] if symbols[j] == "H"]
        if len(heavy) != 1 or random.random() > SHARES["H" if symbol == "H" else "heavy"]:
            continue
        new = random.choice(HALOGENS) if symbol == "H" else HEAVIER.get(symbol)
        if new is not None:
            _put(atoms, i, str(new), heavy[0], light)
    return atoms


def _put(atoms: Atoms, i: int, new: str, parent: int, light: Sequence[int]) -> None:
    """Exchange atom `i`, bonded to its `parent` and to `light` atoms that move along."""
    bonded = [parent, *light]
    before = {j: _radii(atoms, i, j) for j in bonded}
    atoms.symbols[i] = new
    stretch = {j: _radii(atoms, i, j) / before[j] for j in bonded}
    old = atoms.positions[i].copy()
    away = old - atoms.positions[parent]
    atoms.positions[i] = atoms.positions[parent] + stretch[parent] * away
    for j in light:
        atoms.positions[j] = atoms.positions[i] + stretch[j] * (atoms.positions[j] - old)


def _radii(atoms: Atoms, i: int, j: int) -> float:
    return float(covalent_radii[atoms.numbers[[i, j]]].sum())


def label() -> list[Frame]:
    """Energies against free atoms, and forces."""
    from tblite.ase import TBLite

    def calculator(unpaired: int = 0) -> TBLite:
        return TBLite(method="GFN1-xTB", verbosity=0, multiplicity=unpaired + 1)

    free = {}
    for symbol, unpaired in ELECTRONS.items():
        atom = Atoms(symbol, calculator=calculator(unpaired))
        free[symbol] = atom.get_potential_energy()
    random, frames = np.random.default_rng(0), []
    for i, start in enumerate(molecules()):
        atoms = exchanged(start, random)
        bare = atoms.copy()
        atoms.calc = calculator()
        try:
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        except CalculationFailed:
            continue
        if np.linalg.norm(forces, axis=1).max() < STRAIN:
            bound = energy - sum(free[symbol] for symbol in atoms.symbols)
            frames.append(Frame(bare, bound, forces, info={"molecule": i}))
    return frames


def labelled(folder: Path) -> list[Frame]:
    """All frames, from the folder if they are there."""
    file = folder / "molecules.extxyz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_frames(file, label())
    return read_frames([str(file)])


def parts(frames: Sequence[Frame], seed: int) -> dict[str, list[Frame]]:
    """Frames to train on, by what they hold, and the two test sets."""
    order = np.random.default_rng(seed).permutation(len(frames))
    new = [frames[i] for i in order if NEW in frames[i].atoms.symbols]
    others = [frames[i] for i in order if NEW not in frames[i].atoms.symbols]
    return {
        "test": new[:HELD_OUT],
        "test without": others[:HELD_OUT],
        "with Cl": new[HELD_OUT:] + others[HELD_OUT:],
        "without Cl": others[HELD_OUT:],
    }


def run(name: str, seed: int, epochs: int, folder: Path) -> Results:
    """Train one network and judge it."""
    sets, about = parts(labelled(folder), seed), machine()
    base = folder / "base.safetensors"
    if not base.exists():
        network = EModes(Architecture.new(members=1)).requires_grad_(False)
        Potential(network, load_base("emodes").reference).save(base)
    config = {
        "data": {"files": [str(folder / "molecules.extxyz")], "split": SPLIT | {"seed": seed}},
        "model": {"base": str(base), "init": "scratch"},
        "training": {**TRAINING, "epochs": epochs, "seed": seed},
    }
    here = trained(folder / f"{name.replace(' ', '-')}-{epochs}-{seed}", config, sets[name])
    potential = load(here)
    if not SETS[name]:
        potential = _with_reference(potential)
    errors = {}
    for test in ("test", "test without"):
        frames = sets[test]
        predictions = potential.predict(frames)
        pairs = zip(predictions, frames, strict=True)
        errors[test] = [round((p.energy - f.energy) / KCAL_PER_MOL, 4) for p, f in pairs]
    history = np.genfromtxt(here / "history.csv", delimiter=",", names=True)
    return {
        "set": name,
        "seed": seed,
        "epochs": epochs,
        "machine": about,
        "frames": len(sets[name]),
        "atomisation": [round(-f.energy / KCAL_PER_MOL, 1) for f in sets["test"]],
        "errors": errors,
        "validation_meV_per_atom": history["validation_energy_rmse_meV_per_atom"].tolist(),
        "seconds": float(history["seconds"][-1]),
    }


SPLIT = {"test": 0.0, "validation": 0.05}
TRAINING = {"batch_size": 32, "learning_rate": 2e-3, "device": "cpu", "stress_weight": 0.0}


def _with_reference(potential: Potential) -> Potential:
    """With a reference energy of Cl, of which nothing was seen: the mean of its neighbours'."""
    reference = potential.reference
    values = reference.values | {NEW: fmean(reference.values[s] for s in NEIGHBOURS)}
    return Potential(potential.backbone, replace(reference, values=values))


def measure(given: argparse.Namespace) -> Iterator[Results]:
    """Seed by seed, both sets."""
    here = given.runs / given.name
    wanted = {
        f"{name.replace(' ', '-')}-{given.epochs}-{seed}": (
            {"set": name, "seed": seed},
            partial(run, name, seed, given.epochs, here),
        )
        for seed in given.seeds
        for name in SETS
    }
    yield from STUDY.answers(given, {"epochs": given.epochs, "training": TRAINING}, wanted)


def page(results: Results) -> str:
    """All figures."""
    runs = results["runs"]
    rows = [
        [f"trained {name}", f"{own[0]['frames']:,}", *_errors(own, "test"), *_mae_without(own)]
        for name in SETS
        if (own := [row for row in runs if row["set"] == name])
    ]
    first = runs[0]
    energies = np.array(first["atomisation"])
    guessed = energies - energies.mean()
    return fill(
        __file__,
        epochs=results["epochs"],
        test=len(energies),
        seeds=", ".join(sorted({str(row["seed"]) for row in runs})),
        errors=table(
            ["", "frames", "MAE", "RMSE", "mean signed", "spread of errors", "MAE, no Cl"], rows
        ),
        ratio=_ratio(runs),
        spread=f"{guessed.std():.0f}",
        minutes=f"{fmean(row['seconds'] for row in runs) / 60:.0f}",
        machine=machine_lines(results["machine"]),
    )


def _errors(runs: list[Results], test: str) -> list[str]:
    errors = [np.array(row["errors"][test]) for row in runs]
    figures = (
        (abs(e).mean() for e in errors),
        (np.sqrt((e**2).mean()) for e in errors),
        (e.mean() for e in errors),
        (e.std() for e in errors),
    )
    return [spread(map(float, values)) for values in figures]


def _mae_without(runs: list[Results]) -> list[str]:
    return [spread(float(abs(np.array(row["errors"]["test without"])).mean()) for row in runs)]


def _ratio(runs: list[Results]) -> str:
    """MAE of those that never saw Cl over that of the others, seed by seed."""
    maes = {
        (row["set"], row["seed"]): float(abs(np.array(row["errors"]["test"])).mean())
        for row in runs
    }
    both = [seed for name, seed in maes if name == "without Cl"]
    return spread((maes["without Cl", s] / maes["with Cl", s] for s in both), ".1f")


def draw(results: Results) -> Figure:
    """The two distributions of errors, of all seeds."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for name in SETS:
        own = [row["errors"]["test"] for row in results["runs"] if row["set"] == name]
        if own:
            errors = np.concatenate(own)
            axes.hist(errors, DRAWN, density=True, histtype="step", label=f"trained {name}")
    axes.set(xlabel="error on molecules with Cl, kcal/mol", ylabel="density")
    axes.legend(fontsize="small")
    return figure


STUDY = Study(__file__, __doc__, page, draw, seeds=[0, 1, 2], have_only=True)
STUDY.options.add_argument("--epochs", type=int, default=20)

if __name__ == "__main__":
    STUDY.main(measure)
