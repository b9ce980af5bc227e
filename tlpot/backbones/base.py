"""What the trainer and the calculator ask of a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from tlpot.frames import Batch


class Backbone(Protocol):
    """A network that turns geometry into atomic energies; it knows no loss and no reference."""

    symbols: tuple[str, ...]
    """Elements that have networks of their own."""

    cutoff: float
    """Å; neighbours beyond it do not matter."""

    members: int
    """Networks in the ensemble."""

    def atomic_energies(self, batch: Batch) -> Tensor:
        """``Tensor[members, atoms]``, eV, differentiable in ``batch.vectors``."""
        ...

    def energy_and_slope(self, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
        """Atomic energies and ∂(sum of their member mean)/∂``batch.vectors``.

        Returns ``Tensor[members, atoms]`` eV and ``Tensor[pairs, 3]`` eV/Å, differentiable in the
        weights if `training`. `plain_energy_and_slope` is the reference to agree with.
        """
        ...

    def keep(self, batch: Batch) -> Batch:
        """The batch with all that does not depend on weights computed once, for training."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights as ``networks.<element>.<layer>.<weight|bias>``."""
        ...


def plain_energy_and_slope(
    backbone: Backbone, batch: Batch, training: bool
) -> tuple[Tensor, Tensor]:
    """`Backbone.energy_and_slope` by automatic differentiation of ``atomic_energies``."""
    vectors = batch.vectors.detach().requires_grad_()
    with torch.enable_grad():
        members = backbone.atomic_energies(replace(batch, vectors=vectors))
        total = members.mean(dim=0).sum()
        (slope,) = torch.autograd.grad(total, vectors, create_graph=training)
    return members if training else members.detach(), slope
