"""Files of measured powder patterns: their columns, on which axis, at which wavelength."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlpot.data.text import read_text
from tlpot.errors import TlpotError
from tlpot.structure.units import KEV_PHOTON

COMMENT = ("#", "!", "'", '"', ";", "%", "*", "/", "_")
"""Begin lines that hold no point."""
DECIMAL_COMMAS = re.compile(r"\s*-?\d+,\d+(e[+-]?\d+)?([\s;]+|,\s+)-?\d+", re.IGNORECASE)
"""Starts a line whose columns are separated by something else."""
FEWEST_POINTS = 50
"""Points below which a file is no pattern."""
LEAST = 12.0
"""Degrees: a pattern that ends before is not taken for one in 2θ unless it says so."""
UNEVEN = 5.0
"""Times that steps grow along a pattern that is not taken for one in 2θ unless it says so."""
REPEATED = 0.1
"""Share of values of the first column that are not there already, below which it is no axis."""
WAVELENGTH_WORDS = re.compile(
    r"(?:wave[\s_-]*length|(?<![a-z])lambda|λ).{0,24}?(\d*\.\d+(?:e[+-]?\d+)?|\d+e-\d+)\s*(nm|pm|m\b)?"
)

PATTERN_AXES: dict[str, tuple[str, Callable[[np.ndarray, float], np.ndarray]]] = {
    # a title as `_plain` makes it, unit included; sin θ of values at a wavelength
    "2θ in radians": (
        r"\b(2|two)[ -]*th(eta)?( angle)? (rad|radians?)\b",
        lambda x, _: np.sin(x / 2),
    ),
    "2θ": (
        r"\b(2|two)[ -]*th(eta)?\b|\bt(th|theta|2)\b|\b2t\b|\bangle\b",
        lambda x, _: np.sin(np.radians(x / 2)),
    ),
    "Q in 1/nm": (
        r"\bq\b[ /]*(nm ?-1|1 ?/ ?nm|(?<=/ )nm|(?<=/)nm)",
        lambda x, wavelength: x / 10 * wavelength / (4 * np.pi),
    ),
    "Q in 1/Å": (
        r"\bq\b[ /]*(a(ng\w*)? ?-1|1 ?/ ?a|(?<=/ )a|(?<=/)a|inv\w*\.? ?a)",
        lambda x, wavelength: x * wavelength / (4 * np.pi),
    ),
    "d in nm": (
        r"\bd[ -]*(spacings?|values?)?[ /]*nm\b",
        lambda x, wavelength: wavelength / (20 * x),
    ),
    "d in Å": (
        r"\bd[ -]*(spacings?|values?)?[ /]*a(ng\w*)?\b|\bd[ -]*(spacing|value)s?\b",
        lambda x, wavelength: wavelength / (2 * x),
    ),
}
"""Kinds of axes, as messages call them."""
FOREIGN_AXES = re.compile(
    r"(x[ -]?(units?|axis) )?(theta|energy|e k?ev|k?ev|tof|time of flight|channels?)\b"
)
"""What begins the title of an axis that is none of them."""
SPELLINGS = {"θ": "theta", "å": "a", "\\aa": "a", "−": "-", "⁻": "-", "‐": "-"}
"""Of one thing."""
SAY = "as its first line: '# 2theta', '# Q (1/A)', '# Q (1/nm)' or '# d (A)'"
"""How a file says what its first column is."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A pattern as its file has it.

    Attributes
    ----------
    position, intensity
        ``(n,)`` rising positions on `axis`, no two the same, and any unit.
    axis
        One of `PATTERN_AXES`.
    wavelength
        Å, as the file says; None: it does not.
    """

    position: np.ndarray
    intensity: np.ndarray
    axis: str
    wavelength: float | None

    def angles(self, wavelength: float) -> np.ndarray:
        """``(n,)`` degrees 2θ at a wavelength (Å); NaN where it reaches no such point."""
        with np.errstate(divide="ignore"):
            sine = PATTERN_AXES[self.axis][1](self.position, wavelength)
        seen = (sine >= 0) & (sine <= 1)
        return np.where(seen, 2 * np.degrees(np.arcsin(np.where(seen, sine, 0.0))), np.nan)


def read_scan(file: str | Path) -> Scan:
    """Read columns of position and intensity; what follows them in a line is left out.

    Columns are separated by blanks, commas or semicolons, decimals may have a comma where columns
    have none; lines without two numbers at their start, and those that begin as `COMMENT`, are
    no points, but may say what the axis is, and the wavelength. GSAS's FXY and FXYE, and FullProf's
    free format (start, step, end, intensities) are known. Points at one place are averaged.

    Raises
    ------
    TlpotError
        If the file is missing or holds no pattern, or does not say what its first column is, which
        does not look like 2θ.
    """
    lines = [line.strip() for line in read_text(file).splitlines()]
    points = [_numbers(line) for line in lines]
    header = [line for line, point in zip(lines, points, strict=True) if line and not point]
    rows = [point for point in points if point]
    scale = _gsas_scale(file, header)
    pairs = _fullprof(rows) or [(row[0] * scale, row[1]) for row in rows]
    if len(pairs) < FEWEST_POINTS:
        raise TlpotError(
            f"{file}: holds {len(pairs)} lines of position and intensity, too few for a powder "
            "pattern"
        )
    values = np.array(pairs)
    if not np.isfinite(values).all():
        raise TlpotError(f"{file}: holds values that are no finite numbers; mend the file")
    position, place, count = np.unique(values[:, 0], return_inverse=True, return_counts=True)
    if len(position) < max(REPEATED * len(values), 2):
        raise TlpotError(
            f"{file}: only {len(position)} of its {len(values)} lines have a position of their "
            "own; separate columns by blanks or semicolons where decimals have a comma"
        )
    axis = _axis(file, header) or _plausible(file, position)
    if axis == "2θ" and (position[0] < 0 or position[-1] > 180):
        raise TlpotError(
            f"{file}: the first column must be 2θ, between 0° and 180°; it runs from "
            f"{position[0]:g} to {position[-1]:g}. If it is something else, say so {SAY}"
        )
    return Scan(position, np.bincount(place, values[:, 1]) / count, axis, _wavelength(header))


def _numbers(line: str) -> list[float] | None:
    """What a line of a pattern holds, at least two numbers; None: it is none."""
    if line.startswith(COMMENT):
        return None
    if DECIMAL_COMMAS.match(line):
        line = re.sub(r"(\d),(\d)", r"\1.\2", line)
    numbers = []
    for word in re.split(r"[\s,;]+", line):
        try:
            numbers.append(float(word))
        except ValueError:
            break
    return numbers if len(numbers) > 1 else None


def _fullprof(rows: Sequence[Sequence[float]]) -> list[tuple[float, float]] | None:
    """Of start, step and end, then intensities alone; None if it is not that."""
    if not rows or len(rows[0]) != 3:
        return None
    start, step, end = rows[0]
    values = [value for row in rows[1:] for value in row]
    if not 0 < step < end - start < np.inf or round((end - start) / step) + 1 != len(values):
        return None
    return [(start + i * step, value) for i, value in enumerate(values)]


def _gsas_scale(file: str | Path, header: Sequence[str]) -> float:
    """Degrees of a unit of the first column: of GSAS's files a hundredth."""
    banks = [line for line in header if re.match(r"BANK\s+\d+\s", line)]
    if not banks:
        return 1.0
    if len(banks) > 1 or not re.search(r"\sFXYE?\b", banks[0]) or " CON" not in banks[0]:
        raise TlpotError(
            f"{file}: is a GSAS file that is not one bank of constant wavelength with columns "
            "(FXY, FXYE); export it as .xy"
        )
    return 0.01


