"""Radial terms: how many neighbours of each element at which distance (Smith 2017, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlpot.engine.constants import Constants
from tlpot.engine.environment import Environment, cutoff
from tlpot.engine.neighbourhood import Neighbourhood
from tlpot.engine.tables import INTERVALS, cubic
from tlpot.engine.term import Term

FACTOR = 0.25
"""torchani's, in front of every radial term."""


class Radial(Term):
    """Gaussians of the distance, a block for each element of the neighbour."""

    def __init__(self, constants: Constants) -> None:
        super().__init__(constants)
        self.blocks, self.columns = constants.elements, len(constants.radial_shifts)

    def torch_values(self, environment: Environment) -> Tensor:
        """As `Term.values`."""
        term, _ = self._terms(environment)
        values = term.new_zeros(environment.atoms * self.blocks, self.columns)
        for rows in environment.radial_rows:
            values.index_add_(0, rows, term)
        return values.view(environment.atoms, self.blocks, self.columns)

    def torch_pull(self, environment: Environment, slope: Tensor) -> Tensor:
        """As `Term.pull`."""
        _, change = self._terms(environment)
        rows = slope.flatten(1, 2)
        ends = rows[:, environment.radial_rows[0]] + rows[:, environment.radial_rows[1]]
        return (ends * change).sum(2, keepdim=True) * environment.unit

    def torch_push(self, environment: Environment, vectors: Tensor) -> Tensor:
        """As `Term.push`."""
        _, change = self._terms(environment)
        along = (vectors * environment.unit).sum(2, keepdim=True) * change
        values = along.new_zeros(len(vectors), environment.atoms * self.blocks, self.columns)
        for rows in environment.radial_rows:
            values.index_add_(1, rows, along)
        return values.unflatten(1, (environment.atoms, self.blocks))

    def _terms(self, environment: Environment) -> tuple[Tensor, Tensor]:
        """``[pairs, columns]`` and their slope in the distance."""
        c, distance = self.constants, environment.distance
        off = distance[:, None] - distance.new_tensor(c.radial_shifts)
        gauss = FACTOR * torch.exp(off.square() * -c.radial_eta)
        fade, fade_slope = cutoff(distance, c.radial_cutoff)
        slope = fade_slope[:, None] - 2 * c.radial_eta * off * fade[:, None]
        return gauss * fade[:, None], gauss * slope

    def compiled_values(self, neighbourhood: Neighbourhood) -> Tensor:
        """As `Term.values`."""
        near = neighbourhood
        values = np.zeros((near.atoms, self.blocks, self.columns), np.float32)
        self._kernels[0](*self._pairs(near), near.species, values)
        return torch.from_numpy(values)

    def compiled_pull(self, neighbourhood: Neighbourhood, slope: Tensor) -> Tensor:
        """As `Term.pull`."""
        near, slopes = neighbourhood, slope.contiguous().numpy()
        by_pair = np.empty((len(slopes), len(near.first), 3), np.float32)

        def pull(first: int, last: int) -> None:
            read = (*self._pairs(near), near.species, near.unit, slopes, by_pair)
            self._kernels[1](first, last, *read)

        near.spread(pull, len(near.first))
        return torch.from_numpy(by_pair)

    def compiled_push(self, neighbourhood: Neighbourhood, vectors: Tensor) -> Tensor:
        """As `Term.push`."""
        near, moves = neighbourhood, vectors.contiguous().numpy()
        values = np.zeros((len(moves), near.atoms, self.blocks, self.columns), np.float32)

        def push(first: int, last: int) -> None:
            read = (*self._pairs(near), near.species, near.unit, moves, values)
            self._kernels[2](first, last, *read)

        near.spread(push, len(moves))
        return torch.from_numpy(values)

    @property
    def _kernels(self) -> tuple[Callable[..., Any], ...]:
        from tlpot.engine.term_kernels import radial

        return radial(self.columns)

    def _pairs(self, near: Neighbourhood) -> tuple[Any, ...]:
        scale = np.float32(INTERVALS / self.constants.radial_cutoff)
        return self._table, scale, near.first, near.second, near.distance

    @cached_property
    def _table(self) -> np.ndarray:
        c = self.constants
        shifts = np.array(c.radial_shifts)

        def value(r: np.ndarray) -> np.ndarray:
            fade = 0.5 * np.cos(pi * r / c.radial_cutoff) + 0.5
            return FACTOR * np.exp(-c.radial_eta * (r - shifts) ** 2) * fade

        def slope(r: np.ndarray) -> np.ndarray:
            steep = -0.5 * pi / c.radial_cutoff * np.sin(pi * r / c.radial_cutoff)
            gauss = FACTOR * np.exp(-c.radial_eta * (r - shifts) ** 2)
            return gauss * steep - 2 * c.radial_eta * (r - shifts) * value(r)

        return cubic(value, slope, 0.0, c.radial_cutoff)
