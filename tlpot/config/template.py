"""The commented configs that `tlpot init` writes, made from the sections' own descriptions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tlpot.config.reading import dumped
from tlpot.config.run import Config
from tlpot.config.sections import Needs, Section
from tlpot.config.training import PRESETS
from tlpot.files import expanded, free_path, write_new

BY_PRESET = {f"training.{key}" for preset in PRESETS.values() for key in preset}
IDLE_NOTE = (
    "Keys behind a '#' are what the preset sets, or do nothing as it stands; remove it to choose."
)
_FEW = 10
"""Items below which none steers training; below half of it none is held out."""
EXAMPLE = {"data": {"files": ["OUTCAR", "runs/*/vasprun.xml"]}}
SIDE_BY_SIDE = 4
"""Entries of a list up to which they share a line."""
BOUNDS = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
"""Ends of a range, as pydantic calls them and as a reader does."""


@dataclass(frozen=True)
class Draft:
    """What is proposed for files at hand.

    Attributes
    ----------
    values
        By section and key of a config, what does not have its default.
    notes
        What the files hold and what follows from it, a line each.
    """

    values: dict[str, Any]
    notes: list[str]


def as_named(files: Sequence[str], folder: Path) -> list[str]:
    """Names of files as a config in a `folder` has them: absolute, unless it lies in this one."""
    if folder.resolve() == Path.cwd():
        return list(files)
    return [os.path.abspath(expanded(name)) for name in files]


def few_shares(number: int) -> dict[str, float]:
    """Shares of a split that so few items allow; empty where the usual ones will do."""
    if number >= _FEW:
        return {}
    return {"validation": 0.0} if number >= _FEW / 2 else {"validation": 0.0, "test": 0.0}


def begun(
    section: type[Section], given: Mapping[str, Any], named: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of a config to fit, and their ``data``: what is given goes before what files say.

    ``output`` is the section's own, or the next that is free.
    """
    values = {k: dict(v) if isinstance(v, Mapping) else v for k, v in given.items()}
    data = values["data"] = dict(named) | values.get("data", {})
    values.setdefault("output", str(free_path(section.model_fields["output"].default)))
    return values, data


def config_template(
    values: Mapping[str, Any] = EXAMPLE,
    section: type[Section] = Config,
    verb: str = "finetune",
    notes: Sequence[str] = (),
) -> str:
    """Every key with its value, and its description and choices as a comment.

    Parameters
    ----------
    values
        By section and key, of those that do not have their defaults.
    section
        What the config is of.
    verb
        The verb of tlpot that takes it.
    notes
        What else to say at the top, a line each.
    """
    preset = BY_PRESET if section is Config else set()
    head = [f"tlpot {verb} FILE    key=value on the command line overrides", *notes, IDLE_NOTE]
    return "\n".join([*(f"# {line}" for line in head), *_lines(section, values, preset)]) + "\n"


def lay_out_examples(folder: Path) -> list[Path]:
    """Copy ``examples`` and the tutorials' data sets into a folder, as in the repository.

    Returns
    -------
    The files.

    Raises
    ------
    TlpotError
        If one of them is there already; then nothing is written.
    """
    bundled = Path(str(files("tlpot") / "bundled"))
    sources = [p for p in sorted(bundled.rglob("*.*")) if p.parent.name != "__pycache__"]
    copies = {folder / source.relative_to(bundled): source for source in sources}
    contents = {path: source.read_bytes() for path, source in copies.items()}
    write_new(contents, "name another folder after --examples")
    return list(copies)


def _lines(
    section: type[Section], values: Mapping[str, Any], preset: Collection[str], prefix: str = ""
) -> Iterator[str]:
    pad = "  " * prefix.count(".")
    idle = set(_idle(section, values))
    for name, field in section.model_fields.items():
        key = field.alias or name
        value = values.get(key, field.get_default(call_default_factory=True))
        inner = _sections(_members(field.annotation))
        note = "; ".join(filter(None, [field.description, choices(field, bool(value))]))
        note = f"  # {note}" if note else ""
        if inner and isinstance(value, Section | Mapping):
            yield f"{pad}{key}:{note}"
            yield from _lines(inner[0], values.get(key) or {}, preset, f"{prefix}{key}.")
        elif isinstance(value, list) and len(value) > SIDE_BY_SIDE:
            yield f"{pad}{key}:{note}"
            yield from (f"{pad}  {line}" for line in dumped(value, width=1000).splitlines())
        else:
            off = "# " if key in idle or (prefix + key in preset and key not in values) else ""
            value = list(value) if isinstance(value, tuple) else value
            text = dumped(value, default_flow_style=True, width=100_000).removesuffix("\n")
            yield f"{pad}{off}{key}: {text.removesuffix('...').strip()}{note}"


def _idle(section: type[Section], values: Mapping[str, Any]) -> Iterator[str]:
    """Keys that are not given and that would have no effect beside those that are."""
    keys = {name: field.alias or name for name, field in section.model_fields.items()}
    fields = section.model_fields
    there = {
        name: values.get(key, fields[name].get_default(call_default_factory=True))
        for name, key in keys.items()
    }
    for name, key in keys.items():
        needs = [note for note in fields[name].metadata if isinstance(note, Needs)]
        if key not in values and any(note.lacking(there) for note in needs):
            yield key


def choices(field: FieldInfo, spelt_out: bool = False) -> str:
    """What a field takes, where that is some words, numbers in a range, or sections.

    Parameters
    ----------
    spelt_out
        Whether the keys of its section follow anyway.
    """
    members = _members(field.annotation)
    if words := _words(members):
        return f"one of {', '.join(words)}"
    limits = [(BOUNDS[k], getattr(m, k)) for m in field.metadata for k in BOUNDS if hasattr(m, k)]
    if limits:
        return ", ".join(f"{word} {limit:g}" for word, limit in limits)
    inner = [] if spelt_out else _sections(members) or _sections(_arguments(members))
    return f"keys {', '.join(_keys(inner[0]))}" if inner else ""


def _keys(section: type[Section]) -> Iterator[str]:
    """Keys of a section, each with its words where it takes no others."""
    for name, field in section.model_fields.items():
        words = _words(_members(field.annotation))
        yield (field.alias or name) + (f" ({', '.join(words)})" if words else "")


def _words(members: Sequence[Any]) -> list[str]:
    """All that a field takes, if that is a few words."""
    words: list[str] = []
    for kind in members:
        if get_origin(kind) is Literal:
            words += map(str, get_args(kind))
        elif kind is bool:
            words += ["true", "false"]
        elif kind is not NoneType:
            return []
    return [*words, "null"] if NoneType in members else words


def _members(annotation: Any) -> list[Any]:
    """Types that a field may have."""
    if get_origin(annotation) in (Union, UnionType):
        return [member for kind in get_args(annotation) for member in _members(kind)]
    return (
        _members(get_args(annotation)[0]) if get_origin(annotation) is Annotated else [annotation]
    )


def _arguments(members: Sequence[Any]) -> list[Any]:
    """Types of what lists and dictionaries hold."""
    return [kind for member in members for kind in get_args(member)]


def _sections(kinds: Sequence[Any]) -> list[type[Section]]:
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
