"""Labels of like frames that the others do not let one expect, each with its likely cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.causes import explain_forces
from tlpot.trust.expectation import (
    FEWEST_LIKE,
    Expectation,
    displacements,
    environments,
    expect,
    likeness,
)
from tlpot.trust.scales import Cause, explain_energy, explain_stress, magnitude

ODD = {"forces": 4.0, "energy": 8.0, "stress": 8.0}
"""Times the usual error from which a label is odd."""
EXPLAINED = 1.7
"""Times the usual error of forces from which a cause is looked for that takes it away."""
USUAL_LEFT = 1.7
"""Times the usual error that a cause may leave for it to be certain."""
WEAK = 0.6
"""Share of the forces that is unexpected from which no cause is told by them."""
SIGNAL = 1.5
"""Times the usual error from which expected forces are large enough to tell a cause."""
LEAST_ERROR = {"forces": 0.05, "energy": 0.1, "stress": 1e-3}
"""RMS errors that are never odd: eV/Å, eV, eV/Å³."""
LABEL_UNIT = {"forces": "eV/Å", "energy": "eV", "stress": "eV/Å³"}
SHARED_SHIFT = 3
"""Odd energies from which a shift in common is another level of theory."""

Guesses = Sequence[Prediction]


@dataclass(frozen=True)
class Finding:
    """What is odd about a frame.

    Attributes
    ----------
    what
        ``forces``, ``energy`` or ``stress``.
    cause
        None where no cause that is tried explains it.
    error, usual
        RMS, and what it usually is, in the unit of the label.
    """

    what: str
    cause: Cause | None
    error: float
    usual: float

    @property
    def certain(self) -> bool:
        """Whether the cause leaves nothing odd, and is no guess."""
        cause = self.cause
        return bool(cause and not cause.guess and cause.error < USUAL_LEFT * self.usual)

    @property
    def evidence(self) -> str:
        """In numbers."""
        unit = LABEL_UNIT[self.what]
        text = f"{self.error:.2g} {unit} off, usual are {self.usual:.2g}"
        return text + (f"; undone: {self.cause.error:.2g}" if self.cause else "")


def find_odd(
    frames: Sequence[Frame], guesses: Guesses, corrected: Guesses, stress: bool
) -> dict[int, Finding]:
    """Findings by number of frame; of several labels the first: forces, energy, stress.

    Parameters
    ----------
    frames
        With atoms in one order.
    guesses, corrected
        Of the base, and with the forces that it misses (`tlpot.trust.pairs`): what errs less is
        taken.
    """
    odd = dict(_odd_forces(frames, guesses, corrected))
    for more in (_odd_energies(frames, guesses), _odd_stresses(frames, guesses) if stress else ()):
        for k, finding in more:
            odd.setdefault(k, finding)
    return odd


def _odd_forces(
    frames: Sequence[Frame], guesses: Guesses, corrected: Guesses
) -> Iterator[tuple[int, Finding]]:
    labelled = [k for k, f in enumerate(frames) if f.forces is not None and f.forces.any()]
    if len(labelled) < FEWEST_LIKE:
        return
    labels = np.array([frames[k].force_labels for k in labelled], dtype=float)
    seen = np.isfinite(labels).all(axis=(0, 2))
    if not seen.any():
        return
    labels = labels[:, seen]
    flat = labels.reshape(len(labelled), -1)
    base, better = (
        np.array([some[k].forces[seen].ravel() for k in labelled]) for some in (guesses, corrected)
    )
    kernel = likeness([frames[k] for k in labelled], base)
    expectation = min(
        (expect(flat, start, kernel) for start in (_slope(flat, base) * base, better)),
        key=lambda each: each.share,
    )
    expected = expectation.values.reshape(labels.shape)
    symbols = np.array(frames[0].atoms.symbols)[seen].tolist()
    for row, error, usual in _large(expectation, EXPLAINED, LEAST_ERROR["forces"]):
        cause = None
        if expectation.share < WEAK and magnitude(expected[row]) > SIGNAL * usual:
            cause = explain_forces(labels[row, None], expected[row, None], symbols)
            cause = _other_frame(flat, expectation, row, [frames[k] for k in labelled], cause)
        finding = Finding("forces", cause, error, usual)
        if finding.certain:
            yield labelled[row], finding
        elif expectation.oddness[row] > _bound("forces", len(labelled)):
            yield labelled[row], Finding("forces", None, error, usual)


def _other_frame(
    labels: np.ndarray,
    expectation: Expectation,
    row: int,
    frames: Sequence[Frame],
    otherwise: Cause | None,
) -> Cause | None:
    """That they are the forces of another frame, if that leaves less than what `otherwise` does."""
    left = np.sqrt(np.mean(np.square(labels[row] - expectation.values), axis=1))
    best = int(left.argmin())
    most = 0.5 * min(magnitude(expectation.errors[row]), magnitude(labels[row]))
    if best == row or left[best] > most:
        return otherwise
    if otherwise and otherwise.error < 1.3 * left[best]:
        return otherwise
    mend = "put each frame's labels back to its geometry"
    return Cause(f"forces of another frame, #{frames[best].index}", mend, float(left[best]))


def _odd_energies(frames: Sequence[Frame], guesses: Guesses) -> Iterator[tuple[int, Finding]]:
    labelled = [k for k, frame in enumerate(frames) if frame.energy is not None]
    if len(labelled) < FEWEST_LIKE:
        return
    size = len(frames[0])
    labels = np.array([[frames[k].energy] for k in labelled], dtype=float)
    base = np.array([[guesses[k].energy] for k in labelled])
    forces = np.array([guesses[k].forces.ravel() for k in labelled])
    own = [frames[k] for k in labelled]
    places = likeness(own, forces)
    places = places + places**2 / 2
    insides = environments(own, [guesses[k] for k in labelled])
    tries = [(base, insides)]
    if all(frame.forces is not None for frame in own):
        tries += [(base + _work(own, forces), places)]
    zeros = [float(np.median(labels - start)) for start, _ in tries]
    each = [
        expect(labels - zero, start, kernel)
        for zero, (start, kernel) in zip(zeros, tries, strict=True)
    ]
    best = int(np.argmin([np.median(np.abs(e.errors)) for e in each]))
    expectation, zero = each[best], zeros[best]
    rows = list(_large(expectation, _bound("energy", len(labelled)), LEAST_ERROR["energy"]))
    shifts = expectation.errors[[row for row, _, _ in rows], 0]
    for row, error, usual in rows:
        expected = float(expectation.values[row, 0] + zero)
        cause = explain_energy(float(labels[row, 0]), expected, size, usual)
        if cause is None:
            cause = _level(float(expectation.errors[row, 0]), shifts, usual, size)
        yield labelled[row], Finding("energy", cause, error, usual)


def _work(frames: Sequence[Frame], base: np.ndarray) -> np.ndarray:
    """``(m, 1)`` eV, what forces less the base's do from the middle of the frames to each."""
    forces = np.array([np.asarray(frame.forces).ravel() for frame in frames]) - base
    moves = displacements(frames).reshape(len(frames), -1)
    moves = moves - np.median(moves, axis=0)
    return -0.5 * ((forces + np.median(forces, axis=0)) * moves).sum(axis=1)[:, None]


