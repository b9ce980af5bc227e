"""What the trainer trains: a classifier of powder patterns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tlpot.engine.threads import own_threads
from tlpot.powder.classifier import PATTERNS_AT_ONCE, Classifier
from tlpot.powder.config import Augmentation
from tlpot.powder.data import Example
from tlpot.powder.lines import SYSTEMS
from tlpot.powder.network import InputScale
from tlpot.powder.render import ideal, measured

JUDGED_SEED = 2**32
"""Of the flaws of validation and test patterns: the same in every run, and in no training."""


class PowderTask:
    """Cross-entropy of crystal systems; every epoch sees each crystal once, flawed or ideal.

    Parameters
    ----------
    classifier
        Trained in place.
    train, validation
        Examples; none of one is in the other.
    balance
        Crystal systems count by 1/n^balance each, n of the training examples.
    new
        Whether the network starts from scratch: its inputs are then scaled to these patterns.
    device
        Where the network is put.
    """

    terms: tuple[str, ...] = ("loss", "accuracy")

    def __init__(
        self,
        classifier: Classifier,
        train: Sequence[Example],
        validation: Sequence[Example],
        balance: float,
        new: bool,
        device: torch.device,
    ) -> None:
        self.classifier, self.train, self.new, self.device = classifier, train, new, device
        self.network = classifier.network.to(device)
        self.systems = torch.tensor([example.system for example in train])
        counts = torch.bincount(self.systems, minlength=len(SYSTEMS)).clamp(min=1)
        weight = counts.double() ** -balance
        self.weight = (weight * len(train) / (weight * counts).sum()).float().to(device)
        flaws, self.kept = classifier.augmentation, None
        if flaws is None or flaws.variants:
            flawed = [
                seen(classifier, train, flaws, i) for i in range(flaws.variants if flaws else 0)
            ]
            self.kept = torch.stack([seen(classifier, train, None, 0), *flawed])
            self._scale(self.kept.flatten(0, 1))
        else:
            self._scale(seen(classifier, train, flaws, 0))
        self.judged = seen(classifier, validation, flaws, JUDGED_SEED)
        self.answers = torch.tensor([example.system for example in validation])

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `Task.named_parameters`."""
        return self.network.named_parameters()

    def settled(self) -> list[Tensor]:
        """As `Task.settled`: nothing."""
        return []

    def threads(self) -> AbstractContextManager[None]:
        """As `Task.threads`."""
        return nullcontext() if self.classifier.settings.convolutions else own_threads()

    def __len__(self) -> int:
        return len(self.train)

    def order(self, generator: torch.Generator) -> list[int]:
        """As `Task.order`."""
        return torch.randperm(len(self), generator=generator).tolist()

    def step(self, mine: Sequence[int], chosen: Sequence[int]) -> Mapping[str, Tensor]:
        """As `Task.step`."""
        self.network.train()
        inputs = self._inputs(mine).to(self.device)
        answers = self.systems[list(mine)].to(self.device)
        logits = self.network(inputs)
        loss = cross_entropy(logits, answers, self.weight, reduction="sum") / len(chosen)
        right = (logits.argmax(1) == answers).sum() / len(chosen)
        return {"loss": loss, "accuracy": right}

    def validate(self) -> dict[str, float | int | None]:
        """As `Task.validate`."""
        if not len(self.answers):
            return {"loss": None, "accuracy": None}
        logits = self.classifier.logits(self.judged)
        return {
            "loss": float(cross_entropy(logits, self.answers)),
            "accuracy": float((logits.argmax(1) == self.answers).double().mean()),
        }

    def _scale(self, inputs: Tensor) -> None:
        for layer in self.network.modules():
            if isinstance(layer, InputScale) and self.new:
                layer.fit(inputs.to(self.device))

    def _inputs(self, mine: Sequence[int]) -> Tensor:
        if self.kept is not None:
            return self.kept[torch.randint(len(self.kept), (len(mine),)), list(mine)]
        flaws = self.classifier.augmentation
        assert flaws is not None
        random = np.random.default_rng(int(torch.randint(2**62, ())))
        lines = [self.train[i].lines for i in mine]
        return self.classifier.input(measured(lines, flaws, random))


def seen(
    classifier: Classifier, examples: Sequence[Example], flaws: Augmentation | None, seed: int
) -> Tensor:
    """``Tensor[n, points]``: what the network sees of ideal patterns, or of them with flaws."""
    random = np.random.default_rng(seed)
    parts = [torch.zeros(0, classifier.input.points)]
    for start in range(0, len(examples), PATTERNS_AT_ONCE):
        lines = [example.lines for example in examples[start : start + PATTERNS_AT_ONCE]]
        patterns = ideal(lines) if flaws is None else measured(lines, flaws, random)
        parts.append(classifier.input(patterns))
    return torch.cat(parts)
