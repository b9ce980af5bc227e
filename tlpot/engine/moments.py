"""Moments of the neighbours' density and their products: terms of up to four atoms.

The moments of rank 1, 2 and 3 of an atom's neighbours are Σ_j f(r_j, Z_j) u, u⊗u and u⊗u⊗u, with u
the unit vector to a neighbour and f one of a few channels, each a fixed random mixture of distances
and elements (Shapeev 2016; Drautz 2019; mixing as in Darby 2023, so that the number of columns
does not grow with the elements). A column is the scalar product of three of them.
"""

from __future__ import annotations

from functools import cached_property, lru_cache, partial
from itertools import product
from math import pi
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from tlpot.engine.constants import Constants, Moments
from tlpot.engine.environment import Environment
from tlpot.engine.moment_columns import MomentColumns
from tlpot.engine.neighbourhood import Neighbourhood
from tlpot.engine.tables import INTERVALS, cubic
from tlpot.engine.term import Term

NO_AXIS = 3
"""In the tables of components: no axis, a factor of one."""
TENSOR_AXES: list[tuple[int, ...]] = [(i, NO_AXIS, NO_AXIS) for i in range(3)]
TENSOR_AXES += [(i, j, NO_AXIS) for i, j in product(range(3), repeat=2)]
TENSOR_AXES += product(range(3), repeat=3)
"""Axes of each of the 3 + 9 + 27 components of a channel."""
PACKED_AXES = sorted(
    {tuple(sorted(axes)) for axes in TENSOR_AXES}, key=lambda a: (a.count(NO_AXIS) * -1, a)
)
"""The 3 + 6 + 10 that differ."""
VECTOR, TENSOR, THIRD = 0, 3, 12
"""Where the components of each rank begin."""
PRODUCTS = (
    (VECTOR, TENSOR, 3, 1, 3, VECTOR, 1),
    (TENSOR, THIRD, 9, 1, 3, VECTOR, 2),
    (TENSOR, TENSOR, 3, 3, 3, TENSOR, 3),
    (THIRD, THIRD, 9, 3, 3, TENSOR, 4),
)
"""Intermediate products P = LᵀR of a channel's moment L and the moment R of a channel further on:
where L and R begin, their rows, the columns of L and of R; where the moment begins whose scalar
product with P is a column; how much further on."""


def mixture(moments: Moments, symbol: str) -> np.ndarray:
    """``(channels, shifts)`` of an element, the same whatever others there are."""
    random = np.random.RandomState([moments.seed, atomic_numbers[symbol]])
    shape = (moments.channels, len(moments.shifts))
    return random.standard_normal(shape) / len(moments.shifts) ** 0.5


def mixtures_of(constants: Constants) -> np.ndarray:
    """``(elements, channels, shifts)`` float32."""
    assert constants.moments
    rows = [mixture(constants.moments, symbol) for symbol in constants.mixed]
    return np.stack(rows).astype(np.float32)


def columns_of(constants: Constants, dtype: torch.dtype = torch.float32) -> MomentColumns:
    """The moments of a descriptor in torch."""
    m = constants.moments
    assert m
    mixtures = torch.from_numpy(mixtures_of(constants)).to(dtype)
    return MomentColumns(mixtures, m.shifts, m.eta, m.cutoff, TENSOR_AXES, list(PRODUCTS))


