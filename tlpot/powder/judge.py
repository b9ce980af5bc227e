"""How good a classifier is: accuracy, F1 by crystal system, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlpot.evaluation.metrics import Metrics
from tlpot.powder.lines import SYSTEMS

CONFIDENCE_BINS = 10
"""Of confidence, for the calibration error."""


def judge_systems(probabilities: np.ndarray, systems: Sequence[int]) -> Metrics:
    """Compare probabilities ``(n, 7)`` with the true crystal systems ``(n,)``.

    Returns
    -------
    ``n``, ``accuracy``, ``top2`` (the true one is among the two likeliest), ``balanced_accuracy``
    and ``macro_f1`` (means over the crystal systems that occur), ``log_loss`` (nats),
    ``calibration_error`` (expected, over ten bins of confidence), ``confusion`` (rows: true) and
    ``by_system`` with ``n``, ``precision``, ``recall``, ``f1``. None where undefined.
    """
    truth = np.asarray(systems, dtype=int)
    if not len(truth):
        return {"n": 0}
    order = np.argsort(-probabilities, axis=1)
    guess = order[:, 0]
    confusion = np.zeros((len(SYSTEMS), len(SYSTEMS)), dtype=int)
    np.add.at(confusion, (truth, guess), 1)
    by_system = {name: _scores(confusion, i) for i, name in enumerate(SYSTEMS)}
    there = [entry for entry in by_system.values() if entry["n"]]
    own = probabilities[np.arange(len(truth)), truth]
    return {
        "n": len(truth),
        "accuracy": float((guess == truth).mean()),
        "top2": float((order[:, :2] == truth[:, None]).any(axis=1).mean()),
        "balanced_accuracy": float(np.mean([entry["recall"] for entry in there])),
        "macro_f1": float(np.mean([entry["f1"] for entry in there])),
        "log_loss": float(-np.log(own.clip(min=1e-12)).mean()),
        "calibration_error": _calibration_error(probabilities.max(axis=1), guess == truth),
        "confusion": confusion.tolist(),
        "by_system": by_system,
    }


def _scores(confusion: np.ndarray, i: int) -> dict[str, Any]:
    right, true, predicted = confusion[i, i], confusion[i].sum(), confusion[:, i].sum()
    return {
        "n": int(true),
        "precision": float(right / predicted) if predicted else None,
        "recall": float(right / true) if true else None,
        "f1": float(2 * right / (true + predicted)) if true + predicted else None,
    }


def _calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    bins = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))
