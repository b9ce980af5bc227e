"""Errors frame by frame, in meV: which are the worst, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import Unit
from tlpot.structure.units import KJ_PER_MOL, MEV

WORST = 5
"""Frames that are named."""

MADE, OUTLIER, FEWEST = 0.75, 5.0, 3
"""As `is_made_by_one` says."""


def energy_errors(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> np.ndarray:
    """``(frames,)`` ΔE/N in meV/atom, NaN where there is no label."""
    return np.array(
        [
            1e3 * (prediction.energy - frame.energy) / len(frame)
            if frame.energy is not None
            else np.nan
            for frame, prediction in zip(frames, predictions, strict=True)
        ],
        dtype=float,
    )


def force_errors(
    frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols ``(atoms,)`` and ΔF ``(atoms, 3)``, meV/Å, of all atoms with a force label."""
    symbols, errors = [np.empty(0, dtype=str)], [np.empty((0, 3))]
    for frame, prediction in zip(frames, predictions, strict=True):
        labels = frame.force_labels
        if labels is not None:
            labelled = np.isfinite(labels).all(axis=1)
            symbols.append(np.array(frame.atoms.symbols)[labelled])
            errors.append(1e3 * (prediction.forces - labels)[labelled])
    return np.concatenate(symbols), np.concatenate(errors)


def center(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Deviations of `values` from the mean of their group; groups of one are left out."""
    means, counts = group_means(values, groups)
    return (values - means)[counts > 1]


def group_means(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and size of the group that each value belongs to, ``(values,)`` each."""
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.bincount(group, weights=values)
    return (sums / counts)[group], counts[group]


def is_known(label: float | np.ndarray | None) -> bool:
    """Whether there is a label and all of it is finite."""
    return label is not None and bool(np.isfinite(label).all())


def is_made_by_one(rmse: float, rest: float, n: int) -> bool:
    """Whether the worst of `n` errors makes their `rmse`, which without it is `rest`.

    Without it the RMSE falls below `MADE` of itself, and by more than chance among few would have
    it: its error is `OUTLIER` times that of the others. Of fewer than `FEWEST` none is the odd one.
    """
    if n < FEWEST or rest >= MADE * rmse:
        return False
    return bool(n * rmse**2 - (n - 1) * rest**2 > (OUTLIER * rest) ** 2)


def offsets(
    frames: Sequence[Frame], predictions: Sequence[Prediction], units: Sequence[Unit | None]
) -> dict[str, dict[str, Any]]:
    """Mean ΔE/N of the crystals of a molecule less that of the molecule alone, by formula.

    That is the error of the lattice energy: ``meV_per_atom`` and ``kJ_mol`` of molecules. The
    largest comes first.
    """
    energy = energy_errors(frames, predictions)
    kinds = np.array([frame.kind for frame in frames], dtype=object)
    by_unit = {}
    for unit in dict.fromkeys(units):
        atoms = unit and unit.atoms_per_molecule
        alike = np.array([other == unit for other in units]) & np.isfinite(energy)
        crystals, molecules = (energy[alike & (kinds == kind)] for kind in ("crystal", "molecule"))
        if atoms and len(crystals) and len(molecules):
            offset = float(crystals.mean() - molecules.mean())
            by_unit[str(unit)] = {
                "n_crystals": len(crystals),
                "n_molecules": len(molecules),
                "meV_per_atom": offset,
                "kJ_mol": offset * atoms * MEV / KJ_PER_MOL,
            }
    return dict(sorted(by_unit.items(), key=lambda item: -abs(item[1]["kJ_mol"])))


def worst_frames(
    frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> dict[int, dict[str, Any]]:
    """The `WORST` frames by their share of all squared errors, of energies or of forces.

    By their place in `frames`: ``file``, ``index`` in it, and errors, None without a label.
    """
    energy = energy_errors(frames, predictions)
    forces = [
        force_errors([frame], [guess])[1] for frame, guess in zip(frames, predictions, strict=True)
    ]
    squares = np.array([(errors**2).sum() for errors in forces])
    rmse = np.array([np.sqrt(np.mean(errors**2)) if errors.size else np.nan for errors in forces])
    shares = np.fmax(_shares(energy**2), _shares(squares))
    order = np.argsort(-np.nan_to_num(shares), kind="stable")[:WORST].tolist()
    return {
        i: {
            "file": frames[i].source,
            "index": frames[i].index,
            "energy_error_meV_per_atom": _finite(energy[i]),
            "force_rmse_meV_per_A_component": _finite(rmse[i]),
        }
        for i in order
        if shares[i] > 0
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _shares(values: np.ndarray) -> np.ndarray:
    return values / (np.nansum(values) or 1.0)