class Products(Term):
    """Scalar products of three moments; one block of columns."""

    share = 2
    variance = 0.5
    """About that of the fine angles."""

    def __init__(self, constants: Constants, moments: Moments) -> None:
        super().__init__(constants)
        self.moments, self.blocks, self.columns = moments, 1, moments.columns
        self.mixtures = mixtures_of(constants)

    def torch_values(self, environment: Environment) -> Tensor:
        """As `Term.values`."""
        return self.of(environment.species, environment.pairs, _vectors(environment))

    def torch_pull(self, environment: Environment, slope: Tensor) -> Tensor:
        """As `Term.pull`."""
        of = partial(self.of, environment.species, environment.pairs)
        pull = torch.func.vjp(of, _vectors(environment))[1]
        return torch.func.vmap(lambda member: pull(member)[0])(slope)

    def torch_push(self, environment: Environment, vectors: Tensor) -> Tensor:
        """As `Term.push`."""
        of, at = partial(self.of, environment.species, environment.pairs), _vectors(environment)
        return torch.func.vmap(lambda move: torch.func.jvp(of, (at,), (move,))[1])(vectors)

    def of(self, species: Tensor, pairs: Tensor, vectors: Tensor) -> Tensor:
        """``[atoms, 1, columns]``, differentiable in `vectors`; parameters as of `surroundings`."""
        return columns_of(self.constants, vectors.dtype).to(vectors.device)(
            species, pairs, vectors
        )[:, None]

    def compiled_values(self, neighbourhood: Neighbourhood) -> Tensor:
        """As `Term.values`."""
        from tlpot.engine.moment_kernels import product_values

        kept = self._moments(neighbourhood)
        values = np.zeros((neighbourhood.atoms, *self._shape), np.float32)

        def add(first: int, last: int) -> None:
            product_values(self.moments.channels)(first, last, self._tables[3], kept, values)

        neighbourhood.spread(add)
        return torch.from_numpy(values).flatten(1)[:, None]

    def compiled_pull(self, neighbourhood: Neighbourhood, slope: Tensor) -> Tensor:
        """As `Term.pull`."""
        from tlpot.engine.moment_gradients import product_pull

        kept, edges = self._moments(neighbourhood), neighbourhood.within(self.moments.cutoff)
        slopes = slope.contiguous().numpy()
        parted = slopes.reshape(*slopes.shape[:2], *self._shape)
        by_edge = np.zeros((len(slopes), len(edges.pair), 3), np.float32)

        def add(first: int, last: int) -> None:
            read = (first, last, edges, self._tables, _indices(), kept)
            product_pull(*self._sizes, len(slopes) > 1)(*read, parted, by_edge)

        neighbourhood.spread(add)
        return torch.from_numpy(neighbourhood.by_pair(by_edge, edges))

    def compiled_push(self, neighbourhood: Neighbourhood, vectors: Tensor) -> Tensor:
        """As `Term.push`."""
        from tlpot.engine.moment_gradients import product_push

        kept, edges = self._moments(neighbourhood), neighbourhood.within(self.moments.cutoff)
        moves = vectors.contiguous().numpy()
        values = np.zeros((len(moves), neighbourhood.atoms, *self._shape), np.float32)

        def add(first: int, last: int) -> None:
            read = (first, last, edges, self._tables, _indices(), kept)
            product_push(*self._sizes, len(moves) > 1)(*read, moves, values)

        neighbourhood.spread(add)
        return torch.from_numpy(values).flatten(2)[:, :, None]

    def _moments(self, neighbourhood: Neighbourhood) -> np.ndarray:
        """Moments of the atoms, which values, pull and push share."""
        from tlpot.engine.moment_kernels import moments_of

        if self.moments not in neighbourhood.kept:
            edges = neighbourhood.within(self.moments.cutoff)
            channels = self.moments.channels
            moments = np.zeros((neighbourhood.atoms, len(TENSOR_AXES), 2 * channels), np.float32)

            def add(first: int, last: int) -> None:
                moments_of(*self._sizes)(first, last, edges, self._tables, _indices(), moments)

            neighbourhood.spread(add)
            neighbourhood.kept[self.moments] = moments
        return neighbourhood.kept[self.moments]

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.moments.channels, len(self.moments.shifts)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(PRODUCTS), self.moments.channels, self.moments.channels

    @cached_property
    def _tables(self) -> tuple[Any, ...]:
        """Gaussians by distance, a length's scale, mixtures, kinds of products."""
        m = self.moments
        shifts = np.array(m.shifts)

        def value(r: np.ndarray) -> np.ndarray:
            return np.exp(-m.eta * (r - shifts) ** 2) * (0.5 * np.cos(pi * r / m.cutoff) + 0.5)

        def slope(r: np.ndarray) -> np.ndarray:
            steep = -0.5 * pi / m.cutoff * np.sin(pi * r / m.cutoff)
            gauss = np.exp(-m.eta * (r - shifts) ** 2)
            return gauss * steep - 2 * m.eta * (r - shifts) * value(r)

        table = cubic(value, slope, 0.0, m.cutoff)
        scale = np.float32(INTERVALS / m.cutoff)
        return table, scale, self.mixtures, np.array(PRODUCTS)


@lru_cache
def _indices() -> tuple[np.ndarray, np.ndarray]:
    """``(19, 3)`` axes of the packed components; ``(39,)`` which of them each full one is."""
    where = {axes: k for k, axes in enumerate(PACKED_AXES)}
    return np.array(PACKED_AXES), np.array([where[tuple(sorted(axes))] for axes in TENSOR_AXES])


def _vectors(environment: Environment) -> Tensor:
    return environment.unit * environment.distance[:, None]
