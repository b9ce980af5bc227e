r"""Can the ensemble's spread be trusted? Scale it on validation frames, judge it on test frames.

An ensemble's spread σ ranks errors better than it sizes them: members that saw the same frames
agree too well, members that each fit by themselves may differ more than their mean errs. Two
numbers a quantity, from frames that no weight was fitted to, make an error bar of it:

- a **factor**, the maximum-likelihood scale of Gaussian errors, √⟨(Δ/σ)²⟩ (Musil et al. 2019,
  J. Chem. Theory Comput. 15, 906; Imbalzano et al. 2021, J. Chem. Phys. 154, 074102, without the
  term for the committee's size: the σ to be scaled is the one of these members);
- a **quantile** of \|Δ\|/(factor·σ), from split conformal prediction (Vovk et al. 2005; normalised
  by a spread: Angelopoulos and Bates 2021, arXiv:2107.07511, section 2.3), which needs no
  distribution: of n exchangeable scores the one of rank r covers the next with a probability of
  r/(n+1). Few frames have no rank of 1−α (of 18, ranks 17 and 18 cover 89 and 95 %): the
  quantile is interpolated between both neighbours (Beran and Hall 1993, J. R. Stat. Soc. B 55,
  643), which covers 1−α on average over draws where the scores' density is even about there,
  a little more where it falls (18 normal errors: 90.4 %), never outside what the neighbours do.

Both stand on ratios Δ/σ, so it does not matter whether energies are taken per cell or per atom, and
a supercell, whose error and spread are both so many times the cell's, has the cell's ratio: the
scale carries over between sizes (with σ/√N it would not). Force components of a frame are not
exchangeable with those of the next; theirs are pooled over frames (CDF pooling; Dunn, Wasserman
and Ramdas 2023, J. Am. Stat. Assoc. 118, 2491), which holds for many frames.

Validation frames steer the schedule and pick the epoch, so their errors are slightly too small;
`uncertainty` says on the test frames what is left of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erf
from scipy.stats import spearmanr

from tlpot.model.uncertainty import LEVEL, Calibration, Quantity, Scale, factor
from tlpot.structure.frames import Frame

if TYPE_CHECKING:
    from tlpot.model.potential import Potential
    from tlpot.model.prediction import Prediction

FEWEST_FRAMES = 5
"""Labelled frames below which a factor would be a guess: of five, it is good to a third."""
STILL = 1e-4
"""eV/Å. Forces that vary less over the members are zero by symmetry and tell nothing."""


def calibrate(
    potential: Potential,
    frames: Sequence[Frame],
    level: float = LEVEL,
    predictions: Sequence[Prediction] | None = None,
) -> Calibration | None:
    """Scale the spread of `potential` to its errors on `frames`, which it was not fitted to.

    Parameters
    ----------
    level
        Share of labels that prediction intervals shall cover.
    predictions
        Those of `potential` on `frames` with the spread of the forces, if they are there.

    Returns
    -------
    Calibration or None
        None where neither energies nor forces are labelled in `FEWEST_FRAMES` frames, or there is
        but one member. With less than level/(1−level) frames (9 at 90 %) a scale has no quantile.
    """
    predicted = potential.predict(frames, members=True) if predictions is None else predictions

    def scale(quantity: Quantity) -> Scale | None:
        errors, spreads, n = deviations(frames, predicted, quantity, potential.calibration)
        if n < FEWEST_FRAMES:
            return None
        size = rms(errors / spreads)
        quantile = conformal_quantile(np.abs(errors) / (size * spreads), level)
        return Scale(size, quantile if enough(n, level) else None, n)

    energy, forces = scale("energy"), scale("forces")
    return Calibration(energy, forces, level) if energy or forces else None


def uncertainty(
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    calibration: Calibration | None,
) -> dict[str, Any]:
    r"""How far the spread of `predictions` tells the size of their errors, as plain JSON values.

    ``energy`` (one Δ a frame) and ``forces`` (one a component; spreads below `STILL` are left
    out) each hold, None where it is undefined:

    - ``n``: labels that entered.
    - ``factor``, ``quantile``: of the calibration; ``calibrated_on``: frames behind it.
    - ``spearman``: rank correlation of \|Δ\| with the spread.
    - ``rms_z_raw``, ``rms_z``: √⟨(Δ/σ)²⟩ of raw and of calibrated spread, ideally 1.
    - ``miscalibration_raw``, ``miscalibration``: `miscalibration_area` of both, ideally 0.
    - ``coverage``: share of labels inside the prediction intervals, ideally ``level``.
    - ``half_width_meV_per_atom`` or ``half_width_meV_per_A_component``: median of theirs.

    ``level`` is what the intervals are to cover, None without calibration.

    Parameters
    ----------
    predictions
        With spreads as the potential of this `calibration` gives them.
    """
    return {
        "level": calibration and calibration.level,
        "energy": _judge(frames, predictions, "energy", calibration),
        "forces": _judge(frames, predictions, "forces", calibration),
    }


def deviations(
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    quantity: Quantity,
    calibration: Calibration | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Errors Δ and raw spreads, flat, and how many frames they come from.

    Energies in eV/atom, force components in eV/Å; `calibration` is that of `predictions`. What
    has no label, or is the same for all members, is left out.
    """
    pairs = [(np.empty(0), np.empty(0))]
    for frame, prediction in zip(frames, predictions, strict=True):
        label = frame.energy if quantity == "energy" else frame.force_labels
        spread = prediction.energy_std if quantity == "energy" else prediction.forces_std
        if label is None or spread is None:
            continue
        per = len(frame) if quantity == "energy" else 1
        errors = np.ravel((getattr(prediction, quantity) - label) / per)
        spreads = np.ravel(spread) / (per * factor(calibration, quantity))
        told = np.isfinite(errors) & (spreads > (0.0 if quantity == "energy" else STILL))
        if told.any():
            pairs.append((errors[told], spreads[told]))
    errors, spreads = (np.concatenate(some) for some in zip(*pairs, strict=True))
    return errors, spreads, len(pairs) - 1


