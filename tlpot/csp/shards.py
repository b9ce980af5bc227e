"""Many structures in shards: computed anywhere, each written once, taken up where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tlpot.errors import TlpotError
from tlpot.files import locked, write_whole
from tlpot.frames import Frame
from tlpot.modelfile import located
from tlpot.potential import Potential, load, load_onto
from tlpot.scale import as_done

SHARD = 64
"""Structures that are computed, written and lost together."""
FOLDER = "shards"
NOTE = "work.json"

Work = Callable[[str, str, dict[str, Any], list[Frame], str], None]
"""``(model, device, settings, structures, file to write)``, importable, in another process."""


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
) -> list[Path]:
    """Files that `work` wrote, in the order of `frames`; those that are there are not made again.

    Parameters
    ----------
    model
        As for `tlpot.potential.load`; workers load it themselves (`loaded`).
    folder
        New, empty, or left by an interrupted call with the same structures, model and settings.
    scheduler, workers
        As for `tlpot.scale.as_done`.
    on_structure
        Called with the number of structures done.

    Raises
    ------
    TlpotError
        If the folder holds something else, another process is at work in it, or a shard failed;
        what is done is kept.
    """
    model = str(Path(model).absolute() if Path(model).exists() else model)
    _begin(folder, _identity(frames, model, settings, shard))
    pieces = [list(frames[i : i + shard]) for i in range(0, len(frames), shard)]
    paths = [folder / FOLDER / f"{i:06d}.extxyz" for i in range(len(pieces))]
    with locked(folder):
        todo = [i for i, path in enumerate(paths) if not path.exists()]
        done = len(frames) - sum(len(pieces[i]) for i in todo)
        on_structure(done)
        failed: dict[int, str] = {}
        calls = [(model, device, settings, pieces[i], str(paths[i])) for i in todo]
        for n, result in as_done(work, calls, scheduler, workers):
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


def interrupted(folder: Path) -> bool:
    """Whether a folder holds unfinished shards and nothing else."""
    return (folder / FOLDER / NOTE).exists() and len(list(folder.iterdir())) == 1


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
    weights = file.read_bytes() if file.is_file() else model.encode()
    return {
        "structures": len(frames),
        "geometry": geometry.hexdigest(),
        "model": hashlib.sha256(weights).hexdigest(),
        "settings": settings,
        "shard": shard,
    }


def _begin(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder, or make sure that it is one to go on with."""
    note = folder / FOLDER / NOTE
    if note.exists():
        there = json.loads(note.read_text())
        differs = [k for k in identity if there.get(k) != identity[k]]
        if differs:
            raise TlpotError(
                f"{folder} was begun with other {', '.join(differs)}; name another folder, or "
                "run the command that began it"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TlpotError(f"{folder} exists already and was not interrupted; name another folder")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_whole(note, json.dumps(identity, indent=2) + "\n")
