"""Many structures in shards: computed anywhere, each written once, taken up where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tlpot.errors import TlpotError
from tlpot.files import SHARDS, begin_work, locked, make_folder, sha256
from tlpot.model.file import located
from tlpot.model.load import load, load_onto
from tlpot.model.potential import Potential
from tlpot.parallel.processes import as_done, require_scheduler
from tlpot.structure.frames import Frame

SHARD = 64
"""Structures that are computed, written and lost together."""

Work = Callable[..., None]
"""``(model, device, settings, structures, file to write)``, importable, in another process; in
this one also ``told=``, to be told how many structures are done."""
STRUCTURES = "structures"


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
    """Files that `work` wrote, in the order of `frames`; those that are there are not made again.

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
        done = len(frames) - sum(len(pieces[i]) for i in todo)
        on_structure(done)
        failed: dict[int, str] = {}
        calls = [(model, device, settings, pieces[i], str(paths[i])) for i in todo]
        told = (lambda n: on_structure(done + n)) if here else None
        results = (
            _one_by_one(work, calls, told) if told else as_done(work, calls, scheduler, workers)
        )
        for n, result in results:
            if isinstance(result, TlpotError):
                raise result
            if isinstance(result, BaseException):
                failed[todo[n]] = str(result) or type(result).__name__
            else:
                done += len(pieces[todo[n]])
                on_structure(done)
        if failed:
            i, why = next(iter(failed.items()))
            raise TlpotError(
                f"{len(failed)} of {len(pieces)} shards failed, first that of {pieces[i][0].name} "
                f"and the {len(pieces[i]) - 1} after it: {why}. What is done is kept; run the same "
                "command again"
            )
    return paths


def _one_by_one(
    work: Work, calls: Sequence[tuple[Any, ...]], told: Callable[[int], None]
) -> Iterator[tuple[int, None]]:
    for n, call in enumerate(calls):
        yield n, work(*call, told=told)  # type: ignore[func-returns-value]


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
    load(model)  # complains now, not in every worker
    file = located(model)
    return {
        "structures": len(frames),
        "geometry": geometry.hexdigest(),
        "model": sha256(file) if file.is_file() else hashlib.sha256(model.encode()).hexdigest(),
        "settings": settings,
        "shard": shard,
    }
