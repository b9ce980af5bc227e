"""What the base and the other frames of a file let one expect of a frame's labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.pairs import densities
from tlpot.trust.scales import usual_errors

FEWEST_LIKE = 8
"""Frames of one order of atoms from which each is judged by the others."""
BLOCK_SIZE = 400
"""Frames that are judged by each other: the cost of more grows with their cube."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths of the ridge that are tried; the one with the smallest median error is taken."""
ROUNDS = 5
"""Times that frames far from what was expected of them are given less weight."""
FAR = 3.0
"""Times the median error beyond which a frame has less weight."""
FOREIGN = 30.0
"""Times the median distance from the others beyond which a geometry is no guide to them."""


@dataclass(frozen=True)
class Expectation:
    """Labels of ``m`` frames against what is expected of them, ``k`` numbers each.

    Attributes
    ----------
    values
        ``(m, k)`` expected of each frame by all the others.
    errors
        ``(m, k)`` label less expectation.
    oddness
        ``(m,)`` size of the error over what is usual; 1 is the median.
    share
        Median size of the error over that of the label: how little is known.
    """

    values: np.ndarray
    errors: np.ndarray
    oddness: np.ndarray
    share: float


def displacements(frames: Sequence[Frame]) -> np.ndarray:
    """``(m, n, 3)`` Å of like frames from the first, in their own cells, less their mean."""
    first = frames[0].atoms
    pbc = first.pbc
    start = first.cell.complete().scaled_positions(first.positions)
    moves = []
    for atoms in (frame.atoms for frame in frames):
        cell = atoms.cell.complete()
        if pbc.any():
            move = cell.scaled_positions(atoms.positions) - start
            move -= np.round(move) * pbc
            move = move @ cell.array
        else:
            move = atoms.positions - first.positions
        moves.append(move - move.mean(axis=0))
    return np.array(moves)


def likeness(frames: Sequence[Frame], base: np.ndarray | None) -> np.ndarray:
    """``(m, m)`` scalar products of geometries and, ``(m, k)``, of what a base says of them."""
    cells = np.array([frame.atoms.cell.array.ravel() for frame in frames])
    parts = [displacements(frames).reshape(len(frames), -1), 3.0 * cells]
    if base is not None:
        parts.append(0.1 * base)
    return _unit(np.sum([_products(part) for part in parts], axis=0))


def environments(frames: Sequence[Frame], guesses: Sequence[Prediction]) -> np.ndarray:
    """``(m, m)`` the same of the base's energies of each element, and of distances of pairs."""
    numbers = frames[0].atoms.numbers
    energies = np.array(
        [[g.energies[numbers == z].sum() for z in np.unique(numbers)] for g in guesses]
    )
    energies -= np.median(energies, axis=0)
    energies /= np.maximum(np.median(np.abs(energies), axis=0), 1e-12)
    parts = energies, densities(frames)
    return 3.0 * np.sum([_unit(_products(part)) for part in parts], axis=0)


def _products(values: np.ndarray) -> np.ndarray:
    """``(m, m)`` of ``(m, k)`` about their median."""
    apart = values - np.median(values, axis=0)
    return np.asarray(apart @ apart.T)


def _unit(kernel: np.ndarray) -> np.ndarray:
    """With a median of one on its diagonal."""
    scale = np.median(np.diag(kernel))
    return np.asarray(kernel / scale if scale > 0 else kernel * 0.0)


def expect(labels: np.ndarray, base: np.ndarray, kernel: np.ndarray) -> Expectation:
    """Regress label − base on the geometry, each frame by all the others.

    Kernel ridge regression with leave-one-out errors in closed form, reweighted so that frames
    which contradict the rest do not bend it.

    Parameters
    ----------
    labels, base
        ``(m, k)``.
    kernel
        ``(m, m)``, see `likeness`.
    """
    target = labels - base
    results = [_leave_one_out(target, kernel, ridge) for ridge in RIDGES]
    errors, oddness = min(results, key=lambda result: np.median(_size(result[0])))
    sizes = _size(errors)
    level = usual_errors(sizes, _size(labels - errors))
    level *= np.sqrt(np.maximum(np.diag(_unit(kernel)), 1.0))
    relative = sizes / np.maximum(level, 1e-12)
    relative /= max(float(np.median(relative)), 1e-12)
    share_of_labels = float(np.median(sizes / np.maximum(_size(labels), 1e-12)))
    return Expectation(labels - errors, errors, np.minimum(oddness, relative), share_of_labels)


def _leave_one_out(
    target: np.ndarray, kernel: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Errors ``(m, k)``, and ``(m,)`` their size over what the regression itself expects."""
    middle = np.median(target, axis=0)
    apart = _size(target - middle)
    usual = np.median(apart)
    weights = np.minimum(1.0, (FAR * usual / np.maximum(apart, 1e-12)) ** 2)
    guide = np.diag(kernel) < FOREIGN**2
    for _ in range(ROUNDS):
        weights = np.where(guide, np.maximum(weights, 1e-6), 1e-6)
        noise = ridge / weights
        inverse = np.linalg.inv(kernel + 1.0 + np.diag(noise))
        leverage = np.diag(inverse)
        errors = (inverse @ (target - middle)) / leverage[:, None]
        spread = np.sqrt(np.maximum(1.0 / leverage - noise + ridge, ridge))
        oddness = _size(errors) / spread
        oddness /= max(float(np.median(oddness)), 1e-12)
        weights = np.minimum(1.0, (FAR / np.maximum(oddness, 1e-12)) ** 2)
    return errors, oddness


def _size(values: np.ndarray) -> np.ndarray:
    """``(m,)`` root mean squares of ``(m, k)``."""
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=1)))


def blocks(frames: Sequence[Frame]) -> Iterator[list[int]]:
    """Frames, by number, that are judged by each other: of one file, atoms in one order."""
    groups: dict[tuple[str, bytes], list[int]] = {}
    for i, frame in enumerate(frames):
        key = frame.source, frame.atoms.numbers.tobytes() + frame.atoms.pbc.tobytes()
        groups.setdefault(key, []).append(i)
    for group in groups.values():
        parts = -(-len(group) // BLOCK_SIZE)
        yield from (group[part::parts] for part in range(parts))
