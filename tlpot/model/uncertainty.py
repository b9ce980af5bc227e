"""The spread of an ensemble, and what makes an error bar of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Quantity = Literal["energy", "forces"]

LEVEL = 0.9
"""Share of the labels that prediction intervals are made to cover."""


def member_spread(members: Tensor) -> Tensor:
    """Standard deviation over members, ``[M, ...]`` to ``[...]``; zero for a single member."""
    return members.std(dim=0) if len(members) > 1 else members.new_zeros(members.shape[1:])


@dataclass(frozen=True)
class Scale:
    """How the spread of one quantity becomes an error bar (`tlpot.evaluation.calibration`).

    Attributes
    ----------
    factor
        Calibrated standard deviation / spread of the members.
    quantile
        The prediction interval is the mean ± this × the calibrated standard deviation (1.645 for
        Gaussian errors at 90 %); None where there were too few frames for the level.
    frames
        Frames with labels that it stands on.
    """

    factor: float
    quantile: float | None
    frames: int


@dataclass(frozen=True)
class Calibration:
    """Of the total energy and of the force components; None where that label is missing.

    Attributes
    ----------
    level
        Share of labels that the prediction intervals cover.
    """

    energy: Scale | None
    forces: Scale | None
    level: float = LEVEL

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Calibration | None:
        """The inverse of ``dataclasses.asdict``; None of None."""
        if values is None:
            return None
        scales = {k: values[k] and Scale(**values[k]) for k in ("energy", "forces")}
        return cls(**scales, level=values["level"])


def factor(calibration: Calibration | None, quantity: Quantity) -> float:
    """Calibrated spread / raw spread: 1 where it is raw."""
    scale: Scale | None = getattr(calibration, quantity, None)
    return scale.factor if scale else 1.0
