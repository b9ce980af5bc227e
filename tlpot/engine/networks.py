"""All members of one element's network in few matrix products, with hand-written derivatives.

A training step needs the energies, their slope in the descriptors, and the gradient of a loss
that holds both. Autograd can do it (double backward); written out, each weight matrix is read
once per product it is needed in, and nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Weights = Sequence[Tensor]
"""weight and bias of each layer in turn: ``[members, out, in]``, ``[members, out]``."""


def energy_and_slope(
    x: Tensor, weights: Weights, alpha: float, members: bool
) -> tuple[Tensor, Tensor]:
    """Energies of the members and their slope, or the slope of their mean.

    Parameters
    ----------
    x
        ``Tensor[atoms, features]`` descriptors of atoms of one element.
    weights
        Of its layers, CELU with `alpha` between them.
    members
        Whether every member's slope is wanted.

    Returns
    -------
    energies : ``Tensor[members, atoms]``
    slope : ``Tensor[1, atoms, features]``, ∂(mean over members)/∂x, or
        ``Tensor[members, atoms, features]``

    Both are differentiable in the weights; `x` is taken as constant.
    """
    return _Network.apply(x, alpha, members, *weights)


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha, members, *weights):  # type: ignore[no-untyped-def]
        matrices, biases = weights[0::2], weights[1::2]
        activations = _activate(x, matrices, biases, alpha)
        energies = torch.einsum("mno,mo->mn", activations[-1], matrices[-1][:, 0])
        energies += biases[-1]
        gates = [_gate(a, alpha) for a in activations]
        slopes, x_slope = _descend(gates, matrices, members)
        ctx.alpha = alpha
        ctx.save_for_backward(x, *weights, *activations, *gates, *slopes)
        return energies, x_slope

    @staticmethod
    def backward(ctx, energy_bar, slope_bar):  # type: ignore[no-untyped-def]
        x, *saved = ctx.saved_tensors
        depth = len(saved) // 5  # hidden layers: 2·(depth + 1) weights, then 3·depth tensors
        matrices, saved = saved[: 2 * (depth + 1) : 2], saved[2 * (depth + 1) :]
        activations, gates, slopes = saved[:depth], saved[depth : 2 * depth], saved[2 * depth :]
        members = len(energy_bar)

        # Up through the slopes: what the loss says of ∂E/∂x reaches every layer's gate.
        rises = [slope_bar if len(slope_bar) == members else slope_bar[0] / members]
        below = _rows(rises[0], matrices[0])
        z_bars = []
        for layer in range(depth):
            gate, slope = gates[layer], slopes[layer]
            curvature = torch.where(gate < 1.0, gate / ctx.alpha, 0.0)
            z_bars.append(below * slope * curvature)
            rises.append(below * gate)
            if layer + 1 < depth:
                below = torch.bmm(rises[-1], matrices[layer + 1].mT)

        # Down through the energies, gathering both contributions to each weight.
        gradients: list[Tensor] = []
        output = matrices[-1]
        top = torch.einsum("mn,mno->mo", energy_bar, activations[-1]) + rises[-1].sum(1)
        gradients[:0] = [top[:, None], energy_bar.sum(1, keepdim=True)]
        a_bar = energy_bar[:, :, None] * output
        for layer in reversed(range(depth)):
            z_bar = z_bars[layer].addcmul_(a_bar, gates[layer])
            drop = slopes[layer] * gates[layer]
            below_a = activations[layer - 1] if layer else x
            gradients[:0] = [
                _outer(drop, rises[layer], z_bar, below_a),
                z_bar.sum(1),
            ]
            if layer:
                a_bar = torch.bmm(z_bar, matrices[layer])
        return None, None, None, *gradients


def _activate(x: Tensor, matrices: Weights, biases: Weights, alpha: float) -> list[Tensor]:
    """Outputs of the hidden layers, ``[members, atoms, out]`` each."""
    z = _rows(x, matrices[0]).add_(biases[0][:, None])
    activations = [torch.celu_(z, alpha)]
    for matrix, bias in zip(matrices[1:-1], biases[1:-1], strict=True):
        z = torch.baddbmm(bias[:, None], activations[-1], matrix.mT)
        activations.append(torch.celu_(z, alpha))
    return activations


def _gate(activation: Tensor, alpha: float) -> Tensor:
    """CELU's derivative from its value: 1 above zero, exp(z/α) = 1 + a/α below."""
    return (activation / alpha).add_(1.0).clamp_(max=1.0)


def _descend(
    gates: Sequence[Tensor], matrices: Weights, members: bool
) -> tuple[list[Tensor], Tensor]:
    """∂E/∂a of each hidden layer (``[members, atoms, out]``) and of x."""
    slopes = [matrices[-1].expand_as(gates[-1])]
    for gate, matrix in zip(gates[:0:-1], matrices[-2:0:-1], strict=True):
        slopes.insert(0, torch.bmm(slopes[0] * gate, matrix))
    first = slopes[0] * gates[0]
    if members:
        return slopes, torch.bmm(first, matrices[0])
    count, atoms, width = first.shape
    side_by_side = first.transpose(0, 1).reshape(atoms, count * width)
    x_slope = side_by_side @ matrices[0].reshape(count * width, -1)
    return slopes, x_slope[None] / count


def _rows(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix[m].T``, in one product if all members share x: ``[members, atoms, out]``."""
    if x.dim() == 3:
        return torch.bmm(x, matrix.mT)
    members, width, features = matrix.shape
    product = x @ matrix.reshape(members * width, features).T
    return product.view(len(x), members, width).transpose(0, 1)


def _outer(left1: Tensor, right1: Tensor, left2: Tensor, right2: Tensor) -> Tensor:
    """left1ᵀ·right1 + left2ᵀ·right2, summed over atoms; x-like factors have no member axis."""
    if right1.dim() == 3:
        right2 = right2.expand(len(right1), -1, -1)
        return torch.baddbmm(torch.bmm(left1.mT, right1), left2.mT, right2)
    members, atoms, width = left1.shape
    left = torch.cat([left1, left2], dim=1).transpose(0, 1).reshape(2 * atoms, members * width)
    return (left.T @ torch.cat([right1, right2])).view(members, width, -1)
