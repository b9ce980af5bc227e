"""Neighbourhoods of a batch in torch: pairs, edges and triples, on any device, in any precision.

Pairs give radial terms; edges (pairs within the angular cutoff, seen from one end) and triples
(two edges of one centre) give angular ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi

import numpy as np
import torch
from torch import Tensor

from tlpot.engine.constants import Constants
from tlpot.engine.threads import available

TRIPLES_AT_ONCE = {"cpu": 16_384, "cuda": 262_144}
"""Bounds the memory of the triples' terms."""


@dataclass
class Triples:
    """Two edges of one centre: all of some atoms.

    ``a``, ``b`` edges; ``rows`` (atom, pair of elements) that their terms add to; ``cosine`` of
    the angle between them; ``fade`` both cutoffs' product, ``fade_a`` and ``fade_b`` its slopes in
    the two lengths; ``mean`` of the lengths, Å. Each ``[triples]``.
    """

    a: Tensor
    b: Tensor
    rows: Tensor
    cosine: Tensor
    mean: Tensor
    fade: Tensor
    fade_a: Tensor
    fade_b: Tensor


class Environment:
    """Pairs, edges and triples of one batch; parameters as of `neighbourhood.surroundings`.

    Attributes
    ----------
    distance, unit
        ``[pairs]`` Å, ``[pairs, 3]``.
    radial_rows
        ``[2, pairs]`` row (atom, neighbour's element) that a pair adds to at each end.
    edge_pair, edge_sign, outward, length
        Of each edge: the pair behind it, +1 if its centre is the pair's first atom and −1 if it is
        the second, its unit vector and its length, Å.
    """

    def __init__(
        self, constants: Constants, species: Tensor, pairs: Tensor, vectors: Tensor
    ) -> None:
        self.constants, self.atoms, self.pairs = constants, len(species), pairs
        self.species = species
        self.distance = vectors.norm(dim=1)
        self.unit = vectors / self.distance[:, None]
        self.radial_rows = pairs * constants.elements + species[pairs.flip(0)]

        close = (self.distance <= constants.angular_cutoff).nonzero().squeeze(1)
        ends = pairs.index_select(1, close)
        self.centre, order = torch.cat([ends[0], ends[1]]).sort(stable=True)
        self.edge_pair = close.repeat(2)[order]
        self.edge_sign = torch.ones_like(order, dtype=vectors.dtype)
        self.edge_sign[order >= len(close)] = -1.0
        self._other = species[torch.cat([ends[1], ends[0]])[order]]
        self.outward = self.unit.index_select(0, self.edge_pair) * self.edge_sign[:, None]
        self.length = self.distance[self.edge_pair]

    @cached_property
    def triples(self) -> list[Triples]:
        """All triples, in chunks of about `TRIPLES_AT_ONCE`.

        An atom's triples stay together: chunks add to different atoms and edges. How many there
        are of each atom is all that is read from the device.
        """
        if len(self.centre) == 0:
            return []
        counts = torch.bincount(self.centre, minlength=self.atoms)
        start = (counts.cumsum(0) - counts)[self.centre]
        up_to_atom = np.array((counts * (counts - 1) // 2).cumsum(0).tolist())
        total, device = int(up_to_atom[-1]), start.device
        rank = torch.arange(len(self.centre), device=device) - start
        second = torch.repeat_interleave(rank, output_size=total)
        shift = start - (rank.cumsum(0) - rank)
        first = torch.arange(total, device=device) + shift[second]
        at_once = TRIPLES_AT_ONCE.get(device.type, TRIPLES_AT_ONCE["cpu"])
        chunks = max(available(device), -(-total // at_once))
        ideal = np.arange(1, chunks + 1) * total // chunks
        bounds = np.unique(up_to_atom[np.searchsorted(up_to_atom, ideal)])
        sizes = np.diff(bounds, prepend=0).tolist()
        return [
            self._triples(a, b)
            for a, b in zip(first.split(sizes), second.split(sizes), strict=True)
        ]

    def _triples(self, a: Tensor, b: Tensor) -> Triples:
        c = self.constants
        fade, slope = cutoff(self.length, c.angular_cutoff)
        pair = c.pair_index(a.device)[self._other[a], self._other[b]]
        return Triples(
            a=a,
            b=b,
            rows=self.centre[a] * c.element_pairs + pair,
            cosine=(self.outward[a] * self.outward[b]).sum(1),
            mean=(self.length[a] + self.length[b]) / 2,
            fade=fade[a] * fade[b],
            fade_a=slope[a] * fade[b],
            fade_b=fade[a] * slope[b],
        )


def cutoff(distance: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """½cos(πr/rc) + ½ and its slope."""
    phase = distance * (pi / radius)
    return 0.5 * torch.cos(phase) + 0.5, (-0.5 * pi / radius) * torch.sin(phase)
