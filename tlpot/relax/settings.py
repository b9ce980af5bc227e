"""How structures are relaxed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tlpot.config.sections import Needs, Section
from tlpot.optional import require


class Relaxation(Section):
    """How structures are relaxed."""

    free: Literal["all", "positions", "cell"] = Field(
        "all", description="what may change; with `cell`, atoms follow it"
    )
    pressure: Annotated[float, Needs(free=("all", "cell"))] = Field(0.0, description="GPa")
    symmetry: bool = Field(False, description="keep the space group of the input")
    symprec: Annotated[float, Needs(symmetry=True)] = Field(
        0.01, gt=0, description="Å within which the space group is found"
    )
    fmax: Annotated[float, Needs(free=("all", "positions"))] = Field(
        0.01, gt=0, description="eV/Å, largest force on an atom at the end"
    )
    smax: float = Field(
        0.005,
        gt=0,
        description="GPa, largest deviation of a stress component from the pressure, of free cells",
    )
    steps: int = Field(1000, ge=1, description="most evaluations for each structure")
    engine: Literal["torch-sim", "ase"] = Field(
        "torch-sim", description="many at a time, or one after the other with ASE's BFGS"
    )
    batch_atoms: Annotated[int | None, Needs(engine="torch-sim")] = Field(
        None, ge=1, description="atoms at a time; default: as many as fit the GPU, 1024 on a CPU"
    )
    max_spread: float | None = Field(
        None,
        gt=0,
        description="eV per √N of the ensemble's spread; default: 3 × the largest in training",
    )
    max_distance: float = Field(
        3.0,
        gt=0,
        description="times as far from training, by descriptors, as 95 % of frames held out",
    )
    bonds: bool = Field(True, description="set aside structures in which a bond breaks or forms")

    def require_libraries(self, serial: bool = False) -> None:
        """Raise a TlpotError if a library is missing; `serial`: as if the engine were ASE."""
        if self.engine == "torch-sim" and not serial:
            require("torch_sim", "use", "relaxing in batches (unlike --engine ase)")
        if self.symmetry:
            require("spglib", "use", "keeping the symmetry")
