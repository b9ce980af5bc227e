"""All members of all elements' networks in few matrix products, with hand-written derivatives.

A training step needs the energies, their slope in the descriptors, and the gradient of a loss
that holds both. Autograd can do it (double backward); written out, each weight matrix is read
once per product it is needed in, nothing is stored twice, and threads share out the members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tlpot.engine.compiled import compiled
from tlpot.engine.threads import available, shares, spread

Weights = Sequence[Tensor]
"""weight and bias of each layer in turn: ``[members, out, in]``, ``[members, out]``."""
T = TypeVar("T")
MANY = 256
"""Atoms of an element from which on general products are as fast as the kernels."""


def energy_and_slope(
    x: Tensor, counts: Sequence[int], networks: Sequence[Weights], alpha: float, members: bool
) -> tuple[Tensor, Tensor]:
    """Energies of the members and their slope, or the slope of their mean.

    Parameters
    ----------
    x
        ``Tensor[atoms, features]`` descriptors, sorted by element.
    counts, networks
        For each element the number of its atoms and the layers of its networks, CELU with
        `alpha` between them.
    members
        Whether every member's slope is wanted.

    Returns
    -------
    energies : ``Tensor[members, atoms]``
    slope : ``Tensor[1, atoms, features]``, ∂(mean over members)/∂x, or
        ``Tensor[members, atoms, features]``

    Both are differentiable in the weights; `x` is taken as constant.
    """
    present = [(count, weights) for count, weights in zip(counts, networks, strict=True) if count]
    flat = list(chain.from_iterable(weights for _, weights in present))
    return _Ensemble.apply(x, [count for count, _ in present], alpha, members, *flat)


class _Ensemble(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, counts, alpha, members, *flat):  # type: ignore[no-untyped-def]
        networks, xs = _by_element(flat, counts), x.split(counts)
        size = len(flat[0])
        parts = shares(size, available(x.device))
        energies = x.new_empty(size, len(x))
        slope = x.new_empty(size if members else len(parts), *x.shape)
        training = any(ctx.needs_input_grad[4:])
        ways = [_way(x_e) for x_e in xs]

        def work(part: int) -> list[Any]:
            mine, passed = parts[part], []
            into = slope[mine] if members else slope[part]
            by_element = energies[mine].split(counts, 1), into.split(counts, -2)
            for (up, _), x_e, weights, e, s in zip(ways, xs, networks, *by_element, strict=True):
                left = up(x_e, [w[mine] for w in weights], alpha, e, s, training)
                if training:
                    passed.append(left)
            return passed

        passed = spread(work, range(len(parts)))
        if training:
            ctx.save_for_backward(x, *flat)
            ctx.parts, ctx.passed, ctx.counts, ctx.alpha = parts, passed, counts, alpha
        return energies, slope if members else slope.sum(0, keepdim=True).div_(size)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, energy_bar, slope_bar):  # type: ignore[no-untyped-def]
        x, *flat = ctx.saved_tensors
        counts, size = ctx.counts, len(flat[0])
        networks, xs = _by_element(flat, counts), x.split(counts)
        needed = ctx.needs_input_grad[4:]
        gradients = [torch.empty_like(w) if n else None for w, n in zip(flat, needed, strict=True)]
        into = _by_element(gradients, counts)
        if shared := len(slope_bar) != size:
            slope_bar = slope_bar[0] / size

        def work(part: int) -> None:
            mine = ctx.parts[part]
            e_bars = energy_bar[mine].split(counts, 1)
            s_bars = (slope_bar if shared else slope_bar[mine]).split(counts, -2)
            for each in zip(xs, networks, ctx.passed[part], e_bars, s_bars, into, strict=True):
                x_e, weights, passed, e_bar, s_bar, grads = each
                weights = [w[mine] for w in weights]
                grads = [None if g is None else g[mine] for g in grads]
                _, down = _way(x_e)
                down(x_e, weights, ctx.alpha, passed, e_bar, s_bar, grads)

        spread(work, range(len(ctx.parts)))
        return None, None, None, None, *gradients


def _by_element(flat: Sequence[T], counts: Sequence[int]) -> list[Sequence[T]]:
    each = len(flat) // len(counts)
    return [flat[start : start + each] for start in range(0, len(flat), each)]


_Passed = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""What the way up leaves for the way down: activations, gates and ∂E/∂z of the hidden layers.

Each ``[members, atoms, out]``.
"""


def _way(x: Tensor) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Up and down for so many atoms of an element: compiled, or by torch's products."""
    if len(x) < MANY and compiled(x.device, x.dtype):
        return _compiled_up, _compiled_down
    return _up, _down


def _up(
    x: Tensor,
    weights: list[Tensor],
    alpha: float,
    energies: Tensor,
    slope: Tensor,
    training: bool = True,
) -> _Passed:
    """Fills `energies` and `slope`: every member's, or the sum over these members."""
    matrices, biases = weights[0::2], weights[1::2]
    first, depth = matrices[0].flatten(0, 1), len(matrices) - 1
    z = torch.addmm(biases[0].flatten(), x, first.T).unflatten(1, biases[0].shape)
    activations = [torch.celu_(z, alpha).transpose(0, 1)]
    for layer in range(1, depth):
        z = torch.baddbmm(biases[layer][:, None], activations[-1], matrices[layer].mT)
        activations.append(torch.celu_(z, alpha))
    top = torch.baddbmm(biases[-1][:, None], activations[-1], matrices[-1].mT)
    energies.copy_(top.squeeze(2))
    gates = [(a / alpha).add_(1.0).clamp_(max=1.0) for a in activations]
    slopes = [gates[-1] * matrices[-1]]
    for layer in range(depth - 1, 0, -1):
        slopes.insert(0, torch.bmm(slopes[0], matrices[layer]).mul_(gates[layer - 1]))
    if slope.dim() == 3:
        torch.bmm(slopes[0], matrices[0], out=slope)
    else:
        torch.mm(_side_by_side(slopes[0]), first, out=slope)
    return activations, gates, slopes


