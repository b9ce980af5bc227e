"""What a property run knows before its first step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tlpot.data.fingerprints import TrainingSet
from tlpot.data.split import split_unseen, thin
from tlpot.errors import TlpotError
from tlpot.property.config import PropertyConfig
from tlpot.property.data import Crystals, read_labelled_crystals
from tlpot.property.elements import element_table
from tlpot.property.model import PropertyModel
from tlpot.property.network import CGCNN, GraphSizes
from tlpot.structure.frames import Frame
from tlpot.training.freeze import freeze_layers
from tlpot.training.job import Prepared


@dataclass(frozen=True)
class PreparedProperty(Prepared):
    """What a run knows before its first step; the base counts if it is of the same property.

    Attributes
    ----------
    crystals
        All of them; ``splits`` holds their numbers.
    model
        To be trained, layers frozen.
    baseline
        ``(crystals,)`` what it must be better than: the base's predictions, or without a base of
        the same property the median of the training crystals.
    """

    config: PropertyConfig
    crystals: Crystals
    model: PropertyModel
    baseline: np.ndarray

    def frames(self, part: str) -> list[Frame]:
        """As `Prepared.frames`."""
        return [self.crystals.frames[i] for i in getattr(self.splits, part)]


def prepare(config: PropertyConfig, crystals: Crystals | None = None) -> PreparedProperty:
    """Read and split the data, make or load the network, freeze its layers.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    settings = config.model
    settings.require_effect(settings.model_fields_set, "model.")
    model = None if settings.base is None else PropertyModel.load(settings.base)
    data = read_labelled_crystals(config.data) if crystals is None else crystals
    same = model is not None and model.name == data.name
    base_set = TrainingSet.of(model.metadata if model is not None and same else {})
    splits, counts = split_unseen(data.frames, config.data.split, base_set)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    labels = data.values[splits.train]
    mean, scale = float(labels.mean()), float(labels.std())
    if not scale:
        raise TlpotError(f"data: all training crystals have the same {data.name}, {mean}")
    baseline = np.full(len(data), np.median(labels))
    if model is None:
        model = PropertyModel(_new_network(config), data.name)
    model.require_elements(data.frames)
    before, anew = model.name, set[str]()
    if same:
        baseline = model.predict(data.graphs)
    else:
        model.name, model.mean, model.scale = data.name, mean, scale
        anew = set(model.network.new_head(config.training.seed))
    model.unit = config.data.unit or (model.unit if same else "")
    layers: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.network.named_parameters():
        layers.setdefault(name.split(".")[0], []).append(parameter)
    states = freeze_layers(layers, settings.freeze)
    random = [state.name for state in states if not state.trained and state.name in anew]
    if random:
        raise TlpotError(
            f"model.freeze: {', '.join(random)}: the base predicts '{before}', so these layers "
            f"start anew for '{data.name}' and, frozen, would stay random. Freeze others "
            f"(embedding, conv*); or, if it is the same property, say so: data.property={before}"
        )
    facts = (config, splits, states, base_set, counts, data, model, baseline)
    return PreparedProperty(*facts)


def _new_network(config: PropertyConfig) -> CGCNN:
    sizes = config.model
    table = element_table(sizes.elements)
    architecture = GraphSizes(
        features=table.shape[1],
        width=sizes.width,
        convolutions=sizes.convolutions,
        dense=sizes.dense,
        layers=sizes.layers,
        gate=sizes.gate,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return CGCNN(architecture, table)
