"""What the trainer and the calculator ask of a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

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

    def keep(self, batch: Batch) -> Batch:
        """The batch with all that does not depend on weights computed once, for training."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights as ``networks.<element>.<layer>.<weight|bias>``."""
        ...
