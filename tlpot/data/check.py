"""Which frames can be learned from, and why the others cannot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tlpot.config.data import Data
from tlpot.config.hints import hint
from tlpot.data.fingerprints import find_leaks
from tlpot.data.levels import loose_differences, require_one_level
from tlpot.data.remarks import remarks_on
from tlpot.data.repeats import find_repeats
from tlpot.data.tables.cells import table_text
from tlpot.errors import TlpotError
from tlpot.structure.electrons import open_shell
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import NO_ATOMS, find_flaw
from tlpot.structure.units import FORCE_UNITS

ENERGY_WINDOW = 5.0
"""eV/atom from the median of equal compositions beyond which an energy is not believed."""

RELAXED_FORCE = 0.2
"""eV/Å beyond which a frame is no minimum."""


SMALL = [unit for unit, size in FORCE_UNITS.items() if size < 1.0]
"""Units that people leave unconverted, and that make numbers larger."""

FORCE_GUESS = 20.0
"""eV/Å up to which a converted force is a likely explanation of one that is too large."""

FRAMES_LISTED = 5
"""Frames that a refusal lists."""
NOTES_LISTED = 3
"""Notes of a frame that a refusal names."""

MENDS = {
    "unreadable": "mend the file, or leave it out",
    "no atoms": "leave the frame out; file@start:stop picks others",
    "incomplete step": "pick the good steps with file@start:stop, or use the run's other file "
    "(OUTCAR, vasprun.xml)",
    "machine-learned step": "VASP predicted it with its own force field; only its DFT steps count",
    "not in the table": "give it a row with an energy, or leave the structure out",
    "not converged": "repeat the calculation with more electronic steps (NELM) or better mixing",
    "missing label": "name the keys with {data.keys.energy} and {data.keys.forces}; frames without "
    "forces are used with {data.relaxed}: true if they are DFT minima, else with "
    "{data.energy_only}: true",
    "non-finite": "the calculation broke down; repeat it or leave the frame out",
    "broken cell": "give the frame a cell, or set its pbc to false",
    "unknown element": "name the element in the file, or leave the frame out",
    "unsupported element": "leave the frame out; or let another element stand in: {model.elements}",
    "overlapping atoms": "look at the geometry; {data.min_distance} sets the bound",
    "charged or open-shell": "ANI knows neutral closed-shell systems only; leave the frame out",
    "not relaxed": "it is said to be a minimum, and is none; {data.relaxed} is for minima, put "
    "other frames into a group of their own",
    "force too large": "look at units and geometry; {data.max_force} sets the bound",
    "implausible energy": "look at units and level of theory of this frame and its neighbours",
    "contradicting labels": "keep one level of theory and settings, and leave the other out",
    "suspect label": "mend it as said there; {data.suspects} says what becomes of such frames",
    "held out too": "keep a frame in one of {data.train}, {data.validation} and {data.test}",
    "duplicate": "the first of each is used",
}


@dataclass(frozen=True)
class Rejection:
    """A frame that is not used, with its reason (a key of `MENDS`) and what was seen."""

    frame: Frame
    reason: str
    detail: str

    @property
    def mend(self) -> str:
        """What the user can do about it."""
        return hint(MENDS[self.reason], "leave the frame out")


class RefusedFramesError(TlpotError):
    """Error about frames that cannot be used; its message names a few, and `rejected` holds all."""

    def __init__(self, message: str, rejected: Sequence[Rejection]) -> None:
        super().__init__(message)
        self.rejected = list(rejected)


@dataclass(frozen=True)
class Checked:
    """Result of `check_frames`.

    Attributes
    ----------
    frames
        Frames to use, in the order of the files.
    rejected
        Frames that failed a check or repeat another frame, in the order of the files.
    surplus
        Good frames beyond ``data.max_frames``.
    remarks
        What a user should know about the frames to use.
    """

    frames: list[Frame]
    rejected: list[Rejection]
    surplus: int = 0
    remarks: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Counts and frame names by reason, as plain data for a manifest."""
        groups = self.by_reason()
        return {
            "kept": len(self.frames),
            "beyond_max_frames": self.surplus,
            "rejected": {reason: len(group) for reason, group in groups.items()},
            "rejected_frames": {r: [x.frame.name for x in group] for r, group in groups.items()},
        }

    def plausible(self) -> list[Frame]:
        """Frames to use, and frames of which only the labels are odd, perhaps by their unit."""
        odd = ("force too large", "implausible energy", "contradicting labels")
        return self.frames + [r.frame for r in self.rejected if r.reason in odd]

    def by_reason(self) -> dict[str, list[Rejection]]:
        """Rejected frames by reason, in the order of `MENDS`."""
        groups: dict[str, list[Rejection]] = defaultdict(list)
        for rejection in self.rejected:
            groups[rejection.reason].append(rejection)
        return {reason: groups[reason] for reason in MENDS if reason in groups}


