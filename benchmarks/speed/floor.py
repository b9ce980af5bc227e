"""The floor of a training step: the matrix products it cannot do without, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from tlpot.potential import Potential


@dataclass(frozen=True)
class Layer:
    """One linear layer of one element: `members` networks, `atoms` rows."""

    members: int
    atoms: int
    inputs: int
    outputs: int
    first: bool

    @property
    def products(self) -> int:
        """Products of a step with energies and forces in its loss.

        Forward, slope in the inputs, slope of the loss carried back up through the latter, two
        products for the weights' gradient, and, but for the first layer, whose input is constant,
        one for the gradient of its input.
        """
        return 5 if self.first else 6

    @property
    def flops(self) -> int:
        """Of all its products."""
        return 2 * self.products * self.members * self.atoms * self.inputs * self.outputs


def layers(potential: Potential, numbers: torch.Tensor) -> list[Layer]:
    """The hidden layers at work on atoms of these atomic numbers.

    `potential` is restricted to the elements present (`Potential.for_elements`), so its first
    layers have active columns only. The output layers (width 1) are left out.
    """
    backbone = potential.backbone
    species = backbone.species[numbers.to(backbone.species.device)]
    inputs = backbone.aev.out_dim
    found = []
    for index, widths in enumerate(backbone.architecture.widths):
        atoms = int((species == index).sum())
        sizes = (inputs, *widths)
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            found.append(Layer(backbone.members, atoms, n_in, n_out, first=i == 0))
    return found


def flops(potential: Potential, numbers: torch.Tensor) -> int:
    """Floating-point operations of one step's matrix products."""
    return sum(layer.flops for layer in layers(potential, numbers))


def all_products(
    potential: Potential, numbers: torch.Tensor, device: torch.device
) -> Callable[[], None]:
    """The same products as real ones of torch: their own shapes, results written in place.

    First layers take all members in one product (their input is shared), the others one batched
    product; the weights' gradient is one product of twice as many rows.
    """
    work = [p for layer in layers(potential, numbers) for p in _products(layer, device)]

    def run() -> None:
        for left, right, out in work:
            torch.matmul(left, right, out=out)

    return run


def _products(
    layer: Layer, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    n, m, i, o = layer.atoms, layer.members, layer.inputs, layer.outputs

    def some(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=device)

    if layer.first:
        weight = some(m * o, i)
        x, hidden, gradient = some(n, i), some(n, m * o), some(m * o, i)
        yield x, weight.T, hidden
        yield hidden, weight, x
        yield x, weight.T, hidden
        yield some(2 * n, m * o).T, some(2 * n, i), gradient
        return
    weight = some(m, o, i)
    below, above, gradient = some(m, n, i), some(m, n, o), some(m, o, i)
    yield below, weight.mT, above
    yield above, weight, below
    yield below, weight.mT, above
    yield above, weight, below
    yield some(m, 2 * n, o).mT, some(m, 2 * n, i), gradient


def square_product(device: torch.device) -> tuple[Callable[[], None], int]:
    """A big square product, and its floating-point operations: the machine's sgemm rate."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.rand(size, size, device=device) for _ in range(2))
    out = torch.empty_like(left)

    def run() -> None:
        torch.matmul(left, right, out=out)

    return run, 2 * size**3
