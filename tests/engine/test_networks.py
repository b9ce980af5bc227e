from itertools import pairwise

import pytest
import torch

from tlpot.backbones.ani import celu
from tlpot.engine.networks import energy_and_slope

ALPHA = 0.1


def weights(members: int = 2, sizes: tuple[int, ...] = (5, 4, 3, 4, 1)) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [
        shape
        for n_in, n_out in pairwise(sizes)
        for shape in ((members, n_out, n_in), (members, n_out))
    ]
    made = [torch.empty(s, dtype=torch.float64).normal_(0, 0.5, generator=random) for s in shapes]
    return [w.requires_grad_() for w in made]


def descriptors(atoms: int = 6) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(atoms, 5, dtype=torch.float64, generator=random)


def by_autograd(x, parts, members):
    """The same by plain layers and automatic differentiation."""
    x = x.clone().requires_grad_()
    a = x.expand(len(parts[0]), *x.shape)
    for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
        a = celu(torch.baddbmm(bias[:, None], a, weight.mT))
    energies = torch.baddbmm(parts[-1][:, None], a, parts[-2].mT).squeeze(2)
    totals = energies.sum(dim=1) if members else energies.mean(dim=0).sum()[None]
    slopes = [torch.autograd.grad(t, x, create_graph=True)[0] for t in totals]
    return energies, torch.stack(slopes)


@pytest.mark.parametrize("members", [False, True])
@pytest.mark.parametrize("atoms", [1, 6])
def test_energy_slope_and_their_gradients_are_autograds(atoms, members):
    x, parts = descriptors(atoms), weights()
    results = []
    for function in (
        lambda: energy_and_slope(x, [len(x)], [parts], ALPHA, members),
        lambda: by_autograd(x, parts, members),
    ):
        energies, slope = function()
        loss = (energies - 1.0).square().sum() + (slope * x.cos()).square().sum()
        results.append([energies, slope, *torch.autograd.grad(loss, parts)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("members", [False, True])
def test_gradients_by_finite_differences(members):
    x = descriptors(3)
    assert torch.autograd.gradcheck(
        lambda *parts: energy_and_slope(x, [len(x)], [parts], ALPHA, members),
        weights(sizes=(5, 3, 3, 2, 1)),
    )


def test_only_one_of_the_outputs_may_enter_the_loss():
    x, parts = descriptors(), weights()
    for which in (0, 1):
        ours = torch.autograd.grad(
            energy_and_slope(x, [len(x)], [parts], ALPHA, False)[which].square().sum(), parts
        )
        theirs = torch.autograd.grad(
            by_autograd(x, parts, False)[which].square().sum(), parts, allow_unused=True
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)


def test_no_gradient_is_asked_of_frozen_weights():
    x, parts = descriptors(), weights()
    for frozen in parts[:2]:
        frozen.requires_grad_(False)
    energies, slope = energy_and_slope(x, [len(x)], [parts], ALPHA, False)
    ours = torch.autograd.grad(energies.sum() + slope.square().sum(), parts[2:])
    energies, slope = by_autograd(x, parts, False)
    theirs = torch.autograd.grad(energies.sum() + slope.square().sum(), parts[2:])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
