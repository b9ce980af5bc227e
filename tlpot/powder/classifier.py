"""A trained network that says which crystal system a powder pattern belongs to, and how surely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tlpot.errors import TlpotError
from tlpot.model.file import fitting, read_model, require_shapes, write_model
from tlpot.powder.config import Augmentation, Network
from tlpot.powder.lines import LAST_ANGLE, SYSTEMS, WAVELENGTH, Lines
from tlpot.powder.network import CrystalSystemNet, Input, find_lines
from tlpot.powder.pattern import Pattern, wavelength_of
from tlpot.powder.render import ANGLES, ideal

NARROWEST = 15.0
"""Degrees 2θ (CuKα) that a pattern must share with those of the training to be judged at all."""
STRONG_LINE = 0.05
"""Height of a strong line, as a share of the highest."""
PATTERNS_AT_ONCE = 256


@dataclass(frozen=True)
class Opinion:
    """What a classifier makes of a pattern.

    Attributes
    ----------
    probabilities
        Of each crystal system, likeliest first; calibrated on validation patterns.
    doubts
        Why this pattern lies outside what the classifier was trained on; empty if it does not.
    unseen
        Crystal systems that the classifier was never shown, and so cannot recognise.
    """

    probabilities: dict[str, float]
    doubts: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        """The likeliest crystal system."""
        return next(iter(self.probabilities))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "crystal_system": self.best,
            "probability": self.probabilities[self.best],
            "probabilities": self.probabilities,
            "outside_training": self.doubts,
            "unseen_in_training": self.unseen,
        }


class Classifier:
    """A network with its temperature and what it was trained on.

    Parameters
    ----------
    how
        Its layers and input.
    augmentation
        Flaws of its training patterns; None: they were ideal.
    temperature
        Divides the logits (Guo et al. 2017, arXiv:1706.04599).
    metadata
        Where it came from.
    """

    def __init__(
        self,
        settings: Network,
        augmentation: Augmentation | None,
        temperature: float = 1.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings, self.augmentation, self.temperature = settings, augmentation, temperature
        self.metadata = dict(metadata or {})
        self.input = Input(settings)
        self.network = CrystalSystemNet(settings, self.input.points)

    @property
    def unseen(self) -> list[str]:
        """Crystal systems that no training crystal had."""
        return list(self.metadata.get("unseen", []))

    def logits(self, seen: Tensor) -> Tensor:
        """``Tensor[n, points]`` inputs → ``Tensor[n, 7]`` float64 on the CPU, uncalibrated."""
        self.network.eval()
        device = next(self.network.parameters()).device
        with torch.no_grad():
            parts = [self.network(part.to(device)).cpu() for part in seen.split(PATTERNS_AT_ONCE)]
        return torch.cat(parts).double()

    def probabilities(self, patterns: np.ndarray) -> np.ndarray:
        """``(n, POINTS)`` patterns → ``(n, 7)`` calibrated probabilities."""
        return (self.logits(self.input(patterns)) / self.temperature).softmax(1).numpy()

    def calibrate(self, seen: Tensor, systems: Sequence[int]) -> None:
        """Set the temperature that these patterns, not trained on, are likeliest with."""
        logits, labels = self.logits(seen), torch.tensor(systems)

        def loss(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            return float(torch.nn.functional.cross_entropy(scaled, labels))

        self.temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3)).x))

    def classify(self, pattern: Pattern, wavelength: str | float | None = None) -> Opinion:
        """The crystal system of one measured pattern, its background subtracted.

        Parameters
        ----------
        wavelength
            That the pattern was measured with, if not what it says: Å, or a name such as ``MoKa1``.

        Raises
        ------
        TlpotError
            If too little of the pattern lies where the training patterns have theirs, or nothing.
        """
        used = pattern.wavelength if wavelength is None else wavelength_of(wavelength)
        grid, first, last = as_copper(pattern, used)
        return Opinion(self._sorted(grid), list(self._doubts(grid, first, last)), self.unseen)

    def classify_lines(self, lines: Lines) -> Opinion:
        """The crystal system of the ideal pattern of known lines."""
        return Opinion(self._sorted(ideal([lines])[0]), unseen=self.unseen)

    def save(self, path: str | Path) -> Path:
        """Write a model file that `load_classifier` reads."""
        about = {
            "network": self.settings.model_dump(exclude={"base", "freeze"}),
            "augmentation": self.augmentation and self.augmentation.model_dump(),
            "systems": list(SYSTEMS),
            "temperature": self.temperature,
        }
        return write_model(path, {"powder": about, **self.metadata}, self.network.state_dict())

    def _sorted(self, pattern: np.ndarray) -> dict[str, float]:
        shares = self.probabilities(pattern[None])[0]
        return {SYSTEMS[i]: float(shares[i]) for i in np.argsort(-shares)}

    def _doubts(self, grid: np.ndarray, first: float, last: float) -> Iterator[str]:
        flaws = self.augmentation
        if flaws is None:
            yield "the classifier was trained on ideal patterns, not on any like a measurement"
        begins, ends = (0.0, LAST_ANGLE) if flaws is None else (flaws.first, flaws.last)
        if first > begins + 1:
            yield f"it begins at {first:.0f}° (CuKα), training patterns at {begins:.0f}° or before"
        if last < ends - 1:
            yield f"it ends at {last:.0f}° (CuKα), training patterns at {ends:.0f}° or later"
        sines, heights = find_lines(grid)
        low, high = self.metadata.get("first_line", (0.0, LAST_ANGLE))
        for sine in sines[heights >= STRONG_LINE * heights.max(initial=0.0)][:1]:
            angle = 2 * np.degrees(np.arcsin(sine))
            if not low - 1 <= angle <= high + 1:
                yield (
                    f"its first strong line is at {angle:.1f}° (CuKα), that of 99 % of the "
                    f"training crystals between {low:.1f}° and {high:.1f}°"
                )


def first_lines(lines: Sequence[Lines]) -> tuple[float, float]:
    """Between which angles (CuKα) 99 % of the crystals have their first strong line."""
    firsts = [p.two_theta[p.intensity >= STRONG_LINE * p.intensity.max()].min() for p in lines]
    low, high = np.quantile(firsts, (0.005, 0.995))
    return float(low), float(high)


def as_copper(pattern: Pattern, wavelength: float) -> tuple[np.ndarray, float, float]:
    """A pattern as CuKα would have measured it: ``(POINTS,)``, and its first and last angle.

    Raises
    ------
    TlpotError
        As `Classifier.classify`.
    """
    angles = to_copper(pattern.angles, wavelength)
    inside = np.isfinite(angles)
    first, last = angles[inside].min(initial=LAST_ANGLE), angles[inside].max(initial=0.0)
    if last - first < NARROWEST:
        raise TlpotError(
            f"the pattern (2θ {pattern.angles[0]:g}° to {pattern.angles[-1]:g}° at this "
            f"wavelength) covers {max(last - first, 0):.0f}° of the 0° to {LAST_ANGLE:g}° of CuKα "
            f"that the classifier knows, fewer than {NARROWEST:g}°; is the wavelength right?"
        )
    grid = np.interp(ANGLES, angles[inside], pattern.intensity[inside], left=0.0, right=0.0)
    if not np.isfinite(grid).all() or grid.max() <= 0:
        raise TlpotError("the pattern has no peak where the classifier could see it")
    return grid, float(first), float(last)


def to_copper(angles: np.ndarray, wavelength: float) -> np.ndarray:
    """Degrees 2θ at which CuKα sees what `wavelength` (Å) sees at `angles`; NaN: nowhere."""
    sine = np.sin(np.radians(angles / 2)) * WAVELENGTH / wavelength
    seen = sine <= np.sin(np.radians(LAST_ANGLE / 2))
    return np.where(seen, 2 * np.degrees(np.arcsin(np.where(seen, sine, 0.0))), np.nan)


def load_classifier(path: str | Path) -> Classifier:
    """Read a classifier from a model file or run folder.

    Raises
    ------
    TlpotError
        If it is not one.
    """
    header, weights = read_model(path)
    if "powder" not in header:
        raise TlpotError(f"{path} is no classifier of powder patterns; tlpot xrd train makes one")
    with fitting(path):
        about = header.pop("powder")
        flaws = about["augmentation"] and Augmentation(**about["augmentation"])
        layers = Network(**about["network"])
        with torch.device("meta"):
            require_shapes(CrystalSystemNet(layers, Input(layers).points).state_dict(), weights)
        classifier = Classifier(layers, flaws, about["temperature"], header)
        classifier.network.load_state_dict(weights)
        return classifier
