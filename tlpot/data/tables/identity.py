"""Which structure an id means: the end of its path, as far back as it takes."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlpot.data.compression import SUFFIXES
from tlpot.data.crystals.read import stem
from tlpot.errors import TlpotError

SHOWN_NAMES = 3
"""Names that a message lists."""


class Names:
    """Finds structures by id.

    Of ``set/a/1.cif#0`` an id may be ``1``, ``1.cif``, ``a/1``, ``set/a/1.cif``, any of them with
    ``#0``; of a later structure of a file, ``1#3`` or ``1-3``, ``1.cif#3`` … .

    Parameters
    ----------
    names
        ``path#index`` of each structure.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._ends: dict[str, list[tuple[list[str], str]]] = defaultdict(list)
        for name in names:
            path, index = _parts(name)
            for end in _ends(path[-1], index):
                self._ends[end].append((path, name))
        self._names = names

    def find(self, ident: str) -> list[str]:
        """Names that an id may mean, in order."""
        *folders, end = _folders(ident) or [""]
        depth = len(folders) + 1
        return [name for path, name in self._ends.get(end, []) if path[-depth:-1] == folders]

    def name_of(self, ident: str, where: str) -> str | None:
        """The name that an id means; None: of no structure here.

        Parameters
        ----------
        where
            The row, for a message.

        Raises
        ------
        TlpotError
            If it may mean several.
        """
        names = self.find(ident)
        if len(names) > 1:
            raise TlpotError(
                f"{where}: '{ident}' may be {shown(names)}; write as much of the path as tells "
                "them apart"
            )
        return names[0] if names else None

    def by_name(self, idents: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Id by the name of the structure that it means, of ``(id, row)`` pairs.

        Raises
        ------
        TlpotError
            If an id may mean several structures, or several ids mean one.
        """
        ids: dict[str, str] = {}
        for ident, where in idents:
            name = self.name_of(ident, where)
            if name in ids:
                raise TlpotError(f"{where}: '{ident}' and '{ids[name]}' are both {name}")
            if name is not None:
                ids[name] = ident
        return ids


def short_names(names: Iterable[str]) -> dict[str, str]:
    """What to call each structure: `stem`, with folders where it takes them."""
    paths = {name: [*_folders(name)[:-1], stem(name)] for name in names}
    short = dict.fromkeys(paths, "")
    for depth in range(1, max(map(len, paths.values()), default=0) + 1):
        count = Counter(short.values())
        short = {
            name: "/".join(paths[name][-depth:]) if count[called] > 1 or not called else called
            for name, called in short.items()
        }
    return short


def shown(names: Sequence[str]) -> str:
    """The first few, for a message."""
    listed = ", ".join(names[:SHOWN_NAMES])
    return listed + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def _parts(name: str) -> tuple[list[str], int]:
    path, _, index = name.rpartition("#") if re.search(r"#\d+$", name) else (name, "", "0")
    return _folders(os.path.abspath(path)), int(index)


def _folders(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def _ends(file: str, index: int) -> set[str]:
    plain = SUFFIXES.sub("", file)
    bare = Path(plain).stem
    files = {file, plain, bare}
    ends = {f"{name}#{index}" for name in files} | {f"{bare}-{index}"}
    return ends | files if not index else ends
