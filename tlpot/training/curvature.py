"""Force constants as labels: how forces change from one finite displacement to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from tlpot.data.displaced import UNMOVED, displaced_sets
from tlpot.model.prediction import Output
from tlpot.structure.frames import Batch, Frame

Pair = tuple[int, int, float]
"""Places of a displaced frame and of its partner in a batch, and Å between them."""


@dataclass(frozen=True)
class Partner:
    """The frame that a displaced one is compared with, and Å that lie between them."""

    frame: int
    distance: float


def find_partners(frames: Sequence[Frame]) -> dict[int, Partner]:
    """Partner of each displaced frame: the structure at rest, else the opposite displacement.

    Else another of the set. A frame at rest, or without forces, has none.
    """
    partners: dict[int, Partner] = {}
    for some in displaced_sets(frames):
        labelled = [n for n, i in enumerate(some.members) if frames[i].labels == "full"]
        rest = [n for n in labelled if some.sizes[n] <= UNMOVED]
        for n in labelled:
            others = [m for m in rest or labelled if m != n]
            apart = np.linalg.norm(some.moves[others] - some.moves[n], axis=2).max(axis=1)
            if n in rest or not others or apart.max() <= UNMOVED:
                continue
            opposed = np.linalg.norm(some.moves[others] + some.moves[n], axis=(1, 2))
            opposed[apart <= UNMOVED] = np.inf
            best = int(opposed.argmin())
            partners[some.members[n]] = Partner(some.members[others[best]], float(apart[best]))
    return partners


def paired(chosen: Sequence[int], partners: Mapping[int, Partner]) -> tuple[list[int], list[Pair]]:
    """Frames that a batch of the `chosen` ones needs besides them, and its pairs."""
    extra = sorted({partners[i].frame for i in chosen if i in partners}.difference(chosen))
    places = {i: place for place, i in enumerate([*chosen, *extra])}
    return extra, [
        (place, places[partners[i].frame], partners[i].distance)
        for place, i in enumerate(chosen)
        if i in partners
    ]


def curvature_errors(output: Output, batch: Batch, pairs: Sequence[Pair], reach: float) -> Tensor:
    """``[members, atoms of displaced frames]`` squared errors (eV/Å)² of force differences.

    That is of Φ·`reach`, what the force constants between two displacements would make of a
    displacement by `reach` (Å). Times the weight of the frame.
    """
    sizes, device = batch.n_atoms.tolist(), batch.frame.device
    ends = list(accumulate(sizes))
    first, second = (
        torch.cat([torch.arange(ends[place] - sizes[place], ends[place]) for place in places])
        for places in ([a for a, _, _ in pairs], [b for _, b, _ in pairs])
    )
    displaced, partner = first.to(device), second.to(device)
    scales = [reach / distance for place, _, distance in pairs for _ in range(sizes[place])]
    scale = torch.tensor(scales, dtype=torch.float64, device=device)
    error = torch.where(batch.forces.isnan(), 0.0, output.forces - batch.forces)
    difference = (error[:, displaced] - error[:, partner]).square().sum(dim=-1)
    return difference * scale**2 * batch.weight[batch.frame[displaced]]
