"""Keep the space group, or fixed atoms, of a structure while it relaxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from tlpot.errors import TlpotError
from tlpot.structure.contacts import shortest_contacts

if TYPE_CHECKING:
    from tlpot.relax.lbfgs import LBFGSState


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
        If spglib finds nothing.
    """
    from ase.spacegroup.symmetrize import prep_symmetry, refine_symmetry

    atoms = atoms.copy()
    apart = min(shortest_contacts([atoms]).values(), default=np.inf)
    if tolerance > apart / 3:  # spglib would take neighbours for copies, or crash
        raise TlpotError(f"no symmetry within {tolerance} Å: atoms are only {apart:.2f} Å apart")
    try:
        dataset = refine_symmetry(atoms, tolerance)
        fractional, _, images = prep_symmetry(atoms, 1e-4)
    except Exception as error:  # spglib and ASE fail in many ways on strange cells
        raise TlpotError(f"no symmetry within {tolerance} Å ({error})") from None
    rows = atoms.cell.array
    rotations = rows.T @ fractional @ np.linalg.inv(rows.T)
    group = f"{dataset.international} ({dataset.number})"
    return atoms, Symmetry(group, rotations, np.array(images))


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
            symmetry = self.symmetries[key]
            g, atoms = symmetry.images.shape
            turns.append(np.repeat(symmetry.rotations, atoms, axis=0) / g)
            sources.append(np.tile(np.arange(atoms), g) + start)
            targets.append(symmetry.images.ravel() + start)
            rotations.append(symmetry.rotations)
            owners.append(np.full(g, n))
            shares.append(np.full(g, 1 / g))
            start += atoms
        joined = (turns, sources, targets, rotations, owners, shares)
        tensors = [torch.from_numpy(np.concatenate(part)).to(device) for part in joined]
        self._turn, self._source, self._target, self._rotation, self._owner, self._share = tensors
        self._keys = keys


class Holder:
    """Takes from gradients what would move fixed atoms.

    Parameters
    ----------
    fixed
        ``(n, 3)`` by the number that a state's ``index`` gives the structure.
    """

    def __init__(self, fixed: Mapping[int, np.ndarray]) -> None:
        self.fixed = fixed
        self._keys: list[int] = []

    def __call__(
        self, slope: Tensor, cell_slope: Tensor, state: LBFGSState
    ) -> tuple[Tensor, Tensor]:
        """Zero where a component is fixed."""
        keys = state.index.tolist()
        if keys != self._keys:
            masks = [self.fixed[key] for key in keys]
            self._held = torch.from_numpy(np.concatenate(masks)).to(slope.device)
            self._keys = keys
        return slope.masked_fill(self._held, 0.0), cell_slope
