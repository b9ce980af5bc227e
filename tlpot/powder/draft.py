"""A config that fits the crystals at hand: `tlpot init --kind xrd --from FILES`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlpot.config.sections import parse_section
from tlpot.config.template import Draft, as_named, begun, few_shares
from tlpot.data.crystals.read import Refused, read_crystals, require_some
from tlpot.errors import MachineError, TlpotError
from tlpot.powder.config import PowderConfig, PowderData
from tlpot.powder.data import note_system, read_systems
from tlpot.powder.lines import SYSTEMS
from tlpot.structure.frames import Frame

_RARE = 10
"""Crystals of a system below which its answers are guesses."""


def draft_powder(files: Sequence[str], given: Mapping[str, Any], folder: Path) -> Draft:
    """Fit a config to files: crystals, and a table of their crystal systems (``.csv``) if any.

    Patterns are not simulated.

    Parameters
    ----------
    files, given, folder
        As of `tlpot.property.draft.draft_property`.

    Raises
    ------
    TlpotError
        If no crystal can be used or all are of one crystal system; with ``bad_crystals: refuse``
        if one cannot be used.
    """
    values, data = begun(PowderConfig, given, _named(as_named(files, folder)))
    settings = parse_section(PowderConfig, values, "the config").data
    frames, refused = _labelled(settings)
    systems = Counter(str(frame.info["crystal_system"]) for frame in frames)
    if len(systems) < 2:
        raise TlpotError(
            f"all {len(frames)} crystals are {next(iter(systems))}: there is nothing to tell "
            "apart; name crystals of other systems too"
        )
    if shares := few_shares(len(frames)):
        data["split"] = shares | data.get("split", {})
    return Draft(values, [*_facts(systems), *_left_out(refused)])


def _named(files: list[str]) -> dict[str, Any]:
    """The files as the section ``data`` names them."""
    tables = [name for name in files if name.lower().endswith(".csv")]
    if len(tables) > 1:
        raise TlpotError(f"{', '.join(tables)}: name one table of crystal systems")
    named = {"files": [name for name in files if name not in tables]}
    return named | ({"table": tables[0]} if tables else {})


def _labelled(settings: PowderData) -> tuple[list[Frame], list[Refused]]:
    """Crystals whose system is known, and the others with the reason."""
    read, refused = read_crystals(settings.files)
    table = None if settings.table is None else read_systems(settings.table, read)
    frames = []
    for frame in read:
        try:
            note_system(frame, table, settings)
            frames.append(frame)
        except MachineError:
            raise
        except TlpotError as error:
            refused.append(Refused(frame.name, str(error)))
    require_some(frames, refused)
    if refused and settings.bad_crystals == "refuse":
        raise TlpotError(f"{refused[0].name}: {refused[0].reason}")
    return frames, refused


def _facts(systems: Counter[str]) -> list[str]:
    counts = ", ".join(f"{systems[name]} {name}" for name in SYSTEMS if systems[name])
    lines = [f"{systems.total()} crystals: {counts}"]
    if absent := [name for name in SYSTEMS if not systems[name]]:
        lines.append(f"of no crystal: {', '.join(absent)}; it will never answer these")
    if rare := [name for name in SYSTEMS if 0 < systems[name] < _RARE]:
        lines.append(f"fewer than {_RARE} of {', '.join(rare)}: answers there are guesses")
    return lines


def _left_out(refused: Sequence[Refused]) -> list[str]:
    if not refused:
        return []
    return [f"{len(refused)} left out, the first: {refused[0].name}: {refused[0].reason}"]
