"""What the training loop trains here: a CGCNN on crystals (a `tlpot.training.task.Task`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tlpot.property.graph import Graph
from tlpot.property.model import PropertyModel, batches

MEASURED = 512
"""Training crystals whose statistics the batch normalisations take over."""
ZERO = 1e-3
"""Share of the scale below which a property counts as zero to a gate."""


class PropertyTask:
    """Mean absolute error of a property over training crystals.

    With a gate the error counts on crystals whose property is not zero, and the gate's cross
    entropy is added. A new network normalises by the statistics of the batch, a trained one keeps
    its own: a batch of few unlike crystals would replace them by worse ones.

    Parameters
    ----------
    model
        Trained in place; its mean and scale are those of the labels.
    train, validation
        Graphs with their labels, in the property's unit.
    new
        Whether the network starts from scratch.
    """

    terms: tuple[str, ...] = ("loss",)

    def __init__(
        self,
        model: PropertyModel,
        train: tuple[Sequence[Graph], np.ndarray],
        validation: tuple[Sequence[Graph], np.ndarray],
        new: bool,
    ) -> None:
        self.model, self.network, self.new = model, model.network, new
        self.graphs, self.validation = train[0], validation
        self.device = self.network.output.weight.device
        self.labels = torch.as_tensor(train[1], dtype=torch.float64)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `Task.named_parameters`."""
        return self.network.named_parameters()

    def settled(self) -> list[Tensor]:
        """As `Task.settled`: nothing."""
        return []

    def threads(self) -> nullcontext[None]:
        """As `Task.threads`."""
        return nullcontext()

    def __len__(self) -> int:
        return len(self.graphs)

    def order(self, generator: torch.Generator) -> list[int]:
        """As `Task.order`."""
        return torch.randperm(len(self), generator=generator).tolist()

    def step(self, mine: Sequence[int], chosen: Sequence[int]) -> Mapping[str, Tensor]:
        """As `Task.step`."""
        self.network.train(self.new)
        graph = Graph.join([self.graphs[i] for i in mine]).to(self.device)
        labels = self.labels[list(mine)]
        wanted = ((labels - self.model.mean) / self.model.scale).float().to(self.device)
        output = self.network(graph)
        losses = (output[:, 0] - wanted).abs()
        if self.network.architecture.gate:
            passes = (labels.abs() > ZERO * self.model.scale).float().to(self.device)
            doubt = binary_cross_entropy_with_logits(output[:, 1], passes, reduction="none")
            losses = passes * losses + doubt
        return {"loss": self.model.scale * losses.sum() / len(chosen)}

    def validate(self) -> dict[str, float | int | None]:
        """As `Task.validate`."""
        graphs, labels = self.validation
        if not graphs:
            return {"loss": None}
        self.settle()
        error = float(np.abs(self.model.predict(graphs) - labels).mean())
        return {"loss": error}

    def settle(self) -> None:
        """Give the network the statistics that belong to its weights."""
        if self.new:
            graphs = self.graphs[:: max(len(self.graphs) // MEASURED, 1)][:MEASURED]
            self.network.measure(g.to(self.device) for g in batches(graphs))
        self.network.eval()
