"""Powder patterns: simulated of a crystal, read from a measurement, compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from scipy.ndimage import grey_opening, uniform_filter1d

from tlpot.data.crystals import pymatgen_structure
from tlpot.errors import TlpotError
from tlpot.optional import require

if TYPE_CHECKING:
    from tlpot.powder.classifier import Opinion

PURPOSE = "making powder patterns"
STEP = 0.02
"""Degrees 2θ between points."""
FWHM = 0.2
"""Degrees 2θ, width of a simulated peak: half Gaussian, half Lorentzian."""
BACKGROUND = 3.0
"""Degrees 2θ: what is broader than this in a measured pattern is background."""
DECIMAL_COMMAS = re.compile(r"\s*\d+,\d+[\s;]+\d+")
"""Starts a line whose columns are separated by something else."""
FEWEST = 50
"""Points below which a file is no pattern."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Intensity by scattering angle on an even grid.

    Attributes
    ----------
    angles
        ``(n,)`` degrees 2θ, `STEP` apart.
    intensity
        ``(n,)`` any unit, background subtracted.
    """

    angles: np.ndarray
    intensity: np.ndarray


def read_pattern(file: str | Path) -> Pattern:
    """Read a measured pattern: two or more columns, 2θ in degrees and intensity.

    Columns are separated by blanks, commas or semicolons (decimals may have a comma where columns
    have none); lines without two numbers at their start are comments. The background, taken as
    whatever is broader than `BACKGROUND`, is subtracted (a morphological opening).

    Raises
    ------
    TlpotError
        If the file is missing or holds no pattern.
    """
    try:
        lines = Path(file).read_text(errors="replace").splitlines()
    except OSError as error:
        raise TlpotError(f"{file}: cannot be read ({error})") from None
    rows = [row for line in lines if (row := _numbers(line)) is not None]
    if len(rows) < FEWEST:
        raise TlpotError(
            f"{file}: holds {len(rows)} lines of 2θ and intensity, too few for a powder pattern"
        )
    angles, intensity = np.array(sorted(rows)).T
    if not np.isfinite([angles, intensity]).all():
        raise TlpotError(f"{file}: holds values that are no finite numbers; mend the file")
    if angles[0] < 0 or angles[-1] > 180:
        raise TlpotError(
            f"{file}: the first column must be 2θ, between 0° and 180°; it runs from "
            f"{angles[0]:g} to {angles[-1]:g}"
        )
    grid = np.arange(angles[0], angles[-1] + STEP / 2, STEP)
    values = np.interp(grid, angles, intensity)
    values = flattened(values, STEP)
    if values.max(initial=0.0) <= 0:
        raise TlpotError(f"{file}: the pattern has no peak")
    return Pattern(grid, values)


def flattened(intensity: np.ndarray, step: float) -> np.ndarray:
    """Less its background: whatever is broader than `BACKGROUND`, at `step` degrees a point."""
    width = max(round(BACKGROUND / step), 1)
    ground = uniform_filter1d(grey_opening(intensity, width), width)
    return (intensity - ground).clip(min=0.0)


def simulate(atoms: Atoms, angles: np.ndarray, wavelength: str | float = "CuKa") -> Pattern:
    """The powder pattern of a crystal, with pymatgen: no preferred orientation, no motion.

    Parameters
    ----------
    angles
        ``(n,)`` degrees 2θ, `STEP` apart.
    wavelength
        Å, or a name such as ``CuKa``, ``MoKa1``.

    Raises
    ------
    TlpotError
        As `wavelength_of`.
    """
    calculator = diffraction().XRDCalculator(wavelength=wavelength_of(wavelength))
    structure = pymatgen_structure(atoms, PURPOSE)
    room = (max(float(angles[0]) - 1.0, 0.1), min(float(angles[-1]) + 1.0, 179.0))
    peaks = calculator.get_pattern(structure, scaled=False, two_theta_range=room)
    intensity = np.zeros(len(angles))
    for place, height in zip(peaks.x, peaks.y, strict=True):
        away = (angles - place) / (FWHM / 2)
        gauss = np.sqrt(np.log(2) / np.pi) * np.exp(-np.log(2) * away**2)
        intensity += height * 0.5 * (gauss + 1 / (np.pi * (1 + away**2)))
    return Pattern(angles, intensity)


def similarity(one: Pattern, two: Pattern, shift: float = 1.0) -> float:
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
    half = max(round(shift / STEP), 1)
    triangle = 1.0 - np.abs(np.arange(-half + 1, half)) / half

    def overlap(f: np.ndarray, g: np.ndarray) -> float:
        return float(f @ np.convolve(g, triangle, mode="same"))

    f, g = one.intensity, two.intensity
    size = np.sqrt(overlap(f, f) * overlap(g, g))
    return overlap(f, g) / size if size > 0 else float("nan")


def diffraction() -> ModuleType:
    """pymatgen's module of powder patterns; raises TlpotError where it is not installed."""
    return require("pymatgen.analysis.diffraction.xrd", "use", PURPOSE)


def wavelength_of(value: str | float) -> float:
    """Å, of a number or a name such as ``CuKa``, ``MoKa1``.

    Raises
    ------
    TlpotError
        If there is no such name, or the number is not above 0.
    """
    known = diffraction().WAVELENGTHS
    try:
        number = float(known.get(value, value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise TlpotError(f"wavelength '{value}' is neither Å nor one of {', '.join(known)}")
    return number


def classify(
    pattern: Pattern | str | Path, model: str | Path, wavelength: str | float = "CuKa"
) -> Opinion:
    """Which crystal system a powder pattern belongs to, and how surely.

    Parameters
    ----------
    pattern
        A measured pattern, or its file.
    model
        Model file or run folder of `tlpot xrd train`.
    wavelength
        Of the pattern: Å, or a name such as ``CuKa``, ``MoKa1``.

    Raises
    ------
    TlpotError
        If one of the three cannot be used.
    """
    from tlpot.powder.classifier import load
    from tlpot.powder.opinions import classify_pattern

    if isinstance(pattern, Pattern):
        return load(model).classify(pattern, wavelength)
    return classify_pattern(pattern, load(model), wavelength)


def _numbers(line: str) -> tuple[float, float] | None:
    if DECIMAL_COMMAS.match(line):
        line = line.replace(",", ".")
    words = line.replace(",", " ").replace(";", " ").split()
    try:
        return float(words[0]), float(words[1])
    except (ValueError, IndexError):
        return None
