"""The machine that a study ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tlpot.engine.threads import cores

PACKAGES = ("tlpot", "torch", "torchani", "ase", "numpy", "vesin")


def machine() -> dict[str, Any]:
    """Processor, cores, threads, memory, GPU, versions and commit; nothing personal."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
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
