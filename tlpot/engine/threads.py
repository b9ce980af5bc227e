"""Cores and threads: how many there are for this process, and what each thread takes.

Threads each take a chain of operations, instead of sharing every single one.

torch splits single operations over its threads, which meet after each. Ours are small: most of
that time goes into meeting, and on a busy machine all of it. Inside `own_threads` torch computes
an operation where it is called, and `spread` gives some members of the ensemble, or some atoms,
to each thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_threads = 0
"""Inside `own_threads`, the number torch had outside."""


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: by its affinity and by the CPU quota of its cgroups.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are.
    """
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    return max(math.ceil(min([allowed, *_quotas(root)])), 1)


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that a cgroup of this process, or one above it, may use: versions 2 and 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        top = top if top.exists() else root / "sys/fs/cgroup/cpu"
        inside = top / own.strip("/")
        for folder in [inside, *inside.parents]:
            try:
                if controllers:
                    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    quota, period = ((folder / name).read_text() for name in names)
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if quota.strip() not in ("max", "-1"):
                    yield float(quota) / float(period)
            except (OSError, ValueError, ZeroDivisionError):  # a level without a quota
                pass
            if folder == top:
                break


@contextmanager
def limited_threads() -> Iterator[None]:
    """torch takes no more threads than there are cores for it, unless the user said so."""
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and before > cores():
        torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def own_threads() -> Iterator[None]:
    """torch's threads are `spread`'s to use; afterwards they are torch's again.

    May be nested, and decorates functions.
    """
    global _threads
    if _threads:
        yield
        return
    with limited_threads():
        _threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            _threads = 0


def available(device: torch.device) -> int:
    """Threads that `spread` may use; a GPU is given all work at once."""
    return max(_threads, 1) if device.type == "cpu" else 1


def shares(count: int, parts: int) -> list[slice]:
    """`count` things in at most `parts` slices of nearly equal length, none of them empty."""
    parts = max(min(parts, count), 1)
    bounds = [part * count // parts for part in range(parts + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``[work(item) for item in items]`` on the available threads, without gradients.

    Items must not write to the same elements, nor `spread` anything themselves.
    """
    items, work = list(items), torch.no_grad()(work)
    if _threads < 2 or len(items) < 2:
        return [work(item) for item in items]
    return list(_pool(_threads).map(work, items))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "tlpot")
