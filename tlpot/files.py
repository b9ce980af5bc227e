"""Files that are whole or not there, folders that one process is at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlpot.errors import TlpotError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write a file atomically: whoever reads it finds the old one or the new one."""
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(
        content.encode(errors="surrogateescape") if isinstance(content, str) else content
    )
    os.replace(partial, path)
    return path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder that ask likewise; one that dies lets go.

    Where the system or file system has no such locks, nobody is kept out.

    Raises
    ------
    TlpotError
        If another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TlpotError(
            f"{folder}: another process is at work in this folder; wait for it, or name another"
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(handle)
