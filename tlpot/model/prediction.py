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
    """What a potential says of one structure of ``n`` atoms.

    Attributes
    ----------
    energy
        eV, ensemble mean, reference included.
    forces
        ``(n, 3)`` eV/Å.
    stress
        ``(6,)`` Voigt, eV/Å³, ASE's sign; None unless periodic in three directions.
    energy_std
        eV, standard deviation of the total energy over the ensemble members, calibrated if the
        potential is.
    energies
        ``(n,)`` eV, atomic energies of the mean, references included.
    forces_std
        ``(n, 3)`` eV/Å, as `energy_std`; None unless asked for.
    energy_members
        ``(members,)`` eV, the energy of each; uncalibrated.
    outside, reason
        Whether the structure lies outside what the potential was trained on, and in words by what
        (contacts, spread, surroundings); None unless asked for, or if the potential does not say.
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
        """The same on another energy reference: ``(n,)`` eV more on each atom."""
        total = float(energies.sum())
        return replace(
            self,
            energy=self.energy + total,
            energies=self.energies + energies,
            energy_members=self.energy_members + total,
        )

    def calibrated(self, calibration: Calibration | None) -> Prediction:
        """The same with its raw spreads made error bars."""
        doubt = self.forces_std
        return replace(
            self,
            energy_std=self.energy_std * factor(calibration, "energy"),
            forces_std=None if doubt is None else doubt * factor(calibration, "forces"),
        )


@dataclass
class Output:
    """Tensors behind predictions: a batch of ``F`` frames and ``A`` atoms, ``M`` members.

    Attributes
    ----------
    batch
        What was evaluated.
    atomic
        ``Tensor[M, A]`` eV, reference included.
    slopes
        ``Tensor[K, pairs, 3]`` ∂E/∂vectors, eV/Å; K is M, or 1 for that of the mean energy; None
        of an output with energies alone.
    """

    batch: Batch
    atomic: Tensor
    slopes: Tensor | None

    @cached_property
    def energy(self) -> Tensor:
        """``Tensor[M, F]`` eV."""
        return self.batch.sum_frames(self.atomic)

    @cached_property
    def slope(self) -> Tensor:
        """`slopes` in float64; an error where there are none."""
        if self.slopes is None:
            raise ValueError("evaluated without slope: neither forces nor virial")
        return self.slopes.double()

    @cached_property
    def forces(self) -> Tensor:
        """``Tensor[K, A, 3]`` eV/Å."""
        k, atoms = len(self.slope), len(self.batch.numbers)
        rows = self.slope.transpose(0, 1).flatten(1)
        first, second = self.batch.pairs
        forces = rows.new_zeros(atoms, 3 * k).index_add(0, first, rows)
        return forces.index_add(0, second, rows, alpha=-1).view(atoms, k, 3).transpose(0, 1)

    @cached_property
    def virial(self) -> Tensor:
        """``Tensor[K, F, 3, 3]`` dE/dstrain, eV."""
        k, frames = len(self.slope), self.batch.n_frames
        products = torch.einsum("pi,kpj->pkij", self.batch.vectors, self.slope).flatten(1)
        frame = self.batch.frame[self.batch.pairs[0]]
        virial = products.new_zeros(frames, 9 * k).index_add(0, frame, products)
        virial = virial.view(frames, k, 3, 3).transpose(0, 1)
        return (virial + virial.mT) / 2


def voigt(stress: np.ndarray) -> np.ndarray:
    """``(3, 3)`` to ``(6,)``: xx, yy, zz, yz, xz, xy."""
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
