"""The torch engine asks its device for little: an answer waits for all work sent there."""

from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tlpot.config.run import Training
from tlpot.training.potential import PotentialTask

ANSWERS = {
    *("tolist", "item", "cpu", "numpy", "nonzero", "unique", "masked_select", "equal"),
    *("__bool__", "__int__", "__float__", "__index__"),
}


class Reads(TorchFunctionMode):
    """Counts what a GPU would have to answer before Python can go on."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", str(function))
        unknown = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name == "__getitem__":
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            unknown = any(getattr(place, "dtype", None) == torch.bool for place in places)
        if name in ANSWERS or unknown:
            self.counts[name] += 1
        return function(*args, **kwargs)


@pytest.fixture
def widened(small, labelled, monkeypatch):
    """A potential with every term, and what it is trained on."""
    monkeypatch.setenv("TLPOT_ENGINE", "torch")
    potential = small().with_terms(fine_angles=True, moments=True)
    batches = [potential.batch([frame]) for frame in labelled(4)]
    potential.backbone.fit_components(batches)
    potential.backbone.requires_grad_(True)
    return potential, batches


def test_a_step_and_an_evaluation_read_the_geometry_alone(widened):
    potential, batches = widened
    task = PotentialTask(potential, batches, [], Training(epochs=1))
    for work in (
        lambda: task.step([0, 1], [0, 1])["loss"].sum().backward(),
        lambda: potential.evaluate(batches[0]),
    ):
        with Reads() as reads:
            work()
        assert reads.counts == {"nonzero": 1, "tolist": 1}
