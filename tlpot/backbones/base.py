"""What the trainer and the calculator ask of a backbone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from tlpot.structure.frames import Batch


class Backbone(Protocol):
    """A network that turns geometry into atomic energies; it knows no loss and no reference."""

    kind: ClassVar[str]
    """What a model file calls it."""

    symbols: tuple[str, ...]
    """Elements that it knows by themselves."""

    donors: dict[str, str]
    """Elements that it takes for another, ``{"Si": "C"}``."""

    cutoff: float
    """Å; neighbours beyond it do not matter."""

    members: int
    """Networks in the ensemble."""

    @property
    def architecture(self) -> Hashable:
        """Everything that its descriptors depend on, besides the donors."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        ...

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

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Descriptors ``Tensor[atoms, features]`` and which network each atom enters."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights as ``networks.<network>.<layer>.<weight|bias>``."""
        ...

    def networks_of(self, symbols: Iterable[str]) -> set[str]:
        """Names of the networks that atoms of `symbols` enter."""
        ...

    def trained_columns(self) -> dict[str, Tensor]:
        """Trainable weights of which only some columns train, by name: ``Tensor[columns]`` bool."""
        ...

    def with_elements(self, symbols: Iterable[str]) -> Any:
        """The same potential with networks for exactly `symbols`, where that saves anything."""
        ...

    def absorb(self, trained: Any) -> None:
        """Take over the weights of a smaller self (`with_elements`) after its training."""
        ...

    def init_gaussian(self, std: float, seed: int) -> None:
        """Every trainable tensor becomes N(0, `std`²)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything but the weights, as plain data for a model file."""
        ...

    @classmethod
    def restore(cls, header: Mapping[str, Any]) -> Any:
        """A backbone without weights from what `describe` said."""
        ...

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As ``nn.Module.to``; a backbone is one."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """As ``nn.Module.requires_grad_``."""
        ...


T = TypeVar("T")


def from_plain(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass of numbers and tuples from what JSON made of it."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value

    return kind(**{name: frozen(value) for name, value in values.items()})


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
