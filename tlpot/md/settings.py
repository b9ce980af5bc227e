"""What can be set of a molecular dynamics run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tlpot.config.sections import Needs, Section


class Dynamics(Section):
    """How molecular dynamics runs, and when it stops by itself."""

    ensemble: Literal["nve", "nvt", "npt"] = Field("nvt", description="what is held constant")
    thermostat: Annotated[Literal["langevin", "bussi"], Needs(ensemble="nvt")] = Field(
        "langevin", description="of nvt; npt has bussi"
    )
    temperature: float = Field(300.0, gt=0, description="K; of nve, of the initial velocities")
    pressure: Annotated[float, Needs(ensemble="npt")] = Field(0.0, description="GPa, of npt")
    isotropic: Annotated[bool, Needs(ensemble="npt")] = Field(
        False, description="npt: only the volume changes, not the shape"
    )
    timestep: float = Field(0.5, gt=0, description="fs")
    tau: Annotated[float, Needs(ensemble=("nvt", "npt"))] = Field(
        100.0, gt=0, description="fs, time constant of the thermostat"
    )
    tau_cell: Annotated[float, Needs(ensemble="npt")] = Field(
        1000.0, gt=0, description="fs, time constant of the cell"
    )
    compressibility: Annotated[float, Needs(ensemble="npt")] = Field(
        0.1, gt=0, description="1/GPa; sets how fast the cell moves"
    )
    seed: int = Field(0, ge=0, description="of velocities and thermostat")
    log_every: int = Field(10, ge=1, description="steps between two rows of the log and two checks")
    frame_every: int = Field(100, ge=1, description="steps between two frames of the trajectory")
    save_every: int = Field(1000, ge=1, description="steps between two points of restart")
    max_temperature: float | None = Field(
        None, gt=0, description="K at which to stop; default: 3 × temperature + 300"
    )
    max_energy: float | None = Field(
        None,
        gt=0,
        description="eV per atom by which the potential energy may leave that of the start; "
        "default: 0.1 + 10 kT",
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
    bonds: bool = Field(True, description="stop when a bond breaks or forms")
