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
    budget: float = 30.0
    starts: int = 5
    frames: tuple[int, int] = (5, 205)


QUICK = Effort((16, 128), 3, 2.0, 1, (5, 55))


def measure(given: argparse.Namespace) -> Iterator[Results]:
    kind = given.device.partition(":")[0]
    given.name = f"speed-{kind}"
    effort = QUICK if given.quick else Effort()
    ways = [way | {"device": given.device} for way in WAYS[kind]]
    results: Results = {"device": kind, "calls": [], "training": [], "large": []}
    common = {"rounds": effort.rounds, "budget": effort.budget}
    for atoms in effort.sizes:
        for way in ways:
            print(f"energy and forces, {atoms} atoms, {way['clock']} time …", flush=True)
            results["calls"].append(alone(jobs.calls, way | common | {"atoms": atoms}))
    many = [(16, 128)] * (kind == "cuda" and not given.quick)
    for frames, atoms in [(1, 128), (8, 16), *many]:
        for way in ways:
            print(f"training step, {frames} x {atoms} atoms, {way['clock']} time …", flush=True)
            job = way | common | {"frames": frames, "atoms": atoms}
            results["training"].append(alone(jobs.steps, job))
    print("large structures, memory, starts …", flush=True)
    for atoms in SUPERCELLS if not given.quick else effort.sizes:
        results["large"].append(alone(jobs.large, ways[0] | {"atoms": atoms}))
    if kind == "cpu":
        results["memory"] = [
            alone(jobs.training_memory, ways[0] | {"atoms": 128, "frames": frames})
            for frames in effort.frames
        ]
        results["starts"] = starts(effort.starts)
    results["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    yield results


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
