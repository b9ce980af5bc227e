"""What a stress test is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tlpot.config.sections import Needs, Section


class Stress(Section):
    """What a stress test is made of."""

    count: int = Field(
        100, ge=0, description="random packings and compressed cells, each relaxed twice"
    )
    pressure: Annotated[float, Needs(count=True)] = Field(
        50.0, gt=0, description="GPa of the second relaxation; the first: 0"
    )
    steps: Annotated[int, Needs(count=True)] = Field(
        200, ge=1, description="most evaluations for each relaxation"
    )
    scans: int = Field(20, ge=0, description="scans of two molecules along a random approach")
    ramp: float = Field(1.0, ge=0, description="ps of MD from 300 to 1000 K; 0: none")
    seed: int = Field(0, ge=0, description="of all that is random")
