"""Which frames an epoch trains on, and in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tlpot.structure.frames import Batch

Weighting = Literal["none", "size", "composition", "element"]


class Epochs:
    """Draws the frames of each epoch.

    Without weighting an epoch holds every training frame once. With it, an epoch draws as many
    frames with replacement, each with a chance

    - ``size``: proportional to its atoms, so that large structures count as their atoms do;
    - ``composition``: that gives every composition an equal share of the draws;
    - ``element``: that gives every element an equal share of the atoms drawn, as far as frames
      allow: the mean over its atoms of 1/(atoms of that element in all frames).

    Replayed frames come on top and are drawn evenly.

    Parameters
    ----------
    train
        Training frames, one `Batch` each; an epoch names them 0, 1, ….
    replayed
        How many frames there are to replay; an epoch names them from ``len(train)`` on.
    share
        Of the frames of an epoch, those replayed.
    """

    def __init__(
        self, train: Sequence[Batch], weighting: Weighting, replayed: int = 0, share: float = 0.0
    ) -> None:
        self.frames, self.replayed = len(train), replayed
        self.draws = round(share / (1.0 - share) * len(train)) if replayed else 0
        self.chances = chances(train, weighting)

    def __len__(self) -> int:
        """Frames in an epoch."""
        return self.frames + self.draws

    def expected(self) -> list[float]:
        """How often an epoch draws each frame, replayed ones last."""
        once = torch.ones(self.frames, dtype=torch.float64)
        drawn = once if self.chances is None else self.frames * self.chances
        return [*drawn.tolist(), *[self.draws / max(self.replayed, 1)] * self.replayed]

    def order(self, generator: torch.Generator) -> list[int]:
        """The frames of one epoch."""
        if self.chances is None and not self.draws:
            return torch.randperm(self.frames, generator=generator).tolist()
        chosen = torch.arange(self.frames)
        if self.chances is not None:
            chosen = self.chances.multinomial(self.frames, replacement=True, generator=generator)
        whole, rest = divmod(self.draws, max(self.replayed, 1))
        again = torch.arange(self.replayed).repeat(whole)
        some = torch.randperm(self.replayed, generator=generator)[:rest]
        together = torch.cat([chosen, self.frames + again, self.frames + some])
        return together[torch.randperm(len(together), generator=generator)].tolist()


def chances(frames: Sequence[Batch], weighting: Weighting) -> Tensor | None:
    """``Tensor[frames]`` chance of each frame to be drawn; None if all come once."""
    if weighting == "none":
        return None
    numbers = [tuple(sorted(batch.numbers.tolist())) for batch in frames]
    if weighting == "size":
        weights = [float(len(n)) for n in numbers]
    elif weighting == "composition":
        seen = Counter(numbers)
        weights = [1.0 / seen[n] for n in numbers]
    else:
        atoms = Counter(z for n in numbers for z in n)
        weights = [sum(1.0 / atoms[z] for z in n) / len(n) for n in numbers]
    chance = torch.tensor(weights, dtype=torch.float64)
    return chance / chance.sum()
