"""How new geometries are proposed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tlpot.config.sections import Needs, Section

Method = Literal["modes", "md", "rattle"]


class Proposal(Section):
    """How new geometries are proposed (`propose`)."""

    method: Method = Field(description="`modes`, `md` or `rattle`")
    number: int = Field(ge=1, description="how many in all")
    temperature: Annotated[float, Needs(method=("modes", "md"))] = Field(
        300.0, gt=0, description="K, of modes and md"
    )
    strain: Annotated[float, Needs(method="rattle")] = Field(
        0.02, ge=0, description="of rattle, standard deviation of the cell's strain"
    )
    rattle: Annotated[float, Needs(method="rattle")] = Field(
        0.05, ge=0, description="of rattle, Å, standard deviation of the shift of every coordinate"
    )
    min_distance: float = Field(0.5, ge=0, description="Å, shortest distance allowed")
    seed: int = Field(0, ge=0, description="of all that is random")
