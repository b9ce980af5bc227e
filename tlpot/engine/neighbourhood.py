"""What the compiled terms read of a batch: its pairs, and each atom's near neighbours in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tlpot.engine.compiled import compiled
from tlpot.engine.constants import Constants, Moments
from tlpot.engine.environment import Environment
from tlpot.engine.threads import available, shares, spread


def surroundings(
    constants: Constants, species: Tensor, pairs: Tensor, vectors: Tensor
) -> Environment | Neighbourhood:
    """The geometry of a batch for the engine that is to compute it.

    Parameters
    ----------
    species
        ``Tensor[atoms]`` element index of each atom.
    pairs, vectors
        ``Tensor[2, pairs]`` and ``Tensor[pairs, 3]`` (Å) as in `tlpot.structure.frames.Batch`; the
        dtype of `vectors` is the dtype of all results.

    Notes
    -----
    The kernels look terms up by distance; atoms on top of each other, or NaN, are left to torch.
    """
    if compiled(vectors.device, vectors.dtype):
        distance = vectors.norm(dim=1)
        if not len(distance) or (distance.min() > 0 and distance.max() < torch.inf):
            return Neighbourhood(constants, species, pairs, vectors)
    return Environment(constants, species, pairs, vectors)


class Edges(NamedTuple):
    """Pairs within some distance, seen from one end; attributes as of `Neighbourhood`."""

    start: np.ndarray
    pair: np.ndarray
    sign: np.ndarray
    other: np.ndarray
    outward: np.ndarray
    length: np.ndarray
    fade: np.ndarray


class Neighbourhood:
    """Pairs, and edges: pairs within the angular cutoff, seen from one end.

    Attributes
    ----------
    atoms
        How many there are.
    first, second, species
        ``int64`` of each pair and atom.
    distance, unit
        ``(pairs,)`` Å, ``(pairs, 3)`` float32.
    start
        ``(atoms + 1,)`` where an atom's edges begin; they are sorted by element.
    pair, sign, other
        Of each edge: the pair behind it, +1 if its centre is the pair's first atom and −1 if it is
        the second, and the element at its far end.
    outward, length, fade
        Of each edge: unit vector, Å, and ``(edges, 2)`` cutoff function and its slope.
    kept
        What a term computes once for its values, pull and push.
    """

    def __init__(
        self, constants: Constants, species: Tensor, pairs: Tensor, vectors: Tensor
    ) -> None:
        self.constants, self.atoms = constants, len(species)
        self.species = species.numpy()
        self.first, self.second = pairs[0].numpy(), pairs[1].numpy()
        self.device, self._vectors = vectors.device, vectors.numpy()
        self._within: dict[float, Edges] = {}
        self.kept: dict[Moments, np.ndarray] = {}
        self.distance, self.unit, *edges = self._sorted(constants.angular_cutoff)
        self.start, self.pair, self.sign, self.other, self.outward, self.length, self.fade = edges
        self.block = constants.pair_index(torch.device("cpu")).numpy()

    @property
    def edges(self) -> tuple[np.ndarray, ...]:
        """What a kernel reads of them."""
        return self.start, self.other, self.outward, self.length, self.fade, self.block

    def spread(self, work: Callable[[int, int], Any], count: int | None = None) -> None:
        """``work(first, last)`` for runs of the atoms, or of `count` things, on all threads."""
        runs = shares(self.atoms if count is None else count, available(self.device))
        spread(lambda run: work(run.start, run.stop), runs)

    def within(self, cutoff: float) -> Edges:
        """Edges to another distance, Å."""
        if cutoff not in self._within:
            _, _, *edges = self._sorted(cutoff)
            self._within[cutoff] = Edges(*edges)
        return self._within[cutoff]

    def by_pair(self, by_edge: np.ndarray, edges: Edges | None = None) -> np.ndarray:
        """``(k, edges, 3)``, outward, summed to ``(k, pairs, 3)``."""
        from tlpot.engine.term_kernels import summed

        pair, sign = (edges.pair, edges.sign) if edges else (self.pair, self.sign)
        return summed(by_edge, pair, sign, len(self.first))

    def _sorted(self, cutoff: float) -> Sequence[np.ndarray]:
        from tlpot.engine.term_kernels import sorted_edges

        read = (self.first, self.second, self._vectors, self.species)
        return sorted_edges(*read, self.constants.elements, np.float32(cutoff))
