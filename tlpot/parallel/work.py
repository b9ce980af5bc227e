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
    """What is there, and is it finished? The one rule of all verbs that fill a folder.

    Parameters
    ----------
    notes
        What the verb writes before anything else: where all are, it began.
    product
        What it writes last.
    remains
        What it takes away when all is written: where that is, it did not end.

    Returns
    -------
    ``new``, nothing is there but a log and what a cut off `write_whole` left; ``begun``;
    ``finished``; or ``other``, somebody else's files.
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
    """Names in a folder but for a log and what a cut off `write_whole` left; itself, if a file.

    None where there is no folder yet: of several processes one makes it.
    """
    if not folder.is_dir():
        return [folder.name] if folder.exists() else []
    names = sorted(file.name for file in folder.iterdir())
    return [name for name in names if not name.endswith(PART) and name != RUN_LOG]


def require_free(folder: Path, product: str = "") -> None:
    """Refuse a folder that holds anything but interrupted work (`begun`).

    Raises
    ------
    TlpotError
        Saying what is there.
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
    """Note what the work is before its first file, or make sure that it is the work to go on with.

    Parameters
    ----------
    identity
        What makes two calls the same, in parts.
    more
        A part of work that was begun, not work of its own.

    Raises
    ------
    TlpotError
        If what was begun here differs in anything that `identity` names, or as `require_free`.
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
    """Take away what was only needed to go on; the note is the last to go."""
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    with storage(folder / NOTE):
        (folder / NOTE).unlink(missing_ok=True)


_held: set[Path] = set()
"""Places that this process has locked."""


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Keep other processes from a folder or file that ask likewise; one that dies lets go.

    May be nested. Where the system or file system has no such locks, nobody is kept out.

    Raises
    ------
    TlpotError
        If another process holds it.
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
    """Make a folder that is free and keep it, and a log, for one work; empty, it goes again.

    Raises
    ------
    TlpotError
        As of `require_free`, `make_folder` and `locked`.
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
