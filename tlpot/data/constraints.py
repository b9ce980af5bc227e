"""Atoms that shall not move: read from whatever says so, kept by whatever moves atoms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixCom, FixedLine, FixedPlane, FixScaled

from tlpot.errors import TlpotError
from tlpot.structure.frames import bare


def fixed_components(atoms: Atoms) -> np.ndarray | None:
    """Which Cartesian components of which atoms the constraints of `atoms` hold.

    Returns
    -------
    ``(n, 3)``, true where a component is fixed; None if all are free. A fixed centre of mass fixes
    no component.

    Raises
    ------
    TlpotError
        If a constraint is of another kind (bond lengths, springs …), or holds a direction that is
        no Cartesian axis.
    """
    forbidden = np.zeros((len(atoms), 3, 3))
    for constraint in atoms.constraints:
        for index, directions in _directions(constraint, atoms):
            forbidden[index] += directions.T @ np.linalg.pinv(directions.T)
    values, vectors = np.linalg.eigh(forbidden)
    held = np.einsum("aik,ak,ajk->aij", vectors, values > 1e-6, vectors)
    mask = np.einsum("aii->ai", held)
    if np.abs(held - mask[:, :, None] * np.eye(3)).max(initial=0.0) > 1e-3:
        atom = int(np.abs(held - mask[:, :, None] * np.eye(3)).max(axis=(1, 2)).argmax())
        raise TlpotError(
            f"atom {atom} is fixed along a direction that is no Cartesian axis; fix it as a whole, "
            "or take the constraint off"
        )
    fixed: np.ndarray = mask > 0.5
    return fixed if fixed.any() else None


def hold(atoms: Atoms, fixed: np.ndarray | None) -> Atoms:
    """Constrain `atoms`, in place, as `fixed_components` tells it, and no more."""
    atoms.set_constraint()
    if fixed is None:
        return atoms
    constraints: list[FixAtoms | FixCartesian] = []
    for mask in np.unique(fixed, axis=0):
        index = np.flatnonzero((fixed == mask).all(axis=1))
        if mask.all():
            constraints.append(FixAtoms(index))
        elif mask.any():
            constraints.append(FixCartesian(index, mask))
    atoms.set_constraint(constraints)
    return atoms


def simplified(atoms: Atoms) -> list[object]:
    """The constraints of `atoms` as `hold` sets them; as they are where it cannot."""
    with suppress(TlpotError):
        return list(hold(bare(atoms), fixed_components(atoms)).constraints)
    return list(atoms.constraints)


def anchor(atoms: Atoms, fixed: np.ndarray | None) -> Atoms:
    """Constrain `atoms`, in place, for dynamics: what is fixed, or else the centre of mass."""
    hold(atoms, fixed)
    if fixed is None:
        atoms.set_constraint(FixCom())
    return atoms


def _directions(constraint: object, atoms: Atoms) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Atoms, and as rows the directions along which they may not move."""
    if isinstance(constraint, FixCom):
        return
    if isinstance(constraint, FixAtoms):
        yield constraint.index, np.eye(3)
    elif isinstance(constraint, FixCartesian):
        if constraint.mask.any():
            yield constraint.index, np.eye(3)[constraint.mask]
    elif isinstance(constraint, FixScaled):
        if constraint.mask.any():  # they stay where the other lattice vectors lead
            rows = np.linalg.inv(atoms.cell.complete().array).T[constraint.mask]
            yield constraint.index, rows
    elif isinstance(constraint, FixedPlane):
        yield constraint.index, constraint.dir[None]
    elif isinstance(constraint, FixedLine):
        yield constraint.index, np.linalg.svd(constraint.dir[None])[2][1:]
    else:
        raise TlpotError(
            f"its constraint {type(constraint).__name__} is none that tlpot keeps; fix whole atoms "
            "or Cartesian components, or take it off"
        )
