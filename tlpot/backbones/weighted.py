"""ANI's sums over neighbours, weighted by element vectors (Herr, Koh, Yao, Parkhill 2019).

The engine sums element by element, over the elements that occur in a frame; contracting its sums
with the elements' vectors gives the weighted ones, at a cost that depends on the frame alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import cast

import torch
from torch import Tensor

from tlpot.engine.constants import Constants
from tlpot.engine.descriptors import Descriptors
from tlpot.engine.environment import Descriptor


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


@dataclass
class Part:
    """Frames of the same elements: ANI's sums, kept or not, and what the atoms are."""

    species: Species
    sums: Descriptor | Descriptors

    def __post_init__(self) -> None:
        self.values = self.species.features(self.sums.values)

    def slope(self, slope: Tensor) -> Tensor:
        """∂E/∂vectors ``[k, pairs, 3]`` from ∂E/∂features."""
        return self.sums.slope(self.species.sums_slope(slope))

    @classmethod
    def join(cls, parts: Sequence[Part]) -> Part:
        """One after the other; all hold the elements of the first."""
        first = parts[0].species
        index = torch.cat([part.species.index for part in parts])
        sums = Descriptors.join([cast(Descriptors, part.sums) for part in parts])
        return cls(Species(first.constants, index, first.vectors), sums)


@dataclass
class Kept:
    """Descriptors of a batch with their Jacobian, frames of the same elements side by side."""

    parts: list[Part]

    @property
    def values(self) -> Tensor:
        """``Tensor[atoms, features]``."""
        return torch.cat([part.values for part in self.parts])

    @property
    def nbytes(self) -> int:
        """Memory that they take, bytes."""
        return sum(cast(Descriptors, part.sums).nbytes for part in self.parts)

    def slope(self, features_slope: Tensor) -> Tensor:
        """∂E/∂vectors ``[k, pairs, 3]`` from ∂E/∂features, differentiable in it."""
        blocks = features_slope.split([len(part.values) for part in self.parts], dim=1)
        return torch.cat([p.slope(s) for p, s in zip(self.parts, blocks, strict=True)], dim=1)

    def to(self, device: torch.device | str) -> Kept:
        """The same on another device."""

        def moved(part: Part) -> Part:
            s = part.species
            species = Species(s.constants, s.index.to(device), s.vectors.to(device))
            return Part(species, cast(Descriptors, part.sums).to(device))

        return Kept([moved(part) for part in self.parts])

    @classmethod
    def join(cls, several: Sequence[Kept]) -> Kept:
        """One after the other; neighbours that hold the same elements become one part."""
        parts = [part for kept in several for part in kept.parts]
        runs = groupby(parts, key=lambda part: part.species.vectors.tolist())
        return cls([Part.join([*run]) for _, run in runs])
