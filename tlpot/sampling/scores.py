"""Choose among structures: by a committee's disagreement, or by how unlike they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm


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


def doubt_near_top(
    above: np.ndarray, above_std: np.ndarray, doubt: np.ndarray, window: float
) -> np.ndarray:
    """How much of each candidate's doubt concerns the top of a ranking: σ Φ((w − ΔE)/σ_Δ).

    The spread σ, times the chance that the candidate lies within `window` of the lowest: a
    candidate in doubt counts little far above, and one far above counts if it is much in doubt.

    Parameters
    ----------
    above, above_std
        ``(n,)`` energy above the lowest, and the standard deviation of that difference.
    doubt
        ``(n,)`` standard deviation of each candidate's energy, without what all have in common.
    window
        In the same unit.
    """
    room = window - np.asarray(above, float)
    spread = np.asarray(above_std, float)
    chance = np.where(spread > 0, norm.cdf(room / np.where(spread > 0, spread, 1.0)), room >= 0)
    scores: np.ndarray = np.asarray(doubt, float) * chance
    return scores


def worst(scores: np.ndarray, number: int) -> list[int]:
    """The `number` highest scores, highest first; ties in file order."""
    return np.argsort(-np.asarray(scores), kind="stable")[:number].tolist()


def farthest(features: np.ndarray, number: int, chosen: Sequence[int] = ()) -> list[int]:
    """Farthest-point selection: each pick is the one farthest from all before it.

    Picks are in order, so that any first part of them is itself a farthest-point selection;
    copies of what is picked come last.

    Parameters
    ----------
    features
        ``(frames, features)``; distances are Euclidean.
    number
        How many to pick, at most as many as are left.
    chosen
        What there is already. With nothing, the first pick is the one nearest the mean.
    """
    nearest = np.full(len(features), np.inf)
    for row in chosen:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
    nearest[list(chosen)] = -1.0
    picks: list[int] = []
    if not len(chosen) and number:
        picks.append(int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin()))
    while len(picks) < min(number, len(features) - len(chosen)):
        if picks:
            nearest = np.minimum(nearest, np.linalg.norm(features - features[picks[-1]], axis=1))
            nearest[picks] = -1.0
        picks.append(int(nearest.argmax()))
    return picks
