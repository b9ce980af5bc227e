"""Peak memory (and time) of one contender in a process of its own.

``python speed_memory.py '{"task": "ef", "contender": "tlpot", "repeat": [2, 2, 2]}'`` prints one
line of JSON. Tasks: ``train`` (one step on one frame) and ``ef`` (energy and forces through the ASE
calculator). ``list`` and ``stacked`` belong to torchani.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.machine import sampler
from benchmarks.speed.contenders import (
    Calling,
    TlpotTraining,
    TorchaniTraining,
    tlpot_calculator,
    torchani_calculator,
)
from benchmarks.speed.origin import OriginTraining
from benchmarks.speed.systems import urea
from tlpot.frames import Frame

CALLS = 5


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Run `job` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return job | {"error": (done.stderr.strip().splitlines() or ["killed"])[-1][:120]}
    return job | json.loads(done.stdout.splitlines()[-1])


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Peak memory before and after the work, MB, and the median ms of a call."""
    device = torch.device(job.get("device", "cpu"))
    atoms = urea(job["repeat"])
    tlpot_calculator(device)  # torch, torchani and the weights count for every contender
    before = peak_mb(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    sample = _work(job, atoms, device)
    sample()
    ms = [1e3 * sample() for _ in range(job.get("calls", 1))]
    return {
        "atoms": len(atoms),
        "before_MB": before,
        "peak_MB": peak_mb(device),
        "ms": statistics.median(ms),
    }


def _work(job: dict[str, Any], atoms: Any, device: torch.device) -> Callable[[], float]:
    contender = job["contender"]
    options = (job.get("list", "all_pairs"), job.get("stacked", False), device)
    if job["task"] == "ef":
        if contender == "tlpot":
            calculator = tlpot_calculator(device)
        else:
            calculator = torchani_calculator(*options)
        visited = []
        for seed in range(CALLS + 1):
            moved = atoms.copy()
            moved.rattle(0.01, seed=seed)
            visited.append(moved.positions)
        return sampler(Calling(calculator, atoms, visited), device)
    frame = Frame(atoms, -1.0, atoms.positions * 0.0)
    if contender == "tlpot":
        return TlpotTraining([frame], device, steps=1).sample
    if contender == "origin":
        origin = OriginTraining([as_lists(frame)], str(device))
        return sampler(lambda: origin.step([0]), device)
    return sampler(TorchaniTraining([frame], device, *options[:2]).step, device)


def as_lists(frame: Frame) -> dict[str, Any]:
    """A frame as `speed_origin` takes it."""
    assert frame.forces is not None
    return {
        "numbers": frame.atoms.numbers.tolist(),
        "positions": frame.atoms.positions.tolist(),
        "cell": frame.atoms.cell.array.tolist(),
        "energy": frame.energy,
        "forces": frame.forces.tolist(),
    }


def peak_mb(device: torch.device) -> float:
    """Largest resident set so far, or on CUDA the most that torch had allocated.

    From the kernel's own account of this process: ``ru_maxrss`` would inherit the parent's.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
