r"""Prediction intervals of several property models, from their spread.

Members agree too well, and on some crystals (metals, of a band gap) entirely, wherever the truth
is: a spread times a factor, as potentials have it, would give those no interval and the others one
too wide. So a half width is `scale` · (spread + `offset`), the offset being the mean spread of
crystals that nothing was fitted to, and the scale the conformal quantile of
\|error\|/(spread + offset) over the same crystals (normalised split conformal prediction with a
constant term: Papadopoulos and Haralambous 2011, Neural Networks 24, 842).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlpot.evaluation.calibration import conformal_quantile, enough
from tlpot.model.uncertainty import LEVEL


@dataclass(frozen=True)
class Interval:
    """How wide an interval is; made by `interval_of`.

    Attributes
    ----------
    scale
        Half width/(spread + offset).
    offset
        In the property's unit.
    crystals
        That it stands on.
    level
        Share of crystals whose property lies inside.
    """

    scale: float
    offset: float
    crystals: int
    level: float = LEVEL

    def half_width(self, spread: np.ndarray) -> np.ndarray:
        """``(crystals,)`` of the interval about each mean, in the property's unit."""
        return self.scale * (spread + self.offset)


def interval_of(errors: np.ndarray, spread: np.ndarray, level: float = LEVEL) -> Interval | None:
    """The interval that these crystals, of no training set, give.

    Parameters
    ----------
    errors, spread
        ``(crystals,)`` of the mean over the models, and their standard deviation.

    Returns
    -------
    Interval or None
        None with less than level/(1−level) crystals (9 at 90 %), or where all models agree on all.
    """
    if not enough(len(errors), level) or not spread.any():
        return None
    offset = float(spread.mean())
    scale = conformal_quantile(np.abs(errors) / (spread + offset), level)
    return Interval(scale, offset, len(errors), level)
