"""Which structures a model has seen: fingerprints that its file keeps, and what they tell."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from scipy.spatial import KDTree

from tlpot.files import sha256
from tlpot.structure.frames import Frame
from tlpot.structure.neighbours import neighbour_pairs

CUTOFF = 6.0
"""Å, of the pairs that a fingerprint sums over."""
WAVES = np.array([1.1, 1.9, 2.6, 3.2, 3.7, 4.1])
"""1/Å, of the cosines of distances."""
LAST_BIT = 1e-5
"""What the last bit of a fingerprint stands for."""
ROUNDED = 4e-3
"""How far apart (root of the sum of squares) fingerprints of one structure of one atom are at most
where files round cell and positions to 1e-4 Å; of n atoms 1/√n of it."""

Role = Literal["train", "validation", "file"]
"""What a model did with a frame: trained on it, was tuned on it, or read its file and does not
say what for (models of earlier versions)."""


def fingerprints(structures: Sequence[Atoms]) -> np.ndarray:
    r"""Numbers that tell structures apart, ``(structures, 6)`` uint16.

    Sums over atoms and pairs, per atom: Σ w\ :sub:`i`\ ² + Σ w\ :sub:`i`\ w\ :sub:`j` cos(q r) f(r)
    at six q, f falling to zero at `CUTOFF`, in units of `LAST_BIT` and modulo 2¹⁶. They do not
    change when atoms are reordered or wrapped, nor when all are moved, turned or mirrored, nor with
    the choice of the cell: what has one energy per atom has one fingerprint. Labels are no part of
    it.
    """
    sums = np.zeros((len(structures), len(WAVES)))
    for row, atoms in zip(sums, structures, strict=True):
        weights = 1.0 + (atoms.numbers * 0.6180339887498949) % 1.0
        pairs, vectors = neighbour_pairs(atoms, CUTOFF)
        distances = np.linalg.norm(vectors, axis=1)
        fall = (1.0 + np.cos(np.pi * distances / CUTOFF)) * weights[pairs].prod(axis=0) / 2
        row[:] = np.cos(np.outer(WAVES, distances)) @ fall + np.square(weights).sum()
        row /= max(len(atoms), 1)
    return np.round(sums / LAST_BIT).astype(np.int64).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The structures that a model was trained and tuned on, with those of its bases.

    Attributes
    ----------
    train, validation
        `fingerprints` of the frames that fitted its weights, and of those that steered it.
    files
        SHA-256 of the files of ancestors that keep no fingerprints.
    """

    train: np.ndarray
    validation: np.ndarray
    files: frozenset[str] = frozenset()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> TrainingSet:
        """What a model's metadata says of it; empty for a base that tells nothing."""
        kept = metadata.get("seen")
        if kept is None:
            files = (metadata.get("data") or {}).get("files", [])
            kept = {"files": [file["sha256"] for file in files if "sha256" in file]}
        train, validation = (
            np.frombuffer(base64.b64decode(kept.get(part, "")), "<u2").reshape(-1, len(WAVES))
            for part in ("train", "validation")
        )
        return cls(train, validation, frozenset(kept.get("files", ())))

    def with_frames(self, train: Sequence[Frame], validation: Sequence[Frame]) -> TrainingSet:
        """With what a further training learned from."""

        def joined(rows: np.ndarray, frames: Sequence[Frame]) -> np.ndarray:
            added = fingerprints([frame.atoms for frame in frames])
            return np.unique(np.concatenate([rows, added]), axis=0)

        return TrainingSet(
            joined(self.train, train), joined(self.validation, validation), self.files
        )

    def as_dict(self) -> dict[str, Any]:
        """For a model's metadata: 16 characters a frame."""
        parts = {"train": self.train, "validation": self.validation}
        packed = {k: base64.b64encode(v.astype("<u2").tobytes()).decode() for k, v in parts.items()}
        return {**packed, "files": sorted(self.files)}

    def parts(self, frames: Sequence[Frame]) -> list[Role | None]:
        """What the model did with each frame; None of one that it never saw."""
        roles: list[Role | None] = [None] * len(frames)
        if self.files:
            contents = {source: _content(source) for source in {f.source for f in frames}}
            roles = ["file" if contents[f.source] in self.files else None for f in frames]
        if not frames or not len(self.train) + len(self.validation):
            return roles
        mine = fingerprints([frame.atoms for frame in frames])
        parts: tuple[tuple[Role, np.ndarray], ...]
        parts = (("validation", self.validation), ("train", self.train))
        for part, theirs in parts:
            hits = twins(frames, mine, theirs)
            roles = [part if hit else before for hit, before in zip(hits, roles, strict=True)]
        return roles


