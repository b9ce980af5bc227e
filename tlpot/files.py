"""Files that are whole or not there, folders that one process is at."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def require_absent(path: str | Path, mend: str = "name another file") -> Path:
    """A path to write to, where nothing is yet.

    Raises
    ------
    TlpotError
        If there is something; it is never overwritten.
    """
    if Path(path).exists():
        raise TlpotError(f"{path} exists already; {mend}")
    return Path(path)


def require_unshadowed(name: str, meaning: str, path: str | Path | None = None) -> None:
    """Refuse a word that means something to tlpot where it also names a file.

    Parameters
    ----------
    meaning
        What the word stands for.
    path
        The file that it could mean; left out, the one of this name.

    Raises
    ------
    TlpotError
        Saying how to name either.
    """
    path = Path(name if path is None else path)
    if path.is_file():
        raise TlpotError(
            f"'{name}' is {meaning}, but {path} is here too: write ./{name} for the file; to use "
            f"{meaning}, rename the file or work in another folder"
        )


def table_text(
    columns: Iterable[str], rows: Iterable[Mapping[str, Any]], digits: int | None = None
) -> str:
    """Rows by column as CSV, each cell as `cell_text` has it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell_text(row[key], digits) for key in row} for row in rows)
    return text.getvalue()


def cell_text(value: Any, digits: int | None = None) -> str:
    """A value in a CSV: what is unknown, None or NaN, is an empty cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) and digits else str(value)


def cell_number(text: str) -> float:
    """The number in a cell of a CSV; NaN where it is empty."""
    return float(text or "nan")


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
