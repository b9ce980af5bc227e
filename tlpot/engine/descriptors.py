"""Atomic environment vectors with their Jacobian, computed once and kept.

ANI's descriptors (Smith et al. 2017, eqs. 2–4) have no trainable weights. In fine-tuning both the
descriptors x and J = ∂x/∂(neighbour vectors) are therefore constants of a frame: the forces are
−Jᵀ∂E/∂x, and no training step computes a descriptor again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tlpot.engine.environment import Descriptor, Environment, outer


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


def keep(environment: Environment) -> Descriptors:
    """Descriptors and Jacobian of one batch."""
    env, c = environment, environment.constants
    _, slope = env.radial()
    jacobian = slope.new_zeros(len(env.centre) * c.elements, 3, c.angular)
    for a, b in env.triples():
        f = env.angular(a, b)
        fade, radial = f.fade[:, None], f.radial
        by_cos = outer(radial * fade, f.angle_slope)
        for near, far, fade_slope in ((a, b, f.fade_a), (b, a, f.fade_b)):
            by_length = outer(f.radial_slope * fade + radial * fade_slope[:, None], f.angle)
            block = torch.einsum("tx,tf->txf", env.outward[near], by_length)
            block += torch.einsum("tx,tf->txf", env.turn(near, far), by_cos)
            jacobian.index_add_(0, near * c.elements + env.other[far], block)
    jacobian = jacobian.view(-1, c.elements, 3, c.angular).transpose(1, 2)
    return Descriptors(
        values=Descriptor(env).values,
        pairs=env.pairs,
        radial_rows=env.radial_rows,
        radial_jacobian=torch.einsum("px,pf->pxf", env.unit, slope),
        edge_pair=env.edge_pair,
        edge_sign=env.edge_sign,
        angular_rows=env.centre[:, None] * c.element_pairs + env.element_pair[env.other],
        angular_jacobian=jacobian.reshape(len(env.centre), 3, -1),
    )
