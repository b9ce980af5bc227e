"""Notes of a frame as the comment line of extended XYZ has them; what is written comes back.

ASE's own writer escapes neither backslashes nor line breaks, and its reader takes ``"007"`` for a
number. Here a note stands as plain text where ASE reads that as the same, else as JSON, which ASE
reads too. A note whose name or kind ASE would take for something else stands inside one note of
ours, `OWN`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from ase.calculators.calculator import all_properties
from ase.io.extxyz import key_val_str_to_dict

from tlpot.errors import TlpotError

OWN = "tlpot"
"""The note that holds what no note of its own name can say."""
DATABASE_NOTES = ("key_value_pairs", "data")
"""Where ASE's databases keep notes and labels."""
JSON = "_JSON "
"""Before a value that ASE reads as JSON."""
TAKEN = {*all_properties, *DATABASE_NOTES, OWN, "Lattice", "Properties", "pbc"}
"""Names that mean something to ASE."""


def to_line(
    notes: Mapping[str, object], more: Mapping[str, object], hide: Callable[[str], object]
) -> str:
    """``key=value`` pairs of `notes`; `more`, and notes of names to `hide`, are kept in `OWN`.

    Text, numbers, truth values, None, arrays of numbers, lists and dicts of these come back as
    they are; a tuple as a list, float32 as float64.

    Raises
    ------
    TlpotError
        If a note is none of these.
    """
    pairs: list[str] = []
    hidden: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for key, value in notes.items():
        value = _simple(value)
        pair = None if _hidden(key, value) or hide(key) else _pair(key, value)
        if pair is not None:
            pairs.append(pair)
        elif isinstance(value, np.ndarray):
            arrays[key] = [value.dtype.kind, value.shape, value.ravel().tolist()]
        elif isinstance(key, str) and _same(_by_json(value), value):
            hidden[key] = value
        else:
            raise TlpotError(
                f"the note {key!r} ({type(value).__name__}) cannot be written to a file; keep "
                "text, numbers, truth values, arrays of numbers, or lists of these"
            )
    own = {k: v for k, v in {**more, "notes": hidden, "arrays": arrays}.items() if v}
    return " ".join(pairs + ([f"{OWN}={quoted(JSON + json.dumps(own))}"] if own else []))


def own_note(info: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `OWN`."""
    own = info.get(OWN)
    return own if isinstance(own, dict) else {}


def from_own(own: Mapping[str, Any]) -> dict[str, object]:
    """The notes inside `OWN`."""
    arrays = {
        key: np.array(values, dtype={"b": bool, "i": np.int64, "f": float}[letter]).reshape(shape)
        for key, (letter, shape, values) in own.get("arrays", {}).items()
    }
    return own.get("notes", {}) | arrays


def quoted(text: str) -> str:
    """`text` as one word of the comment line."""
    if re.fullmatch(r"[^\s\"'{}\[\]=\\]+", text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _hidden(key: object, value: object) -> bool:
    """Whether ASE takes such a note for something else; of a list it makes an array."""
    if key == "magmom":  # where files of others have it too
        return not isinstance(value, int | float)
    named = isinstance(key, str) and _printable(key) and key not in TAKEN
    return not named or isinstance(value, list | dict)


def _pair(key: str, value: object) -> str | None:
    """``key=value`` that ASE reads as just that, or None."""
    for text in (_plain(value), _json(value)):
        if not text:  # ASE reads what follows an empty one as its value
            continue
        pair = f"{quoted(key)}={quoted(text)}"
        with suppress(ValueError):  # of text that begins as JSON does
            if _same(key_val_str_to_dict(pair), {key: value}):
                return pair
    return None


def _plain(value: object) -> str | None:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, str):
        return value if _printable(value) else None
    if isinstance(value, np.ndarray):
        return " ".join(map(str, value.tolist())) if value.ndim == 1 else None
    return repr(value) if isinstance(value, int | float) else None


def _json(value: object) -> str | None:
    try:
        return JSON + json.dumps(value.tolist() if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError):
        return None


def _by_json(value: object) -> object:
    text = _json(value)
    return None if text is None else json.loads(text.removeprefix(JSON))


def _printable(text: str) -> bool:
    """Whether it is what every program shows and reads alike."""
    return text.isascii() and text.isprintable() and bool(text)


def _simple(value: object) -> object:
    """Numbers as Python's own, arrays of numbers as int64 or float64, tuples as lists."""
    if isinstance(value, np.ndarray) and (value.ndim == 0 or value.dtype.kind in "US"):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        return [_simple(item) for item in value]
    if isinstance(value, dict):
        return {key: _simple(item) for key, item in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "u" and value.max(initial=0) <= np.iinfo(np.int64).max:
        return value.astype(np.int64)
    if value.dtype.kind in "if":
        return value.astype(np.int64 if value.dtype.kind == "i" else float)
    if value.dtype.kind == "b":
        return value
    raise TlpotError(
        f"an array of {value.dtype} cannot be written to a file as a note; keep real numbers"
    )


def _same(a: object, b: object) -> bool:
    """Equal in kind and value; NaN equals NaN, and 1 is neither 1.0 nor True."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        alike = a.dtype.kind == b.dtype.kind and a.shape == b.shape
        return alike and _same(a.tolist(), b.tolist())
    a, b = (x.item() if isinstance(x, np.generic) else x for x in (a, b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float) and (math.isnan(a) or a == 0.0):
        return repr(a) == repr(b)
    return bool(a == b)
