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

    def energy_and_slope(
        self, batch: Batch, training: bool = False, members: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Atomic energies and the slope of their sum in ``batch.vectors``.

        Returns ``Tensor[members, atoms]`` eV and ``Tensor[1, pairs, 3]`` eV/Å for the member mean,
        or ``Tensor[members, pairs, 3]`` if `members`; differentiable in the weights if `training`.
        `plain_energy_and_slope` is the reference to agree with.
        """
        ...

    def keep(self, batch: Batch) -> Batch:
        """The batch with all that does not depend on weights computed once, for training."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights as ``networks.<element>.<layer>.<weight|bias>``."""
        ...


def plain_energy_and_slope(
    backbone: Backbone, batch: Batch, training: bool = False, members: bool = False
) -> tuple[Tensor, Tensor]:
    """`Backbone.energy_and_slope` by automatic differentiation of ``atomic_energies``."""
    vectors = batch.vectors.detach().requires_grad_()
    with torch.enable_grad():
        energies = backbone.atomic_energies(replace(batch, vectors=vectors))
        totals = energies.sum(dim=1) if members else energies.mean(dim=0).sum()[None]
        slopes = [
            torch.autograd.grad(e, vectors, create_graph=training, retain_graph=True)[0]
            for e in totals
        ]
    return energies if training else energies.detach(), torch.stack(slopes)
