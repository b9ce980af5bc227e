"""Extended XYZ as it is written, spelled as ASE reads it.

ASE knows ``Lattice``, ``Properties`` and ``pbc`` in just this spelling and takes others for notes:
a crystal becomes a molecule without forces. Other programs (GPUMD) do not look at the case.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import ase.io
from ase import Atoms

from tlpot.data.crystals.contents import ISOTOPES
from tlpot.errors import TlpotError, refusing

SPELLED = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
LOWER_CASE = ("species", "pos")
"""Columns that ASE knows in lower case only."""
NEEDED = (("pos", "positions"), ("species", "Z", "symbols", "numbers"))
"""Columns without which there is no structure, as ASE knows them."""

PAIR = re.compile(
    r"""(?P<key>[^\s="'{\[]+)(?P<is>\s*=\s*)"""
    r"""(?P<value>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{[^}]*\}|\[[^\]]*\]|[^\s"'{\[]\S*)"""
)
LONGEST_QUOTE = 60
"""Characters of a line that a message shows."""
WIDEST = 10_000
"""Numbers of an atom in one column, at most."""
ISOTOPE = re.compile(rf"^\s*({'|'.join(ISOTOPES)})(?=\s)", re.M)
"""The element of an atom's line."""
YES = re.compile(r"\b(t|true|1)\b|\.true\.", re.I)


def read_xyz(
    path: Path, plain: Path, kind: str, meaning: Callable[[Exception], str]
) -> list[Atoms]:
    """All frames of an XYZ file, which lies unpacked at `plain`.

    Parameters
    ----------
    kind
        ASE's name of the format.
    meaning
        As for `tlpot.errors.refusing`.

    Raises
    ------
    TlpotError
        Naming the first frame that cannot be read; or as `respelled` and `require_all`.
    """
    text = respelled(path, plain)
    source = plain if text is None else io.StringIO(text)
    try:
        read = ase.io.read(source, ":", format=kind, do_not_split_by_at_sign=True)
    except Exception:
        lines = (plain.read_text("utf-8", "replace") if text is None else text).split("\n")
        for frame, place in enumerate(_comments(path, lines)):
            block = "\n".join(lines[place - 1 : place + 1 + int(lines[place - 1])])
            with refusing(f"{path}#{frame}", kind, meaning):
                ase.io.read(io.StringIO(block), 0, format=kind)
        raise
    images = read if isinstance(read, list) else [read]
    require_all(path, plain, text, len(images))
    return images


def respelled(path: Path, plain: Path) -> str | None:
    """The text of an XYZ file as ASE spells it; None where nothing is to be done.

    Raises
    ------
    TlpotError
        If a comment has the cell, the positions or the elements under a name that is not the
        format's.
    """
    text = plain.read_bytes().decode("utf-8", "surrogateescape")
    changed = text.startswith("\ufeff") or "\r" in text.replace("\r\n", "")
    isotopes = ISOTOPE.search(text) is not None
    lines = re.split(r"\r*\n|\r", text.removeprefix("\ufeff"))
    for frame, place in enumerate(_comments(path, lines)):
        atoms, behind = int(lines[place - 1]), len(lines) - place - 1
        if atoms > behind:
            raise TlpotError(
                f"{path}#{frame}: says that it has {atoms} atoms, but it ends inside a frame, "
                f"{max(behind, 0)} lines behind it. Copy it again if it is cut."
            )
        comment = lines[place]
        keys = {match["key"] for match in PAIR.finditer(comment)}
        lines[place] = PAIR.sub(partial(_pair, keys), comment)
        changed = changed or lines[place] != comment
        if isotopes:
            block = slice(place + 1, place + 1 + atoms)
            elements = [ISOTOPE.sub(_element, line) for line in lines[block]]
            changed = changed or elements != lines[block]
            lines[block] = elements
        _require_names(lines[place], f"{path}#{frame}")
    return "\n".join(lines) if changed else None


def _comments(path: Path, lines: list[str]) -> Iterator[int]:
    """Where the comments stand, up to the first blank line between frames."""
    place = frames = 0
    while place < len(lines) and lines[place].strip():
        if lines[place].lstrip().startswith("VEC"):
            place += 1
            continue
        atoms = _count(path, lines[place], frames, place)
        yield place + 1
        frames += 1
        place += max(atoms, 0) + 2


def _count(path: Path, line: str, frames: int, place: int) -> int:
    """Of the atoms of a frame, as its first line has it."""
    try:
        return int(line)
    except ValueError:
        text = f"'{line.strip()[:LONGEST_QUOTE]}', which is no number of atoms"
        if not frames:
            raise TlpotError(
                f"{path}: in its first line stands {text}. Remove what is no frame."
            ) from None
        raise TlpotError(
            f"{path}: behind frame {frames - 1}, in line {place + 1}, stands {text}. Remove it, or "
            f"mend the number of atoms of frame {frames - 1}."
        ) from None


def _element(match: re.Match[str]) -> str:
    """Hydrogen for its isotopes."""
    return match[0].replace(match[1], ISOTOPES[match[1]])


def _pair(keys: set[str], match: re.Match[str]) -> str:
    """A key and its value, spelled as ASE does where the `keys` of the comment have none so."""
    key, value = match["key"], match["value"]
    name = SPELLED.get(key.lower(), key)
    if name != key and name in keys:
        return match[0]
    if name == "Properties":
        value = _columns(value)
    elif name == "pbc":
        value = re.sub(r"[\w.]+", lambda word: "FT"[bool(YES.fullmatch(word[0]))], value)
    return f"{name}{match['is']}{value}"


def _columns(value: str) -> str:
    """``Species:s:1:Pos:r:3`` as ``species:S:1:pos:R:3``."""
    quote = value[:1] if value[:1] in ("'", '"') else ""
    words = value.strip("\"'").split(":")
    words[::3] = [name.lower() if name.lower() in LOWER_CASE else name for name in words[::3]]
    words[1::3] = [kind.upper() for kind in words[1::3]]
    return f"{quote}{':'.join(words)}{quote}"


def _require_names(comment: str, where: str) -> None:
    """Refuse what ASE would take for a molecule in vacuum, or for atoms in the origin."""
    pairs = {match["key"]: match["value"].strip("\"'") for match in PAIR.finditer(comment)}
    cell = next((value for key, value in pairs.items() if key.lower() == "cell"), "")
    if "Lattice" not in pairs and len(cell.split()) == 9:
        raise TlpotError(
            f"{where}: its comment has the cell as 'cell'; extended XYZ calls it Lattice. Rename "
            "it, or the crystal would be a molecule in vacuum."
        )
    columns = pairs.get("Properties", "species:S:1:pos:R:3").split(":")
    names = columns[::3]
    if wide := [n for n in columns[2::3] if n.isdecimal() and int(n) > WIDEST]:
        raise TlpotError(f"{where}: its Properties has a column {wide[0]} numbers wide; mend it")
    for alternatives in NEEDED:
        if not set(alternatives) & set(names):
            raise TlpotError(
                f"{where}: its Properties names no column {' or '.join(alternatives)} (but "
                f"{', '.join(names)}); rename the column that is meant"
            )


def require_all(path: Path, plain: Path, text: str | None, read: int) -> None:
    """ASE stops at the first blank line without a word; the frames behind it must not vanish.

    Raises
    ------
    TlpotError
        If the file, or its `respelled` text, holds more frames than were `read`, or something
        else behind them.
    """
    frames = place = 0
    with (
        io.StringIO(text)
        if text
        else plain.open(encoding="utf-8-sig", errors="replace", newline="\n") as file
    ):
        while line := file.readline():
            place += 1
            if not line.strip() or line.lstrip().startswith("VEC"):
                continue
            atoms = _count(path, line, frames, place - 1)
            frames += 1
            for _ in range(atoms + 1):
                place += 1
                if not file.readline():
                    break
    if frames != read:
        raise TlpotError(
            f"{path}: holds {frames} frames, but reading stops after {read} at a blank line. "
            "Remove blank lines between frames."
        )
