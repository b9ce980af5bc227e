"""Atomic environment vectors with their Jacobian, computed once and kept.

ANI's descriptors (Smith et al. 2017, eqs. 2–4) have no trainable weights. In fine-tuning both the
descriptors x and J = ∂x/∂(neighbour vectors) are therefore constants of a frame: the forces are
−Jᵀ∂E/∂x, and no training step computes a descriptor again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import pi

import torch
from torch import Tensor

TRIPLES_AT_ONCE = 100_000


@dataclass(frozen=True)
class Constants:
    """The descriptor's constants; names and units as in `tlpot.backbones.ani.Architecture`."""

    elements: int
    radial_cutoff: float
    radial_eta: float
    radial_shifts: tuple[float, ...]
    angular_cutoff: float
    angular_eta: float
    angular_zeta: float
    angular_shifts: tuple[float, ...]
    angular_sections: tuple[float, ...]

    @property
    def radial(self) -> int:
        """Columns of one element's radial block."""
        return len(self.radial_shifts)

    @property
    def angular(self) -> int:
        """Columns of one element pair's angular block."""
        return len(self.angular_shifts) * len(self.angular_sections)

    @property
    def element_pairs(self) -> int:
        return self.elements * (self.elements + 1) // 2

    def pair_index(self, device: torch.device) -> Tensor:
        """``Tensor[elements, elements]`` row of the angular block of two elements."""
        index = torch.zeros(self.elements, self.elements, dtype=torch.long, device=device)
        first, second = torch.triu_indices(self.elements, self.elements, device=device)
        index[first, second] = index[second, first] = torch.arange(len(first), device=device)
        return index


