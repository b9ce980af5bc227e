"""The loss: L = λ·MSE(F) + (1−λ)·MSE(E/N^p) [+ w·MSE(V·stress/N)], or Huber for MSE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tlpot.config import Training
from tlpot.frames import Batch
from tlpot.potential import Output

Counts = Sequence[int]
"""Atoms with forces, frames with an energy, frames with a stress."""


@dataclass(frozen=True)
class Loss:
    """Scalar tensors: the total, and what its terms are without weight, exponent and Huber.

    ``forces`` (eV/Å)², ``energy`` eV²/atom², ``stress`` eV²/atom² (zero where it has no weight).
    """

    total: Tensor
    forces: Tensor
    energy: Tensor
    stress: Tensor


def count_labels(batches: Sequence[Batch]) -> Counts:
    """How many labels of each kind there are."""
    return (
        sum(int((~b.forces[:, 0].isnan()).sum()) for b in batches),
        sum(int((~b.energy.isnan()).sum()) for b in batches),
        sum(int((~(b.stress[:, 0, 0] * b.volumes).isnan()).sum()) for b in batches),
    )


def loss(output: Output, batch: Batch, settings: Training, counts: Counts | None = None) -> Loss:
    """Loss of one batch, in eV and Å.

    MSE(F) sums the squared error of an atom's three force components and averages over the atoms
    of the batch; MSE(E/N) averages the squared error of the energy per atom over its frames
    (Parunov 2022). The stress term averages |virial − V·stress|²/N² (sum over the nine
    components) over the frames with a stress label. Missing labels are left out.

    ``size_exponent`` p divides the energy error by N^p instead. With ``huber`` δ, an error x of
    one label (the force vector of an atom, the energy or virial of a frame) enters as x² up to δ
    and as 2δx − δ² beyond (twice Huber 1964, so that small errors count as before).

    With ``fit: mean`` the errors are those of the ensemble mean. With ``fit: members`` each
    member has errors of its own and L is the mean of their losses: the loss of the mean plus the
    variance over members.

    Parameters
    ----------
    counts
        Labels that the means divide by, if `batch` is only a share of them (`count_labels`).
    """
    energy = output.energy
    if settings.fit == "mean":
        energy = energy.mean(dim=0, keepdim=True)
    sizes = batch.n_atoms
    n_forces, n_energies, n_stresses = counts or count_labels([batch])
    force_error = _error(output.forces, batch.forces).square().sum(dim=-1)
    energy_error = _error(energy, batch.energy).div(sizes).square()
    forces, energies = _mean(force_error, n_forces), _mean(energy_error, n_energies)
    share, delta = settings.force_share, settings.huber
    weights = sizes.double() ** (2.0 - 2.0 * settings.size_exponent)
    total = share * _mean(_huber(force_error, delta), n_forces)
    total = total + (1.0 - share) * _mean(_huber(energy_error * weights, delta), n_energies)
    stress = torch.zeros_like(total)
    if settings.stress_weight:
        virial = batch.stress * batch.volumes[:, None, None]
        error = _error(output.virial, virial).div(sizes[:, None, None]).square().sum(dim=(-2, -1))
        stress = _mean(error, n_stresses)
        total = total + settings.stress_weight * _mean(_huber(error, delta), n_stresses)
    return Loss(total, forces, energies, stress)


def _huber(square: Tensor, delta: float | None) -> Tensor:
    """Squared errors, beyond `delta` in a straight line."""
    if delta is None:
        return square
    line = 2.0 * delta * square.clamp(min=delta**2).sqrt() - delta**2
    return torch.where(square <= delta**2, square, line)


def _error(output: Tensor, label: Tensor) -> Tensor:
    """Zero, also in its gradient, where there is no label."""
    return torch.where(label.isnan(), 0.0, output - label)


def _mean(error: Tensor, count: int) -> Tensor:
    """Mean of ``[members, labels]`` over members and `count` labels."""
    return error.sum() / (len(error) * max(count, 1))
