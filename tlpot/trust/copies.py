"""Labels that are copies of another frame's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.expectation import displacements
from tlpot.trust.scales import Cause, magnitude

OTHER_PLACE = 1e-3
"""Å up to which geometries are one."""


def copies(frames: Sequence[Frame]) -> list[list[int]]:
    """Frames, by number, that have the very labels of each other, and other geometries."""
    groups: dict[bytes, list[int]] = {}
    for i, frame in enumerate(frames):
        if frame.forces is None or not frame.forces.any() or len(frame) < 2:
            continue
        labels = np.asarray(frame.forces, dtype=float).tobytes() + repr(frame.energy).encode()
        groups.setdefault(labels, []).append(i)
    return [
        group
        for group in groups.values()
        if any(_elsewhere(frames[group[0]], frames[i]) for i in group[1:])
    ]


def of_copies(
    group: Sequence[Frame], guesses: Sequence[Prediction]
) -> Iterator[tuple[int, Cause, str]]:
    """Frames, by number, with the labels of the one that these fit best, and the evidence."""
    errors = [
        magnitude(np.asarray(frame.forces) - guess.forces)
        for frame, guess in zip(group, guesses, strict=True)
    ]
    best = int(np.argmin(errors))
    for i, (frame, error) in enumerate(zip(group, errors, strict=True)):
        if _elsewhere(frame, group[best]):
            seen = f"to the last digit; {error:.2g} eV/Å off, there {errors[best]:.2g}"
            yield i, _of_copy(frame, group[best]), seen


def _elsewhere(first: Frame, second: Frame) -> bool:
    """Whether two frames have other geometries, images aside."""
    if first.atoms.numbers.tobytes() != second.atoms.numbers.tobytes():
        return True
    cells = first.atoms.cell.array - second.atoms.cell.array
    moves = displacements([first, second])
    return bool(max(np.abs(cells).max(), np.abs(moves).max()) > OTHER_PLACE)


def _of_copy(frame: Frame, right: Frame) -> Cause:
    """That a frame has the labels of another, which they fit better."""
    where = f"#{right.index}" if right.source == frame.source else right.name
    text = f"the very energy and forces of {where}, at another geometry"
    return Cause(text, "put each frame's labels back to its geometry", 0.0)