def enough(n: int, level: float) -> bool:
    """Whether `n` scores have a rank (n+1)·level: at 90 %, nine do."""
    return (n + 1) * level <= n + 1e-9


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """The score of rank (n+1)·level, interpolated; inf if there are too few for the level."""
    if not enough(len(scores), level):
        return math.inf
    return float(np.quantile(scores, level, method="weibull"))


def miscalibration_area(z: np.ndarray) -> float:
    """Area between observed and nominal coverage of central Gaussian intervals, 0 to 1/2.

    `z` are errors over their standard deviations (Kuleshov, Fenner, Ermon 2018; Tran et al.
    2020, Mach. Learn.: Sci. Technol. 1, 025006).
    """
    nominal = np.linspace(0.005, 0.995, 100)
    reached = erf(np.abs(z) / math.sqrt(2))
    observed = np.searchsorted(np.sort(reached), nominal, side="right") / len(z)
    return float(np.abs(observed - nominal).mean())


def rms(values: np.ndarray) -> float:
    """√⟨x²⟩."""
    return float(np.sqrt(np.mean(np.square(values))))


def _judge(
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    quantity: Quantity,
    calibration: Calibration | None,
) -> dict[str, Any]:
    errors, spreads, _ = deviations(frames, predictions, quantity, calibration)
    scale = getattr(calibration, quantity, None)
    unit = "meV_per_atom" if quantity == "energy" else "meV_per_A_component"
    names = ("spearman", "rms_z_raw", "rms_z", "miscalibration_raw", "miscalibration", "coverage")
    scores: dict[str, Any] = {
        "n": len(errors),
        "factor": scale and scale.factor,
        "quantile": scale and scale.quantile,
        "calibrated_on": scale and scale.frames,
        **dict.fromkeys((*names, f"half_width_{unit}")),
    }
    if len(errors) > 2 and np.ptp(spreads) > 0:
        scores["spearman"] = float(spearmanr(np.abs(errors), spreads).statistic)
    if len(errors):
        z = errors / spreads
        scores |= {"rms_z_raw": rms(z), "miscalibration_raw": miscalibration_area(z)}
        if scale:
            z /= scale.factor
            scores |= {"rms_z": rms(z), "miscalibration": miscalibration_area(z)}
        if scale and scale.quantile is not None:
            half = scale.quantile * scale.factor * spreads
            scores["coverage"] = float(np.mean(np.abs(errors) <= half))
            scores[f"half_width_{unit}"] = 1e3 * float(np.median(half))
    return scores
