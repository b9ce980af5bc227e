"""Products of moments: sums over neighbours, invariant, whatever other elements are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers
from scipy.spatial.transform import Rotation

from tlpot.engine.constants import Moments
from tlpot.engine.environment import cutoff
from tlpot.engine.moments import PRODUCTS, Products, mixture
from tlpot.engine.neighbourhood import Neighbourhood
from tlpot.errors import TlpotError

MOMENTS = Moments(cutoff=4.0, eta=4.0, shifts=(1.0, 1.75, 2.5), channels=4, seed=3)


@pytest.fixture
def crystal(small, labelled):
    """Term, species, pairs and vectors of crystals and molecules."""
    potential = small()
    batch = potential.batch(labelled(5))
    constants = replace(potential.backbone.architecture, moments=MOMENTS)
    return Products(constants, MOMENTS), potential.backbone.species[batch.numbers], batch


def columns(term: Products, species, pairs, vectors) -> torch.Tensor:
    return term.of(species, pairs, vectors)[:, 0]


def test_they_are_sums_over_three_neighbours(crystal):
    """The four kinds by their cosines: (jk)(kl), (jk)²(kl), (jk)(kl)(lj), (jk)²(kl)(lj)."""
    term, species, batch = crystal
    atom = int(batch.pairs[0].bincount().argmax())
    ends = [(batch.pairs == atom)[k] for k in (0, 1)]
    vectors = torch.cat([batch.vectors[ends[0]], -batch.vectors[ends[1]]])
    others = torch.cat([batch.pairs[1][ends[0]], batch.pairs[0][ends[1]]])
    distance = vectors.norm(dim=1)
    near = distance < MOMENTS.cutoff
    unit, distance, others = vectors[near] / distance[near, None], distance[near], others[near]
    shifts = torch.tensor(MOMENTS.shifts, dtype=torch.float64)
    gauss = torch.exp(-MOMENTS.eta * (distance[:, None] - shifts) ** 2)
    gauss = gauss * cutoff(distance, MOMENTS.cutoff)[0][:, None]
    mixtures = torch.from_numpy(term.mixtures).double()[species[others]]
    f = torch.einsum("jcn,jn->jc", mixtures, gauss)
    cosines = unit @ unit.T
    bent = cosines.square()
    products = [
        ("jk,kl", cosines, cosines),
        ("jk,kl", bent, cosines),
        ("jk,kl,jl", cosines, cosines, cosines),
        ("jk,kl,jl", bent, cosines, cosines),
    ]
    got = columns(term, species, batch.pairs, batch.vectors)[atom].view(4, 4, 4)
    for (script, *matrices), kind, values in zip(products, PRODUCTS, got, strict=True):
        further = f.roll(-kind[-1], 1)
        expected = torch.einsum(f"{script},jp,kp,lc->pc", *matrices, f, further, f)
        torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)


def test_rotation_reflection_and_order_change_nothing(crystal):
    term, species, batch = crystal
    expected = columns(term, species, batch.pairs, batch.vectors)
    turn = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    for matrix in (turn, -turn):
        turned = columns(term, species, batch.pairs, batch.vectors @ matrix.T)
        assert (turned - expected).abs().max() < 1e-6
    order = torch.randperm(len(species), generator=torch.Generator().manual_seed(0))
    pairs = order.argsort()[batch.pairs]
    mixed = torch.randperm(pairs.shape[1], generator=torch.Generator().manual_seed(1))
    permuted = columns(term, species[order], pairs[:, mixed], batch.vectors[mixed])
    assert (permuted - expected[order]).abs().max() < 1e-6


def test_neighbours_come_in_smoothly(small):
    term = Products(replace(small().backbone.architecture, moments=MOMENTS), MOMENTS)
    species, pairs = torch.tensor([1, 0, 0, 0]), torch.tensor([[0, 0, 0], [1, 2, 3]])
    close = torch.tensor([[1.0, 0.2, 0.0], [-0.4, 1.1, 0.3], [0.0, 0.0, 1.0]], dtype=torch.float64)

    def at(distance: float) -> torch.Tensor:
        vectors = close.clone()
        vectors[2] *= distance
        return columns(term, species, pairs, vectors)[0]

    without = columns(term, species, pairs[:, :2], close[:2])[0]
    assert (at(MOMENTS.cutoff - 1e-4) - without).abs().max() < 1e-6
    assert torch.equal(at(MOMENTS.cutoff + 0.1), without)
    assert (at(2.0) - without).abs().max() > 1e-3


def test_other_elements_and_copies_change_nothing(small, labelled):
    potential = small()
    whole = replace(potential.backbone.architecture, moments=MOMENTS)
    batch = potential.batch(labelled(3))
    values = []
    for symbols, donors in (
        (whole.symbols, {}),
        (tuple(reversed(whole.symbols)), {}),
        ((*whole.symbols, "Si"), {"Si": "C"}),
    ):
        part = whole.with_symbols(symbols, donors)
        species = torch.tensor([symbols.index(s) for s in _symbols(batch)])
        values.append(columns(Products(part, MOMENTS), species, batch.pairs, batch.vectors))
        if "Si" in symbols:
            np.testing.assert_array_equal(
                Products(part, MOMENTS).mixtures[-1], mixture(MOMENTS, "C").astype(np.float32)
            )
    assert torch.allclose(values[0], values[1], rtol=0, atol=1e-12)
    assert torch.allclose(values[0], values[2], rtol=0, atol=1e-12)
    again = whole.with_symbols((*whole.symbols, "Si"), {"Si": "C"}).with_symbols(("H", "Si"), {})
    assert again.mixed == ("H", "C")


def _symbols(batch) -> list[str]:
    names = {number: symbol for symbol, number in atomic_numbers.items()}
    return [names[n] for n in batch.numbers.tolist()]


@pytest.mark.parametrize("change", [{"channels": 3}, {"cutoff": 5.2}])
def test_what_the_kernels_would_read_past_or_never_see_is_refused(small, change):
    """As a damaged model file may claim."""
    constants = small().backbone.architecture
    with pytest.raises(TlpotError, match="at least 4, to no more than"):
        replace(constants, moments=replace(MOMENTS, **change))


def test_an_atom_without_neighbours_has_none(crystal):
    term, _, _ = crystal
    near = Neighbourhood(
        term.constants, torch.tensor([0]), torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 3)
    )
    assert not term.compiled_values(near).any()
    assert term.compiled_pull(near, torch.ones(2, 1, 1, term.columns)).shape == (2, 0, 3)
    assert not term.compiled_push(near, torch.zeros(2, 0, 3)).any()
