"""Many independent pieces of work over local processes, a Dask cluster or Slurm jobs.

Each piece is a function call; whoever asks is told as each is done.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, as_completed
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import torch

from tlpot.config.reading import read_yaml
from tlpot.engine.threads import cores
from tlpot.errors import TlpotError, TlpotWarning
from tlpot.optional import require

Result = TypeVar("Result")
Piece = tuple[Any, ...]

LOCAL = "local"
ATTEMPTS = 2
"""How often a piece may take its process with it before it has failed."""


def as_done(
    work: Callable[..., Result],
    pieces: Sequence[Piece],
    scheduler: str = LOCAL,
    workers: int = 1,
    slurm: Mapping[str, Any] | None = None,
    attempts: int = ATTEMPTS,
    threads: int | None = None,
) -> Iterator[tuple[int, Result | BaseException]]:
    """Yield ``(number of the piece, its result or what it raised)`` as each is done.

    Parameters
    ----------
    work
        An importable function; called as ``work(*pieces[i])`` in another process. A process that
        dies costs its piece an attempt, and nothing else.
    scheduler
        ``local``; the address of a Dask scheduler whose workers see the same files; or a YAML
        file with keywords of `dask_jobqueue.SLURMCluster`.
    workers
        Local processes, which share this one's cores among themselves, or Slurm jobs.
    slurm
        Those keywords themselves.
    attempts
        How often a piece may be lost with its process.
    threads
        Of each local process; None shares the cores out.

    Raises
    ------
    TlpotError
        If Dask is not installed, the scheduler cannot be reached or the YAML file not be read.
    """
    if scheduler.endswith((".yaml", ".yml")):
        slurm = _keywords(Path(scheduler))
    if scheduler == LOCAL and slurm is None:
        threads = threads or max(cores() // workers, 1)
        yield from _in_processes(work, pieces, workers, attempts, threads)
        return
    with _dask(scheduler, workers, slurm) as executor:
        todo = list(range(len(pieces)))
        for attempt in range(attempts):
            numbers = {executor.submit(work, *pieces[i]): i for i in todo}
            todo = []
            for future in as_completed(numbers):
                answer = _outcome(future)
                if _lost(answer) and attempt < attempts - 1:
                    todo.append(numbers[future])
                else:
                    yield numbers[future], answer


def _outcome(future: Future[Result]) -> Result | BaseException:
    try:
        return future.result()
    except (Exception, CancelledError) as error:
        return error


def _lost(answer: object) -> bool:
    """Whether Dask gave a piece up, rather than the piece failed."""
    return isinstance(answer, CancelledError) or (
        isinstance(answer, Exception) and type(answer).__module__.startswith("distributed")
    )


def _in_processes(
    work: Callable[..., Result],
    pieces: Sequence[Piece],
    workers: int,
    attempts: int,
    threads: int,
) -> Iterator[tuple[int, Result | BaseException]]:
    todo = iter(range(len(pieces)))
    team = [_Process(work, threads) for _ in range(min(workers, len(pieces)))]
    try:
        for process, number in zip(team, todo, strict=False):
            process.take(number, pieces[number])
        while busy := {p.pipe: p for p in team if p.number is not None}:
            for pipe in wait(list(busy)):
                process = busy[pipe]  # type: ignore[index]
                done, answer = process.answer(attempts)
                if done is None:
                    continue
                if (following := next(todo, None)) is not None:
                    process.take(following, pieces[following])
                yield done, answer
    finally:
        for process in team:
            process.end()


class _Process:
    """One worker process, replaced when it dies, and the piece that it has."""

    def __init__(self, work: Callable[..., Any], threads: int) -> None:
        self.work, self.threads = work, threads
        self.number: int | None = None
        self._start()

    def take(self, number: int, piece: Piece) -> None:
        self.number, self.piece, self.attempts = number, piece, 1
        self._send()

    def answer(self, attempts: int) -> tuple[int | None, Any]:
        """The piece that is done and what came of it; no piece if it is tried again."""
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            answer = RuntimeError(f"its process died {self._cause()}")
            self._start()
            if self.attempts < attempts:
                self.attempts += 1
                self._send()
                return None, None
        number, self.number = self.number, None
        return number, answer

    def end(self) -> None:
        self.process.kill()
        self.process.join()

    def _send(self) -> None:
        with suppress(ConnectionError):  # it died; `answer` will say so
            self.pipe.send(self.piece)

    def _cause(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        ending = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        times = f", {self.attempts} times" if self.attempts > 1 else ""
        return f"{ending}{times}" + (" (out of memory?)" if code == -signal.SIGKILL else "")

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        arguments = (theirs, self.work, self.threads, os.getpid())
        self.process = spawn.Process(target=_serve, args=arguments, daemon=True)
        with _openmp(self.threads):
            self.process.start()
        theirs.close()


@contextmanager
def _openmp(threads: int) -> Iterator[None]:
    """What is started meanwhile has so many OpenMP threads, unless the user said otherwise."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _serve(pipe: Connection, work: Callable[..., Any], threads: int, parent: int) -> None:
    """Do piece after piece; end with whoever started this process."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    warnings.simplefilter("ignore", TlpotWarning)  # the parent has told
    torch.set_num_threads(threads)
    Thread(target=watch, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            piece = pipe.recv()
            answer: Any
            try:
                answer = work(*piece)
            except Exception as error:
                answer = _portable(error)
            pipe.send(answer)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when it is copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def require_scheduler(scheduler: str) -> None:
    """Raise a TlpotError if the library that a scheduler needs is missing (see `as_done`)."""
    if scheduler != LOCAL:
        require("distributed", "dask", "a Dask scheduler")
    if scheduler.endswith((".yaml", ".yml")):
        require("dask_jobqueue", "dask", "running Slurm jobs")


def slurm_cluster(keywords: Mapping[str, Any]) -> Any:
    """A `dask_jobqueue.SLURMCluster`; its jobs are yet to be asked for.

    Raises
    ------
    TlpotError
        If dask-jobqueue is not installed or refuses a keyword.
    """
    jobqueue = require("dask_jobqueue", "dask", "running Slurm jobs")
    try:
        return jobqueue.SLURMCluster(**keywords)
    except (TypeError, ValueError) as error:
        raise TlpotError(f"Slurm: dask-jobqueue refuses these keywords: {error}") from None


@contextmanager
def _dask(scheduler: str, workers: int, slurm: Mapping[str, Any] | None) -> Iterator[Executor]:
    distributed = require("distributed", "dask", "a Dask scheduler")
    with ExitStack() as stack:
        if slurm is not None:
            cluster = stack.enter_context(slurm_cluster(slurm))
            cluster.scale(jobs=workers)
            client = stack.enter_context(distributed.Client(cluster))
        else:
            try:
                client = stack.enter_context(distributed.Client(scheduler, timeout="10s"))
            except (OSError, ValueError) as error:
                raise TlpotError(f"no Dask scheduler answers at {scheduler} ({error})") from None
        yield client.get_executor()


def _keywords(path: Path) -> dict[str, Any]:
    values = read_yaml(path, "cluster")
    if not isinstance(values, dict) or not values:
        raise TlpotError(
            f"{path}: expected keywords of dask_jobqueue.SLURMCluster: cores, memory …"
        )
    return values
