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
        slopes = _descend(gates, matrices)
        if members:
            x_slope = torch.bmm(slopes[0], matrices[0])
        else:
            x_slope = (_side_by_side(slopes[0]) @ matrices[0].flatten(0, 1))[None] / len(energies)
        ctx.alpha = alpha
        ctx.save_for_backward(x, *matrices, *activations, *gates, *slopes)
        return energies, x_slope

    @staticmethod
    def backward(ctx, energy_bar, slope_bar):  # type: ignore[no-untyped-def]
        x, *saved = ctx.saved_tensors
        depth = len(saved) // 4  # hidden layers: depth + 1 matrices, then 3·depth tensors
        matrices, saved = saved[: depth + 1], saved[depth + 1 :]
        activations, gates, slopes = saved[:depth], saved[depth : 2 * depth], saved[2 * depth :]
        members = len(energy_bar)

        # Up through the slopes: what the loss says of ∂E/∂x reaches every layer's gate.
        rises = [slope_bar if len(slope_bar) == members else slope_bar[0] / members]
        below = _rows(rises[0], matrices[0])
        bends = []
        for layer in range(depth):
            bend = (below * slopes[layer]).masked_fill_(gates[layer] >= 1.0, 0.0)
            bends.append(bend)
            rises.append(below.mul_(gates[layer]))
            if layer + 1 < depth:
                below = torch.bmm(rises[-1], matrices[layer + 1].mT)

        # Down through the energies, gathering both contributions to each weight.
        top = torch.einsum("mn,mno->mo", energy_bar, activations[-1]) + rises[-1].sum(1)
        gradients = [top[:, None], energy_bar.sum(1, keepdim=True)]
        a_bar = energy_bar[:, :, None] * matrices[-1]
        for layer in reversed(range(depth)):
            z_bar = (gates[layer] * a_bar).add_(bends[layer], alpha=1.0 / ctx.alpha)
            below_a = activations[layer - 1] if layer else x
            matrix_bar = _outer(slopes[layer], rises[layer], z_bar, below_a)
            gradients[:0] = [matrix_bar, z_bar.sum(1)]
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


def _descend(gates: Sequence[Tensor], matrices: Weights) -> list[Tensor]:
    """∂E/∂z of each hidden layer, ``[members, atoms, out]``."""
    slopes = [gates[-1] * matrices[-1]]
    for gate, matrix in zip(gates[-2::-1], matrices[-2:0:-1], strict=True):
        slopes.insert(0, gate * torch.bmm(slopes[0], matrix))
    return slopes


def _side_by_side(tensor: Tensor) -> Tensor:
    """``[members, atoms, out]`` as ``[atoms, members · out]``."""
    return tensor.transpose(0, 1).flatten(1)


def _rows(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix[m].T``, in one product if all members share x: ``[members, atoms, out]``."""
    if x.dim() == 3:
        return torch.bmm(x, matrix.mT)
    members, width, _ = matrix.shape
    product = x @ matrix.flatten(0, 1).T
    return product.view(len(x), members, width).transpose(0, 1)


def _outer(left1: Tensor, right1: Tensor, left2: Tensor, right2: Tensor) -> Tensor:
    """left1ᵀ·right1 + left2ᵀ·right2, summed over atoms; x-like factors have no member axis."""
    if right1.dim() == 3:
        right2 = right2.expand(len(right1), -1, -1)
        return torch.baddbmm(torch.bmm(left1.mT, right1), left2.mT, right2)
    members, _, width = left1.shape
    left = torch.cat([_side_by_side(left1), _side_by_side(left2)])
    return (left.T @ torch.cat([right1, right2])).view(members, width, -1)
