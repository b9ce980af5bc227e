"""Paired timing, peak memory in a process of its own, and where the time of a step goes."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Sampler = Callable[[], float]
"""Does the work once and returns the seconds it took."""


def sampler(work: Callable[[], Any], device: torch.device, times: int = 1) -> Sampler:
    """Seconds of `work`, done `times` times in a row, from an idle device to an idle device."""

    def sample() -> float:
        synchronise(device)
        started = time.perf_counter()
        for _ in range(times):
            work()
        synchronise(device)
        return (time.perf_counter() - started) / times

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


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over rounds of slow/fast of the same round."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def compared(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Times of all, and how much longer than tlpot the others took."""
    ours = seconds["tlpot"]
    others = {name: s for name, s in seconds.items() if name != "tlpot"}
    return {
        "times": {name: spread(s) for name, s in seconds.items()},
        "ratios": {name: paired_ratio(s, ours) for name, s in others.items()},
        "ratios_of_means": {name: sum(s) / sum(ours) for name, s in others.items()},
    }


def alone(run: Callable[[Any], dict[str, Any]], job: dict[str, Any]) -> dict[str, Any]:
    """`job` with what `run` finds in a fresh process, or with the error it ended with."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return job | pool.submit(run, job).result()
        except Exception as error:  # whatever it is, also a kill for memory, is the row's result
            return job | {"error": f"{type(error).__name__}: {error}".splitlines()[0][:120]}


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


def profile_steps(epoch: Callable[[], float], steps: int, device: torch.device) -> dict[str, Any]:
    """ms a step by operation of torch, the slowest first.

    Parameters
    ----------
    epoch
        Runs `steps` training steps and returns their seconds.
    """
    plain = min(epoch() for _ in range(3))
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as recorded:
        timed = epoch()
    attribute = "self_device_time_total" if cuda else "self_cpu_time_total"
    us = {event.key[:70]: getattr(event, attribute) for event in recorded.key_averages()}
    slowest = sorted((name for name in us if us[name] > 0), key=lambda name: -us[name])[:14]
    rows = {name: us[name] / 1e3 / steps for name in slowest}
    rows["all others"] = max(0.0, 1e3 * timed / steps - sum(rows.values()))
    return {
        "step_ms": 1e3 * plain / steps,
        "profiled_step_ms": 1e3 * timed / steps,
        "rows_ms": rows,
    }
