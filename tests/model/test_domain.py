import numpy as np
import pytest

from tlpot.model.domain import training_domain
from tlpot.model.load import load
from tlpot.structure.contacts import shortest_contacts


def test_a_model_file_says_what_it_was_trained_on(finished):
    domain = load(finished.folder).metadata["domain"]
    assert domain["contacts"]["H-O"] < 1.1
    assert domain["spread"] > 0


def test_contacts_and_the_largest_spread(small, labelled):
    potential, frames = small(), labelled(6)
    domain = training_domain(potential, frames)
    assert domain["contacts"] == shortest_contacts(frame.atoms for frame in frames)
    spreads = [
        said.energy_std / np.sqrt(len(frame))
        for said, frame in zip(potential.predict(frames), frames, strict=True)
    ]
    assert domain["spread"] == pytest.approx(max(spreads))
    assert "spread" not in training_domain(small(members=1), frames)