def _level(shift: float, shifts: np.ndarray, usual: float, size: int) -> Cause | None:
    """That the frame has its shift in common with others."""
    same = shifts[np.abs(shifts - shift) < max(4.0 * usual, 0.1 * abs(shift))]
    if len(same) < SHARED_SHIFT:
        return None
    middle = float(np.median(same))
    text = (
        f"energy {1e3 * middle / size:+.3g} meV/atom from the others', as of {len(same)} frames: "
        "another functional, cutoff or pseudopotential"
    )
    mend = "keep one level of theory: leave them out, or compute them as the others"
    return Cause(text, mend, abs(shift - middle), guess=True)


def _odd_stresses(frames: Sequence[Frame], guesses: Guesses) -> Iterator[tuple[int, Finding]]:
    labelled = [
        k
        for k, (frame, guess) in enumerate(zip(frames, guesses, strict=True))
        if frame.stress is not None and guess.stress is not None and not frame.of_pressure
    ]
    if len(labelled) < FEWEST_LIKE:
        return
    labels = np.array([frames[k].stress for k in labelled], dtype=float)
    base = np.array([guesses[k].stress for k in labelled], dtype=float)
    forces = np.array([guesses[k].forces.ravel() for k in labelled])
    own = [frames[k] for k in labelled]
    kernels = likeness(own, forces), environments(own, [guesses[k] for k in labelled])
    expectation = min(
        (expect(labels, base, kernel) for kernel in kernels), key=lambda each: each.share
    )
    for row, error, usual in _large(expectation, ODD["stress"] / 2, LEAST_ERROR["stress"]):
        cause = explain_stress(labels[row], expectation.values[row])
        finding = Finding("stress", cause, error, usual)
        if finding.certain:
            yield labelled[row], finding
        elif expectation.oddness[row] > _bound("stress", len(labelled)):
            yield labelled[row], Finding("stress", None, error, usual)


def _large(
    expectation: Expectation, odd: float, least: float
) -> Iterator[tuple[int, float, float]]:
    """Rows that are odd, with their errors and what those usually are."""
    for row in np.flatnonzero(expectation.oddness > odd):
        error = magnitude(expectation.errors[row])
        if error > least:
            yield int(row), error, error / float(expectation.oddness[row])


def _bound(what: str, frames: int) -> float:
    """Oddness from which a label is named without a cause, higher where few frames tell."""
    return ODD[what] * (1.0 + FEWEST_LIKE / frames)


def _slope(labels: np.ndarray, base: np.ndarray) -> float:
    """The usual factor of labels over the base, at most 1.5."""
    slopes = (labels * base).sum(axis=1) / np.maximum(np.square(base).sum(axis=1), 1e-12)
    return float(np.clip(np.median(slopes), 0.0, 1.5))
