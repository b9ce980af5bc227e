"""Files as they come, packed or not: one opener, which looks at the content, not at the name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from tlpot.errors import TlpotError

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

SUFFIXES = re.compile(r"\.(gz|bz2|xz|lzma|zip)$", re.I)
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What reading raises where a packed file is cut or damaged."""


def plain_name(path: Path) -> str:
    """The file's name in lower case, without the suffix of a compression."""
    return SUFFIXES.sub("", path.name.lower())


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacked: gzip, bz2, xz, lzma, a zip of one file, or plain.

    Raises
    ------
    TlpotError
        If it is packed in another way, or an archive of several files.
    """
    head = _head(path)
    if head.startswith(ZIP):
        archive = zipfile.ZipFile(path)
        member = _member(archive, path)
        with archive.open(member) as file:
            _refuse_packed(file.read(512), path)
        return cast(BinaryIO, archive.open(member))
    for magic, name in UNKNOWN_PACKING.items():
        if head.startswith(magic):
            raise TlpotError(f"{path}: compressed with {name}, which tlpot cannot read; unpack it.")
    opener = next((READABLE[magic] for magic in READABLE if head.startswith(magic)), None)
    if opener is None:
        _refuse_tar(head, path)
        return path.open("rb")
    with opener(path) as file:
        _refuse_packed(file.read(512), path)
    return cast(BinaryIO, opener(path))


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The plain file, for readers that want a path: a temporary one of the same name if packed.

    Raises
    ------
    TlpotError
        As `open_binary`; or if the packed file is cut or damaged.
    """
    head = _head(path)
    if not head.startswith((*READABLE, *UNKNOWN_PACKING, *ZIP)):
        _refuse_tar(head, path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tlpot-") as folder:
        try:
            with open_binary(path) as packed:
                name = getattr(packed, "name", "") if head.startswith(ZIP) else ""
                plain = Path(folder, Path(name or SUFFIXES.sub("", path.name)).name)
                with plain.open("wb") as file:
                    shutil.copyfileobj(packed, file)
        except DAMAGE as error:
            raise TlpotError(damaged(path, error)) from None
        yield plain


def damaged(path: Path, error: Exception) -> str:
    """What to say of a file whose bytes cannot be had."""
    return (
        f"{path}: cannot be read to its end ({error}): the copy is cut or damaged. Copy it again."
    )


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
    if head.startswith((*READABLE, *UNKNOWN_PACKING, *ZIP)):
        raise TlpotError(f"{path}: packed twice; unpack it.")
    _refuse_tar(head, path)


def _refuse_tar(head: bytes, path: Path) -> None:
    if head[TAR] == b"ustar":
        raise TlpotError(f"{path}: a tar archive; unpack it and name the files to read.")
