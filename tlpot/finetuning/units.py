"""Are the labels labels, in eV and Å? The pretrained potential knows the size they should have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units

from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame
from tlpot.structure.units import ENERGY_UNITS, FORCE_UNITS, KBAR, STRESS_UNITS

if TYPE_CHECKING:
    from tlpot.model.prediction import Prediction

PLAUSIBLE = 4.0
"""Labels may be this many times larger or smaller than the pretrained prediction, or than that in
another unit; where no unit fits, the prediction is wrong (of a stand-in element, say)."""
CORRELATION = {"forces": 0.5, "energies": 0.8, "stresses": 0.8}
"""Below it, or below 3/√n for n numbers, the prediction is no yardstick and nothing is said: the
energies of a few polymorphs may well come out in the wrong order."""
ZEROS = {
    "forces": (
        0.05,
        "eV/Å",
        "Set data.relaxed: true if these are DFT minima, or data.energy_only: true if nobody "
        "computed the forces.",
    ),
    "stress": (
        0.05 * units.GPa,
        "eV/Å³",
        "Take it out of the file, or set training.stress_weight: 0.",
    ),
}
"""Size of a prediction up to which zeros may be labels (by symmetry, say); what else to do."""

LABEL_UNITS = {
    "forces": ("forces", "eV/Å", {"gradients (the sign is flipped)": -1.0, **FORCE_UNITS}),
    "energies": ("energy", "eV", {"their negative (the sign is flipped)": -1.0, **ENERGY_UNITS}),
    "stresses": (
        "stress",
        "eV/Å³",
        {
            "pressures (the sign is flipped)": -1.0,
            **STRESS_UNITS,
            "GPa with the sign of a pressure": -units.GPa,
            "kbar with the sign of a pressure, as VASP prints them": -KBAR,
        },
    ),
}
"""Key in the config, unit of ours, and what one of other units is in it."""


def check_units(
    frames: Sequence[Frame], predictions: Sequence[Prediction], stress: bool = True
) -> None:
    """Compare labels with a pretrained prediction; refuse a wrong unit or sign, or placeholders.

    Forces are compared directly, but for a minimum's zeros; energies per atom and stresses after
    removing each composition's mean, in which levels of theory differ.

    Parameters
    ----------
    stress
        Whether it is trained on.

    Raises
    ------
    TlpotError
        If the labels follow the prediction, but with the factor of another unit or sign; or if
        all forces or stresses of a file are zero where the model expects some.
    """
    pairs = list(zip(frames, predictions, strict=True))
    _require_no_placeholders(pairs, "forces")
    labelled = [
        (f.forces.ravel(), p.forces.ravel())
        for f, p in pairs
        if f.forces is not None and f.forces.any()
    ]
    if labelled:
        labels, predicted = map(np.concatenate, zip(*labelled, strict=True))
        _compare("forces", labels, predicted, frames)
    energies = [
        (f.formula, f.energy / len(f), p.energy / len(f)) for f, p in pairs if f.energy is not None
    ]
    _compare_centred("energies", energies, frames)
    if stress:
        _require_no_placeholders(pairs, "stress")
        stresses = [
            (f.formula, f.stress, p.stress)
            for f, p in pairs
            if f.stress is not None and f.stress.any() and p.stress is not None
        ]
        _compare_centred("stresses", stresses, frames)


def _require_no_placeholders(pairs: Sequence[tuple[Frame, Prediction]], what: str) -> None:
    files: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for frame, prediction in pairs:
        label, expected = getattr(frame, what), getattr(prediction, what)
        if frame.labels == "full" and label is not None and expected is not None:
            files.setdefault(frame.source, []).append((label, expected))
    least, unit, mend = ZEROS[what]
    for file, both in files.items():
        size = max(float(np.sqrt(np.mean(np.square(expected)))) for _, expected in both)
        if size > least and not any(label.any() for label, _ in both):
            raise TlpotError(
                f"{file}: the {what} of every frame used is exactly zero, where the pretrained "
                f"model expects up to {size:.2g} {unit} (RMS). "
                f"That looks like a placeholder, not a label. {mend}"
            )


def _compare_centred(
    what: str, found: Sequence[tuple[str, Any, Any]], frames: Sequence[Frame]
) -> None:
    """`_compare` after removing the means of each composition that has more than two frames."""
    groups: dict[str, list[tuple[Any, Any]]] = {}
    for formula, label, predicted in found:
        groups.setdefault(formula, []).append((label, predicted))
    centred = [np.array(g) - np.mean(g, axis=0) for g in groups.values() if len(g) > 2]
    if centred:
        labels, predictions = (np.concatenate([c[:, i].ravel() for c in centred]) for i in (0, 1))
        _compare(what, labels, predictions, frames)


def _compare(what: str, labels: np.ndarray, predicted: np.ndarray, frames: Sequence[Frame]) -> None:
    key, ours, known = LABEL_UNITS[what]
    scale = float(np.sqrt(np.square(labels).sum() * np.square(predicted).sum()))
    if scale == 0.0:
        return
    correlation = float(labels @ predicted) / scale
    factor = correlation * float(np.linalg.norm(labels) / np.linalg.norm(predicted))
    yardstick = abs(correlation) >= max(CORRELATION[what], 3 / len(labels) ** 0.5)
    if not yardstick or 1 / PLAUSIBLE < factor < PLAUSIBLE:
        return
    guess = min(known, key=lambda unit: _distance(factor, known[unit]))
    if _distance(factor, known[guess]) > np.log(PLAUSIBLE):
        return
    files = ", ".join(sorted({f.source for f in frames})[:3])
    raise TlpotError(
        f"{files}: the {what} are {factor:.3g} times what the pretrained model expects in {ours}; "
        f"they look like {guess}. Convert them, or name the right key in data.keys.{key}."
    )


def _distance(factor: float, unit: float) -> float:
    """How far labels of `factor` times their size are from being in a `unit`, as a logarithm."""
    return float(abs(np.log(factor * unit))) if factor * unit > 0 else float("inf")
