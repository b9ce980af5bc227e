"""Angular terms: which angles at which distances, by pairs of elements (Smith 2017, eq. 4).

A term is a product of a radial factor in the mean of both lengths and an angular factor in the
cosine, so it is computed as its two factors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tlpot.engine.constants import Angles, Constants
from tlpot.engine.environment import Environment, Triples
from tlpot.engine.neighbourhood import Neighbourhood
from tlpot.engine.tables import INTERVALS, cubic
from tlpot.engine.term import Term
from tlpot.engine.threads import spread

TINY = 1e-30
"""Keeps the logarithm of an angular factor finite."""
INWARD = 0.95
"""Of the cosine that torchani takes the angle of, so that its slope stays finite."""


class _Factors(NamedTuple):
    """``[triples, shifts]`` and ``[triples, sections]``: factors, slopes in mean and cosine."""

    radial: Tensor
    radial_slope: Tensor
    angle: Tensor
    angle_slope: Tensor


class Angular(Term):
    """Every one of the shifts with every one of the sections of `angles`; sections run faster."""

    def __init__(self, constants: Constants, angles: Angles) -> None:
        super().__init__(constants)
        self.angles, self.blocks = angles, constants.element_pairs
        self.columns = len(angles.shifts) * len(angles.sections)

    def torch_values(self, environment: Environment) -> Tensor:
        """As `Term.values`."""
        env = environment
        values = env.length.new_zeros(env.atoms * self.blocks, self.columns)

        def add(t: Triples) -> None:
            f = self._factors(t)
            values.index_add_(0, t.rows, _outer(f.radial * t.fade[:, None], f.angle))

        spread(add, env.triples)
        return values.view(env.atoms, self.blocks, self.columns)

    def torch_pull(self, environment: Environment, slope: Tensor) -> Tensor:
        """As `Term.pull`."""
        env = environment
        rows = slope.reshape(len(slope), -1, len(self.angles.shifts), len(self.angles.sections))
        by_edge = env.outward.new_zeros(len(slope), *env.outward.shape)

        def add(t: Triples) -> None:
            f = self._factors(t)
            u, v = env.outward[t.a], env.outward[t.b]
            for member, out in zip(rows, by_edge, strict=True):
                weight = member[t.rows]
                by_section = (weight * f.radial[:, :, None]).sum(1)
                level = (by_section * f.angle).sum(1)
                bend = (by_section * f.angle_slope).sum(1) * t.fade
                by_shift = (weight * f.angle[:, None]).sum(2)
                stretch = (by_shift * f.radial_slope).sum(1) * t.fade / 2
                for near, far, edge, fade in ((u, v, t.a, t.fade_a), (v, u, t.b, t.fade_b)):
                    turn = bend / env.length[edge]
                    along = stretch + level * fade - turn * t.cosine
                    out.index_add_(0, edge, near * along[:, None] + far * turn[:, None])

        spread(add, env.triples)
        by_pair = by_edge.new_zeros(len(slope), len(env.distance), 3)
        return by_pair.index_add_(1, env.edge_pair, by_edge * env.edge_sign[:, None])

    def torch_push(self, environment: Environment, vectors: Tensor) -> Tensor:
        """As `Term.push`."""
        env = environment
        outward = vectors[:, env.edge_pair] * env.edge_sign[:, None]
        values = outward.new_zeros(len(vectors), env.atoms * self.blocks, self.columns)

        def add(t: Triples) -> None:
            f = self._factors(t)
            u, v = env.outward[t.a], env.outward[t.b]
            for move, out in zip(outward, values, strict=True):
                a, b = move[t.a], move[t.b]
                longer_a, longer_b = (u * a).sum(1), (v * b).sum(1)
                turn = ((v * a).sum(1) - t.cosine * longer_a) / env.length[t.a]
                turn = turn + ((u * b).sum(1) - t.cosine * longer_b) / env.length[t.b]
                fade = t.fade_a * longer_a + t.fade_b * longer_b
                stretch = t.fade * (longer_a + longer_b) / 2
                radial = f.radial_slope * stretch[:, None] + f.radial * fade[:, None]
                change = _outer(radial, f.angle)
                change += _outer(f.radial * (t.fade * turn)[:, None], f.angle_slope)
                out.index_add_(0, t.rows, change)

        spread(add, env.triples)
        return values.unflatten(1, (env.atoms, self.blocks))

    def _factors(self, t: Triples) -> _Factors:
        g = self.angles
        sections, shifts = t.mean.new_tensor(g.sections), t.mean.new_tensor(g.shifts)
        cos = INWARD * t.cosine[:, None]
        sin = torch.sqrt(1 - cos.square())
        half = (1 + cos * sections.cos() + sin * sections.sin()) / 2
        power = half.clamp(min=TINY).log_().mul_(g.zeta - 1).exp_()
        turn = sections.cos() - cos / sin * sections.sin()
        off = t.mean[:, None] - shifts
        gauss = torch.exp(off.square() * -g.eta)
        return _Factors(
            gauss, -2 * g.eta * off * gauss, 2 * half * power, INWARD * g.zeta * power * turn
        )

    def compiled_values(self, neighbourhood: Neighbourhood) -> Tensor:
        """As `Term.values`."""
        near = neighbourhood
        values = np.zeros((near.atoms, self.blocks, self.columns), np.float32)

        def add(first: int, last: int) -> None:
            self._kernel("angular_values")(first, last, near.edges, self._tables, values)

        near.spread(add)
        return torch.from_numpy(values)

    def compiled_pull(self, neighbourhood: Neighbourhood, slope: Tensor) -> Tensor:
        """As `Term.pull`."""
        near, slopes = neighbourhood, slope.contiguous().numpy()
        by_edge = np.zeros((len(slopes), len(near.pair), 3), np.float32)

        def add(first: int, last: int) -> None:
            read = (first, last, near.edges, self._tables)
            if len(slopes) == 1:
                self._kernel("pull_of_one")(*read, slopes[0], by_edge[0])
            else:
                self._kernel("pull_of_many")(*read, slopes, by_edge)

        near.spread(add)
        return torch.from_numpy(near.by_pair(by_edge))

    def compiled_push(self, neighbourhood: Neighbourhood, vectors: Tensor) -> Tensor:
        """As `Term.push`."""
        near, moves = neighbourhood, vectors.contiguous().numpy()
        values = np.zeros((len(moves), near.atoms, self.blocks, self.columns), np.float32)

        def add(first: int, last: int) -> None:
            read = (near.edges, self._tables, near.pair, near.sign)
            self._kernel("push_of_many")(first, last, *read, moves, values)

        near.spread(add)
        return torch.from_numpy(values)

    def _kernel(self, name: str) -> Callable[..., Any]:
        from tlpot.engine import angular_kernels

        return getattr(angular_kernels, name)(len(self.angles.shifts), len(self.angles.sections))

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """The radial factor by the mean length, the angular one by the cosine; a length's scale."""
        g, cutoff = self.angles, self.constants.angular_cutoff
        shifts, sections = np.array(g.shifts), np.array(g.sections)

        def radial(r: np.ndarray) -> np.ndarray:
            return np.exp(-g.eta * (r - shifts) ** 2)

        def radial_slope(r: np.ndarray) -> np.ndarray:
            return -2 * g.eta * (r - shifts) * radial(r)

        def half(cosine: np.ndarray) -> np.ndarray:
            return (1 + np.cos(np.arccos(INWARD * cosine) - sections)) / 2

        def angle(cosine: np.ndarray) -> np.ndarray:
            return 2 * half(cosine) ** g.zeta

        def angle_slope(cosine: np.ndarray) -> np.ndarray:
            turn = np.sin(np.arccos(INWARD * cosine) - sections)
            by_cosine = INWARD / np.sqrt(1 - (INWARD * cosine) ** 2)
            return g.zeta * half(cosine) ** (g.zeta - 1) * turn * by_cosine

        by_length = cubic(radial, radial_slope, 0.0, cutoff)
        return by_length, cubic(angle, angle_slope, -1.0, 1.0), np.float32(INTERVALS / cutoff)


def _outer(by_shift: Tensor, by_section: Tensor) -> Tensor:
    """``[triples, shifts]`` × ``[triples, sections]`` as ``[triples, columns]``."""
    return (by_shift[:, :, None] * by_section[:, None]).flatten(1)
