"""How crystals are ranked."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tlpot.config.sections import EXPANDED, Needs, Section, no_effect
from tlpot.errors import TlpotError
from tlpot.optional import require
from tlpot.relax.settings import Relaxation


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
    reference: Annotated[str | None, EXPANDED] = Field(
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
    phonons: int = Field(0, ge=0, description="how many of the lowest structures get a free energy")
    temperature: Annotated[float, Needs(phonons=True)] = Field(
        298.15, ge=0, description="K, of the free energy"
    )
    supercell: Annotated[float, Needs(phonons=True)] = Field(
        10.0, gt=0, description="Å, height of the phonons' supercell"
    )
    pattern: Annotated[str | None, EXPANDED] = Field(
        None,
        description="measured powder pattern to compare with (.xy: 2θ in degrees, or Q or d as it "
        "says, and intensity)",
    )
    wavelength: Annotated[str | None, Needs(pattern=True)] = Field(
        None,
        description="of the pattern: Å, or a name as MoKa1; left out: what it says, or CuKa",
    )
    classifier: Annotated[str | None, EXPANDED, Needs(pattern=True)] = Field(
        None, description="run folder or model of tlpot xrd train: its opinion on the pattern"
    )
    shift: Annotated[float, Needs(pattern=True)] = Field(
        1.0,
        gt=0,
        description="degrees 2θ by which lines may be apart, see tlpot.powder.pattern.similarity",
    )

    @model_validator(mode="after")
    def _dispersion_relaxes_one_by_one(self) -> Self:
        for name in self.relaxation.changed() if self.relaxation and self.dispersion else ():
            if name in ("engine", "batch_atoms"):
                raise TlpotError(no_effect(name, f"with dispersion: {self.dispersion}"))
        return self

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
