"""The loss: L = λ·MSE(F) + (1−λ)·MSE(E/N) [+ w·MSE(V·stress/N)]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tlpot.config import Training
from tlpot.frames import Batch
from tlpot.potential import Output


@dataclass(frozen=True)
class Loss:
    """Scalar tensors: the total and its unweighted terms.

    ``forces`` (eV/Å)², ``energy`` eV²/atom², ``stress`` eV²/atom².
    """

    total: Tensor
    forces: Tensor
    energy: Tensor
    stress: Tensor


def loss(output: Output, batch: Batch, settings: Training) -> Loss:
    """Loss of one batch, in eV and Å.

    MSE(F) sums the squared error of an atom's three force components and averages over the atoms
    of the batch; MSE(E/N) averages the squared error of the energy per atom over its frames
    (Parunov 2022). The stress term averages |virial − V·stress|²/N² (sum over the nine
    components) over the frames with a stress label. Missing labels are left out.

    With ``fit: mean`` the errors are those of the ensemble mean. With ``fit: members`` each
    member has errors of its own and L is the mean of their losses: the loss of the mean plus the
    variance over members.
    """
    energy = output.energy
    if settings.fit == "mean":
        energy = energy.mean(dim=0, keepdim=True)
    sizes = batch.n_atoms
    virial = batch.stress * batch.volumes[:, None, None]
    forces = _mean_square(output.forces - batch.forces, batch.forces)
    energies = _mean_square((energy - batch.energy) / sizes, batch.energy)
    stress = _mean_square((output.virial - virial) / sizes[:, None, None], virial)
    share = settings.force_share
    total = share * forces + (1.0 - share) * energies
    if settings.stress_weight:
        total = total + settings.stress_weight * stress
    return Loss(total, forces, energies, stress)


def _mean_square(error: Tensor, label: Tensor) -> Tensor:
    """Squares of ``[k, n, ...]`` summed over the last axes, averaged over k and labelled n."""
    known = ~torch.isnan(label).reshape(len(label), -1).any(dim=1, keepdim=True)
    squares = torch.where(known, error.reshape(len(error), len(label), -1), 0.0).square()
    return squares.sum() / (len(error) * known.sum().clamp(min=1))
