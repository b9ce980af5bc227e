"""What may have happened to forces that do not fit their atoms: each cause is tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from tlpot.config.hints import hint
from tlpot.trust.scales import NEAR_UNIT, Cause, force_unit, magnitude

LEFT_BY_CAUSE = 0.5
"""Share of the error that a cause may leave; an assignment of many atoms, `LEFT_ASSIGNED`."""
LEFT_ASSIGNED = 0.4
FITTING = 0.85
"""Share of what is expected that may be left of it."""
SIMPLER = 1.3
"""A simpler cause is preferred where it leaves at most this many times as much."""
ORDER_MEND = "write the forces in the order of the atoms"
MANY_ELEMENTS = 5
"""Elements up to which every order of them is tried."""


def explain_forces(
    labels: np.ndarray,
    expected: np.ndarray,
    symbols: Sequence[str],
    left: float | None = None,
) -> Cause | None:
    """The simplest cause that makes forces fit.

    Parameters
    ----------
    labels, expected
        ``(m, n, 3)`` of ``m`` frames with one fault in common, eV/Å.
    symbols
        ``n``.
    left
        Share of the error that any cause may leave, instead of the usual ones.

    Returns
    -------
    Cause or None
        None where no cause that is known leaves less than half of the error.
    """
    before, size = magnitude(labels - expected), magnitude(expected)
    if not before or not labels.any():
        return None
    best: Cause | None = None
    for cause, allowed in _candidates(labels, expected, list(symbols)):
        if cause.error > (left or allowed) * before or cause.error > FITTING * size:
            continue
        if best is None or cause.error * SIMPLER < best.error:
            best = cause
    return best


def _candidates(
    labels: np.ndarray, expected: np.ndarray, symbols: list[str]
) -> Iterator[tuple[Cause, float]]:
    """Causes with the share of the error that they may leave, simple ones first."""
    factor = float((labels * expected).sum() / np.square(labels).sum())
    if (factor and abs(np.log(abs(factor))) > np.log(NEAR_UNIT)) or factor < 0:
        name = force_unit(factor)
        text = f"forces × {1.0 / factor:.3g}" + (f": {name}" if name else "")
        mend = hint(
            "convert them to eV/Å, or name the right key with {data.keys.forces}",
            "convert them to eV/Å",
        )
        error = magnitude(factor * labels - expected)
        yield Cause(text, mend, error, guess=not name), LEFT_BY_CAUSE
    mend = ORDER_MEND
    for words, order in usual_orders(symbols):
        yield (
            Cause(
                f"forces in another order of atoms: {words}",
                mend,
                magnitude(labels[:, order] - expected),
            ),
            LEFT_BY_CAUSE,
        )
    rotation = _rotation(labels, expected)
    yield (
        Cause(
            "forces in another orientation (axes turned, exchanged or mirrored)",
            "write cell, positions and forces in one frame of axes",
            magnitude(labels @ rotation - expected),
        ),
        LEFT_ASSIGNED,
    )
    for words, order in _assignments(labels, expected, symbols):
        text = f"forces in another order of atoms: {words}, {_exchanges(order)}"
        yield Cause(text, mend, magnitude(labels[:, order] - expected)), LEFT_ASSIGNED


def usual_orders(symbols: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Orders that programs put atoms in: row k of the labels belongs to atom ``order[k]``."""
    n = len(symbols)
    elements = list(dict.fromkeys(symbols))
    plain = np.arange(n)
    tried = {plain.tobytes()}
    listed = [("reversed", plain[::-1].copy())]
    listed += [
        (f"{abs(k)} further {'up' if k > 0 else 'down'}", np.roll(plain, k)) for k in (1, -1)
    ]
    if 1 < len(elements) <= MANY_ELEMENTS:
        for some in permutations(elements):
            rank = np.array([some.index(symbol) for symbol in symbols])
            order = np.argsort(rank, kind="stable")
            words = f"grouped by element as {' '.join(some)}"
            listed += [(words, np.argsort(order)), (f"not {words}, as the atoms are", order)]
    for words, order in listed:
        if order.tobytes() not in tried:
            tried.add(order.tobytes())
            yield words, order


def _assignments(
    labels: np.ndarray, expected: np.ndarray, symbols: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """The assignments of labels to atoms that fit best: within each element, and of all."""
    gain = np.einsum("mik,mjk->ij", expected, labels)
    own = np.array(symbols)[:, None] == np.array(symbols)
    barrier = 2.0 * np.abs(gain).sum() + 1.0
    yield "within each element", linear_sum_assignment(barrier * ~own - gain)[1]
    yield "elements too", linear_sum_assignment(-gain)[1]


def _exchanges(order: np.ndarray) -> str:
    moved = [f"atom {i} has those of {k}" for i, k in enumerate(order.tolist()) if i != k]
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    return ", ".join(moved[:3]) + more


def _rotation(labels: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The ``(3, 3)`` orthogonal matrix that turns labels into what is expected (Kabsch)."""
    u, _, v = np.linalg.svd(labels.reshape(-1, 3).T @ expected.reshape(-1, 3))
    return np.asarray(u @ v)
