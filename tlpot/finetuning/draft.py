"""A config that fits the files at hand: `tlpot init --from FILES`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlpot.config.bases import untrained
from tlpot.config.data import NAMED, Split
from tlpot.config.run import Config, parse_config
from tlpot.config.template import Draft, as_named, begun, few_shares
from tlpot.data.check import sort_frames
from tlpot.data.groups import read_data, without_files
from tlpot.data.levels import level_text, named_levels
from tlpot.data.split import split_frames
from tlpot.elements.donors import suggest_donors
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import PreparedPotential, prepare
from tlpot.model.load import supported_elements
from tlpot.model.reference import require_determined
from tlpot.structure.frames import Frame

RUNS = 10
"""Files of several frames each, from which on whole files are held out: a run's are alike."""
MINIMA = (
    "energy_only: frames without forces teach their energies; if they are DFT minima, put relaxed: "
    "true in its place, which teaches that their forces are zero"
)
SEEDS = 10
"""Tried for a split that leaves no energy zero open."""


def draft(files: Sequence[str], given: Mapping[str, Any], folder: Path) -> Draft:
    """Fit a config to files, and make sure that its run could begin.

    Labels, elements that the base lacks and the number of frames decide.

    Parameters
    ----------
    files
        As ``data.files``; the energies of a table among them (``.csv``) are those of the others.
    given
        By section and key, what is settled.
    folder
        Where the config will lie: in another folder than this one, paths are made absolute.

    Raises
    ------
    TlpotError
        As `tlpot.finetuning.run.validate` would of the config.
    """
    values, data = begun(Config, given, _named(files, folder))
    config = parse_config(values)
    frames = read_data(config.data)
    notes = list(_facts(frames))
    bare = {i for i, f in enumerate(frames) if f.energy is not None and f.forces is None}
    if any(frames[i].labels == "full" for i in bare):
        data["energy_only"] = True
        frames = [replace(f, labels="energy") if i in bare else f for i, f in enumerate(frames)]
    if any(frame.labels == "energy" for frame in frames):
        notes.append(MINIMA)
    donors = {} if "elements" in values.get("model", {}) else _donors(frames, config.model.base)
    if donors:
        values["model"] = values.get("model", {}) | {"elements": donors}
        notes += [f"{element}: {_reason(element, donor)}" for element, donor in donors.items()]
    if not any(data.get(name) for name in NAMED):
        data["split"] = _split(frames, parse_config(values)) | data.get("split", {})
    config = parse_config(values)
    in_memory = config.model_copy(update={"data": without_files(config.data)})
    prepared = prepare(in_memory, frames)
    notes += [f"{n} × {reason}: left out" for reason, n in _left_out(prepared).items()]
    sizes = ", ".join(f"{len(part)} {name}" for name, part in prepared.parts.items())
    return Draft(values, [*notes, f"split: {sizes}"])


def _named(files: Sequence[str], folder: Path) -> dict[str, Any]:
    """The files as the section ``data`` names them."""
    files = as_named(files, folder)
    tables = [name for name in files if name.lower().endswith(".csv")]
    if not tables:
        return {"files": files}
    structures = [name for name in files if name not in tables]
    return {
        "files": [],
        "groups": [{"files": structures, "table": t, "energy_only": True} for t in tables],
    }


def _facts(frames: Sequence[Frame]) -> Iterator[str]:
    """What there is: frames, elements, labels, level of theory."""
    number = len({frame.source for frame in frames})
    elements = sorted({symbol for frame in frames for symbol in frame.atoms.symbols})
    sizes = sorted({len(frame) for frame in frames}) or [0]
    atoms = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    yield (
        f"{len(frames)} frame{'s' * (len(frames) != 1)} in {number} file{'s' * (number != 1)}: "
        f"{' '.join(elements)}, {atoms} atoms"
    )
    labels = ("energy", "forces", "stress")
    counts = (f"{label} {sum(vars(f)[label] is not None for f in frames)}" for label in labels)
    yield f"labels: {', '.join(counts)}"
    levels = [level_text(level) for level in named_levels(frames)]
    yield from (f"level of theory: {level}" for level in levels or ["not said in the files"])


def _donors(frames: Sequence[Frame], base: str) -> dict[str, Any]:
    """Donors of the elements that the base lacks; clones where an alias would look like others."""
    present = {symbol for frame in frames for symbol in frame.atoms.symbols}
    supported = () if untrained(base) else supported_elements(base, present)
    if not supported:
        return {}
    donors = {e: suggest_donors(e, supported)[0] for e in sorted(present - {*supported})}
    uses = Counter(donors.values())
    return {
        element: {"from": donor, "as": "clone"} if donor in present or uses[donor] > 1 else donor
        for element, donor in donors.items()
    }


def _reason(element: str, donor: str | Mapping[str, str]) -> str:
    more = f"; others: tlpot elements {element}"
    if isinstance(donor, str):
        return f"unknown to the base, stands on {donor}{more}"
    return f"unknown to the base, a clone of {donor['from']}, which occurs too{more}"


def _split(frames: Sequence[Frame], config: Config) -> dict[str, Any]:
    """Shares that the number of frames allows, and what leaves no energy zero open."""
    usable = sort_frames(frames, config.data).frames
    if shares := few_shares(len(usable)):
        return shares
    runs = Counter(frame.source for frame in usable)
    whole = [{"group": "file"}] if sum(n > 1 for n in runs.values()) >= RUNS else []
    drawn: list[dict[str, Any]] = [*whole, {}, *({"seed": seed} for seed in range(1, SEEDS))]
    split = config.data.split
    return next((d for d in drawn if _sound(usable, split.model_copy(update=d))), {})


def _sound(frames: Sequence[Frame], split: Split) -> bool:
    """Whether the training frames determine the energy zero of those held out."""
    parts = split_frames(frames, split)
    train, held_out = parts.train, [*parts.validation, *parts.test]
    try:
        require_determined([frames[i] for i in train], [frames[i] for i in held_out])
    except TlpotError:
        return False
    return True


def _left_out(prepared: PreparedPotential) -> dict[str, int]:
    return {reason: len(group) for reason, group in prepared.checked.by_reason().items()}
