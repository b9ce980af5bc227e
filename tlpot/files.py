"""Files that are whole or not there; nothing is overwritten."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from tlpot.errors import StorageError, TlpotError, storage

PART = ".part"
"""Behind the name of a file that is being written."""


Content = str | bytes | memoryview


def expanded(name: str) -> str:
    """A path with ``~`` and ``$VARIABLES`` expanded.

    Raises
    ------
    TlpotError
        If a variable is not set.
    """
    path = os.path.expanduser(os.path.expandvars(name))
    if unset := re.search(r"\$(\w+|\{\w+\})", path):
        raise TlpotError(f"{name}: the environment variable {unset[0]} is not set.")
    return path


def write_whole(path: str | Path, content: Content, settled: bool = True) -> Path:
    """Write a file atomically: a reader finds either the old file or the new one.

    Parameters
    ----------
    path
        The file, which is replaced if it exists.
    content
        All that it will hold.
    settled
        Whether the content must be on the disk when this returns.

    Raises
    ------
    StorageError
        If the file cannot be written; what was there stays.
    """
    path = Path(path)
    with storage(path):
        try:
            _write_part(path, content, settled)
            os.replace(part_of(path), path)
        except OSError:
            with suppress(OSError):
                part_of(path).unlink()
            raise
    return path


def part_of(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(path.name + PART)


def _write_part(path: Path, content: Content, settled: bool = True) -> None:
    with part_of(path).open("wb") as file:
        file.write(_bytes(content))
        if settled:
            file.flush()
            os.fsync(file.fileno())


def write_new(contents: Mapping[Path, Content], mend: str) -> None:
    """Write several files that do not exist or are the same; if one fails, none is left.

    All are written before the first gets its name, and the first of `contents` gets it last. Who is
    killed between two names leaves a `part_of` it: then the same command goes on.

    Raises
    ------
    TlpotError
        As `require_absent` and `write_whole` do.
    """
    new = [path for path in contents if not path.exists()]
    for path in contents.keys() - new:  # of the same command, which was stopped later
        if not path.is_file() or path.read_bytes() != _bytes(contents[path]):
            require_absent(path, mend)
    named: list[Path] = []
    try:
        for path in new:
            make_folder(path.parent)
            with storage(path):
                _write_part(path, contents[path])
        for path in reversed(new):
            with storage(path):
                os.replace(part_of(path), path)
            named.append(path)
    except TlpotError:
        for path in (*named, *map(part_of, new)):
            with suppress(OSError):
                path.unlink()
        raise


def is_cut_off(path: Path) -> bool:
    """Whether `write_new` was stopped with this its first file, and is to compare what is there."""
    return part_of(path).exists()


def append(path: Path, content: Content, settled: bool = True) -> None:
    """Append to a file; if `settled`, the content is on the disk when this returns.

    Raises
    ------
    StorageError
        If it cannot be written; the file then ends where it did before.
    """
    rest = memoryview(_bytes(content))
    with storage(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if settled:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


def figure_bytes(figure: Any, kind: str = "png", **options: Any) -> bytes:
    """A matplotlib figure as the content of a file; `options` are those of its ``savefig``."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, **options)
    return content.getvalue()


def _bytes(content: Content) -> bytes | memoryview:
    return content.encode(errors="surrogateescape") if isinstance(content, str) else content


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def require_absent(path: str | Path, mend: str = "name another file") -> Path:
    """Return a path at which nothing exists.

    Raises
    ------
    TlpotError
        If something exists there, since nothing is ever overwritten.
    """
    if Path(path).exists():
        raise TlpotError(f"{path} exists already; {mend}")
    return Path(path)


def free_path(path: str | Path) -> Path:
    """The path, or the first of ``name-2``, ``name-3`` … at which nothing exists."""
    path = Path(path)
    numbered = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in count(2))
    return next(free for free in chain([path], numbered) if not free.exists())


def require_unshadowed(name: str, meaning: str, path: str | Path | None = None) -> None:
    """Refuse a word with a meaning for tlpot that is also the name of a file here.

    Parameters
    ----------
    name
        The word.
    meaning
        What it means.
    path
        The file that it could also mean; by default the file of this name.

    Raises
    ------
    TlpotError
        Saying how to name either of them.
    """
    path = Path(name if path is None else path)
    if path.is_file():
        raise TlpotError(
            f"'{name}' is {meaning}, but {path} is here too: write ./{name} for the file; to use "
            f"{meaning}, rename the file or work in another folder"
        )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises
    ------
    TlpotError
        If the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise TlpotError(f"{folder} is a file; name a folder") from None
    except OSError as error:
        raise StorageError.of(error, folder, "made") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            f"{folder} is not yours to write to, or its file system is read-only: get the right "
            "to, have it mounted for writing, or name another folder"
        )
