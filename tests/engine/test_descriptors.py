"""Descriptors are torchani's, and their products with the Jacobian those of automatic derivatives.

By both engines: torch in float64, the compiled kernels in float32.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from tlpot.backbones.aev import FINE
from tlpot.config.run import Training
from tlpot.engine import environment
from tlpot.engine.constants import Angles, Moments
from tlpot.engine.descriptors import Descriptors, terms
from tlpot.engine.environment import Environment
from tlpot.engine.neighbourhood import Neighbourhood, surroundings
from tlpot.engine.threads import own_threads
from tlpot.structure.frames import Frame
from tlpot.training.loss import loss

PRECISION = {torch.float64: 1e-10, torch.float32: 1e-4}
ENGINES = {
    "torch": (Environment, torch.float64, 1e-10),
    "compiled": (Neighbourhood, torch.float32, 3e-6),
}
MOMENTS = Moments(cutoff=4.0, eta=4.0, shifts=(1.0, 1.75, 2.5), channels=4, seed=3)
LONELY = [
    Atoms("H"),
    Atoms("CO", [(0, 0, 0), (0, 0, 1.1)]),
    Atoms("CO", [(0, 0, 0), (0, 0, 4.0)]),
    Atoms("OCO", [(0, 0, 0), (0, 0, 1.2), (0, 0, 2.4)]),
    Atoms("H", cell=[0.9, 8, 8], pbc=True),
]
"""Without a pair, a triple, a pair within the angular cutoff; straight; its own neighbour."""


@pytest.fixture(params=PRECISION, ids=["float64", "float32"])
def potential(request, small):
    return small(dtype=request.param)


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]


@pytest.fixture
def geometry(small, labelled):
    """Architecture, species, pairs and vectors of crystals, molecules and lonely atoms."""
    potential = small()
    batch = potential.batch([*labelled(5), *(Frame(a) for a in LONELY)])
    backbone = potential.backbone
    constants = replace(backbone.architecture, moments=MOMENTS)
    return constants, backbone.species[batch.numbers], batch.pairs, batch.vectors


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_descriptors_are_torchanis(potential, labelled):
    batch = potential.batch([*labelled(5), *(Frame(a) for a in LONELY)])
    backbone = potential.backbone
    species = backbone.species[batch.numbers]
    vectors = batch.vectors.to(backbone.dtype)
    with torch.no_grad():
        expected = backbone.descriptors(species, batch)
        around = surroundings(backbone.architecture, species, batch.pairs, vectors)
        values = Descriptors(around).values
    assert isinstance(around, Neighbourhood) == (backbone.dtype == torch.float32)
    assert expected.count_nonzero() > 0.2 * expected.numel()
    assert relative(values, expected) < PRECISION[backbone.dtype] / 10


def test_every_term_is_the_derivative_that_it_says(geometry, engine):
    """Push and pull against finite differences of the values, and against each other."""
    around, dtype, tolerance = engine
    constants, species, pairs, vectors = geometry
    here = around(constants, species, pairs, vectors.to(dtype))
    moves, step = random(2, *vectors.shape), 1e-5
    for term in terms(constants):
        pushed = term.push(here, moves.to(dtype))
        for move, change in zip(moves, pushed, strict=True):
            ends = [
                term.torch_values(Environment(constants, species, pairs, vectors + s * move))
                for s in (step, -step)
            ]
            assert relative(change, (ends[0] - ends[1]) / (2 * step)) < max(tolerance, 1e-7)
        slope = random(2, *term.values(here).shape).to(dtype)
        pulled = term.pull(here, slope)
        for g, v, move, change in zip(slope, pulled, moves, pushed, strict=True):
            left, right = (v.double() * move).sum(), (g.double() * change.double()).sum()
            scale = v.double().norm() * move.norm()
            assert abs(left - right) < tolerance * scale


@pytest.mark.parametrize("members", [1, 3, 19])
@pytest.mark.parametrize(
    "angles", [Angles(eta=4.0, zeta=8.0, shifts=(0.9, 2.0, 2.7), sections=(0.3, 2.5)), FINE]
)
def test_kernels_agree_with_torch_on_any_number_of_threads(geometry, members, angles):
    constants, species, pairs, vectors = geometry
    constants = replace(constants, fine=angles)
    reference = Descriptors(Environment(constants, species, pairs, vectors))
    slope, moves = random(members, *reference.values.shape), random(members, *vectors.shape)
    near = Neighbourhood(constants, species, pairs, vectors.float())

    def everything() -> list[torch.Tensor]:
        d = Descriptors(near)
        return [d.values, d.pull(slope.float()), d.push(moves.float())]

    one = everything()
    torch.set_num_threads(3)
    try:
        with own_threads():
            several = everything()
    finally:
        torch.set_num_threads(1)
    expected = [reference.values, reference.pull(slope), reference.push(moves)]
    for a, b, c in zip(one, several, expected, strict=True):
        assert torch.equal(a, b)
        assert relative(a, c) < 3e-6


def test_what_kernels_cannot_look_up_is_left_to_torch(geometry):
    constants, species, pairs, vectors = geometry
    for flaw in (0.0, float("nan"), float("inf")):
        spoilt = vectors.float()
        spoilt[3] = flaw
        assert isinstance(surroundings(constants, species, pairs, spoilt), Environment)


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_the_gradient_of_the_loss_is_the_plain_paths(potential, plain, labelled, fit):
    """Energy, forces and stress; crystals, molecules, a lone atom and a pair without a triple."""
    settings = Training.model_validate({"lambda": 0.4, "stress_weight": 0.7, "fit": fit})
    frames = [*labelled(5), *(Frame(a, -1.0, 0.1 + a.positions) for a in LONELY[:2])]
    batch = potential.batch(frames)
    weights = list(potential.backbone.requires_grad_().parameters())
    gradients, totals = [], []
    for model in (potential, plain(potential)):
        output = model.evaluate(batch, training=True, members=fit == "members")
        terms = loss(output, batch, settings)
        by_weight = torch.autograd.grad(terms.total, weights)
        gradients.append(torch.cat([g.flatten() for g in by_weight]).double())
        totals.append(torch.stack([terms.forces, terms.energy, terms.stress]))
    assert (totals[0] > 0).all()
    assert relative(*totals) < PRECISION[potential.backbone.dtype]
    assert relative(*gradients) < PRECISION[potential.backbone.dtype]


@pytest.mark.parametrize("atoms", [LONELY[0], LONELY[2]])
def test_training_on_frames_without_triples(potential, plain, atoms):
    batch = potential.batch([Frame(atoms, -1.0, atoms.positions)])
    weights = list(potential.backbone.requires_grad_().parameters())
    gradients = []
    for model in (potential, plain(potential)):
        total = loss(model.evaluate(batch, training=True), batch, Training()).total
        found = torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert relative(*gradients) < PRECISION[potential.backbone.dtype]


def test_triples_in_chunks_are_triples_at_once(monkeypatch, geometry):
    slope = None

    def everything() -> list[torch.Tensor]:
        nonlocal slope
        d = Descriptors(Environment(*geometry))
        slope = torch.ones(1, *d.values.shape, dtype=torch.float64) if slope is None else slope
        return [d.values, d.pull(slope), d.push(geometry[3][None])]

    whole = everything()
    monkeypatch.setitem(environment.TRIPLES_AT_ONCE, "cpu", 7)
    for a, b in zip(everything(), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_forces_are_the_slope_of_the_energy_through_the_kernels(small, urea):
    """Central differences of float32 energies along random displacements, eV/Å."""
    potential = small(dtype=torch.float32)
    atoms = urea.repeat((2, 2, 2))
    atoms.rattle(0.05, seed=2)
    forces = potential.predict([atoms])[0].forces
    generator, step = np.random.default_rng(0), 2e-3
    for _ in range(3):
        along = generator.normal(size=forces.shape)
        along /= np.linalg.norm(along)
        ends = []
        for side in (step, -step):
            moved = atoms.copy()
            moved.positions += side * along
            batch = potential.batch([Frame(moved)])
            ends.append(potential.evaluate(batch).energy.mean().item())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(-(forces * along).sum(), abs=5e-3)


def test_energies_are_extensive_through_the_kernels(small, urea):
    potential = small(dtype=torch.float32)
    cell, supercell = urea.repeat((1, 1, 1)), urea.repeat((3, 3, 3))
    one, many = potential.predict([cell, supercell])
    assert many.energy / len(supercell) == pytest.approx(one.energy / len(cell), abs=1e-6)
