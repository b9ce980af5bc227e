"""The one exception that bad input raises; the command line turns it into exit code 2."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
"""What torch says where it gets no memory, of a GPU, of Linux, of Windows, of C++."""


STORAGE = {
    getattr(errno, name): mend
    for mend, names in {
        "free some space there": "ENOSPC",
        "free some of your quota there": "EDQUOT",
        "raise the limit on the size of files (ulimit -f)": "EFBIG",
        "raise the limit on open files (ulimit -n)": "EMFILE ENFILE",
        "have its file system mounted for writing, or name another place": "EROFS",
        "get the right to, or name another place": "EACCES EPERM",
        "see that its file system is there, or mount it again": "ESTALE EIO ENOTCONN ENODEV ENXIO "
        "ETIMEDOUT EHOSTDOWN EHOSTUNREACH",
    }.items()
    for name in names.split()
}
"""What helps where a file system fails, whatever is in the files."""


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class TlpotError(ValueError):
    """Bad input; the message names the file, frame or field and says how to mend it."""


class MachineError(TlpotError):
    """The machine lacks something, such as memory: no file or frame is at fault or left out."""


class StorageError(MachineError):
    """Error of a file system: it is full, read-only or no longer there."""

    @classmethod
    def of(cls, error: OSError, path: object = None, deed: str = "read or written") -> StorageError:
        """What an `OSError` means for a file, and what helps."""
        path = path or error.filename2 or error.filename or "a file"
        mend = STORAGE.get(error.errno or 0, "see that its folder is there")
        return cls(
            f"{path} cannot be {deed} ({error.strerror or error}): {mend}, then run the same "
            "command again; nothing that was there is lost"
        )


@contextmanager
def storage(path: object, deed: Literal["read", "written"] = "written") -> Iterator[None]:
    """What a file system refuses within is told of the file, with the mend.

    Raises
    ------
    StorageError
        In the place of an `OSError`; where a file is read, of those of `STORAGE`.
    """
    try:
        yield
    except OSError as error:
        if deed == "read" and error.errno not in STORAGE:
            raise
        raise StorageError.of(error, path, deed) from None


@contextmanager
def refusing(
    path: object, kind: str, meaning: Callable[[Exception], str] | None = None
) -> Iterator[None]:
    """Whatever a reader of files stumbles over within is told of the file: it is damaged.

    A file system that fails is told as such.

    Parameters
    ----------
    kind
        What it is read as.
    meaning
        What an exception tells; left out, its kind and what it says.

    Raises
    ------
    TlpotError
        In the place of anything that is raised.
    """
    try:
        with storage(path, "read"):
            yield
    except TlpotError:
        raise
    except Exception as error:  # of broken files: no list of these is finite
        what = meaning(error) if meaning else f"{type(error).__name__}: {error}".removesuffix(": ")
        raise TlpotError(
            f"{path}: cannot be read as {kind}: {what}. Mend the file, copy it again if it is cut, "
            "or leave it out."
        ) from None


class OutOfMemoryError(MachineError):
    """There was no more memory; who knows better what to lower says so in its place."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(f"out of memory ({reason}); {mend}")
        self.reason = reason


class TlpotWarning(UserWarning):
    """Warning about a result that is given nevertheless."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no more memory, on a GPU or beside it."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in message for words in EXHAUSTED)
    )


@contextmanager
def short_of_memory(mend: str) -> Iterator[None]:
    """Turn what Python and torch raise without memory into one message with its mend.

    Raises
    ------
    OutOfMemoryError
        Saying `mend`, what to lower; in place of what was said within.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(error.reason, mend) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(first_line(error)[:120], mend) from None
