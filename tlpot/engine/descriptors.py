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

from tlpot.engine.environment import Descriptor, Environment
from tlpot.engine.threads import spread


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
        """∂E/∂vectors ``[k, pairs, 3]`` from ∂E/∂x ``[k, atoms, features]``, differentiable."""
        return _Pull.apply(features_slope, self)

    @property
    def nbytes(self) -> int:
        """Memory that they take, bytes."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def pull(self, slope: Tensor) -> Tensor:
        """Jᵀ·slope: ``[k, atoms, features]`` to ``[k, pairs, 3]``."""
        return torch.stack(spread(self._pull, slope))

    def push(self, vectors: Tensor) -> Tensor:
        """J·vectors: ``[k, pairs, 3]`` to ``[k, atoms, features]``."""
        return torch.stack(spread(self._push, vectors))

    def _pull(self, slope: Tensor) -> Tensor:
        radial, angular = self._blocks(slope)
        at_ends = radial.index_select(0, self.radial_rows[0])
        at_ends += radial.index_select(0, self.radial_rows[1])
        by_pair = (self.radial_jacobian * at_ends[:, None]).sum(2)
        rows = angular.index_select(0, self.angular_rows.flatten())
        by_edge = (self.angular_jacobian * rows.view_as(self.angular_jacobian[:, :1])).sum(2)
        return by_pair.index_add_(0, self.edge_pair, by_edge * self.edge_sign[:, None])

    def _push(self, vectors: Tensor) -> Tensor:
        out = torch.zeros_like(self.values)
        radial, angular = (part.contiguous() for part in self._blocks(out))
        change = _along(vectors, self.radial_jacobian)
        radial.index_add_(0, self.radial_rows[0], change)
        radial.index_add_(0, self.radial_rows[1], change)
        outward = vectors.index_select(0, self.edge_pair) * self.edge_sign[:, None]
        change = _along(outward, self.angular_jacobian)
        rows = self.angular_rows.flatten()
        angular.index_add_(0, rows, change.view(len(rows), angular.shape[1]))
        return torch.cat(
            [
                radial.view_as(out[:, : self._radial_columns]),
                angular.view_as(out[:, self._radial_columns :]),
            ],
            dim=1,
        )

    @property
    def _radial_columns(self) -> int:
        return self.angular_rows.shape[1] * self.radial_jacobian.shape[2]

    def _blocks(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[atoms, features]`` as radial and angular rows, ``[rows, columns]`` each."""
        n_angular = self.angular_jacobian.shape[2] // self.angular_rows.shape[1]
        n_radial, split = self.radial_jacobian.shape[2], self._radial_columns
        radial, angular = features[:, :split], features[:, split:]
        return radial.reshape(-1, n_radial), angular.reshape(-1, n_angular)

    def to(self, device: torch.device | str) -> Descriptors:
        """The same on another device."""
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


def _along(vectors: Tensor, jacobian: Tensor) -> Tensor:
    """``[n, 3]``, ``[n, 3, columns]`` to ``[n, columns]``; faster than a batched product."""
    x, y, z = vectors.unsqueeze(2).unbind(1)
    along = x * jacobian[:, 0]
    return along.addcmul_(y, jacobian[:, 1]).addcmul_(z, jacobian[:, 2])


def keep(environment: Environment) -> Descriptors:
    """Descriptors and Jacobian of one batch."""
    env, c = environment, environment.constants
    _, slope = env.radial()
    jacobian = slope.new_zeros(len(env.centre) * c.elements, 3, c.angular)
    for a, b in env.triples():
        f = env.angular(a, b)
        fade, radial = f.fade[:, None], f.radial
        by_cos = env.outer(radial * fade, f.angle_slope)
        for near, far, fade_slope in ((a, b, f.fade_a), (b, a, f.fade_b)):
            by_length = env.outer(f.radial_slope * fade + radial * fade_slope[:, None], f.angle)
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
        angular_jacobian=jacobian.reshape(len(env.centre), 3, c.elements * c.angular),
    )
