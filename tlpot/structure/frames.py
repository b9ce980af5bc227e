"""Structures as data: a labelled `Frame`, and a `Batch` of frames ready for a backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from torch import Tensor

from tlpot.structure.neighbours import heights, neighbour_pairs

MOLECULE_VACUUM = 6.0
"""Å of empty space in every periodic direction from which a frame counts as a molecule."""


Labels = Literal["full", "relaxed", "energy"]
Part = Literal["train", "validation", "test"]


def bare(atoms: Atoms) -> Atoms:
    """Copy of a structure with elements, positions, cell and periodicity, and nothing else."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def movable(atoms: Atoms) -> np.ndarray:
    """Which coordinates, ``(n, 3)``, are free of a constraint (`FixAtoms`, `FixCartesian`)."""
    free = np.ones((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            free[constraint.index] = False
        elif isinstance(constraint, FixCartesian):
            free[constraint.index] &= ~constraint.mask
    return free


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure with its labels.

    Parameters
    ----------
    atoms
        The structure of ``n`` atoms (positions and cell in Å), with its constraints and without a
        calculator.
    energy
        Total energy in eV, or None if it is not labelled.
    forces
        Forces in eV/Å, of shape ``(n, 3)``, or None.
    stress
        Stress in eV/Å³ with ASE's sign, of shape ``(6,)`` in Voigt order (xx, yy, zz, yz, xz, xy),
        or None.
    source, index
        File that the frame was read from, and its place in it, counted from zero.
    info
        What the file says besides the labels (``charge``, ``converged``, ``energy_key`` …).
    labels
        What the frame teaches: ``full``, its energy and forces; ``relaxed``, its energy and the
        zero forces of a minimum (or the file's own forces, if it has any); ``energy``, its energy
        alone.
    weight
        Factor on the frame's squared errors in the loss.
    part
        ``train``, ``validation`` or ``test`` if that is settled before the frames are split; else
        None.
    """

    atoms: Atoms
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    source: str = ""
    index: int = 0
    info: dict[str, object] = field(default_factory=dict)
    labels: Labels = "full"
    weight: float = 1.0
    part: Part | None = None

    def __len__(self) -> int:
        return len(self.atoms)

    def __repr__(self) -> str:
        names = ("energy", "forces", "stress")
        labels = ", ".join(name for name in names if vars(self)[name] is not None)
        return f"<Frame {self.name}: {self.formula}, {self.kind}, {labels or 'no labels'}>"

    @property
    def name(self) -> str:
        """The frame as error messages name it: ``file#index``."""
        return f"{self.source}#{self.index}"

    @cached_property
    def formula(self) -> str:
        """Composition of the cell, in Hill order."""
        return self.atoms.get_chemical_formula(mode="hill")

    @property
    def force_labels(self) -> np.ndarray | None:
        """Forces to learn from, ``(n, 3)`` in eV/Å, or None if there are none.

        They are NaN on fixed atoms whose forces the program that labelled them set to zero.
        """
        if self.forces is None:
            return None
        zeroed = ~movable(self.atoms).all(axis=1) & ~np.any(self.forces, axis=1)
        return np.where(zeroed[:, None], np.nan, self.forces) if zeroed.any() else self.forces

    @property
    def of_pressure(self) -> bool:
        """Whether this is a minimum at some pressure, which its isotropic stress says."""
        stress = self.stress
        return (
            self.labels == "relaxed"
            and stress is not None
            and not (stress[3:].any() or np.ptp(stress[:3]))
        )

    @cached_property
    def kind(self) -> str:
        """``"crystal"``, or ``"molecule"`` if it is not periodic or is alone in a large box."""
        cell, pbc = self.atoms.cell, self.atoms.pbc
        if not pbc.any() or not len(self):
            return "molecule"
        full = cell.complete().array
        if np.linalg.matrix_rank(full) < 3:
            return "crystal"  # a broken one
        high = heights(full)
        scaled = self.atoms.get_scaled_positions(wrap=True)
        for axis in np.flatnonzero(pbc):
            along = np.sort(scaled[:, axis])
            gap = np.diff(along, append=along[0] + 1.0).max() * high[axis]
            if gap < MOLECULE_VACUUM:
                return "crystal"
        return "molecule"


@dataclass
class Batch:
    """Several structures as one list of atoms, without padding for unequal sizes.

    Attributes
    ----------
    numbers
        ``Tensor[atoms]``, int64, atomic numbers.
    frame
        ``Tensor[atoms]``, index of the structure that each atom belongs to.
    pairs
        ``Tensor[2, pairs]``, atoms i and j of each pair of neighbours, each pair once.
    vectors
        ``Tensor[pairs, 3]``, float64, r_j − r_i in Å for the periodic image concerned. Backbones
        see the geometry only through these, so that forces and virial follow from ∂E/∂vectors.
    volumes
        ``Tensor[frames]`` in Å³; NaN for structures that are not periodic in three directions.
    energy, forces, stress
        Labels, NaN where there is none: ``[frames]`` in eV, ``[atoms, 3]`` in eV/Å and ``[frames,
        3, 3]`` in eV/Å³.
    weight
        ``Tensor[frames]``, factors on the squared errors in the loss.
    counts
        Number of atoms of each atomic number, kept on the host so that no device must be asked;
        counted if it is not given.
    """

    numbers: Tensor
    frame: Tensor
    pairs: Tensor
    vectors: Tensor
    volumes: Tensor
    energy: Tensor
    forces: Tensor
    stress: Tensor
    weight: Tensor
    counts: Counter[int] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.counts is None:
            self.counts = Counter(self.numbers.tolist())

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.volumes)

    @property
    def n_atoms(self) -> Tensor:
        """Number of atoms in each structure, ``Tensor[frames]``."""
        return torch.bincount(self.frame, minlength=self.n_frames)

    def sum_frames(self, atomic: Tensor) -> Tensor:
        """Sum ``[..., atoms]`` over the atoms of each structure: ``[..., frames]``."""
        total = atomic.new_zeros((*atomic.shape[:-1], self.n_frames))
        return total.index_add_(-1, self.frame, atomic)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        other = replace(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, value.to(device))
        return other

    @classmethod
    def of_frame(cls, frame: Frame, cutoff: float) -> Batch:
        """Batch of one frame, with all neighbours within `cutoff` (Å)."""
        atoms = frame.atoms
        pairs, vectors = neighbour_pairs(atoms, cutoff)
        nan = float("nan")
        stress = np.full(6, nan) if frame.stress is None else np.asarray(frame.stress)
        labels = frame.force_labels
        forces = np.full((len(atoms), 3), nan) if labels is None else labels
        return cls(
            numbers=torch.as_tensor(atoms.numbers, dtype=torch.long),
            frame=torch.zeros(len(atoms), dtype=torch.long),
            pairs=torch.from_numpy(pairs),
            vectors=torch.from_numpy(vectors),
            volumes=torch.tensor(
                [atoms.get_volume() if atoms.pbc.all() else nan], dtype=torch.float64
            ),
            energy=torch.tensor(
                [nan if frame.energy is None else frame.energy], dtype=torch.float64
            ),
            forces=torch.as_tensor(np.array(forces), dtype=torch.float64),
            stress=torch.as_tensor(stress[_VOIGT], dtype=torch.float64)[None],
            weight=torch.tensor([frame.weight], dtype=torch.float64),
        )

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """One batch out of several; atom and frame indices are renumbered."""
        atoms = np.cumsum([0] + [len(b.numbers) for b in batches])
        frames = np.cumsum([0] + [b.n_frames for b in batches])
        names = [name for name, value in vars(batches[0]).items() if isinstance(value, Tensor)]
        joined = {name: [getattr(b, name) for b in batches] for name in names}
        joined["frame"] = [b.frame + int(n) for b, n in zip(batches, frames[:-1], strict=True)]
        joined["pairs"] = [b.pairs + int(n) for b, n in zip(batches, atoms[:-1], strict=True)]
        tensors = {k: torch.cat(v, dim=int(k == "pairs")) for k, v in joined.items()}
        return cls(**tensors, counts=sum((b.counts for b in batches), Counter()))


_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
