"""Files that are whole or not there, folders that one process is at, work that can be taken up."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal

from tlpot.errors import StorageError, TlpotError, storage
from tlpot.run_log import RUN_LOG, logged

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = ".part"
"""Behind the name of a file that is being written."""
NOTE = "work.json"
"""In a folder that is being filled: what the work is; gone when all is there."""
SHARDS = "shards"
"""Folder in it for what is done."""

GUARD = "'"
"""Before a cell that spreadsheets are to leave as it is."""
MONTHS = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?"
    "|oct(ober)?|nov(ember)?|dec(ember)?"
)
DECIMAL = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?")
"""A number that a spreadsheet shows as it stands."""
MISTAKEN = re.compile(
    rf"[=+@\t\r-]|[\d\s.,:/%$€-]*\d[\d\s.,:/%$€-]*$|(\d+[\s./-]*)?({MONTHS})[\s./-]*\d+$"
    rf"|\d+[\s./-]*({MONTHS})$|\d[\d:]*\s+[ap]m?$",
    re.IGNORECASE,
)
"""Begins as a formula, has digits and marks alone, or a month or hour beside digits."""

Content = str | bytes | memoryview
Stage = Literal["new", "begun", "finished", "other"]


def expanded(name: str) -> str:
    """A path with ``~`` and ``$VARIABLES`` written out.

    Raises
    ------
    TlpotError
        Naming a variable that is not set.
    """
    path = os.path.expanduser(os.path.expandvars(name))
    if unset := re.search(r"\$(\w+|\{\w+\})", path):
        raise TlpotError(f"{name}: the environment variable {unset[0]} is not set.")
    return path


def write_whole(path: str | Path, content: Content, settled: bool = True) -> Path:
    """Write a file atomically: whoever reads it finds the old one or the new one.

    `settled`, it is on the disk when this returns.

    Raises
    ------
    StorageError
        If it cannot be written; what was there stays.
    """
    path = Path(path)
    partial = path.with_name(path.name + PART)
    with storage(path):
        try:
            with partial.open("wb") as file:
                file.write(_bytes(content))
                if settled:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
    return path


def write_new(contents: Mapping[Path, Content], mend: str) -> None:
    """Write files where none are, or the same: all of them, or where one cannot be written none.

    Raises
    ------
    TlpotError
        As `require_absent` and `write_whole`.
    """
    new = [path for path in contents if not path.exists()]
    for path in contents.keys() - new:  # of the same command, which was stopped later
        if not path.is_file() or path.read_bytes() != _bytes(contents[path]):
            require_absent(path, mend)
    try:
        for path in new:
            make_folder(path.parent)
            write_whole(path, contents[path])
    except TlpotError:
        for path in new:
            with suppress(OSError):
                path.unlink()
        raise


def append(path: Path, content: Content, settled: bool = True) -> None:
    """Add to the end of a file; `settled`, it is on the disk when this returns.

    Raises
    ------
    StorageError
        If it cannot be written; the file ends where it did.
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
    """A matplotlib figure as the content of a file; `options` as for its ``savefig``."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, **options)
    return content.getvalue()


def _bytes(content: Content) -> bytes | memoryview:
    return content.encode(errors="surrogateescape") if isinstance(content, str) else content


def sha256(path: str | Path) -> str:
    """What identifies a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


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


def free_path(path: str | Path) -> Path:
    """The path, or where something is there already the first free ``name-2``, ``name-3``."""
    path = Path(path)
    numbered = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in count(2))
    return next(free for free in chain([path], numbered) if not free.exists())


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
    """A value in a CSV: what is unknown, None or NaN, is an empty cell.

    Text that a spreadsheet would make something else of (`is_mistaken`) gets an apostrophe before
    it; `tlpot.data.table.read_table` takes it away again.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return GUARD + value if is_mistaken(value) else value
    return f"{value:.{digits}g}" if isinstance(value, float) and digits else str(value)


def is_mistaken(text: str) -> bool:
    """Whether a spreadsheet takes a text for a formula, a date, a time or another number."""
    try:
        number = float(text)
    except ValueError:
        return bool(MISTAKEN.match(text))
    return math.isfinite(number) and text != repr(number) and not DECIMAL.fullmatch(text)


def cell_number(text: str) -> float:
    """The number in a cell of a CSV; NaN where it is empty."""
    return float(text or "nan")


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


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it.

    Raises
    ------
    TlpotError
        If it cannot be made or written to.
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
