"""The one exception that bad input raises; the command line turns it into exit code 2."""


class TlpotError(ValueError):
    """Bad input: says which file, frame or field is wrong and how to mend it."""
