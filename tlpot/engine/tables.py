"""Functions of one variable as cubic tables (Hermite's), which give value and slope at once.

The slope is that of the tabulated function, so forces are exactly the gradient of the energy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

INTERVALS = 1024
"""Intervals of a table. ANI's terms are then exact to about 1e-7 of their height."""


def cubic(
    function: Callable[[np.ndarray], np.ndarray],
    slope: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
) -> np.ndarray:
    """Coefficients ``(INTERVALS, 4, columns)`` float32, of 1, t, t², t³ for t from 0 to 1 in each.

    Parameters
    ----------
    function, slope
        ``(points, 1)`` to ``(points, columns)``.
    low, high
        Ends of the table.
    """
    x = np.linspace(low, high, INTERVALS + 1)[:, None]
    y, d = function(x), slope(x) * (high - low) / INTERVALS
    rise = y[1:] - y[:-1]
    coefficients = [y[:-1], d[:-1], 3 * rise - 2 * d[:-1] - d[1:], d[:-1] + d[1:] - 2 * rise]
    return np.ascontiguousarray(np.stack(coefficients, 1), np.float32)
