"""Crystals as graphs: every atom with its twelve nearest neighbours (Xie and Grossman 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from tlpot.structure.neighbours import box_of, search_pairs

NEIGHBOURS, RADIUS, GAUSSIAN_STEP = 12, 8.0, 0.2
"""Neighbours of an atom; Å within which they are looked for; Å between two Gaussians."""
ABSENT = RADIUS + 1.0
"""Å: where fewer neighbours are within `RADIUS`, the atom itself at this distance stands in, at
which every Gaussian is zero."""
TIE = 1e-3
"""Å: neighbours whose distances round to the same multiple come in order of atomic number."""
SEARCHED = (4.5, RADIUS)
"""Å: a small sphere first; it mostly holds the twelve."""


@dataclass(frozen=True)
class Graph:
    """One crystal or many.

    Attributes
    ----------
    numbers
        ``Tensor[atoms]`` atomic numbers (int64).
    crystal
        ``Tensor[atoms]`` the crystal that each atom belongs to.
    neighbours
        ``Tensor[atoms, 12]`` atoms, nearest first.
    distances
        ``Tensor[atoms, 12]`` to them, Å, float32.
    size
        Number of crystals.
    """

    numbers: Tensor
    crystal: Tensor
    neighbours: Tensor
    distances: Tensor
    size: int = 1

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, atoms: Atoms) -> Graph:
        """The graph of a structure; the same for its supercells and for any order of its atoms.

        That holds as far as neighbours at the distance of the twelfth are alike but for their
        element: of those, the lighter ones are taken.
        """
        neighbours, distances = nearest_neighbours(atoms)
        return cls(
            torch.as_tensor(atoms.numbers, dtype=torch.long),
            torch.zeros(len(atoms), dtype=torch.long),
            torch.from_numpy(neighbours),
            torch.from_numpy(distances.astype(np.float32)),
        )

    @classmethod
    def join(cls, graphs: Sequence[Graph]) -> Graph:
        """One graph out of several; atoms and crystals are renumbered."""
        atoms = np.cumsum([0] + [len(g) for g in graphs]).tolist()
        crystals = np.cumsum([0] + [g.size for g in graphs]).tolist()
        return cls(
            torch.cat([g.numbers for g in graphs]),
            torch.cat([g.crystal + n for g, n in zip(graphs, crystals, strict=False)]),
            torch.cat([g.neighbours + n for g, n in zip(graphs, atoms, strict=False)]),
            torch.cat([g.distances for g in graphs]),
            crystals[-1],
        )

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on another device."""
        moved = (self.numbers, self.crystal, self.neighbours, self.distances)
        a, b, c, d = (tensor.to(device) for tensor in moved)
        return Graph(a, b, c, d, self.size)


def nearest_neighbours(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """The nearest neighbours of every atom, periodic images included.

    Returns
    -------
    neighbours : ``(atoms, 12)`` int64
    distances : ``(atoms, 12)`` float64, Å, ascending to within `TIE`
    """
    n = len(atoms)
    box = box_of(atoms)
    for cutoff in SEARCHED:
        i, j, d = search_pairs(atoms.positions, box, atoms.pbc, cutoff, "ijd", both=True)
        i, j = i.astype(np.int64), j.astype(np.int64)
        counts = np.bincount(i, minlength=n)
        order = np.lexsort((atoms.numbers[j], np.rint(d / TIE), i))
        rank = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept, rank = order[rank < NEIGHBOURS], rank[rank < NEIGHBOURS]
        if len(kept) == n * NEIGHBOURS and d[kept].max() < cutoff - TIE:
            break
    neighbours = np.repeat(np.arange(n)[:, None], NEIGHBOURS, axis=1)
    distances = np.full((n, NEIGHBOURS), ABSENT)
    neighbours[i[kept], rank], distances[i[kept], rank] = j[kept], d[kept]
    return neighbours, distances


def gaussians(distances: Tensor) -> Tensor:
    """Distances as ``[..., 41]`` Gaussians, 0 to 8 Å by 0.2 Å, as wide as they are apart."""
    centres = torch.arange(0.0, RADIUS + GAUSSIAN_STEP / 2, GAUSSIAN_STEP, device=distances.device)
    return torch.exp(-(((distances[..., None] - centres) / GAUSSIAN_STEP) ** 2))
