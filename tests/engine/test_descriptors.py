from dataclasses import fields

import pytest
import torch
from ase import Atoms

from tlpot.config.run import Training
from tlpot.engine import environment
from tlpot.structure.frames import Batch, Frame
from tlpot.training.loss import loss

PRECISION = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.fixture(params=PRECISION, ids=["float64", "float32"])
def potential(request, small):
    return small(dtype=request.param)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_kept_descriptors_are_torchanis(potential, labelled):
    batch = potential.batch(labelled(5))
    backbone = potential.backbone
    species = backbone.species[batch.numbers]
    with torch.no_grad():
        expected = backbone.descriptors(species, batch)
    kept = backbone.keep(batch).kept.values
    assert expected.count_nonzero() > 0.2 * expected.numel()
    assert relative(kept, expected) < PRECISION[backbone.dtype] / 10


@pytest.mark.parametrize("fit", ["mean", "members"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
def test_the_gradient_of_the_loss_is_the_plain_paths(potential, plain, labelled, fit, kept):
    """Energy, forces and stress; crystals, molecules, a lone atom and a pair without a triple."""
    settings = Training.model_validate({"lambda": 0.4, "stress_weight": 0.7, "fit": fit})
    others = [Atoms("H"), Atoms("CO", [(0, 0, 0), (0, 0, 1.1)])]
    frames = [*labelled(5), *(Frame(a, -1.0, 0.1 + a.positions) for a in others)]
    batch = potential.batch(frames)
    weights = list(potential.backbone.requires_grad_().parameters())
    gradients, totals = [], []
    for model, given in (
        (potential, potential.backbone.keep(batch) if kept else batch),
        (plain(potential), batch),
    ):
        output = model.evaluate(given, training=True, members=fit == "members")
        terms = loss(output, batch, settings)
        found = torch.autograd.grad(terms.total, weights)
        gradients.append(torch.cat([g.flatten() for g in found]).double())
        totals.append(torch.stack([terms.forces, terms.energy, terms.stress]))
    assert (totals[0] > 0).all()
    assert relative(*totals) < PRECISION[potential.backbone.dtype]
    assert relative(*gradients) < PRECISION[potential.backbone.dtype]


@pytest.mark.parametrize("atoms", [Atoms("H"), Atoms("CO", [(0, 0, 0), (0, 0, 4.0)])])
def test_training_on_frames_without_triples(small, plain, atoms):
    potential = small()
    batch = potential.batch([Frame(atoms, -1.0, atoms.positions)])
    weights = list(potential.backbone.requires_grad_().parameters())
    gradients = []
    for model, given in ((potential, potential.backbone.keep(batch)), (plain(potential), batch)):
        output = model.evaluate(given, training=True)
        total = loss(output, batch, Training()).total
        found = torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert relative(*gradients) < 1e-10


def test_joining_kept_batches_is_keeping_the_joined(small, labelled):
    backbone = small().backbone
    batches = [Batch.of_frame(f, backbone.cutoff) for f in [*labelled(5), Frame(Atoms("H"))]]
    joined = Batch.join([backbone.keep(b) for b in batches]).kept
    expected = backbone.keep(Batch.join(batches)).kept
    random = torch.Generator().manual_seed(0)
    slope = torch.randn(1, *expected.values.shape, dtype=torch.float64, generator=random)
    torch.testing.assert_close(joined.values, expected.values)
    torch.testing.assert_close(joined.slope(slope), expected.slope(slope))


def test_triples_in_chunks_are_triples_at_once(monkeypatch, small, labelled):
    potential = small()
    batch = potential.batch(labelled(3))
    slope = torch.ones(1, *potential.backbone.keep(batch).kept.values.shape, dtype=torch.float64)

    def both():
        kept = potential.backbone.keep(batch).kept
        return kept.values, kept.slope(slope), potential.evaluate(batch).forces

    whole = both()
    monkeypatch.setattr(environment, "TRIPLES_AT_ONCE", 7)
    for a, b in zip(both(), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_memory_is_counted_in_full(small, labelled):
    kept = small().backbone.keep(small().batch(labelled(2))).kept
    assert kept.nbytes == sum(getattr(kept, f.name).nbytes for f in fields(kept))
    assert kept.nbytes > kept.values.nbytes
