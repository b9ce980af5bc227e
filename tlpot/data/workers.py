"""Label structures in processes of their own: an engine that crashes takes one frame with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from ase import Atoms

from tlpot.data.engines import Engine, Labels

CONTEXT = get_context("spawn")


def label_all(
    engine: Engine, structures: Sequence[Atoms], workers: int
) -> Iterator[tuple[int, Labels | str]]:
    """Labels of each structure, or why there are none, as they come.

    Parameters
    ----------
    workers
        Processes at a time, one thread each unless ``OMP_NUM_THREADS`` says otherwise.

    Returns
    -------
    Pairs of a structure's place and its labels or the reason for the failure.
    """
    todo = list(range(len(structures)))[::-1]
    team = [_Worker(engine) for _ in range(min(workers, len(todo)))]
    try:
        for worker in team:
            worker.take(todo.pop(), structures)
        while busy := {w.pipe: w for w in team if w.place is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                assert worker.place is not None
                yield worker.place, worker.answer(engine)
                worker.take(todo.pop() if todo else None, structures)
    finally:
        for worker in team:
            worker.process.kill()


class _Worker:
    """One process and the place of the structure it has."""

    def __init__(self, engine: Engine) -> None:
        self.place: int | None = None
        self._start(engine)

    def take(self, place: int | None, structures: Sequence[Atoms]) -> None:
        self.place = place
        if place is not None:
            self.pipe.send(structures[place])

    def answer(self, engine: Engine) -> Labels | str:
        try:
            found: Labels | str = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            found = f"the engine's process ended {how}"
            self._start(engine)
        return found

    def _start(self, engine: Engine) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, engine), daemon=True)
        self.process.start()
        theirs.close()


def _serve(pipe: Connection, engine: Engine) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            atoms = pipe.recv()
            answer: Labels | str
            try:
                answer = engine.label(atoms)
            except Exception as error:  # engines fail in their own ways; the frame reports it
                answer = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
            pipe.send(answer)
