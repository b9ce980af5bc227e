"""A config that fits the crystals at hand: `tlpot init --kind property --from FILES`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlpot.config.sections import parse_section
from tlpot.config.template import Draft, as_named, begun, few_shares
from tlpot.data.compression import plain_name
from tlpot.errors import TlpotError
from tlpot.property.config import PropertyConfig
from tlpot.property.data import Crystals, read_labelled_crystals, read_unlabelled
from tlpot.property.prepare import prepare

_ZEROS = 0.1
"""Share of crystals whose property is zero from which on the gate is named."""


def draft_property(files: Sequence[str], given: Mapping[str, Any], folder: Path) -> Draft:
    """Fit a config to files, and make sure that its run could begin.

    Parameters
    ----------
    files
        Structures whose info holds the property; or tables of ``id, value``, with their structures
        or the folder of them where that is another.
    given
        By section and key, what is settled.
    folder
        Where the config will lie: in another folder than this one, paths are made absolute.

    Raises
    ------
    TlpotError
        As `tlpot.property.run.train` would before its first step; and if it is not clear which of
        several numbers is the property.
    """
    values, data = begun(PropertyConfig, given, _named(as_named(files, folder)))
    if "property" not in data and not any(map(_is_table, data["files"])):
        data["property"] = _only_number(data["files"])
    config = parse_section(PropertyConfig, values, "the config")
    crystals = read_labelled_crystals(config.data)
    if shares := few_shares(len(crystals)):
        data["split"] = shares | data.get("split", {})
    prepared = prepare(parse_section(PropertyConfig, values, "the config"), crystals)
    parts = {name: len(getattr(prepared.splits, name)) for name in ("train", "validation", "test")}
    sizes = ", ".join(f"{number} {name}" for name, number in parts.items())
    return Draft(values, [*_facts(crystals), f"split: {sizes}"])


def _is_table(name: str) -> bool:
    return plain_name(Path(name)).endswith((".csv", ".tsv"))


def _named(files: list[str]) -> dict[str, Any]:
    """The files as the section ``data`` names them."""
    tables = [name for name in files if _is_table(name)]
    others = [name for name in files if name not in tables]
    if not tables or not others:
        return {"files": files}
    folders = {str(path if path.is_dir() else path.parent) for path in map(Path, others)}
    if len(folders) > 1:
        raise TlpotError(
            f"{', '.join(sorted(folders))}: structures of a table lie in one folder; name that"
        )
    beside = {str(Path(table).parent) for table in tables}
    return {"files": tables} | ({} if folders == beside else {"structures": folders.pop()})


def _only_number(files: list[str]) -> str:
    """The one number that every structure's info holds."""
    frames, _ = read_unlabelled(files, drop_bad=True)
    numbers = [{key for key, value in frame.info.items() if _is_number(value)} for frame in frames]
    common = sorted(set.intersection(*numbers))
    if len(common) != 1:
        there = f"hold {', '.join(common)}" if common else "hold no number in common"
        raise TlpotError(
            f"the structures {there}; say which is the property: data.property=NAME"
            + ("" if common else ", or name a table of id and value (.csv)")
        )
    return common[0]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _facts(crystals: Crystals) -> list[str]:
    """What there is: crystals, elements, the property."""
    elements = sorted({symbol for frame in crystals.frames for symbol in frame.atoms.symbols})
    sizes = [len(frame) for frame in crystals.frames]
    values, zeros = crystals.values, int((crystals.values == 0).sum())
    lines = [
        f"{len(crystals)} crystals: {' '.join(elements)}, {min(sizes)} to {max(sizes)} atoms",
        f"{crystals.name}: {values.min():.4g} to {values.max():.4g}, "
        f"median {np.median(values):.4g}",
    ]
    if zeros > _ZEROS * len(values):
        lines.append(f"{zeros} of them are zero: model.gate: true gives that an output of its own")
    if crystals.rejected:
        lines.append(f"{len(crystals.rejected)} left out, the first: {crystals.rejected[0]}")
    return lines