def _axis(file: str | Path, header: Sequence[str]) -> str | None:
    """What the title of the first column is, the last line that has one; None: nothing says it."""
    for line in reversed(header):
        text = _plain(line)
        matches = {axis: re.search(title, text) for axis, (title, _) in PATTERN_AXES.items()}
        places = {axis: match.start() for axis, match in matches.items() if match}
        if places:
            return min(places, key=lambda axis: places[axis])
        if re.match(r"(x[ -]?(units?|axis) )?q\b", text):
            raise TlpotError(f"{file}: its Q ({line}) is without a unit; say it {SAY}")
        if FOREIGN_AXES.match(text) and not re.search(r"\d", text):
            raise TlpotError(
                f"{file}: its first column is called '{line}'; convert it to 2θ, Q or d, and say "
                f"so {SAY}"
            )
    if str(file).lower().endswith((".qye", ".qchi")):
        return "Q in 1/Å"
    return None


def _plausible(file: str | Path, position: np.ndarray) -> str:
    """2θ, if nothing is against it."""
    steps = np.diff(position)
    tenth = max(len(steps) // 10, 1)
    growth = steps[-tenth:].mean() / steps[:tenth].mean()
    if position[0] < 0 or position[-1] > 180:
        return "2θ"
    if position[-1] < LEAST or growth > UNEVEN:
        raise TlpotError(
            f"{file}: does not say what its first column is, and it does not look like 2θ (from "
            f"{position[0]:g} to {position[-1]:g}, steps from {steps[:tenth].mean():.2g} to "
            f"{steps[-tenth:].mean():.2g}): say so {SAY}"
        )
    return "2θ"


def _wavelength(header: Sequence[str]) -> float | None:
    """Å, of the first line that has it, or an energy in keV."""
    for line in header:
        text = unicodedata.normalize("NFKC", line).lower()
        if match := re.search(WAVELENGTH_WORDS, text):
            value = float(match[1]) * {"nm": 10.0, "pm": 0.01, "m": 1e10}.get(match[2] or "", 1.0)
        elif match := re.search(r"energy\D{0,24}?(\d+(?:\.\d*)?)\s*kev", text):
            value = KEV_PHOTON / float(match[1])
        else:
            continue
        value *= 1e10 if value < 1e-6 else 1.0
        if 0.05 < value < 10.0:
            return value
    return None


def _plain(line: str) -> str:
    """A title without what people write differently."""
    text = unicodedata.normalize("NFKC", line).lower()
    for given, plain in SPELLINGS.items():
        text = text.replace(given, plain)
    return re.sub(r"[^a-z0-9/.-]+", " ", text).strip()
