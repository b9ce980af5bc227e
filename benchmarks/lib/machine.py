"""What every benchmark shares: the machine, paired timing, and where results go."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = ("tlpot", "torch", "torchani", "ase", "numpy", "vesin")

Sampler = Callable[[], float]
"""Does the work once and returns the seconds it took."""


def machine() -> dict[str, Any]:
    """Processor, cores, threads, memory, GPU, versions and commit; nothing personal."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def machine_lines(about: Mapping[str, Any]) -> list[str]:
    """`machine` as Markdown."""
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v)
    return [
        f"- {about['cpu']}, {about['cores']} cores, {about['threads']} torch threads, "
        f"{about['memory_GB']} GB; {about['gpu'] or 'no GPU'}; {about['system']}",
        f"- load average when the run began: {about['load_average']}"
        + (" (**not a quiet machine**)" if about["load_average"] > 0.5 * about["cores"] else ""),
        f"- {versions}; commit {about['commit']}; {about['date']}",
    ]


def write_results(
    name: str, data: Mapping[str, Any], markdown: str, folder: str | Path = RESULTS
) -> None:
    """Write ``<name>.json`` and ``<name>.md``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / f"{name}.md").write_text(markdown.rstrip() + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


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
    for _ in range(warmup):
        for sample in samplers.values():
            sample()
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    started = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - started > budget:
            break
        for name, sample in samplers.items():
            seconds[name].append(sample())
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


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../../tlpot")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" + changes" if changed else "")
