"""How fast is tlpot? Energies, forces and training steps against torchani; starts and memory.

Needs ANI-2x's weights where torchani finds them. On a CPU everything is measured twice: by the
process's CPU time on one thread, which others on the machine disturb least, and by wall time on
two. Contenders of one table take turns in one fresh process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.study import Results, Study
from benchmarks.speed import jobs
from benchmarks.speed.contenders import SUPERCELLS, UREA, default_model, urea
from benchmarks.speed.tables import page
from benchmarks.speed.timing import alone, process

WAYS: dict[str, list[dict[str, Any]]] = {
    "cpu": [{"threads": 1, "clock": "process CPU"}, {"threads": 2, "clock": "wall"}],
    "cuda": [{"threads": None, "clock": "wall"}],
}
"""Threads and clocks, by the kind of device."""
FIRST = (
    "import sys; from ase.io import read; from tlpot import TLPotCalculator; "
    "atoms = read(sys.argv[1], 0); atoms.calc = TLPotCalculator(sys.argv[2]); "
    "atoms.get_potential_energy(); atoms.get_forces()"
)


@dataclass(frozen=True)
class Effort:
    """How long to measure: at most so many rounds and seconds a table, so many starts."""

    sizes: tuple[int, ...] = (16, 128, 1024)
    rounds: int = 30
    budget: float = 20.0
    starts: int = 3
    frames: tuple[int, int] = (5, 205)


QUICK = Effort((16, 128), 3, 2.0, 1, (5, 25))
EFFORTS = {"cpu": Effort(), "cuda": Effort(budget=4.0)}


def measure(given: argparse.Namespace) -> Iterator[Results]:
    kind = given.device.partition(":")[0]
    given.name = f"speed-{kind}"
    effort = QUICK if given.quick else EFFORTS[kind]
    first, *others = [way | {"device": given.device} for way in WAYS[kind]]
    results: Results = {"device": kind, "calls": [], "training": [], "large": [], "memory": []}
    calls_and_steps(results, first, effort)
    yield at_load(results)
    print("large structures, memory, starts …", flush=True)
    sizes = effort.sizes if given.quick else SUPERCELLS
    results["large"] = [alone(jobs.large, first | {"atoms": atoms}) for atoms in sizes]
    if kind == "cpu":
        results["memory"] = [
            alone(jobs.training_memory, first | {"atoms": 128, "frames": frames})
            for frames in effort.frames
        ]
        results["starts"] = starts(effort.starts)
    yield at_load(results)
    for way in others:
        calls_and_steps(results, way, effort)
        yield at_load(results)


def at_load(results: Results) -> Results:
    return results | {"load_average_at_the_end": round(os.getloadavg()[0], 2)}


def calls_and_steps(results: Results, way: Results, effort: Effort) -> None:
    """Append what fresh processes measure, timed in one way."""
    job = way | {"rounds": effort.rounds, "budget": effort.budget}
    for atoms in effort.sizes:
        print(f"energy and forces, {atoms} atoms, {way['clock']} time …", flush=True)
        results["calls"].append(alone(jobs.calls, job | {"atoms": atoms}))
    many = [(16, 128)] * (results["device"] == "cuda" and effort != QUICK)
    for frames, atoms in [(1, 128), (8, 16), *many]:
        print(f"training step, {frames} x {atoms} atoms, {way['clock']} time …", flush=True)
        results["training"].append(alone(jobs.steps, job | {"frames": frames, "atoms": atoms}))


def starts(rounds: int) -> Results:
    """Median seconds of whole processes, which take turns; the first round warms the caches."""
    with tempfile.TemporaryDirectory() as folder:
        model = default_model([urea(SUPERCELLS[16])]).save(Path(folder, "model.safetensors"))
        commands = {
            "python": ["-c", "pass"],
            "import tlpot": ["-c", "import tlpot"],
            "import torch": ["-c", "import torch"],
            "tlpot --help": ["-m", "tlpot", "--help"],
            "first E + F": ["-c", FIRST, str(UREA), str(model)],
        }
        samples = [
            {name: process(words) for name, words in commands.items()} for _ in range(rounds + 1)
        ]
    return {
        name: {
            clock: statistics.median(sample[name][clock] for sample in samples[1:])
            for clock in samples[0][name]
        }
        for name in commands
    }


STUDY = Study(__file__, __doc__, page, names=("speed-cpu", "speed-cuda"), runs=False)
add = STUDY.options.add_argument
add("--device", default="cpu", help="cpu, or cuda (which `make bench-gpu` measures with the rest)")
add("--quick", action="store_true", help="two minutes, for trying it out")

if __name__ == "__main__":
    STUDY.main(measure)
