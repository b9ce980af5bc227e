"""Whether the compiled kernels compute, and how they are compiled.

They need a CPU, float32 and numba. ``TLPOT_ENGINE=torch`` switches them off;
``TLPOT_ENGINE=compiled`` insists on numba. All else is torch's: GPUs, float64, and the reference
that the kernels are tested against.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

import torch

from tlpot import run_log
from tlpot.errors import TlpotError, first_line

SWITCH = "TLPOT_ENGINE"
ENGINES = ("compiled", "torch")
FAST = {"contract", "nsz", "arcp", "afn"}
"""What the compiler may rearrange; NaN and infinity keep their meaning."""
ANY_ORDER = FAST | {"reassoc"}
"""Sums too: for loops that do nothing but add. Beside a store a loop may be compiled in two ways,
and where the arrays lie would choose the order, and so the rounding."""

_log = logging.getLogger("tlpot.engine")


def compiled(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether kernels compute tensors of this kind.

    Raises
    ------
    TlpotError
        If ``TLPOT_ENGINE`` is neither engine, or asks for kernels that cannot be had.
    """
    choice = os.environ.get(SWITCH) or ""
    if choice and choice not in ENGINES:
        raise TlpotError(f"{SWITCH}={choice}: set it to {' or '.join(ENGINES)}, or unset it")
    fits = device.type == "cpu" and dtype == torch.float32
    return fits and choice != "torch" and _numba(choice == "compiled")


@lru_cache
def _numba(required: bool) -> bool:
    """Whether numba can be imported; told once if not."""
    try:
        import numba  # noqa: F401
    except Exception as error:  # absent, or too old for this Python or numpy
        reason = f"numba cannot be imported ({first_line(error)})"
        if required:
            raise TlpotError(
                f"{SWITCH}=compiled: {reason}; pip install -U numba, or unset {SWITCH}"
            ) from None
        _tell(f"{reason}: torch computes instead, several times slower; pip install -U numba")
        return False
    return True


def kernel(function: Callable[..., Any], fastmath: Collection[str] = FAST) -> Callable[..., Any]:
    """A kernel that runs without Python's lock; compiled at its first call, kept on disk.

    numba keeps it beside the source or, in a read-only install, in the user's cache folder; where
    neither can be written, each process compiles its own.
    """
    from numba import njit

    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}
    try:
        made = njit(**options, cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        made = njit(**options)(function)
    return _Announced(made)


class _Announced:
    """A kernel whose compilation is told."""

    def __init__(self, made: Any) -> None:
        self._made, self._ready = made, False

    def __call__(self, *arguments: Any) -> Any:
        if self._ready:
            return self._made(*arguments)
        from numba.core.event import install_listener

        with install_listener("numba:compile", _listener()):
            result = self._made(*arguments)
        self._ready = True
        return result


@lru_cache
def _listener() -> Any:
    """Hears numba begin to compile, and says so the first time."""
    from numba.core.event import Listener

    class Announcement(Listener):
        told = False

        def on_start(self, event: Any) -> None:
            if not self.told:
                self.told = True
                _tell("compiling for this processor: once, about a quarter of a minute")

        def on_end(self, event: Any) -> None:
            pass

    return Announcement()


def _tell(message: str) -> None:
    """One line, on stderr and in the log of a run."""
    _log.warning(message)
    run_log.log.warning(message)
