"""The floor of a training step: the matrix products it cannot do without, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from tlpot.model.potential import Potential

Layer = tuple[int, int, int, int, bool]
"""Networks, atoms, inputs and outputs of one linear layer of one element; whether it is first."""


def layers(potential: Potential, numbers: Tensor) -> list[Layer]:
    """The hidden layers at work on atoms of these atomic numbers.

    `potential` is restricted to the elements present (`Potential.for_elements`), so its first
    layers have active columns only. The output layers (width 1) are left out.
    """
    backbone = potential.backbone
    species = backbone.species[numbers.to(backbone.species.device)]
    return [
        (backbone.members, int((species == index).sum()), n_in, n_out, i == 0)
        for index, widths in enumerate(backbone.architecture.widths)
        for i, (n_in, n_out) in enumerate(pairwise((backbone.aev.out_dim, *widths)))
    ]


def flops(potential: Potential, numbers: Tensor) -> int:
    """Floating-point operations of one step's matrix products, energies and forces in its loss.

    A layer's are: forward, slope in the inputs, slope of the loss carried back up through the
    latter, two products for the weights' gradient, and, but for the first layer, whose input is
    constant, one for the gradient of its input.
    """
    return sum(
        2 * (5 if first else 6) * members * atoms * n_in * n_out
        for members, atoms, n_in, n_out, first in layers(potential, numbers)
    )


def all_products(potential: Potential, numbers: Tensor, device: torch.device) -> Callable[[], None]:
    """The same products as real ones of torch: their own shapes, results written in place.

    First layers take all members in one product (their input is shared), the others one batched
    product; the weights' gradient is one product of twice as many rows.
    """
    work = [p for layer in layers(potential, numbers) for p in _products(layer, device)]

    def run() -> None:
        for left, right, out in work:
            torch.matmul(left, right, out=out)

    return run


def _products(layer: Layer, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    m, n, i, o, first = layer
    shape = () if first else (m,)
    width = m * o if first else o

    def some(rows: int, columns: int) -> Tensor:
        return torch.rand(*shape, rows, columns, device=device)

    weight, below, above, gradient = some(width, i), some(n, i), some(n, width), some(width, i)
    yield below, weight.mT, above
    yield above, weight, below
    yield below, weight.mT, above
    if not first:
        yield above, weight, below
    yield some(2 * n, width).mT, some(2 * n, i), gradient


def square_product(device: torch.device) -> tuple[Callable[[], None], int]:
    """A big square product, and its floating-point operations: the machine's sgemm rate."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.rand(size, size, device=device) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.matmul(left, right, out=out), 2 * size**3
