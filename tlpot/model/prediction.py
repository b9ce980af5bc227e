"""What a potential says of structures: numbers for users, tensors for training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tlpot.model.uncertainty import Calibration, factor
from tlpot.structure.frames import Batch


@dataclass(frozen=True)
class Prediction:
    """What a potential predicts for one structure of ``n`` atoms.

    Attributes
    ----------
    energy
        Total energy in eV: the mean over the ensemble, with the reference energies of the atoms.
    forces
        Forces in eV/Å, of shape ``(n, 3)``.
    stress
        Stress in eV/Å³ with ASE's sign, of shape ``(6,)`` in Voigt order (xx, yy, zz, yz, xz, xy);
        None unless the structure is periodic in three directions.
    energy_std
        Standard deviation of the total energy over the members, in eV, calibrated if the potential
        is.
    energies
        Energies of the atoms in eV, of shape ``(n,)``; they add up to ``energy``.
    forces_std
        Standard deviation of the forces in eV/Å, of shape ``(n, 3)``, calibrated as ``energy_std``
        is; None unless asked for.
    energy_members
        Total energy of each member in eV, of shape ``(members,)``; never calibrated.
    outside, reason
        Whether the structure lies outside what the potential was trained on, and because of what
        (contacts, spread, surroundings). None unless asked for and known to the potential.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    energy_std: float
    energies: np.ndarray
    forces_std: np.ndarray | None = None
    energy_members: np.ndarray = field(default_factory=lambda: np.empty(0))
    outside: bool | None = None
    reason: str | None = None

    def shifted(self, energies: np.ndarray) -> Prediction:
        """The same with another reference: ``(n,)`` eV are added to the atoms' energies."""
        total = float(energies.sum())
        return replace(
            self,
            energy=self.energy + total,
            energies=self.energies + energies,
            energy_members=self.energy_members + total,
        )

    def calibrated(self, calibration: Calibration | None) -> Prediction:
        """The same with its raw spreads scaled to error bars; unchanged without a calibration."""
        doubt = self.forces_std
        return replace(
            self,
            energy_std=self.energy_std * factor(calibration, "energy"),
            forces_std=None if doubt is None else doubt * factor(calibration, "forces"),
        )


@dataclass
class Output:
    """Tensors behind the predictions for a batch of ``F`` frames, ``A`` atoms and ``M`` members.

    Attributes
    ----------
    batch
        What was evaluated.
    atomic
        ``Tensor[M, A]``, energies of the atoms in eV with the reference.
    slopes
        ``Tensor[K, pairs, 3]``, ∂E/∂vectors in eV/Å; K is M, or 1 for the mean energy alone. None
        if only energies were asked for.
    """

    batch: Batch
    atomic: Tensor
    slopes: Tensor | None

    @cached_property
    def energy(self) -> Tensor:
        """Total energies in eV, ``Tensor[M, F]``."""
        return self.batch.sum_frames(self.atomic)

    @cached_property
    def slope(self) -> Tensor:
        """The `slopes` in float64.

        Raises
        ------
        ValueError
            If the output has energies alone.
        """
        if self.slopes is None:
            raise ValueError("evaluated without slope: neither forces nor virial")
        return self.slopes.double()

    @cached_property
    def forces(self) -> Tensor:
        """Forces in eV/Å, ``Tensor[K, A, 3]``."""
        k, atoms = len(self.slope), len(self.batch.numbers)
        rows = self.slope.transpose(0, 1).flatten(1)
        first, second = self.batch.pairs
        forces = rows.new_zeros(atoms, 3 * k).index_add(0, first, rows)
        return forces.index_add(0, second, rows, alpha=-1).view(atoms, k, 3).transpose(0, 1)

    @cached_property
    def virial(self) -> Tensor:
        """Virials dE/dstrain in eV, ``Tensor[K, F, 3, 3]``."""
        k, frames = len(self.slope), self.batch.n_frames
        products = torch.einsum("pi,kpj->pkij", self.batch.vectors, self.slope).flatten(1)
        frame = self.batch.frame[self.batch.pairs[0]]
        virial = products.new_zeros(frames, 9 * k).index_add(0, frame, products)
        virial = virial.view(frames, k, 3, 3).transpose(0, 1)
        return (virial + virial.mT) / 2


def voigt(stress: np.ndarray) -> np.ndarray:
    """Convert a tensor ``(3, 3)`` to Voigt order ``(6,)``: xx, yy, zz, yz, xz, xy."""
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
