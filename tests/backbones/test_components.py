"""Fine angles as components: what the networks see of them changes nothing but their number."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from tlpot.backbones.base import plain_energy_and_slope
from tlpot.engine.constants import Angles, Moments
from tlpot.engine.moments import Products
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame

COMPONENTS = 20
EXACT = Angles(eta=8.0, zeta=16.0, shifts=(1.25, 2.0, 2.75), sections=(0.75, 1.5))
"""Float32, torchani's own, holds these constants, and those of `MOMENTS`."""

MOMENTS = Moments(cutoff=4.0, eta=4.0, shifts=(1.0, 1.75, 2.5), channels=4, seed=3)


@pytest.fixture
def crystals(urea) -> list[Atoms]:
    """Urea, shaken."""
    several = [urea.copy() for _ in range(4)]
    for seed, atoms in enumerate(several):
        atoms.rattle(0.1, seed=seed)
    return several


@pytest.fixture(params=[None, MOMENTS], ids=["angles", "angles and moments"])
def projected(request, small, crystals):
    """Builds a small potential with fitted components, whose weights are not zero."""

    def build(dtype: torch.dtype = torch.float64, **about: object) -> Potential:
        plain = small(fine=None, dtype=dtype, **about)
        backbone = plain.backbone.with_fine_angles(EXACT, COMPONENTS, request.param)
        potential = Potential(backbone, plain.reference)
        backbone.fit_components([potential.batch([Frame(atoms) for atoms in crystals])])
        random = torch.Generator().manual_seed(1)
        for symbol in backbone.symbols:
            weight = backbone.layer(symbol, "input").weight
            shape = *weight.shape[:2], COMPONENTS
            weight[..., -COMPONENTS:] = 0.2 * torch.randn(shape, generator=random).to(dtype)
        return potential

    return build


def same(one: Potential, other: Potential, structures: list[Atoms], tolerance: float) -> None:
    for a, b in zip(one.predict(structures), other.predict(structures), strict=True):
        assert a.energy == pytest.approx(b.energy, abs=tolerance)
        np.testing.assert_allclose(a.forces, b.forces, atol=tolerance)


def test_they_begin_without_weight(small, crystals):
    plain = small(fine=None)
    finer = Potential(plain.backbone.with_fine_angles(EXACT, COMPONENTS), plain.reference)
    finer.backbone.fit_components([finer.batch([Frame(atoms) for atoms in crystals])])
    assert finer.backbone.projection.any()
    same(finer, plain, [*crystals, molecule("CH3OH")], 1e-12)


@pytest.mark.parametrize("projected", [None], indirect=True)
def test_they_are_orthonormal_directions_of_most_variance(projected, crystals):
    backbone = projected().backbone
    spelt_out = backbone.unprojected()
    batch = projected().batch([Frame(atoms) for atoms in crystals])
    columns, species = spelt_out.features(batch)
    _, fine = spelt_out.columns.parted(columns)
    for element, matrix in enumerate(backbone.projection):
        some = fine[species == element]
        some = some - some.mean(0)
        rank = int((matrix.norm(dim=1) > 0).sum())
        assert rank == min(COMPONENTS, len(some) - 1)
        gram = matrix[:rank] @ matrix[:rank].T
        torch.testing.assert_close(gram, torch.eye(rank, dtype=gram.dtype), rtol=0, atol=1e-6)
        kept = (some @ matrix.T).square().sum()
        best = torch.linalg.svdvals(some)[:rank].square().sum()
        assert kept == pytest.approx(best.item(), rel=1e-6)


