"""What can be set of a molecular dynamics run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import yaml
from ase import Atoms
from pydantic import Field

from tlpot.config.sections import Needs, Section, parse_section
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.structure.soundness import require_sound


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
    bonds: bool = Field(True, description="stop when a bond breaks or forms")


def parse_dynamics(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Dynamics:
    """Settings by name, and as ``name=value``.

    Raises
    ------
    TlpotError
        Naming what is unknown or impossible.
    """
    values, further = dict(values), {}
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        if not equals:
            raise TlpotError(f"--set {override}: must read name=value, e.g. thermostat=bussi")
        if name in values:
            raise TlpotError(f"--set {override}: is set twice; write --{name} {text}, once")
        try:
            values[name] = further[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise TlpotError(f"--set {override}: the value is not valid YAML") from None
    dynamics = parse_section(Dynamics, values, "cannot run dynamics like this")
    dynamics.require_effect(further, "--set ")
    return dynamics


def read_start(file: str, supercell: str = "1x1x1") -> Atoms:
    """The one structure of a file, so many times along each cell vector.

    Raises
    ------
    TlpotError
        If there are several structures, or `supercell` is not like ``2x2x3``.
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2}", supercell):
        raise TlpotError(f"supercell '{supercell}' must read like 2x2x3")
    frames = read_frames(file)
    require_sound(frames)
    if len(frames) > 1:
        raise TlpotError(f"{file} holds {len(frames)} structures; pick one, e.g. {file}@0")
    repeats = tuple(map(int, supercell.split("x")))
    if repeats != (1, 1, 1) and not frames[0].atoms.pbc.all():
        raise TlpotError(f"{file} is not periodic: no supercell can be made of it")
    return frames[0].atoms.repeat(repeats)
