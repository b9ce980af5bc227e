"""Text as programs on any system write it."""

from __future__ import annotations

import codecs
from pathlib import Path

from tlpot.data.compression import open_binary, plain_name
from tlpot.errors import TlpotError, storage

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the bytes that a file begins with."""
WORKBOOKS = (".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".numbers")


def read_text(path: str | Path) -> str:
    """The text of a file, packed or not: UTF-8, UTF-16, or what Windows has instead.

    Raises
    ------
    TlpotError
        If there is no such file, or it holds no text.
    """
    path = Path(path)
    if plain_name(path).endswith(WORKBOOKS):
        raise TlpotError(f"{path}: is a spreadsheet; save it as CSV (comma or semicolon separated)")
    try:
        with storage(path, "read"), open_binary(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise TlpotError(f"{path}: no such file") from None
    except OSError as error:
        raise TlpotError(f"{path}: cannot be read ({error})") from None
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if encoding is None:
        encoding = "utf-8"
        if content[1:2] == b"\0":
            encoding = "utf-16-le"
        elif content[:1] == b"\0":
            encoding = "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\0" in text:
        raise TlpotError(f"{path}: is no text, but a binary file; export it as text")
    return text
