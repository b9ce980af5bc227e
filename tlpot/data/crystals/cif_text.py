"""The text of a CIF as data blocks of tags and values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tlpot.errors import TlpotError

_TOKEN = re.compile(
    r"""^;(?P<text>.*?)^;(?=\s|\Z)     # text field: from a semicolon that begins a line
      | \#[^\n]*                       # comment
      | '(?P<single>[^\n]*?)'(?=\s|\Z)
      | "(?P<double>[^\n]*?)"(?=\s|\Z)
      | (?P<word>\S+)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
UNKNOWN = ("?", ".")


@dataclass
class Block:
    """One data block.

    Attributes
    ----------
    name
        Without ``data_``.
    tags
        Values by tag, in lower case and with ``_`` for the ``.`` of newer dictionaries.
    broken
        What is wrong with a tag's values, by tag.
    """

    name: str
    tags: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def column(self, *tags: str) -> list[str] | None:
        """Values of the first of these tags that is there; None where none is.

        Raises
        ------
        TlpotError
            If the loop that holds it is broken.
        """
        for tag in map(str.lower, tags):
            if tag in self.broken:
                raise TlpotError(self.broken[tag])
            if tag in self.tags:
                return self.tags[tag]
        return None

    def value(self, *tags: str) -> str | None:
        """The first value of the first of these tags that is known; raises as `column`."""
        for tag in tags:
            texts = self.column(tag)
            if texts and texts[0] not in UNKNOWN:
                return texts[0]
        return None


def decode(content: bytes) -> str:
    """Text of any encoding that CIFs come in, without byte-order mark and with line feeds alone."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    elif content[1:2] == b"\x00":
        text = content.decode("utf-16-le", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_blocks(text: str) -> list[Block]:
    """The data blocks of a CIF (version 1.1); a broken loop spoils its own tags alone."""
    blocks: list[Block] = []
    loop: list[str] | None = None
    values: list[str] = []
    tag: str | None = None

    def close() -> None:
        nonlocal loop, tag
        if tag is not None:
            blocks[-1].broken[tag] = f"cannot be read: {tag} has no value"
        if loop:
            _fill(blocks[-1], loop, values)
        loop, tag = None, None

    for kind, token in _tokens(text):
        word = token.lower() if kind == "word" else ""
        if word.startswith("data_"):
            if blocks:
                close()
            blocks.append(Block(token[5:]))
        elif not blocks or word.startswith("save_"):
            continue
        elif word in ("loop_", "_loop"):  # the second is Materials Studio's end of a loop
            close()
            loop, values = ([] if word == "loop_" else None), []
        elif word.startswith("_"):
            name = word.replace(".", "_")
            if loop is not None and not values:
                loop.append(name)
                continue
            close()
            tag = name
        elif loop:
            values.append(token)
        elif tag is not None:
            blocks[-1].tags.setdefault(tag, [token])
            tag = None
    if blocks:
        close()
    return blocks


def _fill(block: Block, loop: list[str], values: list[str]) -> None:
    columns = len(loop)
    if len(values) % columns:
        block.broken |= dict.fromkeys(
            loop,
            f"cannot be read: the loop of {loop[0]} has {len(values)} values for {columns} "
            "columns: one is missing or too many, or the file is cut",
        )
        return
    for i, name in enumerate(loop):
        block.tags.setdefault(name, values[i::columns])


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None:
            yield match.lastgroup, match[match.lastgroup]
