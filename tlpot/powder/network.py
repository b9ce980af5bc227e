"""The network that reads a crystal system from a powder pattern."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from torch import Tensor, nn

from tlpot.errors import TlpotError
from tlpot.powder.config import Network
from tlpot.powder.convolution import PatternConvolution
from tlpot.powder.lines import LAST_ANGLE, SYSTEMS
from tlpot.powder.render import ANGLE_STEP, ANGLES, POINTS

FIRST_Q = 4.0
"""Degrees 2θ where a logarithmic axis begins."""
WEAKEST = 0.003
"""Height of a line that counts, as a share of the highest."""
SMOOTHING = 4.0
"""Points, standard deviation of the Gaussian that patterns are smoothed by to find lines."""
NOISE_BLOCK = 250
"""Points of 0.02° that the noise is taken from at once."""
ABOVE_NOISE = 8.0
"""Standard deviations of the noise that a line must rise above."""
DENSITY_BINS = 40
"""Of ln q, in which lines are counted."""


class Input:
    """What the network sees of patterns.

    Attributes
    ----------
    points
        How many numbers it sees of one.
    """

    def __init__(self, settings: Network) -> None:
        self.settings = settings
        sines = [float(np.sin(np.radians(angle / 2))) for angle in (FIRST_Q, LAST_ANGLE)]
        if settings.sees == "lines":
            self.points = 3 * settings.lines + 3 + DENSITY_BINS
            self.bins = np.linspace(np.log(sines[0]), np.log(sines[1]), DENSITY_BINS + 1)
            return
        self.points = POINTS // settings.pool
        edges = np.linspace(0.0, self.points * settings.pool * ANGLE_STEP, self.points + 1)
        if settings.sees == "log_q":
            edges = 2 * np.degrees(np.arcsin(np.geomspace(sines[0], sines[1], self.points + 1)))
        at = (edges / ANGLE_STEP).clip(max=POINTS)
        self.left = np.floor(at).astype(int).clip(max=POINTS - 1)
        self.share = (at - self.left).astype(np.float32)

    def __call__(self, patterns: np.ndarray) -> Tensor:
        """``(n, POINTS)`` patterns → ``Tensor[n, points]``."""
        if self.settings.sees == "lines":
            seen = np.stack([self._lines(pattern) for pattern in patterns])
        else:
            seen = self._pooled(patterns)
        return torch.from_numpy(seen.astype(np.float32))

    def _pooled(self, patterns: np.ndarray) -> np.ndarray:
        """The pattern on the network's own axis; the largest value is 1."""
        total = np.zeros((len(patterns), POINTS + 1))
        np.cumsum(patterns, axis=1, out=total[:, 1:])
        upto = total[:, self.left] + self.share * (total[:, self.left + 1] - total[:, self.left])
        seen = np.diff(upto, axis=1).clip(min=0.0)
        if self.settings.intensity == "sqrt":
            seen = np.sqrt(seen)
        top = seen.max(axis=1, keepdims=True)
        return seen / np.where(top > 0, top, 1.0)

    def _lines(self, pattern: np.ndarray) -> np.ndarray:
        """Of the first lines ln q/q₁, √height, that they are there; of all how dense they lie."""
        sines, heights = find_lines(pattern)
        some = min(len(sines), self.settings.lines)
        table = np.zeros((self.settings.lines, 3))
        counts = np.zeros(3)
        density = np.zeros(DENSITY_BINS)
        if some:
            q = np.log(sines)
            table[:some, 0] = q[:some] - q[0]
            table[:some, 1] = np.sqrt(heights[:some] / heights.max())
            table[:some, 2] = 1.0
            counts[:] = q[0], np.log(len(q)), (heights > 0.05 * heights.max()).mean()
            density = np.sqrt(np.histogram(q, self.bins)[0])
        return np.concatenate([table.ravel(), counts, density])