@dataclass
class Descriptors:
    """Descriptors of a batch and their Jacobian as pair blocks.

    Attributes
    ----------
    values
        ``Tensor[atoms, features]``: radial blocks by element, then angular ones by element pair.
    pairs
        ``Tensor[2, pairs]`` as in the batch.
    radial_rows
        ``Tensor[2, pairs]`` row (atom, neighbour's element) that the pair adds to at each end.
    radial_jacobian
        ``Tensor[pairs, 3, radial]``; the same at both ends.
    edge_pair, edge_sign
        ``Tensor[edges]`` pair behind each directed edge within the angular cutoff, and +1 where
        the centre is the pair's first atom, −1 where it is the second.
    angular_rows
        ``Tensor[edges, elements]`` row (centre, element pair) of each block column group.
    angular_jacobian
        ``Tensor[edges, 3, elements * angular]`` derivative by the outward vector of the edge.
    """

    values: Tensor
    pairs: Tensor
    radial_rows: Tensor
    radial_jacobian: Tensor
    edge_pair: Tensor
    edge_sign: Tensor
    angular_rows: Tensor
    angular_jacobian: Tensor

    def slope(self, features_slope: Tensor) -> Tensor:
        """∂E/∂vectors ``[pairs, 3]`` from ∂E/∂x ``[atoms, features]``, differentiable in it."""
        return _Pull.apply(features_slope, self)

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def pull(self, slope: Tensor) -> Tensor:
        """Jᵀ·slope: ``[atoms, features]`` to ``[pairs, 3]``."""
        radial, angular = self._blocks(slope)
        at_ends = radial[self.radial_rows[0]] + radial[self.radial_rows[1]]
        by_pair = torch.bmm(self.radial_jacobian, at_ends[:, :, None])[:, :, 0]
        rows = angular[self.angular_rows].flatten(1)
        by_edge = torch.bmm(self.angular_jacobian, rows[:, :, None])[:, :, 0]
        return by_pair.index_add_(0, self.edge_pair, by_edge * self.edge_sign[:, None])

    def push(self, vectors: Tensor) -> Tensor:
        """J·vectors: ``[pairs, 3]`` to ``[atoms, features]``."""
        out = torch.zeros_like(self.values)
        n_radial = self.radial_jacobian.shape[2]
        change = torch.bmm(vectors[:, None, :], self.radial_jacobian)[:, 0]
        atoms, n_angular = len(out), self.angular_jacobian.shape[2] // self.angular_rows.shape[1]
        n_columns = self._radial_columns
        radial = out.new_zeros(atoms * n_columns // n_radial, n_radial)
        radial.index_add_(0, self.radial_rows[0], change)
        radial.index_add_(0, self.radial_rows[1], change)
        outward = vectors[self.edge_pair] * self.edge_sign[:, None]
        change = torch.bmm(outward[:, None, :], self.angular_jacobian)
        angular = out.new_zeros((out.numel() - radial.numel()) // n_angular, n_angular)
        angular.index_add_(0, self.angular_rows.flatten(), change.view(-1, n_angular))
        out[:, :n_columns] = radial.view(atoms, -1)
        out[:, n_columns:] = angular.view(atoms, -1)
        return out

    @property
    def _radial_columns(self) -> int:
        return self.angular_rows.shape[1] * self.radial_jacobian.shape[2]

    def _blocks(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[atoms, features]`` as radial and angular rows."""
        n_angular = self.angular_jacobian.shape[2] // self.angular_rows.shape[1]
        radial, angular = features[:, : self._radial_columns], features[:, self._radial_columns :]
        n_radial = self.radial_jacobian.shape[2]
        return radial.reshape(-1, n_radial), angular.reshape(-1, n_angular)

    def to(self, device: torch.device | str) -> Descriptors:
        return Descriptors(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    @classmethod
    def join(cls, parts: Sequence[Descriptors]) -> Descriptors:
        """Descriptors of several batches as one; rows, atoms and pairs are renumbered."""
        offset = {name: [0] for name in ("pairs", "radial_rows", "angular_rows", "edge_pair")}
        for p in parts:
            radial, angular = p._blocks(p.values)
            sizes = (len(p.values), len(radial), len(angular), p.pairs.shape[1])
            for starts, size in zip(offset.values(), sizes, strict=True):
                starts.append(starts[-1] + size)
        joined = {}
        for name in vars(parts[0]):
            tensors = [getattr(p, name) for p in parts]
            if name in offset:
                tensors = [t + n for t, n in zip(tensors, offset[name][:-1], strict=True)]
            joined[name] = torch.cat(tensors, dim=int(name in ("pairs", "radial_rows")))
        return cls(**joined)


class _Pull(torch.autograd.Function):
    """Jᵀ·slope; its gradient is J."""

    @staticmethod
    def forward(ctx, slope, descriptors):  # type: ignore[no-untyped-def]
        ctx.descriptors = descriptors
        return descriptors.pull(slope)

    @staticmethod
    def backward(ctx, vectors):  # type: ignore[no-untyped-def]
        return ctx.descriptors.push(vectors), None


def describe(constants: Constants, species: Tensor, pairs: Tensor, vectors: Tensor) -> Descriptors:
    """Descriptors and Jacobian of one batch.

    Parameters
    ----------
    species
        ``Tensor[atoms]`` element index of each atom.
    pairs, vectors
        ``Tensor[2, pairs]`` and ``Tensor[pairs, 3]`` (Å) as in `tlpot.frames.Batch`; the dtype of
        `vectors` is the dtype of the result.
    """
    c, atoms = constants, len(species)
    distance = vectors.norm(dim=1)
    unit = vectors / distance[:, None]
    term, slope = _radial(c, distance)
    rows = pairs * c.elements + species[pairs.flip(0)]
    radial = vectors.new_zeros(atoms * c.elements, c.radial)
    radial.index_add_(0, rows[0], term).index_add_(0, rows[1], term)

    close = (distance <= c.angular_cutoff).nonzero().squeeze(1)
    edge_pair = close.repeat(2)
    sign = torch.cat([torch.ones_like(close), -torch.ones_like(close)])
    ends = pairs[:, close]
    centre, order = torch.cat([ends[0], ends[1]]).sort(stable=True)
    neighbour = torch.cat([ends[1], ends[0]])[order]
    edge_pair, edge_sign = edge_pair[order], sign[order].to(vectors.dtype)
    outward = unit[edge_pair] * edge_sign[:, None]
    length = distance[edge_pair]

    element_pair = c.pair_index(species.device)
    edges = len(centre)
    other = species[neighbour]
    angular = vectors.new_zeros(atoms * c.element_pairs, c.angular)
    jacobian = vectors.new_zeros(edges * c.elements, 3, c.angular)
    for a, b in _triples(centre):
        value, by_a, by_b, by_cos = _angular(c, length[a], length[b], outward[a], outward[b])
        angular.index_add_(0, centre[a] * c.element_pairs + element_pair[other[a], other[b]], value)
        cos = (outward[a] * outward[b]).sum(1, keepdim=True)
        for near, far, by_near in ((a, b, by_a), (b, a, by_b)):
            turn = (outward[far] - cos * outward[near]) / length[near][:, None]
            block = torch.einsum("tx,tf->txf", outward[near], by_near)
            block += torch.einsum("tx,tf->txf", turn, by_cos)
            jacobian.index_add_(0, near * c.elements + other[far], block)
    jacobian = jacobian.view(edges, c.elements, 3, c.angular).transpose(1, 2)
    return Descriptors(
        values=torch.cat([radial.view(atoms, -1), angular.view(atoms, -1)], dim=1),
        pairs=pairs,
        radial_rows=rows,
        radial_jacobian=torch.einsum("px,pf->pxf", unit, slope),
        edge_pair=edge_pair,
        edge_sign=edge_sign,
        angular_rows=centre[:, None] * c.element_pairs + element_pair[other],
        angular_jacobian=jacobian.reshape(edges, 3, -1),
    )


def _radial(c: Constants, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Radial terms ``[pairs, radial]`` (torchani's factor ¼ included) and their slope."""
    off = distance[:, None] - distance.new_tensor(c.radial_shifts)
    gauss = 0.25 * torch.exp(-c.radial_eta * off**2)
    fade, fade_slope = _cutoff(distance, c.radial_cutoff)
    slope = fade_slope[:, None] - 2 * c.radial_eta * off * fade[:, None]
    return gauss * fade[:, None], gauss * slope


def _cutoff(distance: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    phase = distance * (pi / cutoff)
    return 0.5 * torch.cos(phase) + 0.5, (-0.5 * pi / cutoff) * torch.sin(phase)


def _angular(
    c: Constants, ra: Tensor, rb: Tensor, ua: Tensor, ub: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Angular terms ``[triples, angular]`` and their slopes in ra, rb and the cosine."""
    cos = 0.95 * (ua * ub).sum(1, keepdim=True)
    sin = torch.sqrt(1 - cos**2)
    sections = ra.new_tensor(c.angular_sections)
    half = (1 + cos * sections.cos() + sin * sections.sin()) / 2
    power = half ** (c.angular_zeta - 1)
    angle = 2 * half * power
    angle_slope = 0.95 * c.angular_zeta * power * (sections.cos() - cos / sin * sections.sin())
    off = (ra + rb)[:, None] / 2 - ra.new_tensor(c.angular_shifts)
    gauss = torch.exp(-c.angular_eta * off**2)
    gauss_slope = -c.angular_eta * off * gauss
    fade_a, slope_a = _cutoff(ra, c.angular_cutoff)
    fade_b, slope_b = _cutoff(rb, c.angular_cutoff)
    fade = (fade_a * fade_b)[:, None]

    def outer(radial: Tensor, angular: Tensor) -> Tensor:
        return (radial[:, :, None] * angular[:, None, :]).flatten(1)

    return (
        outer(gauss * fade, angle),
        outer(gauss_slope * fade + gauss * (slope_a * fade_b)[:, None], angle),
        outer(gauss_slope * fade + gauss * (slope_b * fade_a)[:, None], angle),
        outer(gauss * fade, angle_slope),
    )


def _triples(centre: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs of edges with the same centre (``centre`` sorted), in chunks."""
    if len(centre) == 0:
        return []
    _, counts = centre.unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    start = starts.repeat_interleave(counts)
    rank = torch.arange(len(centre), device=centre.device) - start
    second = torch.arange(len(centre), device=centre.device).repeat_interleave(rank)
    before = rank.cumsum(0) - rank
    first = torch.arange(len(second), device=centre.device) - before[second] + start[second]
    return list(zip(first.split(TRIPLES_AT_ONCE), second.split(TRIPLES_AT_ONCE), strict=True))
