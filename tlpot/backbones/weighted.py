"""ANI's sums over neighbours, weighted by element vectors (Herr, Koh, Yao, Parkhill 2019).

The engine sums element by element, over the elements that occur in a frame; contracting its sums
with the elements' vectors gives the weighted ones, at a cost that depends on the frame alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tlpot.engine.constants import Constants
from tlpot.engine.descriptors import Descriptors


@dataclass(frozen=True, kw_only=True)
class _Constants(Constants):
    """The descriptor's constants for ANI's own sums, over `count` elements."""

    count: int

    @property
    def elements(self) -> int:
        return self.count


class Species:
    """What the atoms of a batch are, and the map from ANI's sums over elements to those over modes.

    Parameters
    ----------
    constants
        Of the descriptor.
    index
        ``Tensor[atoms]`` kind of each atom.
    vectors
        ``Tensor[kinds, modes]`` β of each kind.
    """

    def __init__(self, constants: Constants, index: Tensor, vectors: Tensor) -> None:
        shared = {f.name: getattr(constants, f.name) for f in fields(Constants)}
        self.constants = _Constants(**shared, count=len(vectors))
        self.index, self.vectors = index, vectors
        a, b = torch.triu_indices(len(vectors), len(vectors), device=vectors.device)
        products = torch.einsum("pi,pj->pij", vectors[a], vectors[b])
        i, j = torch.triu_indices(*products.shape[1:], device=vectors.device)
        pair_vectors = (products[:, i, j] + products[:, j, i]) / 2
        self._weights = (vectors, pair_vectors)
        self._columns = (self.constants.radial, self.constants.angular)

    def features(self, sums: Tensor) -> Tensor:
        """ANI's sums ``[atoms, columns]`` weighted: ``[atoms, features]``, β of the centre last."""
        sizes = [len(w) * n for w, n in zip(self._weights, self._columns, strict=True)]
        blocks = [
            torch.einsum("aef,em->amf", block.unflatten(1, (len(w), -1)), w).flatten(1)
            for block, w in zip(sums.split(sizes, dim=1), self._weights, strict=True)
        ]
        return torch.cat([*blocks, self.vectors[self.index]], dim=1)

    def sums_slope(self, slope: Tensor) -> Tensor:
        """∂E/∂sums ``[k, atoms, columns]`` from ∂E/∂features ``[k, atoms, features]``."""
        sizes = [w.shape[1] * n for w, n in zip(self._weights, self._columns, strict=True)]
        blocks = slope[..., : sum(sizes)].split(sizes, dim=2)
        back = [
            torch.einsum("kamf,em->kaef", block.unflatten(2, (w.shape[1], -1)), w).flatten(2)
            for block, w in zip(blocks, self._weights, strict=True)
        ]
        return torch.cat(back, dim=2)


class WeightedDescriptors:
    """ANI's sums over the atoms of a batch, weighted.

    Attributes
    ----------
    values
        ``Tensor[atoms, features]``.
    """

    def __init__(self, species: Species, sums: Descriptors) -> None:
        self._species, self._sums = species, sums
        self.values = species.features(sums.values)

    def slope(self, slope: Tensor) -> Tensor:
        """∂E/∂vectors ``[k, pairs, 3]`` from ∂E/∂features, differentiable in it."""
        return self._sums.slope(self._species.sums_slope(slope))
