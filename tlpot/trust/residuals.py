"""Training frames that a model does not fit, or fits only against the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.geometry import Predict
from tlpot.trust.scales import magnitude, usual_errors
from tlpot.trust.suspects import Suspect, find_suspects

UNFIT = {"forces": 4.0, "energy": 8.0}
"""Times the usual error of training frames from which one is not fitted."""
FEWEST_FITTED = 8
"""Training frames from which there is a usual error."""
SMALL_ERROR = {"forces": 0.05, "energy": 0.003}
"""eV/Å and eV/atom that are never too much."""
LOOK_AGAIN = "look at this calculation; if it is right, the model needs more frames like it"


def unfitted(
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    predict: Predict,
    stress: bool = True,
) -> list[Suspect]:
    """Training frames that stand out by what the trained model says of them.

    Either as `find_suspects` has it, where each frame is judged by a regression on the errors of
    the others, so that one that bends the model is seen too; or by an error many times the usual.
    Arguments as `find_suspects`'.
    """
    named = {
        id(suspect.frame): suspect
        for suspect in find_suspects(frames, predictions, predict, stress=stress)
    }
    for suspect in _far_off(frames, predictions):
        named.setdefault(id(suspect.frame), suspect)
    return [named[id(frame)] for frame in frames if id(frame) in named]


def _far_off(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> Iterator[Suspect]:
    pairs = [
        (frame, labels[labelled], guess.forces[labelled])
        for frame, guess in zip(frames, predictions, strict=True)
        if (labels := frame.force_labels) is not None
        and (labelled := np.isfinite(labels).all(axis=1)).any()
    ]
    errors = np.array([magnitude(guess - labels) for _, labels, guess in pairs])
    sizes = np.array([magnitude(labels) for _, labels, _ in pairs])
    if len(pairs) >= FEWEST_FITTED:
        usual = usual_errors(errors, sizes)
        for k in _outliers(errors, usual, "forces"):
            seen = f"{errors[k]:.2g} eV/Å off, usual are {usual[k]:.2g}"
            yield Suspect(
                pairs[k][0], "forces that the model does not fit", seen, LOOK_AGAIN, False
            )
    energies = [
        (frame, abs(guess.energy - frame.energy) / len(frame))
        for frame, guess in zip(frames, predictions, strict=True)
        if frame.energy is not None
    ]
    if len(energies) >= FEWEST_FITTED:
        errors = np.array([error for _, error in energies])
        usual = np.full(len(errors), float(np.median(errors)))
        for k in _outliers(errors, usual, "energy"):
            seen = f"{1e3 * errors[k]:.3g} meV/atom off, usual are {1e3 * usual[k]:.2g}"
            yield Suspect(
                energies[k][0], "an energy that the model does not fit", seen, LOOK_AGAIN, False
            )


def _outliers(errors: np.ndarray, usual: np.ndarray, what: str) -> list[int]:
    bound = UNFIT[what] * (1.0 + FEWEST_FITTED / len(errors))
    odd = (errors > bound * usual) & (errors > SMALL_ERROR[what])
    return [int(k) for k in np.flatnonzero(odd)]
