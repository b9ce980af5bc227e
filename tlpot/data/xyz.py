"""Extended XYZ as it is written, spelled as ASE reads it.

ASE knows ``Lattice``, ``Properties`` and ``pbc`` in just this spelling and takes others for notes:
a crystal becomes a molecule without forces. Other programs (GPUMD) do not look at the case.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tlpot.errors import TlpotError

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
YES = re.compile(r"\b(t|true|1)\b|\.true\.", re.I)


def respelled(path: Path, plain: Path) -> str | None:
    """The text of an XYZ file as ASE spells it; None where nothing is to be done.

    Raises
    ------
    TlpotError
        If a comment has the cell, the positions or the elements under a name that is not the
        format's.
    """
    text = plain.read_bytes().decode("utf-8", "surrogateescape")
    lines = re.split(r"\r*\n|\r", text.removeprefix("\ufeff"))
    changed = text.startswith("\ufeff") or "\r" in text.replace("\r\n", "")
    for frame, place in enumerate(_comments(lines)):
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
        _require_names(lines[place], f"{path}#{frame}")
    return "\n".join(lines) if changed else None


def _comments(lines: list[str]) -> Iterator[int]:
    """Where the comments stand, up to the first line that is no number of atoms."""
    place = 0
    while place < len(lines):
        if lines[place].lstrip().startswith("VEC"):
            place += 1
            continue
        try:
            atoms = int(lines[place])
        except ValueError:
            return
        yield place + 1
        place += max(atoms, 0) + 2


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
    frames = 0
    with (
        io.StringIO(text)
        if text
        else plain.open(encoding="utf-8-sig", errors="replace", newline="\n") as file
    ):
        while line := file.readline():
            if not line.strip() or line.lstrip().startswith("VEC"):
                continue
            try:
                atoms = int(line)
            except ValueError:
                where = f"behind frame {frames - 1}" if frames else "in its first line"
                raise TlpotError(
                    f"{path}: {where} stands '{line.strip()[:LONGEST_QUOTE]}', which is no number "
                    "of atoms. Remove what is no frame."
                ) from None
            frames += 1
            for _ in range(atoms + 1):
                if not file.readline():
                    break
    if frames != read:
        raise TlpotError(
            f"{path}: holds {frames} frames, but reading stops after {read} at a blank line. "
            "Remove blank lines between frames."
        )
