"""The one exception that bad input raises; the command line turns it into exit code 2."""


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class TlpotError(ValueError):
    """Bad input: says which file, frame or field is wrong and how to mend it."""
