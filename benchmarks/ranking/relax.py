"""Relaxing a landscape: in batches against one by one with ASE. Same minima? How much faster?

``make bench-relax``, or ``python benchmarks/relax.py [--model M] [--train 25] [--every 1]``; needs
the Genarris landscapes under ``$TLPOT_DATA``, and the model's weights. Both ways relax cell and
positions of the same crystals in turns of a few, each on one thread; time is processor time, which
other programs on the machine disturb less than the clock. Where the two end in different minima,
ASE begins again in the batched one (is it a minimum to ASE too?), and from a start shifted by a mÅ
(does ASE agree with itself?). Chunks that are done are kept in ``runs/relax``, not done again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.lib.machine import machine, machine_lines, table, write_results
from tlpot.csp.relax import Relaxation, relax
from tlpot.data.crystals import read_each
from tlpot.files import write_whole
from tlpot.frames import Frame
from tlpot.potential import Potential, load
from tlpot.run import finetune

CHUNK = 9
ENGINES = ("torch-sim", "ase")
DATA = Path(os.environ.get("TLPOT_DATA", ".")) / "csp_genarris/Target_I"
TRAINING = {"fit": "mean", "epochs": 40, "batch_size": 4, "learning_rate": 5e-4, "device": "cpu"}
SAME = 1e-3
"""eV per atom within which two minima count as the same."""
SHIFT = 1e-3
"""Å, standard deviation of the shift of a start, by which ASE is compared with itself."""


def fine_tuned(base: str, frames: Sequence[Frame], number: int, folder: Path) -> Potential:
    """The base after training on so many of `frames`: PBE+MBD energies, and zero forces."""
    if not (folder / "model.safetensors").exists():
        picks = np.random.default_rng(0).choice(len(frames), number, replace=False)
        with (DATA / "Target_I.csv").open() as file:
            energies = {row["id"]: float(row["PBE+MBD(eV)"]) for row in csv.DictReader(file)}
        minima = [
            replace(
                frames[i],
                energy=energies[Path(frames[i].source).stem],
                forces=np.zeros((len(frames[i]), 3)),
                labels="relaxed",
            )
            for i in sorted(picks)
        ]
        finetune(
            {
                "data": {"split": {"test": 0.0, "validation": 0.1}},
                "model": {"base": base},
                "training": TRAINING,
                "output": str(folder),
            },
            frames=minima,
        )
    return load(folder)


def relaxed(
    engine: str, frames: Sequence[Frame], potential: Potential, path: Path
) -> list[dict[str, Any]]:
    """One row a structure; from the file if it is there."""
    if not path.exists():
        begin, wall = time.process_time(), time.perf_counter()
        found = relax(frames, potential, Relaxation(engine=engine, bonds=False))
        seconds, wall = time.process_time() - begin, time.perf_counter() - wall
        rows = [
            {
                "name": Path(one.name.partition("#")[0]).stem,
                "atoms": len(one.atoms),
                "energy": one.energy,
                "volume": one.atoms.get_volume(),
                "steps": one.steps,
                "reason": one.reason,
                "seconds": seconds / len(found),
                "wall": wall / len(found),
                "positions": one.atoms.positions.tolist(),
                "cell": one.atoms.cell.tolist(),
            }
            for one in found
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(rows, indent=1) + "\n")
    return json.loads(path.read_text())


def forks(rows: dict[str, list[dict[str, Any]]]) -> list[int]:
    """Structures that both ways relaxed, to different minima."""
    return [
        i
        for i, (b, s) in enumerate(zip(rows["torch-sim"], rows["ase"], strict=True))
        if b["reason"] is None
        and s["reason"] is None
        and abs(b["energy"] - s["energy"]) >= SAME * b["atoms"]
    ]


def controls(
    rows: dict[str, list[dict[str, Any]]],
    frames: Sequence[Frame],
    potential: Potential,
    folder: Path,
) -> dict[str, int]:
    """What ASE makes of the batched minima, and of its own start when that is shifted."""
    found = {"forks": 0, "stays": 0, "agrees_with_itself": 0}
    for i in forks(rows):
        batched, serial = rows["torch-sim"][i], rows["ase"][i]
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
        found["forks"] += 1
        found["stays"] += abs(again["energy"] - batched["energy"]) < SAME * batched["atoms"]
        found["agrees_with_itself"] += (
            abs(shifted["energy"] - serial["energy"]) < SAME * serial["atoms"]
        )
        print("control", i, again["steps"], shifted["steps"], found, flush=True)
    return found


def compare(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Speed of both ways, and their minima where both found one."""
    pairs = [
        (batched, serial)
        for batched, serial in zip(rows["torch-sim"], rows["ase"], strict=True)
        if batched["reason"] is None and serial["reason"] is None
    ]
    gap = np.array([(b["energy"] - s["energy"]) / b["atoms"] for b, s in pairs])
    result: dict[str, Any] = {
        engine: {
            "structures": len(rows[engine]),
            "converged": sum(row["reason"] is None for row in rows[engine]),
            "steps": float(np.mean([row["steps"] for row in rows[engine]])),
            "cpu_seconds": float(np.mean([row["seconds"] for row in rows[engine]])),
            "wall_seconds": float(np.mean([row["wall"] for row in rows[engine]])),
        }
        for engine in ENGINES
    }
    seconds = {engine: result[engine]["cpu_seconds"] for engine in ENGINES}
    return result | {
        "speedup": seconds["ase"] / seconds["torch-sim"],
        "pairs": len(pairs),
        "same": int((np.abs(gap) < SAME).sum()),
        "batched_lower": int((gap <= -SAME).sum()),
        "serial_lower": int((gap >= SAME).sum()),
        "median_gap_meV_per_atom": float(1e3 * np.median(np.abs(gap))),
        "largest_gap_meV_per_atom": float(1e3 * np.abs(gap).max()),
    }


