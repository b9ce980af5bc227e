"""Crystals to learn from: read, simulated, labelled with their crystal system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlpot.data.crystals.read import Refused, read_crystals, require_some, stem
from tlpot.data.tables.identity import Names
from tlpot.data.tables.table import MISSING, read_table
from tlpot.errors import MachineError, TlpotError
from tlpot.powder.config import PowderData
from tlpot.powder.lines import SYSTEMS, Lines, crystal_system, lines_of
from tlpot.structure.frames import Frame
from tlpot.structure.symmetry import symmetry

SystemTable = dict[str, dict[str, str]]
"""Rows by frame name."""
TABLE_COLUMNS = ("id", "crystal_system")
"""Of a table; what its others hold is a note of the crystal."""


@dataclass(frozen=True, eq=False)
class Example:
    """A crystal, its powder lines, and the place of its crystal system in `SYSTEMS`.

    ``frame.info`` holds the ``prototype`` and what else the files and the table say.
    """

    frame: Frame
    lines: Lines
    system: int


def read_examples(
    data: PowderData, on_crystal: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[Example], list[Refused]]:
    """Read the crystals of a config, simulate their lines, find or look up their crystal system.

    Parameters
    ----------
    on_crystal
        Called with how many are done of how many.

    Raises
    ------
    TlpotError
        If nothing can be used; if something cannot and ``data.bad_crystals`` is `refuse`; or if
        the table is none.
    """
    frames, refused = read_crystals(data.files)
    table = None if data.table is None else read_systems(data.table, frames)
    examples = []
    for done, frame in enumerate(frames, 1):
        try:
            examples.append(_example(frame, table, data))
        except MachineError:
            raise
        except TlpotError as error:
            refused.append(Refused(frame.name, str(error)))
        on_crystal(done, len(frames))
    require_some(examples, refused)
    if refused and data.bad_crystals == "refuse":
        raise TlpotError(
            f"{refused[0].name}: {refused[0].reason} ({len(refused)} of "
            f"{len(refused) + len(examples)} crystals cannot be used; data.bad_crystals: drop "
            "goes on without them)"
        )
    return capped(examples, data), refused


def capped(examples: Sequence[Example], data: PowderData) -> list[Example]:
    """At most ``data.per_class`` of each crystal system, picked by ``data.split.seed``."""
    if data.per_class is None:
        return list(examples)
    order = np.random.default_rng(data.split.seed).permutation(len(examples))
    seen: Counter[int] = Counter()
    kept = []
    for i in order.tolist():
        seen[examples[i].system] += 1
        if seen[examples[i].system] <= data.per_class:
            kept.append(i)
    return [examples[i] for i in sorted(kept)]


def prototype(frame: Frame, group: int, wyckoffs: Sequence[str]) -> str:
    """Name of a structure type: anonymous formula, space group, Wyckoff letters by species.

    ``A-B 225 a-b`` is rock salt, whatever its elements.
    """
    numbers = frame.atoms.numbers
    species = [
        (int((numbers == z).sum()), "".join(sorted(np.array(wyckoffs)[numbers == z])))
        for z in np.unique(numbers)
    ]
    counts = np.array([count for count, _ in species])
    parts = sorted(zip(counts // np.gcd.reduce(counts), (w for _, w in species), strict=True))
    formula = "-".join(f"{chr(65 + i)}{n if n > 1 else ''}" for i, (n, _) in enumerate(parts))
    return f"{formula} {group} {'-'.join(w for _, w in parts)}"


def _example(frame: Frame, table: SystemTable | None, data: PowderData) -> Example:
    facts = note_system(frame, table, data)
    system = SYSTEMS.index(str(frame.info["crystal_system"]))
    return Example(frame, lines_of(frame.atoms, facts.rotations), system)


def note_system(frame: Frame, table: SystemTable | None, data: PowderData) -> Any:
    """Note ``crystal_system`` and ``prototype`` of a crystal, and what its row in the table says.

    Raises
    ------
    TlpotError
        If the table does not say it, or no symmetry is found.
    """
    facts = symmetry(frame.atoms, data.symprec)
    system = crystal_system(facts.number)
    frame.info["prototype"] = prototype(frame, facts.number, facts.wyckoffs)
    if table is not None:
        row = table.get(frame.name)
        if row is None:
            raise TlpotError(f"{data.table} has no row for id '{stem(frame.name)}'")
        frame.info.update({k: v for k, v in row.items() if k not in TABLE_COLUMNS})
        system = row.get("crystal_system", system)
        if not system:
            raise TlpotError(f"{data.table} has no crystal_system for id '{row['id']}'")
    frame.info["crystal_system"] = system
    return facts


def read_systems(path: str, frames: Sequence[Frame]) -> SystemTable:
    """Rows of the CSV by frame name; crystal systems in lower case, checked."""
    names = Names([frame.name for frame in frames])
    table = read_table(path, lambda text: bool(names.find(text)))
    columns = [name.lower() if name.lower() in TABLE_COLUMNS else name for name in table.header]
    if columns[:1] != ["id"]:
        raise TlpotError(
            f"{path}: the table needs a column 'id' (file name without ending), and a line of names"
        )
    rows = {}
    for row in table.rows:
        entries = {name: row.value(i) for i, name in enumerate(columns)}
        system = entries.get("crystal_system", "").lower()
        if system not in SYSTEMS and system not in MISSING:
            raise TlpotError(
                f"{row.where}: '{system}' is no crystal system; write one of {', '.join(SYSTEMS)}"
            )
        if "crystal_system" in entries:
            entries["crystal_system"] = "" if system in MISSING else system
        rows[row.ident] = entries
    idents = names.by_name((row.ident, row.where) for row in table.rows)
    return {name: rows[ident] for name, ident in idents.items()}
