"""Threads that each take a chain of operations, instead of sharing every single one.

torch splits single operations over its threads, which meet after each. Ours are small: most of
that time goes into meeting, and on a busy machine all of it. Inside `own_threads` torch computes
an operation where it is called, and `spread` gives some members of the ensemble, or some atoms,
to each thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_threads = 0
"""Inside `own_threads`, the number torch had outside."""


@contextmanager
def own_threads() -> Iterator[None]:
    """torch's threads are `spread`'s to use; afterwards they are torch's again.

    May be nested, and decorates functions.
    """
    global _threads
    if _threads:
        yield
        return
    _threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_threads)
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
