"""Keep the space group of a structure while it relaxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from tlpot.csp.lbfgs import LBFGSState
from tlpot.errors import TlpotError


@dataclass(frozen=True)
class Symmetry:
    """The operations of one crystal.

    Attributes
    ----------
    group
        International symbol and number.
    rotations
        ``(g, 3, 3)`` Cartesian, in the cell that they were found in.
    images
        ``(g, n)`` the atom that each operation takes each atom to.
    """

    group: str
    rotations: np.ndarray
    images: np.ndarray


def symmetrised(atoms: Atoms, tolerance: float) -> tuple[Atoms, Symmetry]:
    """The structure moved onto its symmetry, found within `tolerance` (Å), and that symmetry.

    Raises
    ------
    TlpotError
        If spglib is missing or finds nothing.
    """
    try:
        from ase.spacegroup.symmetrize import prep_symmetry, refine_symmetry
        from spglib import get_symmetry  # noqa: F401
    except ImportError:
        raise TlpotError("spglib is not installed; pip install 'tlpot[use]'") from None
    atoms = atoms.copy()
    dataset = refine_symmetry(atoms, tolerance)
    fractional, _, images = prep_symmetry(atoms, 1e-4)
    rows = atoms.cell.array
    rotations = rows.T @ fractional @ np.linalg.inv(rows.T)
    return atoms, Symmetry(
        f"{dataset.international} ({dataset.number})", rotations, np.array(images)
    )


class Projector:
    """Takes from gradients what the symmetry of each structure forbids.

    Parameters
    ----------
    symmetries
        By the number that a state's ``index`` gives the structure.
    """

    def __init__(self, symmetries: Mapping[int, Symmetry]) -> None:
        self.symmetries = symmetries
        self._keys: list[int] = []

    def __call__(
        self, slope: Tensor, cell_slope: Tensor, state: LBFGSState
    ) -> tuple[Tensor, Tensor]:
        """Mean over the operations of what each makes of the gradients."""
        keys = state.index.tolist()
        if keys != self._keys:
            self._gather(keys, slope.device)
        turned = torch.einsum("rij,rj->ri", self._turn, slope[self._source])
        slope = torch.zeros_like(slope).index_add(0, self._target, turned)
        turned = self._rotation @ cell_slope[self._owner] @ self._rotation.mT
        cell_slope = torch.zeros_like(cell_slope).index_add(
            0, self._owner, turned * self._share[:, None, None]
        )
        return slope, cell_slope

    def _gather(self, keys: list[int], device: torch.device) -> None:
        start, turns, sources, targets, rotations, owners, shares = 0, [], [], [], [], [], []
        for n, key in enumerate(keys):
            one = self.symmetries[key]
            g, atoms = one.images.shape
            turns.append(np.repeat(one.rotations, atoms, axis=0) / g)
            sources.append(np.tile(np.arange(atoms), g) + start)
            targets.append(one.images.ravel() + start)
            rotations.append(one.rotations)
            owners.append(np.full(g, n))
            shares.append(np.full(g, 1 / g))
            start += atoms
        joined = (turns, sources, targets, rotations, owners, shares)
        tensors = [torch.from_numpy(np.concatenate(part)).to(device) for part in joined]
        self._turn, self._source, self._target, self._rotation, self._owner, self._share = tensors
        self._keys = keys
