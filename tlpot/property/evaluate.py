"""How good predictions of a property are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tlpot.data.fingerprints import SEEN, Role, overlap
from tlpot.evaluation.metrics import Metrics
from tlpot.property.interval import Interval


def errors(
    values: np.ndarray,
    predicted: np.ndarray,
    spread: np.ndarray | None = None,
    interval: Interval | None = None,
) -> Metrics:
    """Errors in the property's unit.

    Parameters
    ----------
    values, predicted
        ``(crystals,)``.
    spread
        ``(crystals,)`` standard deviation over an ensemble; None or zero without one.
    interval
        Of that ensemble.

    Returns
    -------
    dict
        ``n``, ``mae``, ``rmse``, ``r2``; ``zero`` and ``other``, the same apart for crystals whose
        property is exactly zero (metals, of a band gap) and the rest, where there are both;
        ``uncertainty`` of an ensemble: rank correlation of |error| and spread, the RMS of
        error/spread (1 if the spread is an error bar; crystals on which all agree are left out),
        and of an interval the ``level`` it is meant to cover, the ``coverage`` and the mean
        ``half_width``.
    """
    result = _plain(values, predicted)
    zero = values == 0.0
    if zero.any() and not zero.all():
        result["zero"] = _plain(values[zero], predicted[zero])
        result["other"] = _plain(values[~zero], predicted[~zero])
    if spread is not None and np.ptp(spread) > 0 and len(values) > 2:
        error, told = np.abs(predicted - values), spread > 0
        result["uncertainty"] = {
            "spearman": float(spearmanr(error, spread).statistic),
            "rms_z": float(np.sqrt(np.mean((error[told] / spread[told]) ** 2))),
            "mean_spread": float(spread.mean()),
        }
        if interval:
            half = interval.half_width(spread)
            result["uncertainty"] |= {
                "level": interval.level,
                "coverage": float((error <= half).mean()),
                "half_width": float(half.mean()),
            }
    return result


def with_seen(
    metrics: Metrics, values: np.ndarray, predicted: np.ndarray, parts: Sequence[Role | None]
) -> Metrics:
    """The `errors` of crystals, with how many the model was trained on: ``seen``, and ``by_seen``.

    Parameters
    ----------
    parts
        What it did with each crystal.
    """
    by_seen = {}
    for part in SEEN:
        at = np.array([p == part for p in parts], dtype=bool)
        if at.any():
            by_seen[SEEN[part]] = _plain(values[at], predicted[at])
    scores = {"seen": overlap(parts), **metrics}
    return scores | {"by_seen": by_seen} if any(parts) else scores


def _plain(values: np.ndarray, predicted: np.ndarray) -> Metrics:
    if not len(values):
        return {"n": 0, "mae": None, "rmse": None, "r2": None}
    error = predicted - values
    variance = float(np.var(values))
    return {
        "n": len(values),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": 1.0 - float(np.mean(error**2)) / variance if variance else None,
    }


def flat(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """All crystals, and apart those whose property is zero and not."""
    parts = {
        "all": metrics,
        "property = 0": metrics.get("zero"),
        "property ≠ 0": metrics.get("other"),
    }
    return {name: part for name, part in parts.items() if part}
