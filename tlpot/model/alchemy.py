"""Alchemical paths: atoms that turn, by degrees, into other elements or into nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import Tensor

from tlpot.backbones.emodes import EModes
from tlpot.backbones.weighted import Species
from tlpot.errors import TlpotError
from tlpot.model.potential import Potential
from tlpot.structure.frames import Batch, Frame


@dataclass(frozen=True)
class AlchemicalPath:
    """Energies from λ = 0 to λ = 1, each ``(n,)``.

    Attributes
    ----------
    lambdas
        Where along the path.
    energy
        eV, ensemble mean, references included.
    slope
        dE/dλ, eV: what thermodynamic integration averages.
    energy_std
        eV, standard deviation over the ensemble members.
    """

    lambdas: np.ndarray
    energy: np.ndarray
    slope: np.ndarray
    energy_std: np.ndarray


def alchemical_energies(
    potential: Potential,
    atoms: Atoms,
    changes: Mapping[int, str | None],
    lambdas: Sequence[float] | np.ndarray,
    end: np.ndarray | None = None,
) -> AlchemicalPath:
    """Energies while some atoms become others (Herr, Koh, Yao, Parkhill 2019).

    An atom that becomes element b has the vector (1−λ)β(Z_a) + λβ(Z_b) and the same mixture of
    reference energies. An atom that becomes nothing has (1−λ)β(Z_a), so that its neighbours see
    less and less of it, and its own energy counts 1−λ. So λ = 0 is the potential's energy of
    `atoms`, λ = 1 that of what is left, and E is smooth in between. What lies between is no
    physical system; only differences between the ends are.

    Parameters
    ----------
    potential
        With the backbone `tlpot.backbones.emodes.EModes`.
    atoms
        The structure at λ = 0, ``n`` atoms.
    changes
        What atoms turn into, by index: an element, or None to vanish.
    lambdas
        In [0, 1].
    end
        ``(n, 3)`` positions at λ = 1, Å, approached in straight lines; left out, nothing moves.

    Raises
    ------
    TlpotError
        If the backbone has no element vectors, an index or element is unknown, or λ is not in
        [0, 1].
    """
    backbone = potential.backbone
    if not isinstance(backbone, EModes):
        raise TlpotError(
            f"the backbone {backbone.kind} has no element vectors to interpolate; train one that "
            "has (tlpot finetune, model.base: emodes)"
        )
    _check(potential, atoms, changes, lambdas, end)
    change = _Change.of(potential.reference.table(), backbone.table, atoms, changes, end)
    points = [
        _point(potential, backbone, atoms, change, value) for value in np.asarray(lambdas, float)
    ]
    return AlchemicalPath(*np.array(points).reshape(-1, 4).T)


@dataclass(frozen=True)
class _Change:
    """What changes with λ: of ``n`` atoms, ``kinds`` of pairs of elements, before and after.

    Attributes
    ----------
    drift
        ``(n, 3)`` Å.
    kind, vectors
        ``[n]``, and ``[kinds, 2, modes]`` the vectors of each kind.
    stays
        ``[n]`` 1 for an atom that becomes another, 0 for one that vanishes.
    before, after
        ``[n]`` reference energies, eV.
    """

    drift: np.ndarray
    kind: Tensor
    vectors: Tensor
    stays: Tensor
    before: Tensor
    after: Tensor

    @classmethod
    def of(
        cls,
        reference: Tensor,
        table: Tensor,
        atoms: Atoms,
        changes: Mapping[int, str | None],
        end: np.ndarray | None,
    ) -> _Change:
        """Of arguments of `alchemical_energies`; energies and vectors by atomic number."""
        numbers = torch.as_tensor(atoms.numbers, dtype=torch.long)
        becomes = numbers.clone()
        for index, symbol in changes.items():
            becomes[index] = 0 if symbol is None else atomic_numbers[symbol]
        goal = atoms.positions if end is None else np.asarray(end)
        kinds, kind = torch.stack([numbers, becomes], dim=1).unique(dim=0, return_inverse=True)
        vectors = table.cpu().double().nan_to_num()[kinds]
        vectors[:, 1] *= (kinds[:, 1:] > 0).double()
        after = reference[becomes].where(becomes > 0, 0.0)
        stays = (becomes > 0).double()
        return cls(goal - atoms.positions, kind, vectors, stays, reference[numbers], after)


def _point(
    potential: Potential, backbone: EModes, atoms: Atoms, change: _Change, value: float
) -> tuple[float, float, float, float]:
    """λ, and the energy, its slope and the ensemble's spread there."""
    lam = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    moved = atoms.copy()
    moved.positions += value * change.drift
    batch = Batch.of_frame(Frame(moved), backbone.cutoff)
    drift = torch.from_numpy(change.drift)
    motion = drift[batch.pairs[1]] - drift[batch.pairs[0]]
    batch = replace(batch, vectors=batch.vectors + (lam - value) * motion)
    mixed = torch.lerp(change.vectors[:, 0], change.vectors[:, 1], lam)
    device = potential.device
    species = Species(
        backbone.architecture, change.kind.to(device), mixed.to(device, backbone.dtype)
    )
    atomic = backbone.atomic_energies(batch.to(device), species).double().cpu()
    members = (atomic * torch.lerp(torch.ones_like(change.stays), change.stays, lam)).sum(dim=1)
    members = members + torch.lerp(change.before, change.after, lam).sum()
    energy = members.mean()
    (slope,) = torch.autograd.grad(energy, lam)
    spread = potential.spread(members.detach(), "energy")
    return value, energy.item(), slope.item(), spread.item()


def _check(
    potential: Potential,
    atoms: Atoms,
    changes: Mapping[int, str | None],
    lambdas: Sequence[float] | np.ndarray,
    end: np.ndarray | None,
) -> None:
    symbols = {*atoms.symbols, *(s for s in changes.values() if s is not None)}
    unknown = sorted(symbols - set(potential.elements))
    if unknown:
        raise TlpotError(f"{', '.join(unknown)}: no element of this model")
    odd = [index for index in changes if not 0 <= index < len(atoms)]
    if odd:
        raise TlpotError(f"changes: there is no atom {odd[0]} among {len(atoms)}")
    outside = [value for value in lambdas if not 0.0 <= value <= 1.0]
    if outside:
        raise TlpotError(f"lambdas: {outside[0]} is not between 0 and 1")
    if end is not None and np.shape(end) != atoms.positions.shape:
        raise TlpotError(f"end: expected {len(atoms)} positions, got shape {np.shape(end)}")
