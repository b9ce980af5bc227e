"""Work that fills a folder: begun, taken up, finished; one process at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal

from tlpot.errors import TlpotError, storage
from tlpot.files import PART, make_folder, write_whole
from tlpot.run_log import RUN_LOG, logged

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NOTE = "work.json"
"""In a folder that is being filled: what the work is; gone when all is there."""
SHARDS = "shards"
"""Folder in it for what is done."""
Stage = Literal["new", "begun", "finished", "other"]


def stage(folder: Path, notes: Collection[str], product: str, remains: str = "") -> Stage:
    """Tell how far the work in a folder is; this is the one rule of all verbs that fill a folder.

    Parameters
    ----------
    folder
        The folder, which may not exist.
    notes
        Files that the verb writes before anything else; if all are there, the work has begun.
    product
        The file that it writes last.
    remains
        A file that it removes when all is written; while that is there, the work has not ended.

    Returns
    -------
    Stage
        ``new`` if there is nothing but a log and what an interrupted `write_whole` left; ``begun``;
        ``finished``; or ``other`` if the files are somebody else's.
    """
    if not folder.exists():
        return "new"
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else {""}
    if product in there and remains not in there:
        return "finished"
    if there.issuperset(notes):
        return "begun"
    return "other" if foreign(folder) else "new"


def foreign(folder: Path) -> list[str]:
    """Names in a folder, except for a log and what an interrupted `write_whole` left.

    The list is empty if there is no folder (of several processes only one makes it), and holds the
    path's own name if it is a file.
    """
    if not folder.is_dir():
        return [folder.name] if folder.exists() else []
    names = sorted(file.name for file in folder.iterdir())
    return [name for name in names if not name.endswith(PART) and name != RUN_LOG]


def require_free(folder: Path, product: str = "") -> None:
    """Refuse a folder that holds anything but interrupted work.

    Raises
    ------
    TlpotError
        Saying what the folder holds.
    """
    now = stage(folder, (NOTE,), product, NOTE)
    if now == "begun" and not _noted(folder):
        now = "other"  # a file of the user's that is called as ours
    if now == "finished":
        raise TlpotError(f"{folder} exists already and holds finished work; name another folder")
    if now == "other":
        raise TlpotError(
            f"{folder} exists already, is not empty and was not interrupted; name another folder"
        )


def _noted(folder: Path) -> dict[str, Any]:
    """What a folder's note says; nothing where it has none of ours."""
    with suppress(OSError, JSONDecodeError, UnicodeDecodeError), storage(folder / NOTE, "read"):
        note = json.loads((folder / NOTE).read_text())
        return note if isinstance(note, dict) and note.get("by") == "tlpot" else {}
    return {}


def begin_work(folder: Path, identity: Mapping[str, Any], more: bool = False) -> None:
    """Note in a folder what its work is, or make sure that it is the work to continue.

    Parameters
    ----------
    folder
        The folder of the work.
    identity
        What makes two calls the same, by part.
    more
        Whether this is a part of work that was begun before, and not work of its own.

    Raises
    ------
    TlpotError
        If the work in the folder differs in anything that `identity` names, or as `require_free`.
    """
    require_free(folder)
    there = _noted(folder)
    identity = json.loads(json.dumps(identity))
    if len(there) > 1 and identity and not more and there.keys().isdisjoint(identity):
        raise TlpotError(f"{folder} was begun with other work; name another folder")
    for part, values in identity.items():
        before = there.get(part, values)
        if differs := [key for key in values if before.get(key) != values[key]]:
            raise TlpotError(
                f"{folder} was begun with other {', '.join(differs)}; name another folder, or "
                "run the command that began it"
            )
    now = {"by": "tlpot", **there, **identity}
    if there != now:
        make_folder(folder)
        write_whole(folder / NOTE, json.dumps(now, indent=2) + "\n")


def end_work(folder: Path) -> None:
    """Remove what was only needed to continue the work; the note goes last."""
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    with storage(folder / NOTE):
        (folder / NOTE).unlink(missing_ok=True)


_held: set[Path] = set()
"""Places that this process has locked."""


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Keep other processes out of a folder or file, if they ask in the same way.

    The lock may be nested, and a process that dies loses it. Without locks in the operating or file
    system nobody is kept out.

    Raises
    ------
    TlpotError
        If another process holds the lock.
    """
    key = place.resolve()
    if fcntl is None or key in _held:
        yield
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TlpotError(
            f"{place}: another process is at work here; wait for it, or name another output"
        ) from None
    except OSError:
        pass
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        os.close(handle)


@contextmanager
def at_work(folder: Path, product: str = "") -> Iterator[None]:
    """Make a folder that is free, and keep it and its log for one work; an empty folder is removed.

    Raises
    ------
    TlpotError
        As `require_free`, `make_folder` and `locked` do.
    """
    require_free(folder, product)
    new = not folder.exists()
    make_folder(folder)
    try:
        with locked(folder):
            require_free(folder, product)
            with logged(folder, begun=(folder / NOTE).exists()):
                yield
    finally:
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