def twins(frames: Sequence[Frame], mine: np.ndarray, theirs: np.ndarray) -> list[list[int]]:
    """Which of `theirs` are fingerprints of each frame's structure, whose own are `mine`."""
    near = ROUNDED / LAST_BIT / np.sqrt([max(len(frame), 1) for frame in frames])
    hits = KDTree(theirs, boxsize=2**16).query_ball_point(mine, near)
    return [sorted(hit) for hit in hits]


def find_leaks(frames: Sequence[tuple[int, Frame]]) -> dict[int, tuple[str, str]]:
    """Frames that train, or may, and that are held out by name too (`Frame.part`).

    And frames that are named for validation and for testing.

    Parameters
    ----------
    frames
        Each with the number it is reported by.

    Returns
    -------
    ``{number: (reason, detail)}`` of those that are not to be held out.
    """
    by_part: dict[str, list[tuple[int, Frame]]] = {"test": [], "validation": [], "train": []}
    for number, frame in frames:
        by_part[frame.part or "train"].append((number, frame))
    leaks: dict[int, tuple[str, str]] = {}
    if not by_part["test"] and not by_part["validation"]:
        return leaks
    marks = {k: fingerprints([f.atoms for _, f in some]) for k, some in by_part.items()}
    for held, others in (("test", ("validation", "train")), ("validation", ("train",))):
        for other in others:
            some = by_part[other]
            hits = twins([frame for _, frame in some], marks[other], marks[held])
            for (number, _), hit in zip(some, hits, strict=True):
                if hit and number not in leaks:
                    twin = by_part[held][hit[0]][1]
                    leaks[number] = ("held out too", f"data.{held} holds it as {twin.name}")
    return leaks


def _content(source: str) -> str | None:
    path = Path(source)
    return sha256(path) if path.is_file() else None


SEEN: dict[Role | None, str] = {
    None: "unseen",
    "train": "trained on",
    "validation": "tuned on",
    "file": "perhaps",
}
"""What tables call frames by what the model did with them."""

Overlap = Mapping[str, int]
"""How many frames a model was trained on (``train``) and tuned on (``validation``), how many are of
a ``file`` that it has read, and how many ``unseen``; of a base also those ``moved_to_train``."""


def overlap(parts: Sequence[Role | None]) -> dict[str, int]:
    """How many frames there are of each `Role`."""
    counts = Counter("unseen" if part is None else part for part in parts)
    return {name: counts[name] for name in ("train", "validation", "file", "unseen")}


def model_lines(counts: Overlap, what: str = "frames") -> list[str]:
    """What to say before the errors of a model on frames (or `what`) that it has seen."""
    unseen, lines = counts["unseen"], _lines("the model", counts, what)
    if lines and unseen:
        lines[0] += f": judge it by the errors of the {unseen} unseen ones"
    elif lines:
        lines[0] += f": their errors say little of other {what}"
    return lines


def teacher_lines(counts: Overlap, what: str = "frames", model: str = "the model") -> list[str]:
    """What to say where a model's own opinion of structures counts, of those that it has seen."""
    lines = _lines(model, counts, what)
    if lines:
        lines[0] += ": of these it repeats what it was told" + (
            f", of the {counts['unseen']} others it guesses" if counts["unseen"] else ""
        )
    return lines


def base_lines(counts: Overlap, what: str = "frames") -> list[str]:
    """What to say first of a training whose base has seen some of its frames."""
    moved, lines = counts["moved_to_train"], _lines("the base", counts, what)
    if moved:
        lines[0] += f": the {moved} of them that were drawn for test or validation train instead"
    return lines


def _lines(model: str, counts: Overlap, what: str) -> list[str]:
    total = sum(counts[name] for name in ("train", "validation", "file", "unseen"))
    verbs = {"train": "trained", "validation": "tuned"}
    phrases = [f"{verb} on {counts[part]}" for part, verb in verbs.items() if counts[part]]
    lines = [f"{model} was {' and '.join(phrases)} of these {total} {what}"] if phrases else []
    if counts["file"]:
        lines.append(
            f"{model} has read the files of {counts['file']} of these {total} {what}, and keeps no "
            "record of those it was trained on (an earlier version of tlpot made it): errors may "
            "be too small"
        )
    return lines
