"""Are wrong labels named, and right ones not? Each fault in 5 % of the frames of a dataset."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import units

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.study import Results, Study
from tlpot.config.data import Data, Keys
from tlpot.data.check import sort_frames
from tlpot.data.find import find_files
from tlpot.data.read import read_file
from tlpot.elements.donors import suggest_donors
from tlpot.model.load import load, load_base
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.structure.units import FORCE_UNITS
from tlpot.trust.gate import opinion_of
from tlpot.trust.geometry import Predict, exchanged, scaled
from tlpot.trust.suspects import Suspect, find_suspects

SHARE = 0.05
DATA = Path(os.environ.get("TLPOT_DATA", "."))
OURS = Path(__file__).parents[2] / "datasets"
X23 = DATA / "x23"
SETS = {
    "urea, PBE": OURS / "urea/urea.extxyz",
    "benzene": X23 / "06_benzene/train.traj",
    "formamide": X23 / "11_formamide/train.traj",
    "succinic acid": X23 / "23_succinic_acid/train.traj",
    "water": DATA / "water/val_water_1000_eVAng.xyz",
    "methylsilane (Si)": OURS / "methylsilane/methylsilane.extxyz",
    "formate on Cu": DATA / "cu_formate/deal_0.05_selected.xyz",
    "molecules": DATA / "si_i_molecules/aimnet2_configs.xyz",
}
FIVE = list(SETS)[:5]
MORE = (
    *(OURS / name for name in ("cuscn/cuscn.extxyz", "iodoform/iodoform.extxyz")),
    DATA / "water/train_30_water_1000_eVAng.xyz",
    DATA / "cu_formate/tests_data_traj.xyz",
    DATA / "janus/mlip_train.xyz",
    *(path for path in sorted(X23.glob("*/train.traj")) if path not in SETS.values()),
)
Fault = Callable[[Frame, np.random.Generator, Sequence[Frame]], Frame]


def _forces(factor: float) -> Fault:
    return lambda frame, random, every: replace(frame, forces=factor * frame.forces)


def _stress(factor: float) -> Fault:
    return lambda frame, random, every: replace(frame, stress=factor * frame.stress)


def _energy(shift: float, per_atom: bool = False) -> Fault:
    def put(frame: Frame, random: np.random.Generator, every: Sequence[Frame]) -> Frame:
        size = len(frame) if per_atom else random.choice([-1, 1])
        return replace(frame, energy=frame.energy + shift * size)

    return put


def _grouped(frame: Frame, random: np.random.Generator, every: Sequence[Frame]) -> Frame:
    order = np.argsort(np.array(frame.atoms.symbols), kind="stable")
    order = order[::-1] if (order == np.arange(len(frame))).all() else order
    return replace(frame, forces=frame.forces[order])


def _within(frame: Frame, random: np.random.Generator, every: Sequence[Frame]) -> Frame:
    symbols, forces = np.array(frame.atoms.symbols), np.array(frame.forces)
    for symbol in sorted(set(symbols)):
        places = np.flatnonzero(symbols == symbol)
        forces[places] = frame.forces[random.permutation(places)]
    return replace(frame, forces=forces)


def _other(frame: Frame, random: np.random.Generator, every: Sequence[Frame]) -> Frame:
    like = [f for f in every if f.formula == frame.formula and f is not frame]
    like = [f for f in like if f.forces is not None]
    other = like[random.integers(len(like))] if like else frame
    return replace(frame, forces=other.forces, energy=other.energy)


def _half(frame: Frame, random: np.random.Generator, every: Sequence[Frame]) -> Frame:
    return replace(frame, forces=frame.forces * (np.arange(len(frame)) % 2)[:, None])


def _swap(frame: Frame, random: np.random.Generator, every: Sequence[Frame]) -> Frame:
    symbols = set(frame.atoms.symbols)
    pairs = [pair for pair in ("NO", "CH", "HO") if set(pair) <= symbols]
    return exchanged(frame, *(pairs[0] if pairs else sorted(symbols)[:2]))


FAULTS: dict[str, Fault] = {
    "forces with the sign flipped": _forces(-1.0),
    "forces in eV/Bohr": _forces(units.Bohr),
    "forces in Hartree/Bohr": _forces(units.Bohr / units.Hartree),
    "forces in kcal/mol/Å": _forces(1 / FORCE_UNITS["kcal/mol/Å"]),
    "forces twice too large": _forces(2.0),
    "forces grouped by element": _grouped,
    "forces exchanged within elements": _within,
    "energy and forces of another frame": _other,
    "forces all zero": _forces(0.0),
    "forces of half the atoms zero": _half,
    "positions in Bohr": lambda frame, random, every: scaled(frame, 1 / units.Bohr),
    "two elements exchanged": _swap,
    "energy 8 eV off": _energy(8.0),
    "energy 1 eV off": _energy(1.0),
    "energy per atom": lambda frame, random, every: replace(
        frame, energy=frame.energy / len(frame)
    ),
    "another level, 1 eV/atom": _energy(1.0, per_atom=True),
    "another level, 0.05 eV/atom": _energy(0.05, per_atom=True),
    "stress with the sign flipped": _stress(-1.0),
    "stress in kbar": _stress(10 / units.GPa),
}
GEOMETRIES = ("positions in Bohr", "two elements exchanged")
SHIFT = ("no cause known", "another functional")
CAUSES = {
    "forces with the sign flipped": ("the sign is flipped",),
    "forces in eV/Bohr": ("eV/Bohr",),
    "forces in Hartree/Bohr": ("Hartree/Bohr",),
    "forces in kcal/mol/Å": ("kcal/mol/Å",),
    "forces twice too large": ("twice too large",),
    "forces grouped by element": ("in another order of atoms",),
    "forces exchanged within elements": ("in another order of atoms: within each element",),
    "energy and forces of another frame": ("the very energy and forces of",),
    "forces all zero": ("forces all zero",),
    "forces of half the atoms zero": ("forces of exactly zero on",),
    "positions in Bohr": ("positions in Bohr",),
    "two elements exchanged": ("elements ",),
    "energy 8 eV off": SHIFT,
    "energy 1 eV off": SHIFT,
    "energy per atom": ("it is per atom",),
    "another level, 1 eV/atom": ("another functional",),
    "another level, 0.05 eV/atom": ("another functional",),
    "stress with the sign flipped": ("the sign is that of a pressure",),
    "stress in kbar": ("kbar",),
}
"""Words of which the cause that is named has one, if it is the right one."""


def read(path: Path) -> list[Frame]:
    """Frames that are sound and labelled."""
    keys = Keys(energy="REF_energy", forces="REF_forces") if "aimnet2" in path.name else Keys()
    settings = Data(files=[str(path)], keys=keys, energy_only=True)
    frames = [f for p, i in find_files([str(path)]) for f in read_file(p, i, keys, "free_energy")]
    return [f for f in sort_frames(frames, settings).frames if f.forces is not None]


def opinion(frames: Sequence[Frame]) -> tuple[Predict, set[str]]:
    """ANI-2x, others standing in for elements that it lacks; and these."""
    base = load("ani2x")
    new = {s for frame in frames for s in frame.atoms.symbols} - set(base.elements)
    donors = {element: suggest_donors(element, base.elements)[0] for element in sorted(new)}
    return opinion_of(load_base("ani2x", donors) if new else base), new


def trial(
    frames: Sequence[Frame],
    guesses: Sequence[Prediction],
    predict: Predict,
    new: set[str],
    name: str,
) -> dict[str, int] | None:
    """Frames with a fault; named, with its cause, certainly, so of another; without one."""
    random = np.random.default_rng(0)
    able = [i for i, f in enumerate(frames) if "stress" not in name or f.stress is not None]
    count = max(1, round(SHARE * len(frames)))
    if len(able) < count:
        return None
    wrong = set(random.choice(able, count, replace=False).tolist())
    put = FAULTS[name]
    faulty = [put(f, random, frames) if i in wrong else f for i, f in enumerate(frames)]
    guesses = list(guesses)
    if name in GEOMETRIES:
        for i, guess in zip(
            sorted(wrong), predict([faulty[i] for i in sorted(wrong)]), strict=True
        ):
            guesses[i] = guess
    suspects = find_suspects(faulty, guesses, predict, new)
    places = {id(faulty[i]) for i in wrong}
    hits = [s for s in suspects if id(s.frame) in places]
    right = [any(words in s.cause for words in CAUSES[name]) for s in hits]
    return {
        "wrong": len(wrong),
        "named": len(hits),
        "cause": sum(right),
        "certain": sum(s.certain for s in hits),
        "certain_of_another": sum(s.certain and not r for s, r in zip(hits, right, strict=True)),
        "false": len(suspects) - len(hits),
        "false_certain": sum(s.certain for s in suspects if id(s.frame) not in places),
    }


def measure(given: argparse.Namespace) -> Iterator[Results]:
    """Clean data first, then each fault in each dataset."""
    results: Results = {"clean": {}, "trials": {name: {} for name in FAULTS}}
    for path in MORE:
        frames = read(path)
        predict, new = opinion(frames)
        named = find_suspects(frames, predict(frames), predict, new)
        label = "/".join(path.parts[-2:])
        results["clean"][label] = _clean(frames, named)
    for dataset, path in SETS.items():
        frames = read(path)
        predict, new = opinion(frames)
        guesses = predict(frames)
        named = find_suspects(frames, guesses, predict, new)
        results["clean"][dataset] = _clean(frames, named)
        for fault in FAULTS:
            results["trials"][fault][dataset] = trial(frames, guesses, predict, new, fault)
        yield results


def _clean(frames: Sequence[Frame], named: Sequence[Suspect]) -> dict[str, int]:
    return {
        "frames": len(frames),
        "named": len(named),
        "certain": sum(suspect.certain for suspect in named),
    }


def page(results: Results) -> str:
    """Named of all that were made wrong, with which causes, and frames named without a fault."""
    sets = [name for name in SETS if name in results["clean"]]
    rows, total = [], Counter[str]()
    for fault, cells in results["trials"].items():
        texts = []
        for dataset in sets:
            cell = cells.get(dataset)
            text = "–" if cell is None else f"{cell['named']}/{cell['wrong']}"
            texts.append(text + (f" (+{cell['false']})" if cell and cell["false"] else ""))
        sums = Counter[str]()
        for dataset in FIVE:
            sums.update(cells.get(dataset) or {})
        total.update(sums)
        certain = f"{sums['certain'] - sums['certain_of_another']}/{sums['certain']}"
        causes = f"{sums['cause']}/{sums['named']}", certain
        rows.append(
            [fault, f"{100 * sums['named'] / max(sums['wrong'], 1):.0f} %", *causes, *texts]
        )
    clean = results["clean"]
    named = Counter[str]()
    for entry in clean.values():
        named.update(entry)
    heads = ["fault in 5 % of the frames", "first five", "right cause", "of certain ones", *sets]
    return fill(
        __file__,
        trials=table(heads, rows),
        clean=f"{named['named']} of {named['frames']} frames of {len(clean)} files",
        clean_certain=str(named["certain"]),
        overall=_share(total["named"], total["wrong"]),
        cause=_share(total["cause"], total["named"]),
        certain=str(total["certain"]),
        another=str(total["certain_of_another"]),
        false=str(total["false"]),
        files=table(
            ["file", "frames", "named", "certain"], [[k, *v.values()] for k, v in clean.items()]
        ),
        machine=machine_lines(results["machine"]),
    )


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}, {100 * part / max(whole, 1):.1f} %"


STUDY = Study(__file__, __doc__, page, runs=False)

if __name__ == "__main__":
    STUDY.main(measure)
