"""One level of theory in one data set: what the frames say of how they were labelled must agree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from tlpot.data.vasp.tags import UNNAMED, Tags
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

STRICT = {
    "xc": "functional",
    "dispersion": "dispersion",
    "hubbard": "Hubbard U",
    "spin_treatment": "spin",
    "potentials": "pseudopotential",
    "engine": "engine",
    "settings": "settings",
    "cutoff": "cutoff",
    "basis": "basis",
    "level_of_theory": "level of theory",
}
"""Facts in ``frame.info`` that must agree, and what to call them. `tlpot label` writes engine and
settings, the readers of VASP's files the others; other codes' files may state any."""

LOOSE = {"encut": "ENCUT", "prec": "PREC", "lasph": "LASPH", "kpts": "k-points"}
"""Facts that change energies a little; k-points may follow the cell."""

FACTS = (*STRICT, *LOOSE)

NUMERIC_FACTS = ("cutoff", *LOOSE)
"""Facts that may be numbers; a dispersion that is one is an energy."""

ALIASES = {
    "functional": "xc",
    "xc_functional": "xc",
    "dft_functional": "xc",
    "program": "engine",
    "code": "engine",
    "basis_set": "basis",
    "theory": "level_of_theory",
    "theory_level": "level_of_theory",
    "vdw": "dispersion",
}
"""How other codes call them."""

BY_ELEMENT = ("hubbard", "potentials")
"""Facts like ``C=PAW_PBE C, H=PAW_PBE H``, which two frames compare for the elements of both."""

WITH_DISPERSION = re.compile(r"(.+?)[-+ ]+((?:DFT-)?D[234]\S*|MBD\S*|TS|VV10|dDsC)", re.I)
"""A functional and the dispersion behind it, as PBE+D3(BJ)."""


def stated(info: Mapping[str, object]) -> dict[str, str]:
    """What a frame, or a model's record of its frames, says of its level; under one name a fact."""
    items = (
        (ALIASES.get(key.lower(), key.lower()), str(value).strip())
        for key, value in info.items()
        if isinstance(value, str) or (key in NUMERIC_FACTS and isinstance(value, int | float))
    )
    return dict(_facts(tuple((name, value) for name, value in items if name in FACTS and value)))


@cache
def _facts(items: tuple[tuple[str, str], ...]) -> dict[str, str]:
    facts = dict(reversed(items))
    vasp = facts.get("engine", "").upper().startswith("VASP")
    if "engine" not in facts:
        facts.pop("cutoff", None)  # a model's, or of neighbours
    if vasp and "settings" in facts:
        tags = Tags()
        for word in facts["settings"].split():
            tags.note(*word.partition("=")[::2])
        facts = {k: str(v) for k, v in tags.notes([], False).items()} | facts
    if "engine" in facts and not vasp:
        facts.setdefault("settings", "")
    return facts


def level(info: Mapping[str, object]) -> tuple[str, ...] | None:
    """What a frame says of its level in words, None where it names no engine.

    The engine's version does not count; k-points outside ``settings`` may follow the cell.
    """
    return _words(stated(info)) if info.get("engine") else None


def _words(facts: Mapping[str, str]) -> tuple[str, ...]:
    """The strict facts worth a word; pseudopotentials would fill a line."""
    words = {**facts, "engine": facts.get("engine", "").partition(" ")[0]}
    quiet = {"potentials": words.get("potentials"), "hubbard": "none"}
    names = ("engine", *(name for name in STRICT if name != "engine"))
    return tuple(f"{k} {words[k]}" for k in names if words.get(k) and words[k] != quiet.get(k))


def named_levels(frames: Sequence[Frame]) -> list[dict[str, str]]:
    """What `frames` say of their levels, each answer once; nothing where they are silent.

    K-points follow the cell and are left out, facts by element are put together.
    """
    elements: dict[tuple[tuple[str, str], ...], dict[str, set[str]]] = {}
    for frame in frames:
        facts = {k: v for k, v in stated(frame.info).items() if k != "kpts" and v}
        shared = tuple((k, facts[k]) for k in FACTS if k in facts and k not in BY_ELEMENT)
        parts = elements.setdefault(shared, {}) if facts else {}
        for key in set(BY_ELEMENT) & set(facts):
            parts.setdefault(key, set()).update(facts[key].split(", "))
    return [
        dict(shared) | {key: ", ".join(sorted(parts[key])) for key in sorted(parts)}
        for shared, parts in elements.items()
    ]


def level_text(level: Mapping[str, str]) -> str:
    """One of `named_levels` in a line, engine first."""
    named = {"engine": level.get("engine", ""), **level}
    return ", ".join(f"{k} {v}" for k, v in named.items() if v and (k, v) != ("hubbard", "none"))


