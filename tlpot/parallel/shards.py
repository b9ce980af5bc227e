"""Many structures in shards: computed anywhere, each structure kept as it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np

from tlpot.errors import TlpotError
from tlpot.files import append, make_folder, write_whole
from tlpot.model.load import load, load_onto
from tlpot.model.potential import Potential
from tlpot.parallel.processes import as_done, require_scheduler
from tlpot.parallel.work import SHARDS, begin_work, locked
from tlpot.structure.frames import Frame

SHARD = 64
"""Structures that go to a process together."""
PERIOD = 0.5
"""Seconds after which it is looked again how far other processes are."""
PACE = ("batch_atoms",)
"""Settings that an interrupted call may go on without."""

Work = Callable[[str, str, dict[str, Any], list[Frame]], Iterator[Mapping[int, str]]]
"""``(model, device, settings, structures)``, importable; as some structures are done it yields
their numbers among these and what is to be written of each."""
STRUCTURES = "structures"


class Journal:
    """What is done of a shard that is not whole yet, structure by structure in a file beside it.

    Parameters
    ----------
    shard
        The file of the whole shard.
    """

    def __init__(self, shard: Path) -> None:
        self.path = shard.with_suffix(".jsonl")

    def read(self) -> dict[int, str]:
        """Number of each structure and what is to be written of it; a line cut off is none."""
        texts: dict[int, str] = {}
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            with suppress(ValueError):
                number, text = json.loads(line)
                texts[number] = text
        return texts

    def count(self) -> int:
        """How many structures it holds."""
        with suppress(FileNotFoundError):
            return sum(line.endswith(b'"]') for line in self.path.read_bytes().splitlines())
        return 0

    def add(self, texts: Mapping[int, str]) -> None:
        """Append some; they outlive the process when this returns."""
        lines = "".join(f"{json.dumps(entry)}\n" for entry in texts.items())
        append(self.path, f"\n{lines}")  # on a line of its own after one that was cut off

    def remove(self) -> None:
        """Take it away when the shard is whole."""
        self.path.unlink(missing_ok=True)


Call = tuple[Work, str, str, dict[str, Any], list[Frame], str]
"""What `fill_shard` takes."""


def fill_shard(
    work: Work,
    model: str,
    device: str,
    settings: dict[str, Any],
    frames: list[Frame],
    path: str,
    on_structure: Callable[[int], None] = lambda done: None,
) -> None:
    """Do what is not done yet of a shard, and write it as a whole; `on_structure` counts."""
    journal = Journal(Path(path))
    texts = journal.read()
    todo = [i for i in range(len(frames)) if i not in texts]
    on_structure(len(texts))
    for done in work(model, device, settings, [frames[i] for i in todo]):
        new = {todo[n]: text for n, text in done.items()}
        journal.add(new)
        texts |= new
        on_structure(len(texts))
    write_whole(path, "".join(texts[i] for i in range(len(frames))))
    journal.remove()


def in_shards(
    work: Work,
    frames: Sequence[Frame],
    model: str | Path,
    settings: dict[str, Any],
    folder: Path,
    scheduler: str,
    workers: int,
    device: str,
    shard: int,
    on_structure: Callable[[int], None] = lambda done: None,
    what: str = STRUCTURES,
    here: bool = False,
) -> list[Path]:
    """Files of what `work` yields, in the order of `frames`; what is done is not done again.

    Parameters
    ----------
    model
        As for `tlpot.model.load.load`; workers load it themselves (`loaded`).
    folder
        New, empty, or left by an interrupted call with the same structures, model and settings.
    scheduler, workers
        As for `tlpot.parallel.processes.as_done`.
    on_structure
        Called with the number of structures done.
    what
        Names the shards, where there are several kinds in a folder.
    here
        In this process, one after the other.

    Raises
    ------
    TlpotError
        If the folder holds something else, another process is at work in it, or a shard failed;
        what is done is kept.
    """
    model = str(Path(model).absolute() if Path(model).exists() else model)
    pieces = [list(frames[i : i + shard]) for i in range(0, len(frames), shard)]
    name = "{:06d}.extxyz" if what == STRUCTURES else what + "-{:06d}.json"
    paths = [folder / SHARDS / name.format(i) for i in range(len(pieces))]
    identity = _identity(frames, model, settings, shard)
    require_scheduler(scheduler)
    make_folder(folder)
    with locked(folder):
        begin_work(folder, {what: identity}, more=what != STRUCTURES)
        make_folder(folder / SHARDS)
        todo = [i for i, path in enumerate(paths) if not path.exists()]
        calls = [(work, model, device, settings, pieces[i], str(paths[i])) for i in todo]
        tally = Tally(dict(zip(paths, map(len, pieces), strict=True)), on_structure)
        tally.look()
        failed = _fill(calls, tally, None if here else scheduler, workers)
        if failed:
            n, why = next(iter(failed.items()))
            piece = pieces[todo[n]]
            raise TlpotError(
                f"{len(failed)} of {len(pieces)} shards failed, first that of {piece[0].name} "
                f"and the {len(piece) - 1} after it: {why}. What is done is kept; run the same "
                "command again"
            )
    return paths


def _fill(
    calls: Sequence[Call], tally: Tally, scheduler: str | None, workers: int
) -> dict[int, str]:
    """Fill shards, in this process without a scheduler; why by number of those that failed."""
    if scheduler is None:
        for call in calls:
            fill_shard(*call, on_structure=lambda _: tally.look())
            tally.look()
        return {}
    failed = {}
    with tally.watched():
        for n, result in as_done(fill_shard, calls, scheduler, workers):
            tally.look()
            if isinstance(result, TlpotError):
                raise result
            if isinstance(result, BaseException):
                failed[n] = str(result) or type(result).__name__
    return failed


class Tally:
    """Counts what is done of all shards, wherever it is done, by the files that there are.

    Parameters
    ----------
    sizes
        Structures of each shard's file, all in one folder.
    on_structure
        Called with the number of structures done when it has grown.
    """

    def __init__(self, sizes: Mapping[Path, int], on_structure: Callable[[int], None]) -> None:
        self.sizes, self.on_structure = sizes, on_structure
        self.last, self.lock = -1, Lock()

    def look(self) -> None:
        """Count now."""
        with self.lock:
            folder = next(iter(self.sizes)).parent
            there = {path.name for path in folder.iterdir()}
            done = sum(
                size if path.name in there else Journal(path).count()
                for path, size in self.sizes.items()
                if there & {path.name, Journal(path).path.name}
            )
            if done > self.last:  # what became whole meanwhile was not seen at all
                self.last = done
                self.on_structure(done)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count now and then meanwhile."""
        over = Event()

        def watch() -> None:
            while not over.wait(PERIOD):
                self.look()

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


@lru_cache(maxsize=1)
def loaded(model: str, device: str) -> Potential:
    """Of this process: its shards share the model."""
    return load_onto(model, device)


def _identity(
    frames: Sequence[Frame], model: str, settings: dict[str, Any], shard: int
) -> dict[str, Any]:
    """What makes two calls the same."""
    geometry = hashlib.sha256()
    for frame in frames:
        for array in (frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array):
            geometry.update(np.ascontiguousarray(array).tobytes())
        for constraint in frame.atoms.constraints:
            geometry.update(repr(constraint).encode())
    return {
        "structures": len(frames),
        "geometry": geometry.hexdigest(),
        "model": load(model).identity,  # complains now, not in every worker
        "settings": _decisive(settings),
        "shard": shard,
    }


def _decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """Less what changes the pace alone: what ran out of memory goes on with smaller batches."""
    return {
        name: _decisive(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in PACE
    }
