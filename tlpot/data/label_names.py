"""Which names and units files give to energy, forces and stress."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tlpot.errors import TlpotError

_PREFIX = r"(?:(?P<prefix>[a-z0-9]+)[_-])??"
_SUFFIX = r"(?:[_-](?P<suffix>dft|qm|target|true|vasp))?"
_LENGTH = r"(?:[_/-]?(?:per_)?(?:a|å|ang|angst|angstrom)(?:\^?3|³)?)?"
_EV = rf"(?:[_-]?\(?ev{_LENGTH}\)?)?"
NAMES = {
    "energy": re.compile(
        rf"(?:{_PREFIX}(?P<kind>tot|total|free|potential)?[_-]?energy|e|etot|toten){_SUFFIX}"
        r"(?:[_-]?\(?ev\)?)?"
    ),
    "forces": re.compile(rf"{_PREFIX}(?:forces?|grad|gradients?){_SUFFIX}{_EV}"),
    "stress": re.compile(rf"{_PREFIX}(?:stress|virials?){_SUFFIX}{_EV}"),
}
"""Of labels, in eV and Å by name or by custom."""
_OTHER = re.compile(
    "kinetic|interaction|formation|binding|cohesive|atomization|adsorption|lattice|relative|"
    "reaction|zpe|dispersion|vdw|d3|d4|mbd|external|constraint|solvation|strain|hull|fermi|gap|"
    "nuclear|exchange|correlation|hartree|coulomb|electrostatic|predicted|prediction|pred"
)
"""Prefixes of energies and forces that are a part, a difference or a guess: no label."""
_FOREIGN = re.compile(
    r"(?:^|[^a-z])(hartree|ha|eh|au|a\.u\.|ry|rydberg|kcal|kj|mev|bohr|gpa|kbar|bar)(?:$|[^a-z])"
)
"""Units that are not ours, as names and notes have them."""


def label_of(key: str) -> str:
    """Which label a name stands for, or an empty string."""
    for kind, pattern in NAMES.items():
        match = pattern.fullmatch(key.removesuffix(" (in info)").lower())
        if match and not _OTHER.fullmatch(match["prefix"] or ""):
            return kind
    return ""


def require_own_unit(kind: str, key: str, notes: Mapping[str, object]) -> None:
    """Refuse a label that its name, or a note on its unit, says to be in another unit than ours.

    Parameters
    ----------
    kind
        ``energy``, ``forces`` or ``stress``.
    key
        Its name.
    notes
        Of the frame: ``energy_unit``, ``unit``, …

    Raises
    ------
    TlpotError
        Naming both and the unit that is wanted.
    """
    stems = (key.lower(), kind, kind.removesuffix("s"), "")
    wanted = {f"{stem}_unit{end}".lstrip("_") for stem in stems for end in ("", "s")}
    stated = {k: v for k, v in notes.items() if k.lower() in wanted and isinstance(v, str)}
    for name, text in {key: key, **stated}.items():
        if unit := _FOREIGN.search(text.lower()):
            where = "by its name" if name == key else f"by '{name}={text}'"
            ours = {"energy": "eV", "forces": "eV/Å"}.get(kind, "eV/Å³")
            raise TlpotError(f"its {kind} '{key}' is in {unit[1]} {where}; write it in {ours}")
