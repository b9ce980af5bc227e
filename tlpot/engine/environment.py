"""Neighbourhoods of a batch and ANI's terms over them (Smith et al. 2017, eqs. 2–4).

Pairs give radial terms; edges (pairs within the angular cutoff, seen from one end) and triples
(two edges of one centre) give angular ones. An angular term is a product of a radial factor in
the mean of both lengths and an angular factor in the cosine, so it is kept as its two factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import pi
from typing import Any

import torch
from torch import Tensor

from tlpot.engine.constants import Constants
from tlpot.engine.threads import available, spread

TRIPLES_AT_ONCE = 16_384
"""Bounds the memory of the triples' terms."""
TINY = 1e-30
"""Keeps the logarithm of an angular factor finite."""


@dataclass
class AngularFactors:
    """Factors of the angular terms of some triples, and their slopes.

    ``radial`` ``[triples, shifts]`` without cutoff, ``radial_slope`` its slope in either length;
    ``angle`` ``[triples, sections]``, ``angle_slope`` its slope in the cosine; ``fade``
    ``[triples]`` both cutoffs' product, ``fade_a`` and ``fade_b`` its slopes in the two lengths;
    ``cosine`` ``[triples]`` of the angle between the edges.
    """

    cosine: Tensor
    radial: Tensor
    radial_slope: Tensor
    angle: Tensor
    angle_slope: Tensor
    fade: Tensor
    fade_a: Tensor
    fade_b: Tensor


