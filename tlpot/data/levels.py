"""One level of theory in one data set: what the frames say of engine and settings must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tlpot.errors import TlpotError
from tlpot.frames import Frame

KEYS = ("engine", "settings", "xc", "cutoff")
"""Names in ``frame.info`` that make up a level; `tlpot label` writes the first two."""


def level(info: Mapping[str, object]) -> tuple[str, ...] | None:
    """What a frame says of its level, None where it names no engine.

    The engine's version does not count; k-points outside ``settings`` may follow the cell.
    """
    if not info.get("engine"):
        return None
    named = {**info, "engine": str(info["engine"]).split()[0]}
    return tuple(f"{key} {named[key]}" for key in KEYS if named.get(key) is not None)


def named_levels(frames: Sequence[Frame]) -> list[dict[str, str]]:
    """What `frames` say of engine and settings, each answer once; nothing where they are silent."""
    found = {
        level(frame.info): {k: str(frame.info[k]) for k in KEYS if frame.info.get(k) is not None}
        for frame in frames
    }
    return [said for key, said in found.items() if key is not None]


def require_one_level(frames: Sequence[Frame]) -> None:
    """Refuse frames that other engines or settings labelled; frames that say nothing pass.

    Raises
    ------
    TlpotError
        Naming the first frame of each of two levels.
    """
    first: dict[tuple[str, ...], Frame] = {}
    for frame in frames:
        if (found := level(frame.info)) is not None:
            first.setdefault(found, frame)
    if len(first) > 1:
        (a, one), (b, two) = list(first.items())[:2]
        raise TlpotError(
            f"the frames were labelled at {len(first)} different levels, which never mix: "
            f"{one.name} by {', '.join(a)}; {two.name} by {', '.join(b)}. Keep one level in "
            "data.files, or label all frames alike: tlpot label"
        )