def _down(
    x: Tensor,
    weights: list[Tensor],
    alpha: float,
    passed: _Passed,
    energy_bar: Tensor,
    slope_bar: Tensor,
    gradients: list[Tensor | None],
) -> None:
    """Fills the gradients of the weights, where asked for, from those of energies and slope."""
    matrices, depth = weights[0::2], len(weights) // 2 - 1
    activations, gates, slopes = passed

    # Up through the slopes: what the loss says of ∂E/∂x reaches every layer's gate.
    below = _rows(slope_bar, matrices[0])
    rises, bends = [slope_bar], []
    for layer in range(depth):
        bends.append((below * slopes[layer]).masked_fill_(gates[layer] >= 1.0, 0.0))
        rises.append(below.mul_(gates[layer]))
        if layer + 1 < depth:
            below = torch.bmm(rises[-1], matrices[layer + 1].mT)

    # Down through the energies, gathering both contributions to each weight.
    matrix_bars, bias_bars = gradients[0::2], gradients[1::2]
    matrix_bar, bias_bar = matrix_bars[-1], bias_bars[-1]
    if bias_bar is not None:
        torch.sum(energy_bar, 1, keepdim=True, out=bias_bar)
    if matrix_bar is not None:
        torch.sum(rises[-1], 1, keepdim=True, out=matrix_bar)
        matrix_bar.baddbmm_(energy_bar[:, None], activations[-1])
    a_bar = energy_bar[:, :, None] * matrices[-1]
    for layer in range(depth - 1, -1, -1):
        z_bar = a_bar.mul_(gates[layer]).add_(bends[layer], alpha=1.0 / alpha)
        matrix_bar, bias_bar = matrix_bars[layer], bias_bars[layer]
        if bias_bar is not None:
            torch.sum(z_bar, 1, out=bias_bar)
        if matrix_bar is not None:
            below_a = activations[layer - 1] if layer else x
            _outer(slopes[layer], rises[layer], z_bar, below_a, matrix_bar)
        if layer:
            a_bar = torch.bmm(z_bar, matrices[layer])


def _compiled_up(
    x: Tensor,
    weights: Sequence[Tensor],
    alpha: float,
    energies: Tensor,
    slope: Tensor,
    training: bool,
) -> list[np.ndarray]:
    """As `_up`, by a kernel."""
    from tlpot.engine import network_kernels

    arrays = _arrays(weights)
    members, rows, each = len(arrays[0]), len(x), slope.dim() == 3
    kept = members if training else 1
    hidden = [array.shape[1] for array in arrays[0:-2:2]]
    passed = [np.empty((kept, rows, width), np.float32) for width in 3 * hidden]
    energy = np.empty((members, rows), np.float32)
    slopes = np.zeros((members if each else 1, *x.shape), np.float32)
    network_kernels.up(*_arrays([x]), arrays, np.float32(alpha), energy, slopes, tuple(passed))
    energies.copy_(torch.from_numpy(energy))
    slope.copy_(torch.from_numpy(slopes if each else slopes[0]))
    return passed


def _compiled_down(
    x: Tensor,
    weights: Sequence[Tensor],
    alpha: float,
    passed: Sequence[np.ndarray],
    energy_bar: Tensor,
    slope_bar: Tensor,
    gradients: Sequence[Tensor | None],
) -> None:
    """As `_down`, by a kernel."""
    from tlpot.engine import network_kernels

    e_bar, s_bar = _arrays([energy_bar, slope_bar.reshape(-1, *x.shape)])
    bars = tuple(
        np.empty((0,) * w.dim(), np.float32) if g is None else g.zero_().numpy()
        for w, g in zip(weights, gradients, strict=True)
    )
    given = (*_arrays([x]), _arrays(weights), np.float32(alpha), tuple(passed), e_bar, s_bar)
    network_kernels.down(*given, bars)


def _arrays(tensors: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(t.detach().contiguous().numpy() for t in tensors)


def _side_by_side(tensor: Tensor) -> Tensor:
    """``[members, atoms, out]`` as ``[atoms, members · out]``."""
    return tensor.transpose(0, 1).flatten(1)


def _rows(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix[m].T``, in one product if all members share x: ``[members, atoms, out]``."""
    if x.dim() == 3:
        return torch.bmm(x, matrix.mT)
    product = x @ matrix.flatten(0, 1).T
    return product.unflatten(1, matrix.shape[:2]).transpose(0, 1)


def _outer(left1: Tensor, right1: Tensor, left2: Tensor, right2: Tensor, out: Tensor) -> None:
    """left1ᵀ·right1 + left2ᵀ·right2, summed over atoms; x-like factors have no member axis."""
    if right1.dim() == 3:
        torch.bmm(left1.mT, right1, out=out)
        out.baddbmm_(left2.mT, right2.expand(len(right1), -1, -1))
    else:
        left = torch.cat([_side_by_side(left1), _side_by_side(left2)])
        torch.mm(left.T, torch.cat([right1, right2]), out=out.flatten(0, 1))
