"""Descriptors of a batch, and the two products with their Jacobian J = ∂x/∂(neighbour vectors).

Forces are −Jᵀ∂E/∂x, and the gradient of a loss of forces needs J·u: J itself is never made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import accumulate

import torch
from torch import Tensor

from tlpot.engine.angular import Angular
from tlpot.engine.constants import Constants
from tlpot.engine.environment import Environment
from tlpot.engine.moments import Products
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

    def _joined(self, radial: Tensor, *others: Tensor) -> Tensor:
        """Terms ``[..., blocks, columns]`` as ``[..., features]``."""
        if self.projection is None:
            count = len(self.around.constants.angles)
            parts = [radial, torch.cat(others[:count], dim=-1), *others[count:]]
            return torch.cat([part.flatten(-2) for part in parts], dim=-1)
        own, *added = (part.flatten(-2) for part in others)
        components = self.projection.down(torch.cat(added, dim=-1))
        return torch.cat([radial.flatten(-2), own, components], dim=-1)

    def _parted(self, features: Tensor) -> Sequence[Tensor]:
        """``[k, atoms, features]`` by term, ``[k, atoms, blocks, columns]`` each."""
        all_terms = terms(self.around.constants)
        if self.projection is None:
            angular = all_terms[1 : 1 + len(self.around.constants.angles)]
            width = sum(term.columns for term in angular)
            sizes = [all_terms[0].size, angular[0].blocks * width]
            first, pairs, rest = features.tensor_split(list(accumulate(sizes)), dim=-1)
            by_pair = pairs.unflatten(-1, (-1, width)).split([t.columns for t in angular], dim=-1)
            parts = [
                first,
                *(part.flatten(-2) for part in by_pair),
                *([rest] if rest.numel() else []),
            ]
        else:
            own, components = features.tensor_split([-self.projection.components], dim=-1)
            columns = torch.cat([own, self.projection.up(components)], dim=-1)
            parts = list(columns.split([term.size for term in all_terms], dim=-1))
        return [
            part.unflatten(-1, (term.blocks, term.columns))
            for term, part in zip(all_terms, parts, strict=True)
        ]


@lru_cache
def terms(constants: Constants) -> tuple[Term, ...]:
    """The terms of a descriptor: radial, then angular ones, then products of moments."""
    angular = (Angular(constants, angles) for angles in constants.angles)
    products = (Products(constants, constants.moments),) if constants.moments else ()
    return Radial(constants), *angular, *products


class _Pull(torch.autograd.Function):
    """Jᵀ·slope; its gradient is J."""

    @staticmethod
    def forward(ctx, slope, descriptors):  # type: ignore[no-untyped-def]
        ctx.descriptors = descriptors
        return descriptors.pull(slope)

    @staticmethod
    def backward(ctx, vectors):  # type: ignore[no-untyped-def]
        return ctx.descriptors.push(vectors), None
