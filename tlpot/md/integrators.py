"""Equations of motion, all of whose memory can be written down and taken up again."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet
from scipy.linalg import expm

from tlpot.md.settings import Dynamics

EVERY = 10
"""Steps between two changes of the cell."""


class StochasticCell(Bussi):
    """Constant temperature and pressure by stochastic rescaling of velocities and cell.

    Every `EVERY` steps the cell is deformed by exp(A) with the symmetric

        A = −(β/3τ)(P₀ − P − k_B T/V) Δt + √(2 β k_B T Δt/(3 V τ)) W,

    atoms following and momenta deformed inversely (Bernetti and Bussi 2020, J. Chem. Phys. 153,
    114107; anisotropic: Del Tatto, Raiteri, Bernetti and Bussi 2022, Appl. Sci. 12, 1139). P is
    the internal pressure tensor, β the compressibility, τ the time constant.

    Parameters
    ----------
    pressure, compressibility
        eV/Å³ and its inverse.
    tau_cell
        Time constant of the cell, ASE's unit.
    isotropic
        Only the volume changes, not the shape.
    first
        Steps that the run has made before.
    """

    def __init__(
        self,
        atoms: Atoms,
        *args: Any,
        pressure: float,
        compressibility: float,
        tau_cell: float,
        isotropic: bool,
        first: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, *args, **kwargs)
        self.first = first
        self.pressure, self.tau_cell, self.isotropic = pressure, tau_cell, isotropic
        self.compressibility = compressibility

    def step(self, forces: np.ndarray | None = None) -> Any:
        """One step in time; ASE calls this."""
        forces = super().step(forces)
        if (self.first + self.nsteps + 1) % EVERY:
            return forces
        self._deform()
        return self.atoms.get_forces(md=True)

    def _deform(self) -> None:
        atoms, volume, time = self.atoms, self.atoms.get_volume(), EVERY * self.dt
        momenta = atoms.get_momenta()
        kinetic = (momenta / atoms.get_masses()[:, None]).T @ momenta
        inside = kinetic / volume - atoms.get_stress(voigt=False)
        strength = self.compressibility * time / (3 * self.tau_cell)
        change = strength * (inside + (self.temp / volume - self.pressure) * np.eye(3))
        noise = self.rng.standard_normal((3, 3))
        change += np.sqrt(2 * strength * self.temp / volume) * (noise + noise.T) / 2
        if self.isotropic:
            change = np.eye(3) * change.trace() / 3
        deformation = expm(change)
        atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        atoms.set_momenta(momenta @ np.linalg.inv(deformation))


def integrator(
    atoms: Atoms,
    settings: Dynamics,
    random: np.random.Generator,
    memory: dict[str, float],
    first: int = 0,
) -> MolecularDynamics:
    """The integrator of an ensemble, going on from what it remembered (`remembered`)."""
    step, kelvin = settings.timestep * units.fs, settings.temperature
    tau = settings.tau * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if settings.ensemble == "nvt" and settings.thermostat == "langevin":
        return Langevin(
            atoms, step, temperature_K=kelvin, friction=1 / tau, rng=random, fixcm=False
        )
    if settings.ensemble == "nvt":
        moving = Bussi(atoms, step, kelvin, tau, rng=random)
    else:
        moving = StochasticCell(
            atoms,
            step,
            kelvin,
            tau,
            rng=random,
            pressure=settings.pressure * units.GPa,
            compressibility=settings.compressibility / units.GPa,
            tau_cell=settings.tau_cell * units.fs,
            isotropic=settings.isotropic,
            first=first,
        )
    moving.transferred_energy = memory.get("transferred_energy", 0.0)
    return moving


def draw_momenta(atoms: Atoms, temperature: float, random: np.random.Generator) -> None:
    """Maxwell and Boltzmann's at a temperature in K; what constraints forbid is taken out."""
    width = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(width * random.standard_normal(atoms.positions.shape))


def remembered(moving: MolecularDynamics) -> dict[str, float]:
    """What an integrator knows besides positions, momenta, cell and random numbers."""
    transferred = getattr(moving, "transferred_energy", None)
    return {} if transferred is None else {"transferred_energy": transferred}


def conserved(moving: MolecularDynamics, settings: Dynamics) -> float:
    """The energy (eV) that should not change; NaN where the ensemble keeps no account of it."""
    total = moving.atoms.get_total_energy()
    if settings.ensemble == "nve":
        return total
    if settings.ensemble == "nvt" and isinstance(moving, Bussi):
        return total - moving.transferred_energy
    return float("nan")
