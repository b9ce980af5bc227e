"""Are the labels in eV and Å? The pretrained potential knows the size they should have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import units

from tlpot.errors import TlpotError
from tlpot.frames import Frame

if TYPE_CHECKING:
    from tlpot.prediction import Prediction

PLAUSIBLE = 4.0
"""Labels may be this many times larger or smaller than the pretrained prediction, or than that in
another unit; where no unit fits, the prediction is wrong (of a stand-in element, say)."""
CORRELATION = {"forces": 0.5, "energies": 0.8}
"""Below it, or below 3/√n for n numbers, the prediction is no yardstick and nothing is said: the
energies of a few polymorphs may well come out in the wrong order."""

KCAL, KJ = units.kcal / units.mol, units.kJ / units.mol
FORCE_UNITS = {
    "gradients (the sign is flipped)": -1.0,
    "Hartree/Bohr": units.Bohr / units.Hartree,
    "Rydberg/Bohr": units.Bohr / units.Rydberg,
    "Hartree/Å": 1 / units.Hartree,
    "kcal/mol/Å": 1 / KCAL,
    "kJ/mol/Å": 1 / KJ,
    "meV/Å": 1e3,
}
ENERGY_UNITS = {
    "their negative (the sign is flipped)": -1.0,
    "Hartree": 1 / units.Hartree,
    "Rydberg": 1 / units.Rydberg,
    "kcal/mol": 1 / KCAL,
    "kJ/mol": 1 / KJ,
    "meV": 1e3,
}


def check_units(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> None:
    """Compare labels with a pretrained prediction and refuse a wrong unit or sign.

    Forces are compared directly, but for a minimum's zeros; energies per atom after removing each
    composition's mean.

    Raises
    ------
    TlpotError
        If the labels follow the prediction, but with the factor of another unit or sign.
    """
    pairs = list(zip(frames, predictions, strict=True))
    labelled = [
        (f.forces.ravel(), p.forces.ravel())
        for f, p in pairs
        if f.forces is not None and f.forces.any()
    ]
    if labelled:
        labels, predicted = map(np.concatenate, zip(*labelled, strict=True))
        _compare("forces", FORCE_UNITS, labels, predicted, frames)
    groups: dict[str, list[tuple[float, float]]] = {}
    for f, p in pairs:
        if f.energy is not None:
            groups.setdefault(f.formula, []).append((f.energy / len(f), p.energy / len(f)))
    centred = [np.array(g) - np.mean(g, axis=0) for g in groups.values() if len(g) > 2]
    if centred:
        labels, predicted = np.concatenate(centred).T
        _compare("energies", ENERGY_UNITS, labels, predicted, frames)


def _compare(
    what: str,
    known: dict[str, float],
    labels: np.ndarray,
    predicted: np.ndarray,
    frames: Sequence[Frame],
) -> None:
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
        f"{files}: the {what} are {factor:.3g} times what the pretrained model expects in "
        f"{'eV/Å' if what == 'forces' else 'eV'}; they look like {guess}. Convert them, or name "
        f"the right key in data.keys.{what if what == 'forces' else 'energy'}."
    )


def _distance(factor: float, unit: float) -> float:
    if factor * unit < 0:
        return float("inf")
    return float(abs(np.log(factor / unit)))