@pytest.mark.parametrize("projected", [MOMENTS], indirect=True)
def test_moments_are_made_alike_and_uncorrelated(projected, crystals):
    backbone = projected().backbone
    columns, species = backbone.features(projected().batch([Frame(a) for a in crystals]))
    for element in range(len(backbone.symbols)):
        components = columns[species == element, -(COMPONENTS * 2 // 3) :].numpy()
        covariance = np.cov(components.T, bias=True)
        rank = int((covariance.diagonal() > 0).sum())
        assert rank > 3
        assert covariance.trace() == pytest.approx(Products.variance, rel=0.05)
        assert np.abs(covariance - np.diag(covariance.diagonal())).max() < 1e-6 * Products.variance


@pytest.mark.parametrize("donors", [None, {"Si": "C"}])
def test_other_programs_get_every_column_and_the_same_energies(projected, crystals, donors):
    potential = projected(donors=donors)
    spelt_out = Potential(potential.backbone.unprojected(), potential.reference)
    assert spelt_out.backbone.architecture.components is None
    same(spelt_out, potential, [*crystals, molecule("SiH4" if donors else "CH4")], 1e-8)


def test_every_road_to_energies_and_slopes_agrees(projected, crystals):
    potential = projected()
    batch = potential.batch([Frame(atoms) for atoms in crystals])
    energies, slopes = plain_energy_and_slope(potential.backbone, batch, members=True)
    output = potential.backbone.energy_and_slope(batch, members=True)
    torch.testing.assert_close(output[0], energies, rtol=0, atol=1e-8)
    torch.testing.assert_close(output[1], slopes, rtol=0, atol=1e-8)
    rough = projected(torch.float32)
    same(rough, potential, crystals, 2e-3)


def test_the_gradient_of_a_loss_is_that_of_automatic_differentiation(projected, crystals):
    gradients = []
    for road in (
        lambda backbone, batch: backbone.energy_and_slope(batch, training=True, members=True),
        lambda backbone, batch: plain_energy_and_slope(backbone, batch, True, True),
    ):
        potential = projected()
        weights = list(potential.backbone.requires_grad_().parameters())
        energies, slopes = road(potential.backbone, potential.batch([Frame(crystals[0])]))
        total = energies.square().sum() + (slopes - 0.1).square().sum()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, weights)]))
    assert (gradients[0] - gradients[1]).norm() < 1e-7 * gradients[1].norm()


def test_a_smaller_self_and_back(projected, crystals):
    potential = projected(donors={"Si": "C"})
    part = potential.for_elements({"C", "H", "N", "O"})
    same(part, potential, crystals, 1e-10)
    cloned = Potential(
        potential.backbone.with_elements((*potential.backbone.symbols, "Si")), potential.reference
    )
    same(cloned, potential, [molecule("SiH4"), molecule("CH3SiH3")], 1e-10)
    again = copy.deepcopy(potential)
    again.backbone.projection.zero_()
    again.backbone.absorb(part.backbone)
    same(again, potential, crystals, 1e-10)


def test_a_file_brings_them_back(projected, crystals, tmp_path):
    potential = projected()
    same(Potential.load(potential.save(tmp_path / "a.safetensors")), potential, crystals, 1e-12)


def test_where_only_what_is_new_trains_components_see_only_that(small, crystals):
    plain = small(fine=None)
    backbone = plain.backbone.with_fine_angles(EXACT, COMPONENTS)
    batch = plain.batch([Frame(atoms) for atoms in crystals])
    backbone.fit_components([batch], new={"N"})
    for symbol in "HCO":
        layer = backbone.layer(symbol, "input").requires_grad_()
        layer.weight.data[..., -COMPONENTS:] = 1.0
    other = Potential(backbone.requires_grad_(False), plain.reference)
    same(other, plain, [molecule("CH3OH"), molecule("H2O")], 1e-12)
    assert abs(other.predict([crystals[0]])[0].energy - plain.predict([crystals[0]])[0].energy) > 1


def test_a_second_fit_leaves_what_is_settled(projected):
    backbone = projected().backbone
    before = backbone.projection.clone()
    others = projected().batch([Frame(molecule("CH3OH"))])
    backbone.fit_components([others])
    assert torch.equal(backbone.projection, before)
