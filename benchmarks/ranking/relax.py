"""Relaxing a landscape: in batches against one by one with ASE. Same minima? How much faster?

Needs the Genarris landscapes under ``$TLPOT_DATA``. Both ways relax cell and positions of the same
crystals in turns of a few, each on one thread; time is processor time, which
other programs on the machine disturb less than the clock. Where the two end in different minima,
ASE begins again in the batched one (is it a minimum to ASE too?), and from a start shifted by a mÅ
(does ASE agree with itself?). Chunks that are done are kept in ``runs/relax``, not done again.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, records
from benchmarks.lib.runs import once, trained
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import DATA
from tlpot import load
from tlpot.data.crystals.read import read_each
from tlpot.model.potential import Potential
from tlpot.relax.relax import relax
from tlpot.relax.settings import Relaxation
from tlpot.structure.frames import Frame

CHUNK = 9
ENGINES = ("torch-sim", "ase")
TARGET_I = DATA / "csp_genarris/Target_I"
TRAINING = {"fit": "mean", "epochs": 40, "batch_size": 4, "learning_rate": 5e-4, "device": "cpu"}
Rows = dict[str, list[Results]]
SAME = 1e-3
"""eV per atom within which two minima count as the same."""
SHIFT = 1e-3
"""Å, standard deviation of the shift of a start, by which ASE is compared with itself."""


def measure(given: argparse.Namespace) -> Iterator[Results]:
    everything, refused = read_each(TARGET_I / "PBE_MBD")
    frames = everything[:: given.every][: given.first]
    model, potential = given.model, load(given.model)
    folder = given.runs / "relax" / f"{given.model}-{given.train}-{given.every}"
    if given.train:
        given.name = "relax_finetuned"
        others = [frame for frame in everything if frame not in frames]
        potential = fine_tuned(given.model, others, given.train, folder / "model")
        model += f" fine-tuned on {given.train} others (energies, zero forces; 40 epochs)"
    rows: Rows = {engine: [] for engine in ENGINES}
    for start in range(0, len(frames), CHUNK):
        for engine in ENGINES:
            chunk = frames[start : start + CHUNK]
            rows[engine] += relaxed(engine, chunk, potential, folder / f"{engine}-{start:03d}.json")
            print(engine, start, *(row["steps"] for row in rows[engine][start:]), flush=True)
    what = "all" if given.every == 1 else f"one in {given.every} by name"
    what += f", the first {given.first}" if given.first else ""
    checked = controls(rows, frames, potential, folder)
    for row in [row for of in rows.values() for row in of]:
        del row["positions"], row["cell"]
    about = {"controls": checked, "what": what, "model": model, "unread": len(refused)}
    yield compare(rows) | about | {"rows": rows}


def fine_tuned(base: str, frames: Sequence[Frame], number: int, folder: Path) -> Potential:
    """The base after training on so many of `frames`: PBE+MBD energies, and zero forces."""
    picks = np.random.default_rng(0).choice(len(frames), number, replace=False)
    with (TARGET_I / "Target_I.csv").open() as file:
        energies = {row["id"]: float(row["PBE+MBD(eV)"]) for row in csv.DictReader(file)}
    minima = []
    for frame in (frames[i] for i in sorted(picks)):
        labels = {"energy": energies[Path(frame.source).stem], "forces": np.zeros((len(frame), 3))}
        minima.append(replace(frame, labels="relaxed", **labels))
    split = {"test": 0.0, "validation": 0.1}
    config = {"data": {"split": split}, "model": {"base": base}, "training": TRAINING}
    return load(trained(folder, config, frames=minima))


def relaxed(
    engine: str, frames: Sequence[Frame], potential: Potential, path: Path
) -> list[Results]:
    """One row a structure; from the file if it is there."""

    def work() -> list[Results]:
        begin, wall = time.process_time(), time.perf_counter()
        minima = relax(frames, potential, Relaxation(engine=engine, bonds=False))
        seconds, wall = time.process_time() - begin, time.perf_counter() - wall
        return [
            {
                "name": Path(minimum.name.partition("#")[0]).stem,
                "atoms": len(minimum.atoms),
                "energy": minimum.energy,
                "volume": minimum.atoms.get_volume(),
                "steps": minimum.steps,
                "reason": minimum.reason,
                "seconds": seconds / len(minima),
                "wall": wall / len(minima),
                "positions": minimum.atoms.positions.tolist(),
                "cell": minimum.atoms.cell.tolist(),
            }
            for minimum in minima
        ]

    return once(path, work)


def both(rows: Rows) -> list[tuple[int, Results, Results]]:
    """Place, batched and serial minimum of the structures that both ways relaxed."""
    pairs = zip(rows["torch-sim"], rows["ase"], strict=True)
    return [(i, b, s) for i, (b, s) in enumerate(pairs) if b["reason"] is s["reason"] is None]


def apart(row: Results, other: Results) -> bool:
    """Whether two minima differ."""
    return abs(row["energy"] - other["energy"]) >= SAME * row["atoms"]


def controls(
    rows: Rows,
    frames: Sequence[Frame],
    potential: Potential,
    folder: Path,
) -> dict[str, int]:
    """What ASE makes of the batched minima, and of its own start when that is shifted."""
    counts = {"forks": 0, "stays": 0, "agrees_with_itself": 0}
    for i, batched, serial in both(rows):
        if not apart(batched, serial):
            continue
        there, near = frames[i].atoms.copy(), frames[i].atoms.copy()
        there.set_cell(batched["cell"])
        there.positions = batched["positions"]
        near.rattle(SHIFT, seed=0)
        again, shifted = (
            relaxed(
                "ase", [Frame(start, source=str(i))], potential, folder / f"{name}-{i:03d}.json"
            )[0]
            for name, start in (("again", there), ("shifted", near))
        )
        counts["forks"] += 1
        counts["stays"] += not apart(again, batched)
        counts["agrees_with_itself"] += not apart(shifted, serial)
        print("control", i, again["steps"], shifted["steps"], counts, flush=True)
    return counts


def compare(rows: Rows) -> Results:
    """Speed of both ways, and their minima where both found one."""
    pairs = both(rows)
    gap = np.array([(b["energy"] - s["energy"]) / b["atoms"] for _, b, s in pairs])
    means = {"steps": "steps", "cpu_seconds": "seconds", "wall_seconds": "wall"}
    result: Results = {
        engine: {"structures": len(of), "converged": sum(row["reason"] is None for row in of)}
        | {name: float(np.mean([row[key] for row in of])) for name, key in means.items()}
        for engine, of in rows.items()
    }
    return result | {
        "speedup": result["ase"]["cpu_seconds"] / result["torch-sim"]["cpu_seconds"],
        "pairs": len(pairs),
        "same": int((np.abs(gap) < SAME).sum()),
        "batched_lower": int((gap <= -SAME).sum()),
        "serial_lower": int((gap >= SAME).sum()),
        "median_gap_meV_per_atom": float(1e3 * np.median(np.abs(gap))),
        "largest_gap_meV_per_atom": float(1e3 * np.abs(gap).max()),
    }


def page(results: Results) -> str:
    names = {"torch-sim": "batched L-BFGS", "ase": "ASE, BFGS + Fréchet cell"}
    forks = [(b, s) for _, b, s in both(results["rows"]) if apart(b, s)]
    volumes = sorted(abs(100 * (b["volume"] / s["volume"] - 1)) for b, s in forks) or [0.0]
    return fill(
        __file__,
        results=results,
        speeds=records(
            [results[engine] | {"name": name} for engine, name in names.items()],
            {
                "": "{name}",
                "converged": "{converged}/{structures}",
                "evaluations each": "{steps:.0f}",
                "processor time each, s": "{cpu_seconds:.2f}",
                "per hour and core": lambda way: f"{3600 / way['cpu_seconds']:.0f}",
            },
        ),
        structures=results["ase"]["structures"],
        share=results["same"] / results["pairs"],
        volumes=f"{volumes[0]:.1f} to {volumes[-1]:.1f}",
        controls=CONTROLS.format(**results["controls"]) if "controls" in results else "",
        machine=machine_lines(results["machine"]),
    )


CONTROLS = (
    " Put into the batched minimum, ASE stays there in {stays} of {forks} (so it is one); from a "
    f"start shifted by {1e3 * SHIFT:g} mÅ a coordinate, ASE finds its own minimum again in "
    "{agrees_with_itself} of {forks}."
)

STUDY = Study(__file__, __doc__, page, names=("relax", "relax_finetuned"))
add = STUDY.options.add_argument
add("--model", default="ani2x")
add("--every", type=int, default=1, help="take every n-th structure")
add("--first", type=int, help="and only the first so many of these")
add("--train", type=int, default=0, help="fine-tune on so many others first: relax_finetuned")

if __name__ == "__main__":
    STUDY.main(measure)
