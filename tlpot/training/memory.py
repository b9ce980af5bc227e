"""Keep freed memory: large tensors otherwise go back to the system, and come back zeroed."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``."""


def keep_memory() -> None:
    """Make glibc's allocator reuse what torch frees; elsewhere nothing happens.

    Training on graphs allocates tensors of some 10 MB a hundred times a step: with this a step
    takes 0.6 of the processor time; convolutions along whole patterns alike. The process keeps
    its largest footprint.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(MMAP_MAX, 0)
            mallopt(TRIM_THRESHOLD, 2**31 - 1)
