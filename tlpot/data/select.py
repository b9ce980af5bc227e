"""Choose among structures: by a committee's disagreement, or by how unlike they are."""

from __future__ import annotations

import numpy as np


def disagreement(spread: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Query by committee's ρ = σ/√N, eV (Smith, Nebgen, Lubbers, Isayev, Roitberg 2018).

    Parameters
    ----------
    spread
        ``(frames,)`` standard deviation of the total energy over the ensemble, eV.
    sizes
        ``(frames,)`` atoms in each.
    """
    return np.asarray(spread, float) / np.sqrt(np.asarray(sizes, float))


def worst(scores: np.ndarray, number: int) -> list[int]:
    """The `number` highest scores, highest first; ties in file order."""
    return np.argsort(-np.asarray(scores), kind="stable")[:number].tolist()


def farthest(features: np.ndarray, number: int) -> list[int]:
    """Farthest-point selection: each pick is the one farthest from all before it.

    The first is the one nearest the mean. Picks are in order, so that any first part of them is
    itself a farthest-point selection; copies of what is picked come last.

    Parameters
    ----------
    features
        ``(frames, features)``; distances are Euclidean.
    """
    picks: list[int] = []
    nearest = np.full(len(features), np.inf)
    candidate = int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())
    for _ in range(min(number, len(features))):
        picks.append(candidate)
        distances = np.linalg.norm(features - features[candidate], axis=1)
        nearest = np.minimum(nearest, distances)
        nearest[picks] = -1.0
        candidate = int(nearest.argmax())
    return picks