def report(result: dict[str, Any]) -> str:
    """The page."""
    share = result["same"] / result["pairs"]
    fast, slow = (result[engine] for engine in ENGINES)
    pairs = [
        (result["rows"]["torch-sim"][i], result["rows"]["ase"][i]) for i in forks(result["rows"])
    ]
    fork = sorted(abs(100 * (b["volume"] / s["volume"] - 1)) for b, s in pairs) or [0.0]
    control = result["controls"]
    lines = [
        "# Relaxing a landscape in batches",
        "",
        f"{fast['structures']} crystals of Target I (C6H6O, Z = 8; {result['what']}), from their "
        f"PBE+MBD geometries, cell and positions, with {result['model']}, to 0.01 eV/Å and "
        "0.005 GPa. Both ways on one thread, in turns.",
        "",
        *table(
            ["", "converged", "evaluations each", "processor time each, s", "per hour and core"],
            [
                [
                    name,
                    f"{one['converged']}/{one['structures']}",
                    f"{one['steps']:.0f}",
                    f"{one['cpu_seconds']:.2f}",
                    f"{3600 / one['cpu_seconds']:.0f}",
                ]
                for name, one in (("batched L-BFGS", fast), ("ASE, BFGS + Fréchet cell", slow))
            ],
        ),
        "",
        f"Batched is **{result['speedup']:.1f} ×** as fast a core (wanted on two cores: 2 ×). "
        f"Energies agree within 1 meV/atom for {result['same']} of {result['pairs']} "
        f"({share:.0%}; wanted ≥ 95 %): median difference "
        f"{result['median_gap_meV_per_atom']:.3f}, largest "
        f"{result['largest_gap_meV_per_atom']:.2f} meV/atom; of the others the batched way is "
        f"lower in {result['batched_lower']}, ASE in {result['serial_lower']}. "
        f"These end in other minima: their volumes differ by {fork[0]:.1f} to {fork[-1]:.1f} %. "
        f"Put into the batched minimum, ASE stays there in {control['stays']} of "
        f"{control['forks']} (so it is one); from a start shifted by {1e3 * SHIFT:g} mÅ a "
        f"coordinate, ASE finds its own minimum again in {control['agrees_with_itself']} of "
        f"{control['forks']}.",
        "",
        *machine_lines(result["machine"]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ani2x")
    parser.add_argument("--every", type=int, default=1, help="take every n-th structure")
    parser.add_argument("--first", type=int, help="and only the first so many of these")
    parser.add_argument("--train", type=int, default=0, help="fine-tune on so many others first")
    parser.add_argument("--name", default="relax")
    options = parser.parse_args()
    everything, refused = read_each(DATA / "PBE_MBD")
    frames = everything[:: options.every][: options.first]
    about, potential = machine(), load(options.model)
    folder = Path("runs/relax") / f"{options.model}-{options.train}-{options.every}"
    model = options.model
    if options.train:
        others = [frame for frame in everything if frame not in frames]
        potential = fine_tuned(options.model, others, options.train, folder / "model")
        model += f" fine-tuned on {options.train} others (energies, zero forces; 40 epochs)"
    rows: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for start in range(0, len(frames), CHUNK):
        for engine in ENGINES:
            chunk = frames[start : start + CHUNK]
            path = folder / f"{engine}-{start:03d}.json"
            rows[engine] += relaxed(engine, chunk, potential, path)
            print(engine, start, *(row["steps"] for row in rows[engine][start:]), flush=True)
    what = "all" if options.every == 1 else f"one in {options.every} by name"
    what += f", the first {options.first}" if options.first else ""
    checked = controls(rows, frames, potential, folder)
    for one in [row for found in rows.values() for row in found]:
        del one["positions"], one["cell"]
    result = compare(rows) | {
        "controls": checked,
        "what": what,
        "model": model,
        "unread": len(refused),
        "rows": rows,
        "machine": about,
    }
    write_results(options.name, result, report(result))


if __name__ == "__main__":
    main()
