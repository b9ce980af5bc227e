"""What comes of a ranking."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms

from tlpot.csp.landscape import (
    NORMAL_QUANTILE,
    Candidate,
    centred_spread,
    spread_of_differences,
)
from tlpot.csp.match import Match
from tlpot.csp.scores import score
from tlpot.csp.settings import Ranking
from tlpot.data.crystals.read import Refused
from tlpot.model.uncertainty import Scale
from tlpot.powder.classifier import Opinion
from tlpot.structure.molecules import Unit


@dataclass(eq=False)
class Ranked:
    """A landscape in order.

    Attributes
    ----------
    candidates
        The unlike crystals, lowest energy first.
    unit
        What energies are per mole of.
    gas
        The relaxed gas molecules of a unit.
    spread
        ``(n, n)`` kJ/mol, standard deviation of the difference between two candidates;
        calibrated if `scale` is not None, NaN if the model is a single network.
    doubt
        ``(n,)`` kJ/mol, that of the difference between a candidate and the landscape's mean.
    scale
        Calibration of the energy; None: the spread is raw.
    copies
        ``(candidate, name of the one that it repeats)``, lowest energy first.
    refused
        What could not be ranked.
    experimental
        Name of each experimental structure and the candidate that matches it, or None.
    scores
        Agreement with the reference energies (`tlpot.csp.scores.score`).
    settings, model
        How it was made; path or name of the model.
    remarks
        Reasons to trust it less.
    opinion
        What the classifier says of the measured pattern's crystal system.
    """

    candidates: list[Candidate]
    unit: Unit
    gas: list[Atoms]
    spread: np.ndarray
    doubt: np.ndarray
    scale: Scale | None
    copies: list[tuple[Candidate, str]]
    refused: list[Refused]
    experimental: dict[str, Match | None]
    scores: dict[str, float]
    settings: Ranking
    model: str = ""
    remarks: list[str] = field(default_factory=list)
    opinion: Opinion | None = None

    @classmethod
    def of(cls, candidates: list[Candidate], scale: Scale | None, **others: Any) -> Ranked:
        """Of candidates in order: spread, doubt and scores follow; `others` are the rest."""
        members, factor = np.array([c.energies for c in candidates]), scale.factor if scale else 1.0
        references = [np.nan if c.reference is None else c.reference for c in candidates]
        return cls(
            candidates=candidates,
            spread=spread_of_differences(members, factor),
            doubt=centred_spread(members, factor),
            scale=scale,
            scores=score([c.energy for c in candidates], references),
            **others,
        )

    @property
    def energies(self) -> np.ndarray:
        """``(n,)`` lattice energies, kJ/mol."""
        return np.array([candidate.energy for candidate in self.candidates])

    @property
    def relative(self) -> np.ndarray:
        """``(n,)`` kJ/mol above the lowest."""
        return self.energies - self.energies[0]

    @property
    def quantile(self) -> float:
        """Half-width of the 90 % interval of a difference, in standard deviations."""
        return self.scale.quantile if self.scale and self.scale.quantile else NORMAL_QUANTILE

    def not_told_from(self, place: int) -> list[int] | None:
        """Places of the candidates whose order against this one is in doubt (90 % interval).

        None if the model is a single network and cannot say.
        """
        if np.isnan(self.spread[place, place]):
            return None
        gaps = np.abs(self.energies - self.energies[place])
        close = gaps <= self.quantile * self.spread[place]
        close[place] = False
        return np.flatnonzero(close).tolist()

    @cached_property
    def groups(self) -> list[range] | None:
        """Places of crystals that cannot be told apart, in order: each from the first of its group.

        A group goes on to the first crystal that is told from its first one. None if the model
        cannot say.
        """
        if np.isnan(self.spread).any():
            return None
        bounds = [0]
        for place in range(1, len(self.candidates)):
            gap = self.energies[place] - self.energies[bounds[-1]]
            if gap > self.quantile * self.spread[bounds[-1], place]:
                bounds.append(place)
        bounds.append(len(self.candidates))
        return list(map(range, bounds, bounds[1:]))

    @property
    def best_pattern(self) -> int | None:
        """Place of the candidate whose powder pattern is most like the measured one."""
        nan = float("nan")
        similarities = np.array([c.notes.get("pattern_similarity", nan) for c in self.candidates])
        return None if np.isnan(similarities).all() else int(np.nanargmax(similarities))

    def place(self, candidate: Candidate) -> int:
        """0-based place of a candidate."""
        return next(i for i, c in enumerate(self.candidates) if c is candidate)
