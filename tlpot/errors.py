"""The one exception that bad input raises; the command line turns it into exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
"""What torch says where it gets no memory, of a GPU, of Linux, of Windows, of C++."""


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class TlpotError(ValueError):
    """Bad input: says which file, frame or field is wrong and how to mend it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no more memory, on a GPU or beside it."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in EXHAUSTED)
    )


@contextmanager
def short_of_memory(mend: str) -> Iterator[None]:
    """Turn what Python and torch raise without memory into one message with its mend.

    Raises
    ------
    TlpotError
        Saying `mend`, what to lower.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TlpotError(f"out of memory ({first_line(error)[:120]}); {mend}") from None
