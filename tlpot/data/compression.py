"""Files as they come, packed or not: one opener, which looks at the content, not at the name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tlpot.errors import TlpotError, storage

READABLE: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"]\x00\x00": lzma.open,
}
"""How files of the standard library's compressions begin, and who opens them; zip comes apart."""

UNKNOWN_PACKING = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x1f\x9d": "compress (.Z)",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
TAR = slice(257, 262)
"""Where ``ustar`` stands in an archive of tar."""

BUFFER = 1 << 20

SUFFIXES = re.compile(r"\.(gz|bz2|xz|lzma|zip)$", re.I)
MOST, MOST_TIMES = 1 << 26, 100
"""Bytes that may come out of any packed file, and times its size that may on top of that."""
DICTIONARY = 1 << 28
"""Bytes that unpacking xz and lzma may take."""


def plain_name(path: Path) -> str:
    """The file's name in lower case, without the suffix of a compression."""
    return SUFFIXES.sub("", path.name.lower())


class _Plain(io.RawIOBase):
    """A file's plain bytes; reading them says what is wrong with it, and stops before it is a bomb.

    Raises
    ------
    TlpotError
        If it is cut or damaged, or much larger unpacked than packed files are.
    """

    def __init__(self, file: Any, path: Path, name: str) -> None:
        self._file, self._path, self.name = file, path, name
        self._left = MOST + MOST_TIMES * path.stat().st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _named(self._path):
            chunk: bytes = self._file.read(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise TlpotError(
                f"{self._path}: unpacks to more than {MOST_TIMES} times its size, as no data does; "
                "unpack it yourself if you trust it."
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong within is told of the file."""
    try:
        with storage(path, "read"):
            yield
    except (TlpotError, FileNotFoundError):
        raise
    except Exception as error:  # what unpackers raise of damaged files is no finite list
        raise TlpotError(damaged(path, error)) from None


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacked: gzip, bz2, xz, lzma, a zip of one file, or plain.

    Raises
    ------
    TlpotError
        If it is packed in another way, or an archive of several files; and while it is read, if
        it is cut or damaged, or unpacks to far more than it is.
    """
    with _named(path):
        head, file = _head(path), _open(path)
        with file:
            content, name = file.read(512), str(getattr(file, "name", ""))
        if _is_packed(head):
            _refuse_packed(content, path)
        else:
            _refuse_tar(content, path)
        name = name if head.startswith(ZIP) else ""
        return io.BufferedReader(_Plain(_open(path), path, name), BUFFER)


def _open(path: Path) -> Any:
    head = _head(path)
    if head.startswith(ZIP):
        archive = zipfile.ZipFile(path)
        return archive.open(_member(archive, path))
    for magic, name in UNKNOWN_PACKING.items():
        if head.startswith(magic):
            raise TlpotError(f"{path}: compressed with {name}, which tlpot cannot read; unpack it.")
    opener = next((READABLE[magic] for magic in READABLE if head.startswith(magic)), None)
    if opener is lzma.open:
        lzma.LZMADecompressor(memlimit=DICTIONARY).decompress(head)
    return opener(path) if opener else path.open("rb")


def _is_packed(head: bytes) -> bool:
    return head.startswith((*READABLE, *UNKNOWN_PACKING, *ZIP))


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The plain file, for readers that want a path: a temporary one of the same name if packed.

    Raises
    ------
    TlpotError
        As `open_binary`.
    """
    head = _head(path)
    if not _is_packed(head):
        _refuse_tar(head, path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tlpot-") as folder:
        with open_binary(path) as packed:
            name = getattr(packed, "name", "") or SUFFIXES.sub("", path.name)
            plain = Path(folder, Path(name).name)
            with plain.open("wb") as file:
                shutil.copyfileobj(packed, file)
        yield plain


def damaged(path: Path, error: Exception) -> str:
    """What to say of a file whose bytes cannot be had."""
    what = str(error) or type(error).__name__
    return f"{path}: cannot be read to its end ({what}): the copy is cut or damaged. Copy it again."


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    hidden = re.compile(r"(^|/)(\.|__MACOSX/)")
    members = [m for m in archive.infolist() if not m.is_dir() and not hidden.search(m.filename)]
    if len(members) != 1:
        raise TlpotError(
            f"{path}: a zip archive of {len(members)} files; unpack it and name those to read."
        )
    if members[0].flag_bits & 1:
        raise TlpotError(f"{path}: a zip archive with a password; unpack it.")
    return members[0]


def _refuse_packed(head: bytes, path: Path) -> None:
    """Refuse what is packed in a packed file."""
    if _is_packed(head):
        raise TlpotError(f"{path}: packed twice; unpack it.")
    _refuse_tar(head, path)


def _refuse_tar(head: bytes, path: Path) -> None:
    if head[TAR] == b"ustar":
        raise TlpotError(f"{path}: a tar archive; unpack it and name the files to read.")