def check_frames(
    frames: Sequence[Frame], settings: Data, supported: Collection[str] | None = None
) -> Checked:
    """Drop or refuse the frames that no potential should learn from.

    Parameters
    ----------
    frames
        Frames as they were read. Each is rejected for the first reason of `MENDS` that holds.
    settings
        ``bad_frames`` and ``duplicates`` say whether to drop or to refuse; ``max_force`` (eV/Å),
        ``min_distance`` (Å, with periodic images) and ``max_frames`` (drawn with ``split.seed``)
        set the limits.
    supported
        Elements that the model knows; None accepts all elements.

    Raises
    ------
    TlpotError
        If the settings refuse bad frames, naming the first of them with reasons and mends; if no
        frame is left; or if frames were labelled at different levels of theory.
    """
    require_one_level(frames)
    checked = sort_frames(frames, settings, supported)
    groups = checked.by_reason()
    kinds = {
        "leaks": groups.pop("held out too", []),
        "duplicates": groups.pop("duplicate", []),
        "bad_frames": [rejection for group in groups.values() for rejection in group],
    }
    for kind in reversed(kinds):
        if kinds[kind] and getattr(settings, kind) == "refuse":
            setting = hint(f"{{data.{kind}}}: drop")
            message = _refusal(kinds[kind], len(frames), setting)
            raise RefusedFramesError(message, checked.rejected)
    if not checked.frames:
        message = _refusal(checked.rejected, len(frames), None)
        raise RefusedFramesError(
            message if checked.rejected else "the files hold no frame at all.", checked.rejected
        )
    return checked


def refused_table(rejected: Sequence[Rejection]) -> str:
    """CSV with a row for each frame that is not used: file, index, formula, reason, seen, mend."""
    rows = [
        {
            "file": r.frame.source,
            "index": r.frame.index,
            "formula": r.frame.formula,
            "reason": r.reason,
            "seen": r.detail,
            "mend": r.mend,
        }
        for r in rejected
    ]
    return table_text(("file", "index", "formula", "reason", "seen", "mend"), rows)


def sort_frames(
    frames: Sequence[Frame], settings: Data, supported: Collection[str] | None = None
) -> Checked:
    """Check frames as `check_frames` does, but without refusing any."""
    flaws = {
        i: seen for i, frame in enumerate(frames) if (seen := _flaw(frame, settings, supported))
    }
    for check in (find_leaks, _energy_outliers, find_repeats):
        flaws |= check([(i, frame) for i, frame in enumerate(frames) if i not in flaws])
    good = [frame for i, frame in enumerate(frames) if i not in flaws]
    rejected = [Rejection(frames[i], *flaws[i]) for i in sorted(flaws)]
    kept, free = good, [i for i, frame in enumerate(good) if frame.part is None]
    if settings.max_frames is not None and len(free) > settings.max_frames:
        random = np.random.default_rng(settings.split.seed)
        surplus = set(free) - set(random.choice(free, settings.max_frames, replace=False).tolist())
        kept = [frame for i, frame in enumerate(good) if i not in surplus]
    remarks = [*loose_differences(kept), *remarks_on(kept)]
    return Checked(kept, rejected, len(good) - len(kept), remarks)


