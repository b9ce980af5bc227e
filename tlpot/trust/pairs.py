"""What a base misses of a file's forces, as pair potentials between elements learned from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.trust.scales import magnitude, usual_errors

FARTHEST_PAIR = 5.0
"""Å of a pair potential."""
PAIR_WIDTH = 0.25
"""Å between the Gaussians that it is made of, and their width."""
CENTRES = np.arange(0.7, FARTHEST_PAIR, PAIR_WIDTH)
RIDGE = 1e-4
"""Over the mean square of what each of them does to the forces."""
FOLDS = 5
"""Parts of the frames of which each is judged by what the others taught."""
REWEIGHTINGS = 3
"""Times that frames far from what was expected of them are given less weight."""
UNUSUAL = 2.0
"""Times the usual error beyond which a frame has less weight."""
NUMBERS_HELD = 25_000_000
"""Held at once; of more frames only as many teach, evenly spaced."""


@dataclass(frozen=True)
class PairTerms:
    """Pair potentials that add to a base what it misses, and a factor of the base's own forces.

    Attributes
    ----------
    elements
        Atomic numbers, sorted.
    weights
        ``(pairs of elements × centres + 1,)`` eV; the last is what the base's forces lack.
    """

    elements: np.ndarray
    weights: np.ndarray

    def added(self, frame: Frame, guess: Prediction) -> Prediction:
        """What the base says of a frame, and they."""
        return _added(guess, _responses(frame, self.elements), self.weights)


def learned(
    frames: Sequence[Frame], guesses: Sequence[Prediction]
) -> tuple[list[Prediction], PairTerms | None]:
    """What a base says of frames, less what it misses of most of them.

    Least squares on the forces, reweighted so that frames which contradict the rest do not bend
    them; each frame by terms that it had no part in.

    Returns
    -------
    Predictions with corrected forces, and the terms of all frames; where these help
    nothing the predictions as they were, and None.
    """
    elements = np.unique([number for frame in frames for number in frame.atoms.numbers])
    teachers = [k for k, frame in enumerate(frames) if _seen(frame).any()]
    size = len(elements) * (len(elements) + 1) // 2 * len(CENTRES) + 1
    every = -(-3 * sum(len(frames[k]) for k in teachers) * size // NUMBERS_HELD)
    teachers = teachers[:: max(every, 1)]
    responses = {k: _responses(frames[k], elements).astype(np.float32) for k in teachers}
    fitted = _fit([frames[k] for k in teachers], [guesses[k] for k in teachers], responses)
    if fitted is None:
        return list(guesses), None
    terms = PairTerms(elements, fitted[0])
    own = dict(zip(teachers, fitted[1], strict=True))
    return [
        _added(guess, responses[k], own[k]) if k in own else terms.added(frame, guess)
        for k, (frame, guess) in enumerate(zip(frames, guesses, strict=True))
    ], terms


def _added(guess: Prediction, responses: np.ndarray, weights: np.ndarray) -> Prediction:
    more = (responses @ weights[:-1]).reshape(-1, 3)
    return replace(guess, forces=(1.0 + weights[-1]) * guess.forces + more)


def _seen(frame: Frame) -> np.ndarray:
    """``(n,)`` which atoms have labels."""
    labels = frame.force_labels
    return np.zeros(len(frame), bool) if labels is None else np.isfinite(labels).all(axis=1)


def _fit(
    frames: Sequence[Frame], guesses: Sequence[Prediction], responses: Mapping[int, np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """Weights of all frames together, and for each those of the others; None if no help."""
    folds = min(FOLDS, len(frames))
    if folds < 2:
        return None
    designs, targets = [], []
    for frame, guess, response in zip(frames, guesses, responses.values(), strict=True):
        seen = _seen(frame)
        forces = guess.forces[seen].ravel()
        designs.append(np.column_stack([response[seen.repeat(3)], forces]).astype(np.float32))
        targets.append(np.asarray(frame.forces)[seen].ravel() - forces)
    used = np.any([np.abs(design).max(axis=0) > 0 for design in designs], axis=0)
    designs = [design[:, used] for design in designs]
    shares = np.ones(len(frames), np.float32)
    for _ in range(REWEIGHTINGS):
        matrices, vectors = [], []
        for fold in range(folds):
            rows = range(fold, len(frames), folds)
            design = np.concatenate([shares[k] * designs[k] for k in rows])
            matrices.append((design.T @ design).astype(float))
            vectors.append(design.T @ np.concatenate([shares[k] * targets[k] for k in rows]))
        matrix, vector = sum(matrices), sum(vectors)
        matrix += RIDGE * np.trace(matrix) / len(vector) * np.eye(len(vector))
        others = [
            np.linalg.solve(matrix - own, vector - its)
            for own, its in zip(matrices, vectors, strict=True)
        ]
        terms = [others[k % folds] for k in range(len(frames))]
        added = [design @ w for design, w in zip(designs, terms, strict=True)]
        errors = np.array([magnitude(t - a) for t, a in zip(targets, added, strict=True)])
        sizes = np.array([magnitude(a + d[:, -1]) for a, d in zip(added, designs, strict=True)])
        levels = usual_errors(errors, sizes)
        odd = errors / levels / np.median(errors / levels)
        shares = np.minimum(1.0, UNUSUAL / np.maximum(odd, 1e-12)) * np.median(levels) / levels
    if np.median(errors) > np.median([magnitude(target) for target in targets]):
        return None

    def whole(weights: np.ndarray) -> np.ndarray:
        return np.bincount(np.flatnonzero(used), weights, minlength=len(used))

    return whole(np.linalg.solve(matrix, vector)), [whole(weights) for weights in terms]


def densities(frames: Sequence[Frame]) -> np.ndarray:
    """``(m, terms)`` how many pairs of each two elements are about as far apart as each centre."""
    elements = np.unique(np.concatenate([frame.atoms.numbers for frame in frames]))
    rows = []
    for frame in frames:
        near = _Near(frame, elements)
        each = np.arange(len(near.kind))
        onto = csr_matrix((np.ones(len(each)), (near.kind, each)), (near.kinds, len(each)))
        rows.append((onto @ (near.gaussians * near.fall)).ravel())
    return np.array(rows)


def _responses(frame: Frame, elements: np.ndarray) -> np.ndarray:
    """``(3 n, terms)`` 1/Å, forces of each Gaussian by itself."""
    near = _Near(frame, elements)
    steep = -np.pi / (2 * FARTHEST_PAIR) * np.sin(np.pi * near.distances / FARTHEST_PAIR)
    slopes = near.gaussians * (steep - near.fall * (near.distances - CENTRES) / PAIR_WIDTH**2)
    along = slopes[:, :, None] * (near.vectors / near.distances)[:, None, :]
    atoms, count = len(frame), len(along)
    ends = (near.pairs * near.kinds + near.kind).ravel(), np.tile(np.arange(count), 2)
    onto = csr_matrix((np.repeat([1.0, -1.0], count), ends), (atoms * near.kinds, count))
    forces = (onto @ along.reshape(count, -1)).reshape(atoms, near.kinds, len(CENTRES), 3)
    return forces.transpose(0, 3, 1, 2).reshape(3 * atoms, -1)


class _Near:
    """Pairs of a frame within reach, with the kind of each by its elements, and its Gaussians."""

    def __init__(self, frame: Frame, elements: np.ndarray) -> None:
        self.pairs, self.vectors = neighbour_pairs(frame.atoms, FARTHEST_PAIR)
        self.distances = np.linalg.norm(self.vectors, axis=1)[:, None]
        self.gaussians = np.exp(-(((self.distances - CENTRES) / PAIR_WIDTH) ** 2) / 2)
        self.fall = (1.0 + np.cos(np.pi * self.distances / FARTHEST_PAIR)) / 2
        ends = np.searchsorted(elements, frame.atoms.numbers)[self.pairs]
        low, high = np.sort(ends, axis=0)
        self.kind = high * (high + 1) // 2 + low
        self.kinds = len(elements) * (len(elements) + 1) // 2
