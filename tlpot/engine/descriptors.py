"""Descriptors of a batch, and the two products with their Jacobian J = ∂x/∂(neighbour vectors).

Forces are −Jᵀ∂E/∂x, and the gradient of a loss of forces needs J·u: J itself is never made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce

import torch
from torch import Tensor

from tlpot.engine.angular import Angular
from tlpot.engine.constants import Constants
from tlpot.engine.environment import Environment
from tlpot.engine.neighbourhood import Neighbourhood
from tlpot.engine.projection import Projection
from tlpot.engine.radial import Radial
from tlpot.engine.term import Term


class Descriptors:
    """ANI's descriptors of one geometry (Smith, Isayev, Roitberg 2017, eqs. 2–4).

    Parameters
    ----------
    projection
        What finer angular columns enter through; None: by themselves.

    Attributes
    ----------
    values
        ``Tensor[atoms, features]``: radial blocks by element, then angular ones by element pair,
        in each ANI's own columns before finer ones; or components in their place, behind all.
    """

    def __init__(
        self, around: Environment | Neighbourhood, projection: Projection | None = None
    ) -> None:
        self.around, self.projection = around, projection
        self.values = self._joined(*[t.values(around) for t in terms(around.constants)])

    def slope(self, features_slope: Tensor) -> Tensor:
        """∂E/∂vectors ``[k, pairs, 3]`` from ∂E/∂x ``[k, atoms, features]``, differentiable."""
        return _Pull.apply(features_slope, self)

    def pull(self, slope: Tensor) -> Tensor:
        """Jᵀ·slope: ``[k, atoms, features]`` to ``[k, pairs, 3]``."""
        pulled = [
            term.pull(self.around, part)
            for term, part in zip(terms(self.around.constants), self._parted(slope), strict=True)
        ]
        return reduce(Tensor.add_, pulled)

    def push(self, vectors: Tensor) -> Tensor:
        """J·vectors: ``[k, pairs, 3]`` to ``[k, atoms, features]``."""
        return self._joined(*[t.push(self.around, vectors) for t in terms(self.around.constants)])

    def _joined(self, radial: Tensor, *angular: Tensor) -> Tensor:
        """Terms ``[..., blocks, columns]`` as ``[..., features]``."""
        if self.projection is None:
            parts = [radial, torch.cat(angular, dim=-1)]
            return torch.cat([part.flatten(-2) for part in parts], dim=-1)
        own, fine = (part.flatten(-2) for part in angular)
        return torch.cat([radial.flatten(-2), own, self.projection.down(fine)], dim=-1)

    def _parted(self, features: Tensor) -> Sequence[Tensor]:
        """``[k, atoms, features]`` by term, ``[k, atoms, blocks, columns]`` each."""
        radial, *angular = terms(self.around.constants)
        split, pairs = radial.blocks * radial.columns, (angular[0].blocks, -1)
        first, rest = features[..., :split], features[..., split:]
        if self.projection is None:
            by_term = rest.unflatten(-1, pairs).split([t.columns for t in angular], dim=-1)
        else:
            own, components = rest.tensor_split([-self.projection.components], dim=-1)
            by_term = own.unflatten(-1, pairs), self.projection.up(components).unflatten(-1, pairs)
        return first.unflatten(-1, (radial.blocks, -1)), *by_term


@lru_cache
def terms(constants: Constants) -> tuple[Term, ...]:
    """The terms of a descriptor: radial, then angular ones."""
    return Radial(constants), *(Angular(constants, angles) for angles in constants.angles)


class _Pull(torch.autograd.Function):
    """Jᵀ·slope; its gradient is J."""

    @staticmethod
    def forward(ctx, slope, descriptors):  # type: ignore[no-untyped-def]
        ctx.descriptors = descriptors
        return descriptors.pull(slope)

    @staticmethod
    def backward(ctx, vectors):  # type: ignore[no-untyped-def]
        return ctx.descriptors.push(vectors), None
