"""What the training loop asks of whatever it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn


class Task(Protocol):
    """A model with the items that train and judge it; items are numbered 0, 1, …."""

    terms: tuple[str, ...]
    """What `step` returns, in the order of the columns of ``history.csv``; holds ``loss``."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The model's weights; those with ``requires_grad`` train."""
        ...

    def settled(self) -> list[Tensor]:
        """What was computed of the data before training and must stay as it is while it lasts."""
        ...

    def threads(self) -> AbstractContextManager[None]:
        """What to train within: `own_threads`, or nothing where single operations are large."""
        ...

    def __len__(self) -> int:
        """Items in an epoch."""
        ...

    def order(self, generator: torch.Generator) -> list[int]:
        """The items of one epoch."""
        ...

    def step(self, mine: Sequence[int], chosen: Sequence[int]) -> Mapping[str, Tensor]:
        """Scalars by name: ``loss``, differentiable, and other terms.

        They are those of the items `mine`, such that shares of the items `chosen` (one batch,
        split over processes) add up to those of the batch. Random numbers are torch's global ones.
        """
        ...

    def validate(self) -> dict[str, float | int | None]:
        """Columns of ``history.csv``: ``loss``, None without validation items, and others."""
        ...
