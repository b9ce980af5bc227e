"""Powder patterns: simulated of a crystal, read from a measurement, compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.ndimage import grey_opening, uniform_filter1d

from tlpot.errors import TlpotError, refusing
from tlpot.powder.lines import WAVELENGTH, diffraction, peaks
from tlpot.powder.pattern_file import FEWEST_POINTS, Scan, read_scan

GRID_STEP = 0.02
"""Degrees 2θ between points."""
FWHM = 0.2
"""Degrees 2θ, width of a simulated peak: half Gaussian, half Lorentzian."""
BACKGROUND = 3.0
"""Degrees 2θ: what is broader than this in a measured pattern is background."""
STRONG_SPACING = 1.5
"""Å: the strongest reflections, against which others are none, have a larger spacing."""
SAME = 5e-3
"""Share by which wavelengths may differ, as Kα and Kα₁ do."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Intensity by scattering angle on an even grid.

    Attributes
    ----------
    angles
        ``(n,)`` degrees 2θ, `GRID_STEP` apart.
    intensity
        ``(n,)`` any unit, background subtracted.
    wavelength
        Å.
    """

    angles: np.ndarray
    intensity: np.ndarray
    wavelength: float = WAVELENGTH


def read_pattern(file: str | Path, wavelength: str | float | None = None) -> Pattern:
    """Read a measured pattern: two or more columns, position and intensity.

    Positions are degrees 2θ, or Q or d if the file says so (`tlpot.powder.pattern_file.read_scan`).
    The background, taken as whatever is broader than `BACKGROUND`, is subtracted (a morphological
    opening).

    Parameters
    ----------
    wavelength
        Å, or a name; left out, what the file says, or else CuKα.

    Raises
    ------
    TlpotError
        If the file is missing or holds no pattern, or says another wavelength.
    """
    with refusing(file, "a powder pattern"):
        scan = read_scan(file)
    used = _wavelength_of_scan(file, scan, wavelength)
    angles = scan.angles(used)
    seen = np.isfinite(angles)
    if seen.sum() < FEWEST_POINTS:
        raise TlpotError(
            f"{file}: only {seen.sum()} of its points ({scan.axis} from {scan.position[0]:g} to "
            f"{scan.position[-1]:g}) can be seen at {used:g} Å"
        )
    order = np.argsort(angles[seen])
    angles, intensity = angles[seen][order], scan.intensity[seen][order]
    grid = np.arange(angles[0], angles[-1] + GRID_STEP / 2, GRID_STEP)
    values = flattened(np.interp(grid, angles, intensity), GRID_STEP)
    if values.max(initial=0.0) <= 0:
        raise TlpotError(f"{file}: the pattern has no peak")
    return Pattern(grid, values, used)


def _wavelength_of_scan(file: str | Path, scan: Scan, given: str | float | None) -> float:
    if given is None:
        return scan.wavelength or WAVELENGTH
    used = wavelength_of(given)
    told = scan.wavelength
    if told is not None and scan.axis.startswith("2θ") and abs(told / used - 1) > SAME:
        raise TlpotError(
            f"{file}: was measured at {told:g} Å, it says, not at {given}; leave the wavelength out"
        )
    return used


def flattened(intensity: np.ndarray, step: float) -> np.ndarray:
    """Less its background: whatever is broader than `BACKGROUND`, at `step` degrees a point."""
    width = max(round(BACKGROUND / step), 1)
    ground = uniform_filter1d(grey_opening(intensity, width), width)
    return (intensity - ground).clip(min=0.0)


def simulate(atoms: Atoms, angles: np.ndarray, wavelength: str | float = "CuKa") -> Pattern:
    """The powder pattern of a crystal, with pymatgen: no preferred orientation, no motion.

    It is 0 where the crystal has no reflection.

    Parameters
    ----------
    angles
        ``(n,)`` degrees 2θ, `GRID_STEP` apart.
    wavelength
        Å, or a name such as ``CuKa``, ``MoKa1``.

    Raises
    ------
    TlpotError
        As `wavelength_of`.
    """
    used = wavelength_of(wavelength)
    first, last = max(float(angles[0]) - 1.0, 0.1), min(float(angles[-1]) + 1.0, 179.0)
    whole = 2 * np.degrees(np.arcsin(min(used / (2 * STRONG_SPACING), 1.0)))
    intensity = np.zeros(len(angles))
    reach = max(last, min(whole, 179.0))
    for place, height in zip(*peaks(atoms, used, reach, scaled=False), strict=True):
        if first <= place <= last:
            away = (angles - place) / (FWHM / 2)
            gauss = np.sqrt(np.log(2) / np.pi) * np.exp(-np.log(2) * away**2)
            intensity += height * 0.5 * (gauss + 1 / (np.pi * (1 + away**2)))
    return Pattern(angles, intensity, used)


def similarity(first: Pattern, second: Pattern, shift: float = 1.0) -> float:
    """1 for equal patterns, 0 where no peak of one is within `shift` of a peak of the other.

    The cross-correlation weighted by a triangle, over the geometric mean of both
    autocorrelations (de Gelder, Wehrens and Hageman 2001, J. Comput. Chem. 22, 273), which lets
    peaks be off by a share of `shift`, as thermal expansion or the model's cell make them.

    Parameters
    ----------
    one, two
        On the same angles.
    shift
        Degrees 2θ, half the base of the triangle.

    Returns
    -------
    NaN if a pattern is empty.
    """
    half = max(round(shift / GRID_STEP), 1)
    triangle = 1.0 - np.abs(np.arange(-half + 1, half)) / half

    def overlap(f: np.ndarray, g: np.ndarray) -> float:
        return float(f @ np.convolve(g, triangle, mode="same"))

    f, g = first.intensity, second.intensity
    size = np.sqrt(overlap(f, f) * overlap(g, g))
    return overlap(f, g) / size if size > 0 else float("nan")


def wavelength_of(value: str | float) -> float:
    """Å, of a number or a name such as ``CuKa``, ``MoKa1``.

    Raises
    ------
    TlpotError
        If there is no such name, or the number is not above 0.
    """
    names = diffraction().WAVELENGTHS
    try:
        number = float(names.get(value, value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise TlpotError(f"wavelength '{value}' is neither Å nor one of {', '.join(names)}")
    return number
