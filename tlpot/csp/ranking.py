"""How crystals are ranked, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from tlpot.config.sections import Needs, Section
from tlpot.csp.landscape import GAUSSIAN, Candidate
from tlpot.csp.match import Match
from tlpot.data.crystals import Refused
from tlpot.model.uncertainty import Scale
from tlpot.optional import require
from tlpot.powder.classifier import Opinion
from tlpot.relax.settings import Relaxation
from tlpot.structure.molecules import Unit


class Ranking(Section):
    """How crystals are ranked."""

    relaxation: Relaxation | None = Field(
        None,
        description="how they are relaxed first, with dispersion if there is any; left out: "
        "energies of the geometries as they are",
    )
    molecule: str | None = Field(
        None, description="file with the molecules of one formula unit; left out: found by bonds"
    )
    experimental: list[str] = Field(
        default_factory=list, description="experimental structures to look for"
    )
    reference: str | None = Field(
        None,
        description="reference energies: `labels` of the files, or a CSV of id (file name, or as "
        "much of its path as tells it from others) and energy in eV per cell",
    )
    dispersion: Literal["d3", "d4"] | None = Field(
        None, description="add D3(BJ) or D4 to a model whose labels have no dispersion"
    )
    functional: Annotated[str | None, Needs(dispersion=True)] = Field(
        None, description="of labels without dispersion, for a model that does not say"
    )
    duplicates: bool = Field(True, description="leave out copies of one crystal")
    phonons: int = Field(0, ge=0, description="lowest so many structures get a free energy")
    temperature: Annotated[float, Needs(phonons=True)] = Field(
        298.15, ge=0, description="K, of the free energy"
    )
    supercell: Annotated[float, Needs(phonons=True)] = Field(
        10.0, gt=0, description="Å, height of the phonons' supercell"
    )
    pattern: str | None = Field(
        None,
        description="measured powder pattern to compare with (.xy: 2θ in degrees, or Q or d as it "
        "says, and intensity)",
    )
    wavelength: Annotated[str | None, Needs(pattern=True)] = Field(
        None,
        description="of the pattern: Å, or a name as MoKa1; left out: what it says, or CuKa",
    )
    classifier: Annotated[str | None, Needs(pattern=True)] = Field(
        None, description="run folder or model of tlpot xrd train: its opinion on the pattern"
    )
    shift: Annotated[float, Needs(pattern=True)] = Field(
        1.0,
        gt=0,
        description="degrees 2θ by which peaks may be off, see tlpot.powder.pattern.similarity",
    )

    def require_libraries(self) -> None:
        """Raise a TlpotError, before any work, if a library that the settings need is missing."""
        if self.relaxation is not None:
            self.relaxation.require_libraries(serial=self.dispersion is not None)
        if self.duplicates or self.experimental:
            require("pymatgen.core", "use", "comparing crystals (unlike --no-duplicates)")
        if self.pattern is not None:
            require("pymatgen.core", "use", "comparing powder patterns")
        if self.phonons:
            for library in ("phonopy", "spglib"):
                require(library, "use", "the free energy of phonons")


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
        return self.scale.quantile if self.scale and self.scale.quantile else GAUSSIAN

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

    @property
    def best_pattern(self) -> int | None:
        """Place of the candidate whose powder pattern is most like the measured one."""
        nan = float("nan")
        found = np.array([c.notes.get("pattern_similarity", nan) for c in self.candidates])
        return None if np.isnan(found).all() else int(np.nanargmax(found))

    def place(self, candidate: Candidate) -> int:
        """0-based place of a candidate."""
        return next(i for i, one in enumerate(self.candidates) if one is candidate)
