"""Causes of odd labels that are a factor or a sign: units, energies per atom, pressures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tlpot.config.hints import hint
from tlpot.structure.units import ENERGY_UNITS, FORCE_UNITS, STRESS_UNITS

NEAR_UNIT = 1.35
"""Factor within which a scale is that of a unit."""
UNITS_ALIKE = 1.15
"""Factor between the sizes of units within which no labels tell them apart."""
SAME_TOTAL = 0.03
"""Share of a total energy within which it is the one expected."""
VASP_ORDER = [0, 1, 2, 4, 5, 3]
"""Where VASP's xx yy zz xy yz zx holds what Voigt's order wants."""


@dataclass(frozen=True)
class Cause:
    """Why labels do not fit, with what is left of the error once that is undone.

    Attributes
    ----------
    text, mend
        For people.
    error
        RMS that is left, in the unit of the labels.
    guess
        Whether it is no more than that: a factor that is no unit, a shift that others share.
    """

    text: str
    mend: str
    error: float
    guess: bool = False


def magnitude(values: np.ndarray) -> float:
    """Root mean square of all."""
    return float(np.sqrt(np.mean(np.square(values))))


def usual_errors(errors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``(m,)`` of ``m`` frames: the median error, and the median share of what is predicted."""
    share = np.median(errors / np.maximum(sizes, 1e-12))
    return np.asarray(np.hypot(np.median(errors), share * sizes))


def force_unit(factor: float) -> str:
    """What forces are that become ours by a factor; empty: nothing known."""
    return _unit(factor, FORCE_UNITS, "the sign is flipped (gradients)", NEAR_UNIT)


def _unit(factor: float, sizes: Mapping[str, float], flipped: str, near: float) -> str:
    """The units, with either sign, whose sizes in ours a factor cannot be told from."""
    factors = {flipped: -1.0, "twice too large": 0.5, "half as large": 2.0}
    factors |= {f"they look like {name}": size for name, size in sizes.items()}
    factors |= {f"{name} and {flipped}": -size for name, size in sizes.items()}
    fits = {name: abs(np.log(factor / size)) for name, size in factors.items() if factor / size > 0}
    best = min(fits, key=lambda name: fits[name])
    if fits[best] > np.log(2.0 if best == flipped else near):
        return ""
    alike = [n for n in fits if abs(np.log(factors[n] / factors[best])) < np.log(UNITS_ALIKE)]
    return " or ".join(sorted(alike, key=lambda name: fits[name]))


def explain_energy(label: float, expected: float, atoms: int, usual: float) -> Cause | None:
    """Another unit or sign of a total energy, or an energy per atom or per molecule.

    Parameters
    ----------
    label, expected
        eV.
    atoms
        Of the frame.
    usual
        eV that such an expectation is wrong by.
    """
    factors = {f"they look like {name}": size for name, size in ENERGY_UNITS.items()}
    factors |= {"the sign is flipped": -1.0, "it is per atom": float(atoms)}
    factors |= {
        f"it is per molecule, {count} of which there are": float(count)
        for count in range(2, atoms // 2 + 1)
        if atoms % count == 0
    }
    left = {words: abs(label * size - expected) for words, size in factors.items()}
    words = min(left, key=lambda words: left[words])
    if left[words] > max(min(SAME_TOTAL * abs(expected), 0.2 * abs(label - expected)), usual):
        return None
    mend = hint(
        "give total energies of the whole cell in eV, or the right key with {data.keys.energy}",
        "give total energies of the whole cell in eV",
    )
    return Cause(f"energy × {label / expected:.3g}: {words}", mend, left[words])


def explain_stress(labels: np.ndarray, expected: np.ndarray) -> Cause | None:
    """Another unit, sign or order of stresses, ``(6,)`` each, eV/Å³."""
    mend = hint(
        "convert them to eV/Å³, in ASE's sign and order; name the right key with {data.keys.stress}"
    )
    causes = []
    norm = float(np.square(labels).sum())
    factor = float(labels @ expected) / norm if norm else 0.0
    if factor and not (factor > 0 and abs(np.log(factor)) < np.log(NEAR_UNIT)):
        name = _unit(factor, STRESS_UNITS, "the sign is that of a pressure", 1.6)
        text = f"stress × {1 / factor:.3g}" + (f": {name}" if name else "")
        causes.append(Cause(text, mend, magnitude(factor * labels - expected), guess=not name))
    text = "stress in the order xx yy zz xy yz zx, as VASP prints it"
    causes.append(Cause(text, mend, magnitude(labels[VASP_ORDER] - expected)))
    best = min(causes, key=lambda cause: cause.error)
    return best if best.error < 0.5 * magnitude(labels - expected) else None
