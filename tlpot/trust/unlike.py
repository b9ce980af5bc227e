"""Energies of frames unlike each other, against a base and the atoms' energies that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.expectation import FAR, FEWEST_LIKE
from tlpot.trust.odd import LEAST_ERROR, Finding
from tlpot.trust.scales import explain_energy

FEWEST_UNLIKE, FRAMES_EACH = 24, 3
"""Frames, and frames for each element, from which their energies are judged together."""
ODD_UNLIKE, ODD_WEAK = 12.0, 24.0
"""Times the usual error from which an energy is odd; where the base lacks an element."""
SPREADS = 3.0
"""Times its ensemble's spread that the base may err by."""
LEVERAGE = 0.5
"""Share of a frame in its own fit from which it has no others to be compared with."""
UNLIKE_ROUNDS = 20
"""Times that frames far from what was expected of them are given less weight."""


def unlike_energies(
    frames: Sequence[Frame], guesses: Sequence[Prediction], weak: Sequence[bool]
) -> Iterator[tuple[int, Finding]]:
    """Energies that base and atoms do not let one expect, by number of frame.

    What the base misses of a total energy is a sum over the elements, fitted to all frames, and an
    error that grows as √N and with the ensemble's spread. On 498 molecules of 14 elements half of
    these errors are beyond 0.6 eV and five beyond 10: an energy 1 eV off is not told there.

    Parameters
    ----------
    weak
        Frames of which the base lacks an element.
    """
    labelled = [k for k, frame in enumerate(frames) if frame.energy is not None]
    numbers = np.unique([z for k in labelled for z in frames[k].atoms.numbers])
    if len(labelled) < max(FEWEST_UNLIKE, FRAMES_EACH * len(numbers)):
        return
    own = [frames[k] for k in labelled]
    counts = np.array([[(f.atoms.numbers == z).sum() for z in numbers] for f in own], dtype=float)
    labels = np.array([frame.energy for frame in own], dtype=float)
    base = np.array([guesses[k].energy for k in labelled])
    spreads = np.array([guesses[k].energy_std for k in labelled])
    root = np.sqrt(counts.sum(axis=1))
    fit = _fitted((labels - base) / root, counts / root[:, None], SPREADS * spreads / root)
    for k, label, error, usual, leverage in zip(labelled, labels, *fit, strict=True):
        error, usual = error * np.sqrt(len(frames[k])), usual * np.sqrt(len(frames[k]))
        bound = (ODD_WEAK if weak[k] else ODD_UNLIKE) * (1.0 + FEWEST_LIKE / len(labelled))
        if leverage < LEVERAGE and abs(error) > max(bound * usual, LEAST_ERROR["energy"]):
            cause = explain_energy(label, label - error, len(frames[k]), usual)
            yield k, Finding("energy", cause, abs(error), usual)


def _fitted(
    targets: np.ndarray, counts: np.ndarray, spreads: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of robust least squares, what they usually are, and the frames' leverages."""
    levels, shares = np.hypot(np.median(spreads), spreads), np.ones(len(targets))
    levels = levels if levels.any() else shares
    for _ in range(UNLIKE_ROUNDS):
        weights = np.sqrt(shares) / levels
        design = counts * weights[:, None]
        errors = targets - counts @ np.linalg.lstsq(design, targets * weights, rcond=1e-10)[0]
        levels = np.hypot(np.median(np.abs(errors)), spreads)
        levels = levels * max(float(np.median(np.abs(errors) / np.maximum(levels, 1e-12))), 1e-12)
        levels = np.maximum(levels, 1e-12)
        shares = np.minimum(1.0, FAR * levels / np.maximum(np.abs(errors), 1e-12))
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    leverages = np.square(left[:, sizes > 1e-10 * sizes[0]]).sum(axis=1)
    return errors, levels, leverages
