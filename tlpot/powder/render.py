"""From powder lines to patterns as a diffractometer records them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from tlpot.powder.config import Augmentation
from tlpot.powder.lines import LAST_ANGLE, Lines
from tlpot.powder.pattern import flattened

ANGLE_STEP = 0.01
"""Degrees 2θ between points."""
POINTS = round(LAST_ANGLE / ANGLE_STEP)
"""13,500 points from 0° to just below `LAST`."""
ANGLES = np.arange(POINTS) * ANGLE_STEP
WIDTH = 0.1
"""Degrees 2θ, full width at half maximum of a line of an ideal pattern."""
_PADDED = fft.next_fast_len(POINTS + 500, real=True)


def ideal(lines: Sequence[Lines], width: float = WIDTH) -> np.ndarray:
    """``(len(lines), POINTS)`` patterns without any flaw; the highest point is 1."""
    return _scaled(_convolved(_sticks(lines), np.full(len(lines), width)))


def measured(
    lines: Sequence[Lines], flaws: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """``(len(lines), POINTS)`` patterns, each with flaws of its own as measurements have them.

    Strain and texture, then an error of the zero, a width, counting noise on a background that is
    subtracted as from measured patterns, and a range outside which there is nothing.
    """
    changed = []
    for pattern in lines:
        pattern = pattern.strained(flaws.strain, random) if flaws.strain else pattern
        changed.append(pattern.textured(flaws.texture, random) if flaws.texture else pattern)
    n = len(lines)
    widths = np.exp(random.uniform(np.log(flaws.width[0]), np.log(flaws.width[1]), n))
    patterns = _scaled(_convolved(_sticks(changed, random.uniform(-1, 1, n) * flaws.shift), widths))
    if flaws.background or flaws.counts:
        patterns = _scaled(_counted(patterns, flaws, random))
    first, last = random.uniform(0.0, flaws.first, n), random.uniform(flaws.last, LAST_ANGLE, n)
    patterns[(first[:, None] > ANGLES) | (last[:, None] < ANGLES)] = 0.0
    return _scaled(patterns)


def _sticks(lines: Sequence[Lines], shifts: np.ndarray | None = None) -> np.ndarray:
    """Intensities on the grid, each shared by the two points beside its angle."""
    out = np.zeros((len(lines), POINTS))
    for row, pattern in enumerate(lines):
        at = (pattern.two_theta + (0.0 if shifts is None else shifts[row])) / ANGLE_STEP
        left = np.floor(at).astype(int)
        for place, share in ((left, left + 1 - at), (left + 1, at - left)):
            inside = (place >= 0) & (place < POINTS)
            out[row] += np.bincount(
                place[inside], (pattern.intensity * share)[inside], minlength=POINTS
            )
    return out


def _convolved(sticks: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Sticks as lines, half Gaussian and half Lorentzian, of the given FWHM (degrees)."""
    frequency = fft.rfftfreq(_PADDED, ANGLE_STEP).astype(np.float32)
    reach = np.pi * frequency * widths[:, None].astype(np.float32)
    profile = 0.5 * np.exp(-(reach**2) / (4 * np.log(2))) + 0.5 * np.exp(-reach)
    waves = fft.rfft(sticks.astype(np.float32), _PADDED)
    return fft.irfft(waves * profile, _PADDED)[:, :POINTS].clip(min=0.0)


def _counted(patterns: np.ndarray, flaws: Augmentation, random: np.random.Generator) -> np.ndarray:
    """On a smooth background, counted, and less what a smooth curve under it takes away."""
    n = len(patterns)
    fall = np.exp(-ANGLES / random.uniform(5.0, 40.0, (n, 1)))
    hump = np.exp(
        -(((ANGLES - random.uniform(15, 40, (n, 1))) / random.uniform(5, 15, (n, 1))) ** 2)
    )
    heights = flaws.background * random.dirichlet(np.ones(3), n) * random.uniform(0, 1, (n, 1))
    ground = heights[:, :1] + heights[:, 1:2] * fall + heights[:, 2:] * hump
    counted = patterns + ground
    if flaws.counts:
        counts = flaws.counts * 10 ** random.uniform(0, 2, (n, 1))
        counted = counted + np.sqrt(counted / counts) * random.standard_normal(counted.shape)
    return np.stack([flattened(row, ANGLE_STEP) for row in counted])


def _scaled(patterns: np.ndarray) -> np.ndarray:
    top = patterns.max(axis=1, keepdims=True)
    return (patterns / np.where(top > 0, top, 1.0)).astype(np.float32)