def require_one_level(frames: Sequence[Frame]) -> None:
    """Refuse frames that were labelled at different levels; frames that say nothing pass.

    Raises
    ------
    TlpotError
        Naming the first frame of each of two levels, and what differs.
    """
    first: dict[tuple[str, str], tuple[str, Frame]] = {}
    for frame in frames:
        for fact, value in _compared(stated(frame.info)).items():
            other, other_frame = first.setdefault(fact, (value, frame))
            if not _same(fact[0], other, value):
                raise TlpotError(_conflict(frames, fact, (other_frame, other), (frame, value)))
            if other == UNNAMED:
                first[fact] = value, frame


def _compared(facts: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Strict facts by name and, of those that have them, element."""
    elements = [entry.partition("=")[0] for entry in facts.get("potentials", "").split(", ")]
    compared = {(k, ""): facts[k] for k in STRICT if k in facts and k not in BY_ELEMENT}
    if "xc" in facts and "dispersion" not in facts:
        match = WITH_DISPERSION.fullmatch(facts["xc"])
        xc, dispersion = match.groups() if match else (facts["xc"], "none")
        compared |= {("xc", ""): xc, ("dispersion", ""): dispersion}
    for key in BY_ELEMENT:
        if key in facts:
            parts = dict(p.split("=", 1) for p in facts[key].split(", ") if "=" in p)
            compared |= {(key, e): parts.get(e, "none") for e in {*elements, *parts} if e}
    return compared


def same_functional(first: str, second: str) -> bool:
    """Whether two names are those of one functional, spelling aside (``wB97X``, ``wb97x``)."""
    return _same("xc", first, second)


def _same(key: str, first: str, second: str) -> bool:
    a, b = _canonical(key, first), _canonical(key, second)
    if key == "dispersion" and UNNAMED in (a, b):
        return "none" not in (a, b)
    generic = key == "dispersion" and {a, b} in ({"d3", "d3bj"}, {"d3", "d3zero"})
    return a == b or generic


def _canonical(key: str, value: str) -> str:
    if key == "engine":
        return value.partition(" ")[0].casefold()
    if key not in ("xc", "dispersion"):
        return value
    text = re.sub(r"\(IVDW = \d+\)|^DFT-", "", value, flags=re.I)
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def _conflict(
    frames: Sequence[Frame],
    fact: tuple[str, str],
    here: tuple[Frame, str],
    there: tuple[Frame, str],
) -> str:
    (first, a), (second, b) = here, there
    levels = {_words(stated(frame.info)) for frame in frames} - {()}
    differences = "; ".join(
        f"{frame.name} by {', '.join(_words(stated(frame.info)))}" for frame in (first, second)
    )
    return (
        f"the frames were labelled at {max(2, len(levels))} different levels, which never mix: "
        f"{differences}. The {_name(fact)} is '{a or 'unnamed'}' in the one and "
        f"'{b or 'unnamed'}' in the other. Keep one level, or label all frames alike: tlpot label"
    )


def other_levels(levels: Sequence[Mapping[str, str]], frames: Sequence[Frame]) -> list[str]:
    """A warning where `frames` are of another level than `levels`, which a model was trained on."""
    trained = [_compared(stated(level)) for level in levels]
    for frame in frames:
        for fact, value in _compared(stated(frame.info)).items():
            theirs = [facts[fact] for facts in trained if fact in facts]
            if theirs and not any(_same(fact[0], value, level) for level in theirs):
                return [
                    f"the {_name(fact)} is '{value or 'unnamed'}' in {frame.name} and was "
                    f"'{theirs[0] or 'unnamed'}' in what the model was trained on: its errors "
                    "contain what the two levels differ by."
                ]
    return []


def _name(fact: tuple[str, str]) -> str:
    return " of ".join(filter(None, (STRICT[fact[0]], fact[1])))


def loose_differences(frames: Sequence[Frame]) -> list[str]:
    """Warnings where frames of one level differ in cutoff or precision, or one crystal in k-points.

    K-points are compared among crystals of one composition.
    """
    first: dict[tuple[str, str], dict[str, Frame]] = {}
    for frame in frames:
        facts = stated(frame.info)
        for key in LOOSE:
            if key in facts and (key != "kpts" or frame.kind == "crystal"):
                group = (key, frame.formula if key == "kpts" else "")
                first.setdefault(group, {}).setdefault(facts[key], frame)
    differences: dict[str, str] = {}
    for (key, _), values in first.items():
        if len(values) > 1:
            listed = ", ".join(f"{value} in {frame.name}" for value, frame in values.items())
            differences.setdefault(
                key,
                f"{LOOSE[key]} differs: {listed}. Energies are the less comparable the less they "
                "are converged in it.",
            )
    return list(differences.values())
