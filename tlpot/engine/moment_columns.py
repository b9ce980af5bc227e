"""Products of moments in torch alone: any device and precision, differentiable, scripted.

TorchScript reads annotations as they stand: hence no ``annotations`` import here, and the old
names of types.
"""
# ruff: noqa: UP006, UP035

from typing import List, Tuple

import torch
from torch import Tensor


class MomentColumns(torch.nn.Module):
    """Products of the moments of neighbours (`tlpot.engine.moments`).

    Parameters
    ----------
    mixtures
        ``[elements, channels, shifts]``.
    shifts, eta, cutoff
        As of `tlpot.engine.constants.Moments`.
    axes, kinds
        `TENSOR_AXES` and `PRODUCTS` of `tlpot.engine.moments`.
    """

    shifts: Tensor
    mixtures: Tensor
    axes: Tensor

    def __init__(
        self,
        mixtures: Tensor,
        shifts: Tuple[float, ...],
        eta: float,
        cutoff: float,
        axes: List[Tuple[int, ...]],
        kinds: List[Tuple[int, int, int, int, int, int, int]],
    ) -> None:
        super().__init__()
        self.eta, self.cutoff, self.kinds = eta, cutoff, kinds
        self.turn = torch.pi / cutoff
        self.out_dim = len(kinds) * mixtures.shape[1] ** 2
        self.register_buffer("shifts", torch.tensor(shifts, dtype=mixtures.dtype), persistent=False)
        self.register_buffer("mixtures", mixtures, persistent=False)
        self.register_buffer("axes", torch.tensor(axes), persistent=False)

    def forward(self, species: Tensor, pairs: Tensor, vectors: Tensor) -> Tensor:
        """``[atoms]``, ``[2, pairs]`` and ``[pairs, 3]`` to ``[atoms, columns]``."""
        distance = vectors.norm(p=2, dim=1)
        inside = distance.clamp(max=self.cutoff)
        fade = 0.5 * torch.cos(inside * self.turn) + 0.5
        gauss = torch.exp((distance[:, None] - self.shifts).square() * -self.eta) * fade[:, None]
        weights = torch.einsum("epcn,pn->epc", self.mixtures[species[pairs.flip(0)]], gauss)
        unit = vectors / distance[:, None]
        outward = torch.stack([unit, -unit])
        with_one = torch.cat([outward, torch.ones_like(outward[:, :, :1])], dim=-1)
        tensors = with_one[:, :, self.axes].prod(-1)
        terms = (weights[:, :, :, None] * tensors[:, :, None, :]).flatten(0, 1)
        sums = torch.zeros(
            (len(species), terms.shape[1], terms.shape[2]), dtype=terms.dtype, device=terms.device
        ).index_add(0, pairs.flatten(), terms)
        columns: List[Tensor] = []
        for left, right, rows, wide, high, last, shift in self.kinds:
            a = sums[:, :, left : left + rows * wide].unflatten(2, (rows, wide))
            b = sums[:, :, right : right + rows * high].unflatten(2, (rows, high))
            both = (a.transpose(2, 3) @ b.roll(-shift, 1)).flatten(2)
            columns.append(both @ sums[:, :, last : last + wide * high].transpose(1, 2))
        return torch.cat(columns, 1).flatten(1)
