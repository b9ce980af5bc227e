"""Many independent pieces of work over local processes or a Dask cluster.

Each piece is a function call that writes its own results; whoever asks is told as each is done.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import torch

from tlpot.errors import TlpotError

Result = TypeVar("Result")

LOCAL = "local"
ATTEMPTS = 2
"""How often a piece may take its process with it before it has failed."""


def as_done(
    work: Callable[..., Result],
    pieces: Sequence[tuple[Any, ...]],
    scheduler: str = LOCAL,
    workers: int = 1,
    slurm: Mapping[str, Any] | None = None,
) -> Iterator[tuple[int, Result | BaseException]]:
    """Yield ``(number of the piece, its result or what it raised)`` as each is done.

    Parameters
    ----------
    work
        An importable function; called as ``work(*pieces[i])`` in another process. A process that
        dies costs its piece a second attempt, and nothing else.
    scheduler
        ``local``, or the address of a Dask scheduler whose workers see the same files.
    workers
        Local processes, which share the cores among themselves, or Slurm jobs.
    slurm
        Keywords of `dask_jobqueue.SLURMCluster`; given, a cluster of `workers` jobs is started.

    Raises
    ------
    TlpotError
        If Dask is not installed or the scheduler cannot be reached.
    """
    local = scheduler == LOCAL and slurm is None
    with _processes(workers) if local else _dask(scheduler, workers, slurm) as executor:
        numbers = {executor.submit(work, *piece): i for i, piece in enumerate(pieces)}
        for future in as_completed(numbers):
            error = future.exception()
            yield numbers[future], future.result() if error is None else error


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    """Threads that each watch over one process."""
    threads = max((os.cpu_count() or 1) // workers, 1)
    with ExitStack() as stack:
        idle: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(_Process(threads)))
        watchers = _Watchers(workers, idle)
        try:
            yield watchers
        finally:
            watchers.shutdown(wait=False, cancel_futures=True)


class _Watchers(ThreadPoolExecutor):
    def __init__(self, workers: int, idle: SimpleQueue[_Process]) -> None:
        super().__init__(workers)
        self.idle = idle

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(self._watch, work, *args, **kwargs)

    def _watch(self, work: Callable[..., Result], *args: Any) -> Result:
        process = self.idle.get()
        try:
            return process.run(work, *args)
        finally:
            self.idle.put(process)


class _Process:
    """One worker process, replaced when it dies."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = self._start()

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        for _ in range(ATTEMPTS):
            try:
                return self.pool.submit(work, *args).result()
            except BrokenProcessPool:
                self.pool = self._start()
        raise RuntimeError(f"its process died, {ATTEMPTS} times (out of memory?)")

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self.pool._processes.values()):
            process.terminate()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, spawn, _settle_in, (self.threads, os.getpid()))


def _settle_in(threads: int, parent: int) -> None:
    """Take this process's share of the cores, and end with whoever started it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    torch.set_num_threads(threads)
    Thread(target=watch, daemon=True).start()


@contextmanager
def _dask(scheduler: str, workers: int, slurm: Mapping[str, Any] | None) -> Iterator[Executor]:
    try:
        from dask.distributed import Client
    except ImportError:
        raise TlpotError("Dask is not installed; pip install 'tlpot[dask]'") from None
    with ExitStack() as stack:
        if slurm is not None:
            try:
                from dask_jobqueue import SLURMCluster
            except ImportError:
                raise TlpotError(
                    "dask-jobqueue is not installed; pip install 'tlpot[dask]'"
                ) from None
            cluster = stack.enter_context(SLURMCluster(**slurm))
            cluster.scale(jobs=workers)
            client = stack.enter_context(Client(cluster))
        else:
            try:
                client = stack.enter_context(Client(scheduler, timeout="10s"))
            except (OSError, ValueError) as error:
                raise TlpotError(f"no Dask scheduler answers at {scheduler} ({error})") from None
        yield client.get_executor()