def _refusal(rejected: list[Rejection], total: int, setting: str | None) -> str:
    few = len(rejected) < total
    head = f"{len(rejected)} of {total} frames cannot be used" if few else "no frame can be used"
    lines = [f"{r.frame.name}: {r.reason} — {r.detail}" for r in rejected[:FRAMES_LISTED]]
    if len(rejected) > FRAMES_LISTED:
        counts = Counter(r.reason for r in rejected)
        lines.append("in all: " + ", ".join(f"{n} × {reason}" for reason, n in counts.items()))
    mends = [f"{r.reason}: {r.mend}." for r in {r.reason: r for r in rejected}.values()]
    if setting and few:
        mends.append(f"Or set {setting} to leave such frames out.")
    return "\n  ".join([f"{head}:", *lines, *mends])


def _flaw(
    frame: Frame, settings: Data, supported: Collection[str] | None
) -> tuple[str, str] | None:
    """The first thing wrong with a frame by itself: a reason and what was seen."""
    atoms, info = frame.atoms, frame.info
    if "unreadable" in info:
        return "unreadable", str(info["unreadable"])
    if not len(frame):
        return NO_ATOMS
    if "incomplete" in info:
        return "incomplete step", str(info["incomplete"])
    if info.get("machine_learned"):
        return "machine-learned step", "no ab-initio energy and forces at this step"
    if "not_in_table" in info:
        return "not in the table", str(info["not_in_table"])
    if info.get("converged") is False:
        return "not converged", "the electronic steps ended before EDIFF was reached"
    needed = ("energy",) if frame.labels == "energy" else ("energy", "forces")
    if missing := [name for name in needed if getattr(frame, name) is None]:
        return "missing label", f"no {' and no '.join(missing)}{_other_numbers(info)}"
    forces = np.zeros((1, 3)) if frame.forces is None else frame.forces
    stress = 0.0 if frame.stress is None else frame.stress
    values: dict[str, Any] = {"energy": frame.energy, "forces": forces, "stress": stress}
    if broken := [name for name, value in values.items() if not np.isfinite(value).all()]:
        return "non-finite", f"NaN or infinite {' and '.join(broken)}"
    if flaw := find_flaw(atoms, supported, shortest=settings.min_distance):
        return flaw
    if shell := open_shell(frame):
        return "charged or open-shell", shell
    size = np.linalg.norm(forces, axis=1)
    worst = int(size.argmax())
    if frame.labels == "relaxed" and size[worst] > RELAXED_FORCE:
        return "not relaxed", f"|F| = {size[worst]:.3g} eV/Å on atom {worst} of a minimum"
    if size[worst] > settings.max_force:
        unit = min(SMALL, key=lambda unit: size[worst] * FORCE_UNITS[unit] > FORCE_GUESS)
        seen = f"|F| = {size[worst]:.4g} eV/Å on atom {worst} ({atoms.symbols[worst]})"
        guess = f"{size[worst] * FORCE_UNITS[unit]:.3g} eV/Å if the file is in {unit}"
        return "force too large", f"{seen}; {guess}"
    return None


def _other_numbers(info: Mapping[str, object]) -> str:
    """Notes of a frame that may be the label that is missing, under another name."""
    names = [str(info["columns"])] if "columns" in info else []
    names += [key for key, value in info.items() if isinstance(value, float)]
    more = f" and {len(names) - NOTES_LISTED} more" if len(names) > NOTES_LISTED else ""
    return f"; it has {', '.join(names[:NOTES_LISTED])}{more}" if names else ""


def _energy_outliers(frames: list[tuple[int, Frame]]) -> dict[int, tuple[str, str]]:
    """Frames whose energy per atom is far from the median of three or more like them."""
    groups: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for i, frame in frames:
        assert frame.energy is not None
        groups[frame.formula].append((i, frame.energy / len(frame)))
    outliers = {}
    for formula, group in groups.items():
        median = float(np.median([energy for _, energy in group]))
        for i, energy in group:
            if len(group) > 2 and abs(energy - median) > ENERGY_WINDOW:
                seen = f"{energy:.3f} eV/atom where {formula} has a median of {median:.3f}"
                outliers[i] = ("implausible energy", seen)
    return outliers