def find_lines(pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``sin θ`` and prominence of the lines of one ``(POINTS,)`` pattern, from low angles.

    A line is a maximum of the smoothed pattern, placed by a parabola through its three points,
    that stands out by `WEAKEST` of the highest and by `ABOVE_NOISE` times the noise around it.
    """
    smooth = gaussian_filter1d(pattern, SMOOTHING)
    least = np.maximum(WEAKEST * smooth.max(), ABOVE_NOISE * _noise(pattern))
    at, properties = find_peaks(smooth, prominence=least)
    left, top, right = (smooth[at + k] for k in (-1, 0, 1))
    bend = left - 2 * top + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    angles = ANGLES[at] + ANGLE_STEP * shift
    return np.sin(np.radians(angles / 2)), properties["prominences"]


def _noise(pattern: np.ndarray) -> np.ndarray:
    """``(POINTS,)`` standard deviation of the noise that smoothing leaves, by place.

    From fourth differences at 0.02°, which hardly see the lines: their median over every 5°.
    """
    coarse = pattern[::2]
    fourth = np.abs(np.diff(coarse, 4, append=np.zeros(4))) / np.sqrt(70.0)
    blocks = np.where(coarse > 0, fourth, np.nan).reshape(-1, NOISE_BLOCK)
    there = np.isfinite(blocks).any(axis=1)
    if not there.any():
        return np.zeros(POINTS)
    levels = np.nanmedian(blocks[there], axis=1) / 0.6745
    centres = (np.flatnonzero(there) + 0.5) * 2 * NOISE_BLOCK
    return np.interp(np.arange(POINTS), centres, levels) / np.sqrt(np.sqrt(np.pi) * SMOOTHING)


class CrystalSystemNet(nn.Module):
    """Convolutions, if any, each with ReLU, average pooling and dropout; then dense layers.

    With convolutions after Torres Arroyave et al., whose network is like that of Park et al.
    (2017, IUCrJ 4, 486).
    """

    def __init__(self, settings: Network, points: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = points
        if settings.convolutions is None:
            layers["scale"] = InputScale(points)
        else:
            channels, conv = 1, settings.convolutions
            layers["channel"] = nn.Unflatten(1, (1, points))
            for i, kernel in enumerate(conv.kernels, 1):
                layers[f"conv{i}"] = PatternConvolution(
                    channels, conv.filters, kernel, padding=kernel // 2
                )
                layers[f"relu{i}"] = nn.ReLU(inplace=True)
                layers[f"pool{i}"] = nn.AvgPool1d(conv.pooling)
                layers[f"drop{i}"] = nn.Dropout(conv.dropout)
                points = (points + 2 * (kernel // 2) - kernel + 1) // conv.pooling
                channels = conv.filters
            if points < 1:
                raise TlpotError("model: pool and convolutions.pooling leave no point; reduce them")
            layers["flat"] = nn.Flatten()
            width = channels * points
        for i, wide in enumerate(settings.dense, 1):
            layers[f"dense{i}"] = nn.Linear(width, wide)
            layers[f"dense{i}_relu"] = nn.ReLU(inplace=True)
            layers[f"dense{i}_drop"] = nn.Dropout(settings.dropout)
            width = wide
        layers["output"] = nn.Linear(width, len(SYSTEMS))
        self.layers = nn.Sequential(layers)

    def forward(self, seen: Tensor) -> Tensor:
        """``Tensor[n, points]`` → ``Tensor[n, 7]`` logits."""
        return self.layers(seen)


class InputScale(nn.Module):
    """Shifts and scales each input; set from the training patterns, not trained."""

    mean: Tensor
    width: Tensor

    def __init__(self, points: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(points))
        self.register_buffer("width", torch.ones(points))

    def fit(self, seen: Tensor) -> None:
        """Take mean and standard deviation of ``Tensor[n, points]`` inputs."""
        self.mean.copy_(seen.mean(dim=0))
        self.width.copy_(seen.std(dim=0, correction=0) + 0.05)

    def forward(self, seen: Tensor) -> Tensor:
        """The input, shifted and scaled by column."""
        return (seen - self.mean) / self.width
