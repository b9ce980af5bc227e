"""What the training of a classifier knows before its first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tlpot.data.crystals.read import Refused
from tlpot.data.fingerprints import TrainingSet
from tlpot.data.split import split_unseen
from tlpot.errors import TlpotError
from tlpot.powder.classifier import Classifier, load_classifier
from tlpot.powder.config import PowderConfig
from tlpot.powder.data import Example, read_examples
from tlpot.powder.lines import SYSTEMS
from tlpot.structure.frames import Frame
from tlpot.training.freeze import LayerState, freeze_layers
from tlpot.training.job import Prepared


@dataclass(frozen=True)
class PreparedClassifier(Prepared):
    """What a run knows before its first step: the classifier to train, and on what."""

    config: PowderConfig
    examples: list[Example]
    refused: list[Refused]
    classifier: Classifier

    def part(self, name: str) -> list[Example]:
        """Examples of ``train``, ``validation`` or ``test``."""
        return [self.examples[i] for i in getattr(self.splits, name)]

    def frames(self, part: str) -> list[Frame]:
        """As `Prepared.frames`."""
        return [example.frame for example in self.part(part)]

    def unseen(self) -> list[str]:
        """Crystal systems that no training crystal has: the classifier cannot learn them."""
        learned = {example.system for example in self.part("train")}
        return [name for i, name in enumerate(SYSTEMS) if i not in learned]


def prepare(
    config: PowderConfig,
    on_crystal: Callable[[int, int], None] = lambda done, total: None,
    examples: Sequence[Example] | None = None,
) -> PreparedClassifier:
    """Read and split the crystals, build the network or load the base, freeze.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    classifier, layers, base_set = _classifier(config)
    refused: list[Refused] = []
    if examples is None:
        examples, refused = read_examples(config.data, on_crystal)
    try:
        frames = [example.frame for example in examples]
        splits, counts = split_unseen(frames, config.data.split, base_set)
        if len({examples[i].system for i in splits.train}) < 2:
            raise TlpotError(
                "the training crystals all have the same crystal system: there is nothing to tell "
                "apart; give more crystals"
            )
    except TlpotError as error:
        if not refused:
            raise
        first = refused[0]
        raise TlpotError(
            f"{error} ({len(refused)} crystals were left out, the first of them {first.name}: "
            f"{first.reason})"
        ) from None
    facts = (config, splits, layers, base_set, counts, list(examples), refused, classifier)
    return PreparedClassifier(*facts)


def _classifier(config: PowderConfig) -> tuple[Classifier, list[LayerState], TrainingSet]:
    model, settings, base_set = config.model, config.training, TrainingSet.of({})
    model.require_effect(model.model_fields_set, "model.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if model.base is None:
            classifier = Classifier(model, settings.augmentation)
        else:
            base = load_classifier(model.base)
            base_set = TrainingSet.of(base.metadata)
            classifier = Classifier(base.settings, settings.augmentation)
            classifier.network.load_state_dict(base.network.state_dict())
    layers: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in classifier.network.named_parameters():
        layers.setdefault(name.split(".")[1], []).append(parameter)
    return classifier, freeze_layers(layers, model.freeze), base_set
