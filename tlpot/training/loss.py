"""The loss: L = λ·MSE(F) + (1−λ)·MSE(E/N^p) [+ w·MSE(V·stress/N)], or Huber for MSE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tlpot.config.run import Training
from tlpot.model.prediction import Output
from tlpot.structure.frames import Batch
from tlpot.training.curvature import Pair, curvature_errors

Counts = Sequence[float]
"""Atoms with forces, frames with an energy, frames with a stress; each times its weight."""


class MemberLabels(NamedTuple):
    """Labels of each member: ``energy`` ``[M, F]`` eV, ``forces`` ``[M, A, 3]`` eV/Å."""

    energy: Tensor
    forces: Tensor

    @classmethod
    def join(cls, labels: Sequence[MemberLabels]) -> MemberLabels:
        """Of the frames of several batches, of a batch of them all."""
        return cls(*(torch.cat(kind, dim=1) for kind in zip(*labels, strict=True)))


@dataclass(frozen=True)
class Loss:
    """Scalar tensors: the total, and what its terms are without weight, exponent and Huber.

    ``forces`` (eV/Å)², ``energy`` eV²/atom², ``stress`` eV²/atom² (zero where it has no weight).
    """

    total: Tensor
    forces: Tensor
    energy: Tensor
    stress: Tensor


def count_labels(batches: Sequence[Batch], weighted: bool = True) -> Counts:
    """How many labels of each kind there are."""
    counts = np.zeros(3)
    for b in batches:
        weight = b.weight if weighted else torch.ones_like(b.weight)
        labels = (b.forces[:, 0], b.energy, b.stress[:, 0, 0] * b.volumes)
        weights = (weight[b.frame], weight, weight)
        counts += [float(w[~k.isnan()].sum()) for k, w in zip(labels, weights, strict=True)]
    return counts.tolist()


def has_slopes(counts: Counts) -> bool:
    """Whether there are labels besides energies."""
    forces, _, stresses = counts
    return bool(forces or stresses)


def expected_counts(frames: Sequence[Batch], draws: Sequence[float]) -> list[Counts]:
    """What each frame adds to the counts that the means of a step divide by.

    The set's labels are spread evenly, forces over its atoms and energies over its frames, so that
    the errors of a step add up to an unbiased estimate of the set's weighted mean, and a frame
    weighs the same whatever labels the others in its batch have. The stress is averaged over the
    frames of the batch that have one.

    Parameters
    ----------
    draws
        How often an epoch draws each frame.
    """
    counts, sizes = [count_labels([frame]) for frame in frames], [len(f.numbers) for f in frames]

    def total(values: Iterable[float]) -> float:
        return sum(n * value for n, value in zip(draws, values, strict=True))

    force = total(c[0] for c in counts) / total(sizes)
    energy = total(c[1] for c in counts) / total(1.0 for _ in frames)
    stress = (count_labels([frame], weighted=False)[2] for frame in frames)
    return [(force * n, energy, s) for n, s in zip(sizes, stress, strict=True)]


def loss(
    output: Output,
    batch: Batch,
    settings: Training,
    counts: Counts | None = None,
    own: MemberLabels | None = None,
    pairs: Sequence[Pair] = (),
) -> Loss:
    """Loss of one batch, in eV and Å.

    MSE(F) sums the squared error of an atom's three force components and averages over the atoms
    with forces; MSE(E/N) averages the squared error of the energy per atom over the frames with
    an energy (Parunov 2022). The stress term averages |virial − V·stress|²/N² (sum over the nine
    components) over the frames with a stress. Each mean is weighted by `Batch.weight`.

    ``size_exponent`` p divides the energy error by N^p instead. With ``huber`` δ, an error x of
    one label (the force vector of an atom, the energy or virial of a frame) enters as x² up to δ
    and as 2δx − δ² beyond (twice Huber 1964, so that small errors count as before).

    With ``fit: mean`` the errors are those of the ensemble mean. With ``fit: members`` each
    member has errors of its own and L is the mean of their losses: the loss of the mean plus the
    variance over members.

    Parameters
    ----------
    counts
        Labels that the means divide by, if not those of `batch` (`count_labels`): it is only a
        share of them, or a sample of more (`expected_counts`).
    own
        With ``fit: members``: labels of each member's own, where these are not the same for all.
    pairs
        Displaced frames of the batch and their partners: ``settings.curvature`` adds
        `tlpot.training.curvature.curvature_errors` to the errors of the forces.
    """
    energy = output.energy
    if settings.fit == "mean":
        energy = energy.mean(dim=0, keepdim=True)
    sizes = batch.n_atoms
    counts = counts or count_labels([batch])
    n_forces, n_energies, n_stresses = counts
    slopes = has_slopes(counts)
    forces = output.forces if slopes else torch.zeros_like(batch.forces)[None]
    labels = batch.forces if own is None else own.forces
    force_error = _error(forces, labels).square().sum(dim=-1)
    energy_error = _error(energy, batch.energy if own is None else own.energy).div(sizes).square()
    weight, per_atom = batch.weight, batch.weight[batch.frame]
    force_term = _mean(force_error * per_atom, n_forces)
    energies = _mean(energy_error * weight, n_energies)
    share, delta = settings.force_share, settings.huber
    scale = sizes.double() ** (2.0 - 2.0 * settings.size_exponent)
    total = share * _mean(_huber(force_error, delta) * per_atom, n_forces)
    total = total + (1.0 - share) * _mean(_huber(energy_error * scale, delta) * weight, n_energies)
    if pairs and slopes:
        errors = curvature_errors(output, batch, pairs, settings.curvature)
        total = total + share * _mean(_huber(errors, delta), n_forces)
    stress = torch.zeros_like(total)
    if settings.stress_weight and slopes:
        virial = batch.stress * batch.volumes[:, None, None]
        error = _error(output.virial, virial).div(sizes[:, None, None]).square().sum(dim=(-2, -1))
        stress = _mean(error * weight, n_stresses)
        total = total + settings.stress_weight * _mean(_huber(error, delta) * weight, n_stresses)
    return Loss(total, force_term, energies, stress)


def _huber(square: Tensor, delta: float | None) -> Tensor:
    """Squared errors, beyond `delta` in a straight line."""
    if delta is None:
        return square
    line = 2.0 * delta * square.clamp(min=delta**2).sqrt() - delta**2
    return torch.where(square <= delta**2, square, line)


def _error(output: Tensor, label: Tensor) -> Tensor:
    """Zero, also in its gradient, where there is no label."""
    return torch.where(label.isnan(), 0.0, output - label)


def _mean(error: Tensor, count: float) -> Tensor:
    """Mean of ``[members, labels]`` over members and `count` labels; zero without any."""
    return error.sum() / (len(error) * (count or 1.0))
