"""A trained network with what its numbers mean: predict, save, load; several as an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from tlpot.data.fingerprints import Role, TrainingSet
from tlpot.engine.device import usable
from tlpot.errors import TlpotError
from tlpot.model.file import fitting, read_model, require_shapes, write_model
from tlpot.property.elements import unknown_elements
from tlpot.property.graph import Graph
from tlpot.property.interval import Interval, interval_of
from tlpot.property.network import CGCNN, GraphSizes
from tlpot.structure.frames import Frame

CRYSTALS_AT_ONCE = 64
"""Crystals per pass."""


@dataclass
class PropertyModel:
    """Crystal → one number.

    Parameters
    ----------
    network
        Its output is (property − `mean`) / `scale`.
    name, unit
        Of the property.
    mean, scale
        In `unit`.
    metadata
        Where it came from; kept in its file.
    """

    network: CGCNN
    name: str
    unit: str = ""
    mean: float = 0.0
    scale: float = 1.0
    metadata: dict[str, Any] = field(default_factory=dict)

    def require_elements(self, frames: Sequence[Frame]) -> None:
        """Refuse elements that the network knows nothing of.

        Raises
        ------
        TlpotError
            Naming structure and elements.
        """
        for frame in frames:
            if unknown := unknown_elements(self.network.table, frame.atoms.numbers):
                raise TlpotError(
                    f"{frame.name}: {', '.join(unknown)}: not an element of this model; leave the "
                    "structure out, or train with model.elements: periodic, which knows all"
                )

    def never_seen(self, frames: Sequence[Frame]) -> dict[str, list[str]]:
        """Elements that no training crystal held, each with the structures that hold it.

        Empty where the model's file does not tell, as of released networks.
        """
        elements = self.metadata.get("elements")
        unseen: dict[str, list[str]] = {}
        for frame in frames:
            for element in dict.fromkeys(frame.atoms.symbols):
                if elements is not None and element not in elements:
                    unseen.setdefault(element, []).append(frame.name)
        return unseen

    @torch.no_grad()
    def predict(self, structures: Sequence[Atoms | Frame | Graph]) -> np.ndarray:
        """``(structures,)`` the property in `unit`; a gated network says 0 where it closes."""
        device = self.network.output.weight.device
        self.network.eval()
        parts = [self.network(graph.to(device)).cpu() for graph in batches(structures)]
        output = torch.cat([torch.empty(0, self.network.outputs), *parts]).double()
        values = self.mean + self.scale * output[:, 0]
        if self.network.architecture.gate:
            values = torch.where(output[:, 1] > 0, values, 0.0)
        return values.numpy()

    def save(self, path: str | Path) -> Path:
        """Write a model file (safetensors)."""
        about = {"name": self.name, "unit": self.unit, "mean": self.mean, "scale": self.scale}
        header = {
            "property": about | {"network": asdict(self.network.architecture)},
            "metadata": self.metadata,
        }
        return write_model(path, header, self.network.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> PropertyModel:
        """Read a model file or a run folder.

        Raises
        ------
        TlpotError
            If there is none, or it is a file of something else.
        """
        header, weights = read_model(path)
        if "property" not in header:
            raise TlpotError(
                f"{path}: this model predicts no property of crystals; `tlpot property "
                "train` makes one that does"
            )
        with fitting(path):
            about = dict(header["property"])
            sizes = GraphSizes(**about.pop("network"))
            with torch.device("meta"):
                require_shapes(CGCNN(sizes, weights["table"]).state_dict(), weights)
            network = CGCNN(sizes, weights["table"])
            network.load_state_dict(weights)
            return cls(network.eval(), **about, metadata=header.get("metadata", {}))


@dataclass(frozen=True)
class Ensemble:
    """Several models of one property: their mean, and how much they differ.

    Raises
    ------
    TlpotError
        If they are models of different properties.
    """

    models: Sequence[PropertyModel]

    def __post_init__(self) -> None:
        kinds = {(m.name, m.unit) for m in self.models}
        if len(kinds) != 1:
            names = ", ".join(sorted(f"{name} ({unit})" for name, unit in kinds))
            raise TlpotError(f"these models predict different properties: {names or 'none given'}")

    @classmethod
    def load(cls, paths: Sequence[str | Path], device: str = "cpu") -> Ensemble:
        """Of model files or run folders, on a device; raises as `PropertyModel.load`, `usable`."""
        where, models = usable(device), [PropertyModel.load(path) for path in paths]
        for model in models:
            model.network.to(where)
        return cls(models)

    def require_elements(self, frames: Sequence[Frame]) -> None:
        """As `PropertyModel.require_elements`, by every model."""
        for model in self.models:
            model.require_elements(frames)

    def never_seen(self, frames: Sequence[Frame]) -> dict[str, list[str]]:
        """As `PropertyModel.never_seen`, by any model."""
        return {k: v for model in self.models for k, v in model.never_seen(frames).items()}

    def seen(self, frames: Sequence[Frame]) -> list[Role | None]:
        """What was done with each crystal by the model that knows it best."""
        seen_by = [TrainingSet.of(model.metadata).parts(frames) for model in self.models]
        order: tuple[Role | None, ...] = ("train", "validation", "file", None)
        return [min(parts, key=order.index) for parts in zip(*seen_by, strict=True)]

    @property
    def name(self) -> str:
        """Name of the property."""
        return self.models[0].name

    @property
    def unit(self) -> str:
        """Its unit."""
        return self.models[0].unit

    def predict(self, structures: Sequence[Atoms | Frame | Graph]) -> tuple[np.ndarray, np.ndarray]:
        """``(structures,)`` mean and standard deviation over the models (0 of a single one)."""
        graphs = [as_graph(s) for s in structures]
        values = np.stack([model.predict(graphs) for model in self.models])
        return _mean_and_spread(values)

    @cached_property
    def interval(self) -> Interval | None:
        """Half width of an interval, from crystals in every model's validation set.

        None where they are too few, and of a single model.
        """
        kept = [model.metadata.get("validation", {}) for model in self.models]
        shared = [
            k for k in kept[0] if all(other.get(k, [None])[0] == kept[0][k][0] for other in kept)
        ]
        labels = np.array([kept[0][k][0] for k in shared])
        values = np.array([[other[k][1] for k in shared] for other in kept])
        mean, spread = _mean_and_spread(values)
        return interval_of(mean - labels, spread)


def _mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the models, ``(models, structures)``; the spread of a single one is 0."""
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return values.mean(0), spread


def as_graph(structure: Atoms | Frame | Graph) -> Graph:
    """The graph of a structure; a graph as it is."""
    if isinstance(structure, Graph):
        return structure
    return Graph.of(structure.atoms if isinstance(structure, Frame) else structure)


def batches(
    structures: Sequence[Atoms | Frame | Graph], size: int = CRYSTALS_AT_ONCE
) -> Iterator[Graph]:
    """Join `size` structures at a time."""
    for start in range(0, len(structures), size):
        yield Graph.join([as_graph(s) for s in structures[start : start + size]])