class Environment:
    """Pairs, edges and triples of one batch.

    Parameters
    ----------
    species
        ``Tensor[atoms]`` element index of each atom.
    pairs, vectors
        ``Tensor[2, pairs]`` and ``Tensor[pairs, 3]`` (Å) as in
        `tlpot.structure.frames.Batch`; the dtype of `vectors` is the dtype of all results.
    """

    def __init__(
        self, constants: Constants, species: Tensor, pairs: Tensor, vectors: Tensor
    ) -> None:
        self.constants, self.atoms, self.pairs = constants, len(species), pairs
        self.distance = vectors.norm(dim=1)
        self.unit = vectors / self.distance[:, None]
        self.radial_rows = pairs * constants.elements + species[pairs.flip(0)]

        close = (self.distance <= constants.angular_cutoff).nonzero().squeeze(1)
        ends = pairs.index_select(1, close)
        self.centre, order = torch.cat([ends[0], ends[1]]).sort(stable=True)
        self.edge_pair = close.repeat(2)[order]
        self.edge_sign = torch.ones_like(order, dtype=vectors.dtype)
        self.edge_sign[order >= len(close)] = -1.0
        self.other = species[torch.cat([ends[1], ends[0]])[order]]
        self.outward = self.unit.index_select(0, self.edge_pair) * self.edge_sign[:, None]
        self.length = self.distance[self.edge_pair]
        self._fade, self._fade_slope = _cutoff(self.length, constants.angular_cutoff)
        self.element_pair = constants.pair_index(species.device)
        angles = constants.angles
        self._shifts, self._sections, self._eta, self._zeta = (
            vectors.new_tensor(list(chain.from_iterable(values)))
            for values in (
                [a.shifts for a in angles],
                [a.sections for a in angles],
                [[a.eta] * len(a.shifts) for a in angles],
                [[a.zeta] * len(a.sections) for a in angles],
            )
        )
        # [shifts, angular] and [sections, angular]: which factor belongs to which column.
        blocks = [(torch.eye(len(a.shifts)), torch.eye(len(a.sections))) for a in angles]
        self._shift_columns, self._section_columns = (
            torch.block_diag(*columns).to(vectors)
            for columns in (
                [torch.kron(shifts, torch.ones(1, len(sections))) for shifts, sections in blocks],
                [torch.kron(torch.ones(1, len(shifts)), sections) for shifts, sections in blocks],
            )
        )

    def radial(self) -> tuple[Tensor, Tensor]:
        """Radial terms ``[pairs, radial]`` (torchani's factor ¼ included) and their slope."""
        c, distance = self.constants, self.distance
        off = distance[:, None] - distance.new_tensor(c.radial_shifts)
        gauss = 0.25 * torch.exp(off.square() * -c.radial_eta)
        fade, fade_slope = _cutoff(distance, c.radial_cutoff)
        slope = fade_slope[:, None] - 2 * c.radial_eta * off * fade[:, None]
        return gauss * fade[:, None], gauss * slope

    def triples(self) -> list[tuple[Tensor, Tensor]]:
        """Both edges of every triple, in chunks of about `TRIPLES_AT_ONCE`.

        An atom's triples stay together: chunks add to different atoms and edges.
        """
        if len(self.centre) == 0:
            return []
        counts = torch.bincount(self.centre, minlength=self.atoms)
        start = (counts.cumsum(0) - counts)[self.centre]
        edges = torch.arange(len(self.centre), device=start.device)
        rank = edges - start
        second = edges.repeat_interleave(rank)
        shift = start - (rank.cumsum(0) - rank)
        first = torch.arange(len(second), device=start.device) + shift[second]
        up_to_atom = (counts * (counts - 1) // 2).cumsum(0)
        chunks = max(available(start.device), -(-len(second) // TRIPLES_AT_ONCE))
        ideal = torch.arange(chunks + 1, device=start.device) * len(second) // chunks
        bounds = up_to_atom[torch.searchsorted(up_to_atom, ideal[1:])].unique()
        sizes = bounds.diff(prepend=bounds.new_zeros(1)).tolist()
        return list(zip(first.split(sizes), second.split(sizes), strict=True))

    def angular_rows(self, a: Tensor, b: Tensor) -> Tensor:
        """Row (atom, element pair) of the angular block that each triple adds to."""
        pair = self.element_pair[self.other[a], self.other[b]]
        return self.centre[a] * self.constants.element_pairs + pair

    def angular(self, a: Tensor, b: Tensor) -> AngularFactors:
        """Factors of the angular terms of the triples of edges `a` and `b`."""
        ra, rb = self.length.index_select(0, a), self.length.index_select(0, b)
        true_cosine = self._cosine(a, b)
        cos = 0.95 * true_cosine
        sin = torch.sqrt(1 - cos.square())
        sections = self._sections
        half = (1 + cos * sections.cos() + sin * sections.sin()) / 2
        power = half.clamp(min=TINY).log_().mul_(self._zeta - 1).exp_()
        turn = sections.cos() - cos / sin * sections.sin()
        off = (ra + rb)[:, None] / 2 - self._shifts
        gauss = torch.exp(off.square() * -self._eta)
        fade_a, fade_b = self._fade.index_select(0, a), self._fade.index_select(0, b)
        return AngularFactors(
            cosine=true_cosine.squeeze(1),
            radial=gauss,
            radial_slope=-self._eta * off * gauss,
            angle=2 * half * power,
            angle_slope=0.95 * self._zeta * power * turn,
            fade=fade_a * fade_b,
            fade_a=self._fade_slope.index_select(0, a) * fade_b,
            fade_b=self._fade_slope.index_select(0, b) * fade_a,
        )

    def turn(self, near: Tensor, far: Tensor) -> Tensor:
        """∂cos/∂(vector of edge `near`), ``[triples, 3]``."""
        u, v = self.outward.index_select(0, near), self.outward.index_select(0, far)
        return (v - self._cosine(near, far) * u) / self.length[near][:, None]

    def outer(self, by_shift: Tensor, by_section: Tensor) -> Tensor:
        """``[triples, shifts]`` × ``[triples, sections]`` as ``[triples, angular]``."""
        return self.by_shift(by_shift).mul_(by_section @ self._section_columns)

    def by_shift(self, values: Tensor) -> Tensor:
        """``[triples, shifts]`` repeated to ``[triples, angular]``."""
        return values @ self._shift_columns

    def over_shifts(self, terms: Tensor) -> Tensor:
        """``[triples, angular]`` summed to ``[triples, sections]``."""
        return terms @ self._section_columns.T

    def _cosine(self, a: Tensor, b: Tensor) -> Tensor:
        u, v = self.outward.index_select(0, a), self.outward.index_select(0, b)
        return (u * v).sum(1, keepdim=True)


class Descriptor:
    """Descriptors of one geometry, and their vector–Jacobian product without any stored J.

    Attributes
    ----------
    values
        ``Tensor[atoms, features]``: radial blocks by element, then angular ones by element pair.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = env = environment
        c = env.constants
        term, self._radial_slope = env.radial()
        radial = term.new_zeros(env.atoms * c.elements, c.radial)
        angular = term.new_zeros(env.atoms * c.element_pairs, c.angular)

        def add_radial() -> None:
            radial.index_add_(0, env.radial_rows[0], term)
            radial.index_add_(0, env.radial_rows[1], term)

        def add_angular(a: Tensor, b: Tensor) -> _Chunk:
            rows, factors = env.angular_rows(a, b), env.angular(a, b)
            strength = factors.radial * factors.fade[:, None]
            angular.index_add_(0, rows, env.outer(strength, factors.angle))
            return a, b, rows, factors

        tasks: list[Callable[[], Any]] = [add_radial]
        tasks += [partial(add_angular, *chunk) for chunk in env.triples()]
        self._chunks: list[_Chunk] = spread(lambda task: task(), tasks)[1:]
        self.values = torch.cat([radial.view(env.atoms, -1), angular.view(env.atoms, -1)], dim=1)

    def slope(self, features_slope: Tensor) -> Tensor:
        """∂E/∂vectors ``[k, pairs, 3]`` from ∂E/∂x ``[k, atoms, features]``."""
        return torch.stack([self._slope(one) for one in features_slope])

    def _slope(self, features_slope: Tensor) -> Tensor:
        env, c = self.environment, self.environment.constants
        radial, angular = features_slope.split(
            [c.elements * c.radial, c.element_pairs * c.angular], dim=1
        )
        radial, angular = radial.reshape(-1, c.radial), angular.reshape(-1, c.angular)
        by_edge = torch.zeros_like(env.outward)

        def pull_radial() -> Tensor:
            both_ends = radial.index_select(0, env.radial_rows[0])
            both_ends += radial.index_select(0, env.radial_rows[1])
            return (both_ends * self._radial_slope).sum(1, keepdim=True) * env.unit

        def pull_angular(a: Tensor, b: Tensor, rows: Tensor, f: AngularFactors) -> None:
            weight = angular.index_select(0, rows)
            stretch = env.over_shifts(weight * env.by_shift(f.radial_slope))
            stretch = (stretch * f.angle).sum(1) * f.fade
            by_section = env.over_shifts(weight.mul_(env.by_shift(f.radial)))
            level = (by_section * f.angle).sum(1)
            bend = (by_section * f.angle_slope).sum(1) * f.fade
            u, v = env.outward.index_select(0, a), env.outward.index_select(0, b)
            for near, far, edge, fade in ((u, v, a, f.fade_a), (v, u, b, f.fade_b)):
                turn = bend / env.length.index_select(0, edge)
                along = stretch + level * fade - turn * f.cosine
                pull = (near * along[:, None]).addcmul_(far, turn[:, None])
                by_edge.index_add_(0, edge, pull)

        tasks: list[Callable[[], Any]] = [pull_radial]
        tasks += [partial(pull_angular, *chunk) for chunk in self._chunks]
        by_pair = spread(lambda task: task(), tasks)[0]
        return by_pair.index_add_(0, env.edge_pair, by_edge * env.edge_sign[:, None])


_Chunk = tuple[Tensor, Tensor, Tensor, AngularFactors]
"""Both edges of some triples, the rows they add to, their factors."""


def _cutoff(distance: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """½cos(πr/rc) + ½ and its slope."""
    phase = distance * (pi / cutoff)
    return 0.5 * torch.cos(phase) + 0.5, (-0.5 * pi / cutoff) * torch.sin(phase)
