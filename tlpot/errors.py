"""The one exception that bad input raises; the command line turns it into exit code 2."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
"""What torch says where it gets no memory, of a GPU, of Linux, of Windows, of C++."""


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class TlpotError(ValueError):
    """Bad input: says which file, frame or field is wrong and how to mend it."""


@contextmanager
def refusing(
    path: object, kind: str, meaning: Callable[[Exception], str] | None = None
) -> Iterator[None]:
    """Whatever a reader of files stumbles over within is told of the file: it is damaged.

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
        yield
    except (TlpotError, PermissionError):
        raise
    except Exception as error:  # of broken files: no list of these is finite
        what = meaning(error) if meaning else f"{type(error).__name__}: {error}".removesuffix(": ")
        raise TlpotError(
            f"{path}: cannot be read as {kind}: {what}. Mend the file, copy it again if it is cut, "
            "or leave it out."
        ) from None


class OutOfMemoryError(TlpotError):
    """There was no more memory; who knows better what to lower says so in its place."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(f"out of memory ({reason}); {mend}")
        self.reason = reason


class TlpotWarning(UserWarning):
    """What a user should know of a result that is given all the same."""


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
