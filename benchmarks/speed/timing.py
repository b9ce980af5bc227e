"""Paired timing, fresh processes for it, and the peak memory of one."""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

Clock = Callable[[], float]
Sampler = Callable[[], float]
"""Does the work once and returns the seconds it took."""
CLOCKS: Mapping[str, Clock] = {"process CPU": time.process_time, "wall": time.perf_counter}


def sampler(work: Callable[[], Any], device: torch.device, clock: Clock, times: int = 1) -> Sampler:
    """Seconds of `work`, done `times` times in a row, from an idle device to an idle device."""

    def sample() -> float:
        synchronise(device)
        started = clock()
        for _ in range(times):
            work()
        synchronise(device)
        return (clock() - started) / times

    return sample


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    samplers: Mapping[str, Sampler], rounds: int, budget: float, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each contender, taken in turns so that whatever disturbs one disturbs all.

    Parameters
    ----------
    rounds
        At most this many samples of each.
    budget
        Seconds after which no further round begins, three rounds given.
    warmup
        Samples of each that are thrown away.
    """
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    started = time.perf_counter()
    for done in range(-warmup, rounds):
        if done == 0:
            started = time.perf_counter()
        if done >= 3 and time.perf_counter() - started > budget:
            break
        for name, sample in samplers.items():
            took = sample()
            if done >= 0:
                seconds[name].append(took)
    return seconds


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Minimum, median, maximum and mean in ms, and how many samples they stand on."""
    ms = [1e3 * s for s in seconds]
    return {
        "min_ms": min(ms),
        "median_ms": statistics.median(ms),
        "max_ms": max(ms),
        "mean_ms": statistics.fmean(ms),
        "samples": len(ms),
    }


def compared(seconds: Mapping[str, Sequence[float]], against: str = "torchani") -> dict[str, Any]:
    """Times of all; how many times as fast as `against`: medians over rounds, and by means."""
    slow = seconds[against]
    pairs = {name: zip(slow, s, strict=True) for name, s in seconds.items()}
    return {
        "times": {name: spread(s) for name, s in seconds.items()},
        "ratios": {name: statistics.median(a / b for a, b in both) for name, both in pairs.items()},
        "ratios_of_means": {name: sum(slow) / sum(s) for name, s in seconds.items()},
    }


def alone(run: Callable[[Any], dict[str, Any]], job: dict[str, Any]) -> dict[str, Any]:
    """`job` with what `run` measures in a fresh process, or with the error it ended with.

    The process has ``job["threads"]`` threads, or as many as torch takes if that is None.
    """
    threads = {"OMP_NUM_THREADS": str(job["threads"])} if job.get("threads") else {}
    with (
        patch.dict(os.environ, threads),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        try:
            return job | pool.submit(run, job).result()
        except Exception as error:  # whatever it is, also a kill for memory, is the row's result
            return job | {"error": f"{type(error).__name__}: {error}".splitlines()[0][:120]}


def process(arguments: Sequence[str]) -> dict[str, float]:
    """Seconds that a whole ``python …`` process takes on one thread: CPU and wall time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"process CPU": cpu, "wall": wall}


def forget_peak(device: torch.device) -> None:
    """Let `peak_mb` count from here, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
