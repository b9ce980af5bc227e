from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tlpot.config.run import Training
from tlpot.structure.frames import Batch
from tlpot.training.loss import count_labels, expected_counts, loss

NAN = float("nan")


def double(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def batch() -> Batch:
    """A crystal of one atom in 10 Å³ with all labels, and a molecule of two atoms."""
    return Batch(
        numbers=torch.tensor([1, 1, 1]),
        frame=torch.tensor([0, 1, 1]),
        pairs=torch.zeros(2, 0, dtype=torch.long),
        vectors=torch.zeros(0, 3),
        volumes=double([10.0, NAN]),
        energy=double([-1.0, -4.0]),
        forces=double([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        stress=double([[[0.1, 0, 0], [0, 0, 0], [0, 0, 0]], [[NAN] * 3] * 3]),
        weight=double([1.0, 1.0]),
    )


@pytest.fixture
def output() -> SimpleNamespace:
    """What `loss` asks of `tlpot.model.potential.Output`, of two members."""
    forces = double([[[2.0, 2, 2], [0, 0, 3], [0, 0, 0]], [[0.0, 0, 0], [0, 0, 3], [0, 0, 0]]])
    virial = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    virial[0, 0, 0, 0] = 3.0
    virial[1, 0, 0, 1] = virial[1, 0, 1, 0] = 1.0
    energy = double([[-0.5, -3.8], [-1.1, -3.8]])
    return SimpleNamespace(energy=energy, forces=forces, virial=virial)


def of_mean(output: SimpleNamespace) -> SimpleNamespace:
    """Forces and virial of the mean energy alone."""
    one = {name: getattr(output, name).mean(0)[None] for name in ("forces", "virial")}
    return SimpleNamespace(energy=output.energy, **one)


def test_loss_of_the_mean_by_hand(batch, output):
    settings = Training.model_validate({"lambda": 0.25, "fit": "mean", "stress_weight": 2.0})
    terms = loss(of_mean(output), batch, settings)
    # mean forces (1, 1, 1), (0, 0, 3), 0: errors² 0 + 1 + 1, 9, 0 over three atoms
    assert terms.forces.item() == pytest.approx(11 / 3)
    # mean energies −0.8 and −3.8: (0.2 / 1)² and (0.2 / 2)² over two frames
    assert terms.energy.item() == pytest.approx((0.04 + 0.01) / 2)
    # mean virial xx 1.5 against 10 · 0.1, xy = yx = 0.5, one labelled frame of one atom
    assert terms.stress.item() == pytest.approx(0.25 + 2 * 0.25)
    expected = 0.25 * 11 / 3 + 0.75 * 0.025 + 2.0 * 0.75
    assert terms.total.item() == pytest.approx(expected)


def test_loss_of_the_members_by_hand(batch, output):
    settings = Training.model_validate({"lambda": 0.25, "fit": "members", "stress_weight": 2.0})
    terms = loss(output, batch, settings)
    assert terms.forces.item() == pytest.approx(((1 + 4 + 4 + 9) / 3 + (1 + 9) / 3) / 2)
    assert terms.energy.item() == pytest.approx((0.25 + 0.01 + 0.01 + 0.01) / 4)
    assert terms.stress.item() == pytest.approx((4.0 + (1.0 + 2.0)) / 2)
    expected = 0.25 * terms.forces + 0.75 * terms.energy + 2.0 * terms.stress
    assert terms.total.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("share", "weight"), [(1.0, 0.0), (0.0, 0.0)])
def test_lambda_at_its_ends_leaves_one_term(batch, output, share, weight):
    settings = Training.model_validate({"lambda": share, "stress_weight": weight, "fit": "mean"})
    terms = loss(of_mean(output), batch, settings)
    assert terms.total.item() == pytest.approx((terms.forces if share else terms.energy).item())


def test_energy_counts_by_atom_and_stress_by_atom(batch, output):
    settings = Training.model_validate({"fit": "mean", "stress_weight": 1.0})
    before = loss(of_mean(output), batch, settings)
    batch.frame = torch.tensor([0, 0, 1])
    batch.energy, output.energy[:] = double([-1.0, -3.8]), double([-0.8, -3.8])
    after = loss(of_mean(output), batch, settings)
    assert after.energy.item() == pytest.approx((0.1**2 + 0.0) / 2)
    assert after.stress.item() == pytest.approx(before.stress.item() / 4)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_the_size_exponent_weighs_large_frames_by_hand(batch, output, power):
    settings = Training.model_validate(
        {"lambda": 0.25, "fit": "mean", "stress_weight": 0.0, "size_exponent": power}
    )
    terms = loss(of_mean(output), batch, settings)
    # mean energies are 0.2 off in frames of one and of two atoms
    energy = (0.2**2 + (0.2 / 2**power) ** 2) / 2
    assert terms.total.item() == pytest.approx(0.25 * 11 / 3 + 0.75 * energy)
    assert terms.energy.item() == pytest.approx((0.04 + 0.01) / 2)


def test_huber_by_hand(batch, output):
    """δ = 2: of the forces only the error of length 3 is beyond it; energies never are."""
    settings = {"lambda": 0.25, "fit": "mean", "stress_weight": 0.0, "huber": 2.0}
    terms = loss(of_mean(output), batch, Training.model_validate(settings))
    forces = (2.0 + (2 * 2.0 * 3.0 - 4.0)) / 3
    assert terms.total.item() == pytest.approx(0.25 * forces + 0.75 * 0.025)
    assert terms.forces.item() == pytest.approx(11 / 3)
    plain = loss(of_mean(output), batch, Training.model_validate(settings | {"huber": 3.01}))
    assert plain.total.item() == pytest.approx(0.25 * 11 / 3 + 0.75 * 0.025)


def test_beyond_huber_the_pull_of_an_error_no_longer_grows(batch, output):
    one = of_mean(output)
    one.forces.requires_grad_()
    settings = {"lambda": 1.0, "fit": "mean", "stress_weight": 0.0, "huber": 0.5}
    loss(one, batch, Training.model_validate(settings)).total.backward()
    pulls = one.forces.grad.norm(dim=-1)[0]
    # errors of length √2 and 3, and none at all
    torch.testing.assert_close(pulls, double([2 * 0.5 / 3, 2 * 0.5 / 3, 0.0]))


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
@pytest.mark.parametrize("delta", [None, 0.01])
def test_missing_labels_are_left_out_and_leave_gradients_finite(batch, output, label, delta):
    settings = Training.model_validate({"fit": "mean", "stress_weight": 1.0, "huber": delta})
    one = of_mean(output)
    for tensor in (one.energy, one.forces, one.virial):
        tensor.requires_grad_()
    missing = getattr(batch, label)
    missing[0] = NAN
    terms = loss(one, batch, settings)
    expected = {"energy": 0.01, "forces": 9 / 2, "stress": 0.0}
    assert getattr(terms, label).item() == pytest.approx(expected[label])
    terms.total.backward()
    for tensor in (one.energy, one.forces, one.virial):
        assert torch.isfinite(tensor.grad).all()
    missing[:] = NAN
    assert getattr(loss(one, batch, settings), label).item() == 0.0


def test_a_broken_prediction_is_not_taken_for_a_missing_label(batch, output):
    output.forces[0, 0, 0] = NAN
    assert torch.isnan(loss(output, batch, Training()).total)


def test_weights_by_hand(batch, output):
    settings = Training.model_validate({"lambda": 0.25, "fit": "mean", "stress_weight": 2.0})
    batch.weight = double([3.0, 0.5])
    terms = loss(of_mean(output), batch, settings)
    assert terms.forces.item() == pytest.approx((3.0 * 2 + 0.5 * 9) / (3.0 + 2 * 0.5))
    assert terms.energy.item() == pytest.approx((3.0 * 0.04 + 0.5 * 0.01) / 3.5)
    assert terms.stress.item() == pytest.approx(0.75)


@pytest.fixture
def mixed(labelled):
    """Eight frames of three sizes: with all labels, minima, energies alone; and their weights."""
    frames = [f for f in labelled(12) if f.stress is not None][:8]
    frames[1] = replace(frames[1], forces=np.zeros((len(frames[1]), 3)), labels="relaxed")
    frames[2:4] = [replace(f, forces=None, stress=None, labels="energy") for f in frames[2:4]]
    return [replace(f, weight=w) for f, w in zip(frames, [1, 2, 0.5, 0.5, 1, 1, 2, 1], strict=True)]


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_gradient_of_a_mixed_loss_is_that_of_automatic_differentiation(small, plain, mixed, fit):
    """Against forces as derivatives and the formula written out."""
    potential = small()
    potential.backbone.requires_grad_()
    settings = Training.model_validate({"lambda": 0.3, "fit": fit, "stress_weight": 0.0})
    batch = potential.batch(mixed)
    members = fit == "members"
    output = potential.evaluate(batch, training=True, members=members)
    parameters = list(potential.backbone.parameters())
    all_of_them = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(loss(output, batch, settings).total, parameters, **all_of_them)

    output = plain(potential).evaluate(batch, training=True, members=members)
    total, forces, atoms, energies = 0.0, 0.0, 0.0, 0.0
    energy = output.energy if members else output.energy.mean(0, keepdim=True)
    for i, frame in enumerate(mixed):
        energies += frame.weight * ((energy[:, i] - frame.energy) / len(frame)).square().mean()
        if frame.forces is not None:
            error = output.forces[:, batch.frame == i] - torch.as_tensor(frame.forces)
            forces += frame.weight * error.square().sum((1, 2)).mean()
            atoms += frame.weight * len(frame)
    total = 0.3 * forces / atoms + 0.7 * energies / sum(frame.weight for frame in mixed)
    assert any(gradient.abs().max() > 1e-3 for gradient in found)
    for one, two in zip(found, torch.autograd.grad(total, parameters, **all_of_them), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_steps_of_an_epoch_average_to_the_loss_of_the_set(small, mixed):
    """Whatever frames meet in a batch: none of them has its forces counted twice."""
    potential = small()
    settings = Training.model_validate({"lambda": 0.3, "fit": "mean", "stress_weight": 0.0})
    same = [f for f in mixed if len(f) == len(mixed[0])][:4]
    assert {f.labels for f in same} == {"full", "energy"}
    batches = [potential.batch([frame]) for frame in same]
    counts = expected_counts(batches, [1.0] * 4)

    def total(chosen, divide_by):
        batch = Batch.join([batches[i] for i in chosen])
        return loss(potential.evaluate(batch), batch, settings, divide_by).total.item()

    whole = total(range(4), count_labels(batches))
    for pairs in (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))):
        sums = [np.sum([counts[i] for i in pair], axis=0).tolist() for pair in pairs]
        steps = [total(pair, divide_by) for pair, divide_by in zip(pairs, sums, strict=True)]
        assert sum(steps) / 2 == pytest.approx(whole, rel=1e-9)


def test_frames_with_all_labels_divide_by_their_own(small, labelled):
    batches = [small().batch([frame]) for frame in labelled(8)]
    for batch, counts in zip(batches, expected_counts(batches, [1.0] * 8), strict=True):
        assert list(counts) == count_labels([batch])
