"""Joining batches is the batch of all their frames."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlpot.structure.frames import Batch, Frame

places = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=3)
"""Which of eight frames each batch holds."""
fixtures_once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def frames(labelled) -> list[Frame]:
    """Eight frames, some without forces or stress, one of a single atom."""
    made = labelled(8)
    atom = made[3].atoms[[0]]
    made[5] = Frame(made[5].atoms, energy=made[5].energy, weight=0.5)
    made[6] = Frame(atom, forces=np.zeros((1, 3)))
    return made


@pytest.fixture(scope="module", params=["small", "small_emodes", "small_schnet"])
def potential(request):
    return request.getfixturevalue(request.param)()


def assert_equal(one: Batch, other: Batch) -> None:
    for name, values in vars(one).items():
        if name != "kept":
            torch.testing.assert_close(
                values, getattr(other, name), rtol=0, atol=0, equal_nan=True, msg=name
            )


@given(places)
def test_join_is_associative_and_keeps_every_label(frames, places):
    one_by_one = [[Batch.of_frame(frames[i], 4.0) for i in some] for some in places]
    flat = Batch.join([batch for some in one_by_one for batch in some])
    assert_equal(Batch.join([Batch.join(some) for some in one_by_one]), flat)
    order = [frames[i] for some in places for i in some]
    assert flat.n_frames == len(order)
    assert flat.n_atoms.tolist() == [len(frame) for frame in order]
    ends = np.cumsum(flat.n_atoms.tolist())
    for k, (frame, end) in enumerate(zip(order, ends, strict=True)):
        own = slice(end - len(frame), end)
        assert flat.numbers[own].tolist() == frame.atoms.numbers.tolist()
        assert flat.weight[k] == frame.weight
        assert flat.energy[k] == frame.energy or (frame.energy is None and flat.energy[k].isnan())
        labels = np.full((len(frame), 3), np.nan) if frame.forces is None else frame.forces
        np.testing.assert_array_equal(flat.forces[own].numpy(), labels)
    assert torch.equal(flat.frame[flat.pairs[0]], flat.frame[flat.pairs[1]])


@settings(fixtures_once, max_examples=15)
@given(places)
def test_frames_in_one_batch_do_not_see_each_other(potential, frames, places):
    batches = [potential.batch([frames[i] for i in some]) for some in places]
    together = potential.evaluate(Batch.join(batches))
    alone = [potential.evaluate(potential.batch([frames[i]])) for some in places for i in some]
    energy = torch.cat([output.energy for output in alone], dim=1)
    forces = torch.cat([output.forces for output in alone], dim=1)
    torch.testing.assert_close(together.energy, energy, rtol=0, atol=1e-8)
    torch.testing.assert_close(together.forces, forces, rtol=0, atol=1e-8)
    atoms = together.batch.sum_frames(together.atomic)
    torch.testing.assert_close(atoms, together.energy, rtol=0, atol=1e-8)
