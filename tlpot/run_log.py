"""The log of a run, in its folder: what was read, left out and why, how it went and ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlpot.errors import TlpotError, first_line

RUN_LOG = "run.log"
log = logging.getLogger("tlpot.run")
"""What a run does, for the ``run.log`` of its folder (`logged`); elsewhere it goes nowhere."""
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(logging.NullHandler())
_open: ContextVar[_RunLog | None] = ContextVar("run log", default=None)


ENDING = ("SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
"""Signals that end a process unless it hears them: batch systems send them before they kill."""


class Terminated(SystemExit):
    """One of the `ENDING` signals came."""

    code: int

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _RunLog(logging.Handler):
    """Appends to a folder's log as soon as the run has made anything else in the folder."""

    def __init__(self, folder: Path, begun: bool) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.addFilter(lambda record: _open.get() is self)
        self.path, self.waiting, self.begun = folder / RUN_LOG, [""], begun
        self.before = self._there()

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.append(self.format(record))
        with suppress(OSError):
            self.begun = self.begun or bool(self._there() - self.before)
            if self.begun:
                self.write()

    def write(self) -> None:
        """Add what waits, in one piece: who is killed leaves whole lines."""
        with self.path.open("ab", buffering=0) as file:
            file.write(
                "".join(f"{line}\n" for line in self.waiting).encode(errors="surrogateescape")
            )
        self.begun, self.waiting = True, []

    def _there(self) -> set[str]:
        folder = self.path.parent
        return set(os.listdir(folder)) if folder.is_dir() else set()


@contextmanager
def logged(folder: str | Path, wanted: bool = True, begun: bool = False) -> Iterator[None]:
    """Keep what happens meanwhile in the folder's ``run.log``, warnings too, and how it ended.

    An earlier log is added to. A run that makes nothing else in its folder leaves no log either,
    unless it has `begun` before; one inside another has its own. Of several processes at one run,
    one may have `wanted` it. A signal that would end the process unheard becomes `Terminated`.
    """
    around = _open.get()
    if not wanted or (around is not None and around.path == Path(folder) / RUN_LOG):
        yield
        return
    handler, show, started = _RunLog(Path(folder), begun), warnings.showwarning, time.monotonic()

    def noted(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        log.warning("%s: %s", category.__name__, message)
        show(message, category, *where, **more)

    log.addHandler(handler)
    before = _open.set(handler)
    warnings.showwarning = noted  # type: ignore[assignment]
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    log.info("tlpot %s, Python %s: %s", version("tlpot"), sys.version.split()[0], command)
    try:
        with _heard():
            yield
    except (KeyboardInterrupt, SystemExit) as error:
        log.error("interrupted (%s)", getattr(error, "signal", type(error).__name__))
        raise
    except TlpotError as error:
        log.error("failed: %s", error)
        raise
    except BaseException as error:
        log.exception("failed: %s: %s", type(error).__name__, first_line(error))
        raise
    else:
        log.info("finished after %.1f s", time.monotonic() - started)
    finally:
        warnings.showwarning = show
        _open.reset(before)
        log.removeHandler(handler)


@contextmanager
def _heard() -> Iterator[None]:
    """Turn `ENDING` signals that nobody else hears into `Terminated` meanwhile."""
    numbers = []
    if threading.current_thread() is threading.main_thread():  # the only one that may
        there = (getattr(signal, name) for name in ENDING if hasattr(signal, name))
        numbers = [n for n in there if signal.getsignal(n) is signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        raise Terminated(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
