"""Libraries that the base install leaves out, imported where they are used."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from types import ModuleType

from tlpot.errors import MachineError

SILENCE = {"SPGLIB_WARNING": "OFF"}
"""Environment in which libraries do not write remarks on their own working to the terminal."""


class MissingLibraryError(MachineError):
    """An optional dependency is not there: no fault of any one file or frame."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional dependency.

    Parameters
    ----------
    module
        Dotted name, e.g. ``pymatgen.core``.
    extra
        The extra of tlpot that installs it, e.g. ``use``.
    purpose
        What needs it, as the message's subject: ``"reading CIF files"``.

    Raises
    ------
    MissingLibraryError
        If the library is missing, naming the command that installs it; if it is there and its
        import fails, with the reason.
    """
    library = module.partition(".")[0]
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)
    try:
        with nullcontext() if module in sys.modules else _unheard():
            return import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == library
        state = "which is not installed" if missing else f"whose import fails ({error})"
        raise MissingLibraryError(
            f"{purpose} needs {library}, {state}; pip install 'tlpot[{extra}]'"
        ) from None


@contextmanager
def _unheard() -> Iterator[None]:
    """Without what libraries write to the terminal, some from C, while they are imported.

    Warp, for one, warns of a missing CUDA driver on every machine without a GPU.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
