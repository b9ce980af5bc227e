"""A potential as a model of torch-sim: many structures of unlike cells in one evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from tlpot.errors import TlpotError
from tlpot.model.calculator import placed
from tlpot.model.potential import Potential
from tlpot.optional import require
from tlpot.structure.frames import Batch
from tlpot.structure.neighbours import search_pairs

if TYPE_CHECKING:
    from torch_sim.state import SimState

LIST_SKIN = 1.0
"""Å beyond the cutoff that neighbour lists hold."""


def torch_sim(module: str) -> ModuleType:
    """A module of torch-sim, 0.3 or later; raises TlpotError where it is not installed."""
    return require(f"torch_sim.{module}", "use", "a model for torch-sim")


def periodic(state: SimState) -> bool:
    """Whether a state is periodic; torch-sim 0.3 has one truth of it, later ones three.

    Raises
    ------
    TlpotError
        If it is periodic in one or two directions only.
    """
    pbc = torch.as_tensor(state.pbc)
    if pbc.any() != pbc.all():
        raise TlpotError("a state for torch-sim is periodic in all three directions or in none")
    return bool(pbc.all())


class TorchSimModel(torch.nn.Module):
    """The ensemble mean of a potential, for torch-sim's optimisers and integrators.

    It has all that torch-sim's ``ModelInterface`` asks for, without being its child: so it can be
    imported where torch-sim is not installed.

    Parameters
    ----------
    potential
        Or the name or file of one, as for `tlpot.model.load.load`.
    elements
        All that will occur: networks and descriptors of others are left out. Default: keep all.
    skin
        Å beyond the cutoff kept in neighbour lists, which follow moving atoms and changing cells
        and are made anew, structure by structure, when a pair could have come within the cutoff.
    device
        Where it computes, as for `tlpot.model.calculator.placed`.

    Notes
    -----
    ``model(state)`` returns ``energy`` ``[systems]`` eV, ``forces`` ``[atoms, 3]`` eV/Å and
    ``stress`` ``[systems, 3, 3]`` eV/Å³ (ASE's sign; NaN unless periodic). Geometry is float64;
    the network has the precision of its weights. A state with a per-system ``index`` (any unique
    number) keeps its lists when structures leave or enter the batch.
    """

    def __init__(
        self,
        potential: str | Path | Potential,
        elements: Collection[str] | None = None,
        skin: float = LIST_SKIN,
        device: str | torch.device = "auto",
    ) -> None:
        super().__init__()
        potential = placed(potential, device)
        self.potential = potential if elements is None else potential.for_elements(elements)
        self.skin = skin
        self.device, self.dtype = potential.device, torch.float64
        self.compute_forces = self.compute_stress = True
        self.memory_scales_with = "n_atoms"
        self._lists: dict[int, _List] = {}
        self._numbers = torch.empty(0, device=self.device)
        self._held: _Held | None = None

    def forward(self, state: SimState | dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """As torch-sim's ``ModelInterface.forward``; raises TlpotError on an unknown element."""
        if isinstance(state, dict):
            state = torch_sim("state").SimState(**state)
        output = self.potential.evaluate(self.batch(state))
        volumes = output.batch.volumes[:, None, None]
        return {
            "energy": output.energy.mean(dim=0),
            "forces": output.forces.mean(dim=0),
            "stress": output.virial.mean(dim=0) / volumes,
        }

    def batch(self, state: SimState) -> Batch:
        """The structures of `state` with all their neighbours within the cutoff."""
        cells, system = state.row_vector_cell, state.system_idx
        held, crystals = self._neighbours(state), periodic(state)
        first, second = held.pairs
        vectors = state.positions[second] - state.positions[first]
        if crystals:
            vectors = vectors + torch.einsum("pi,pij->pj", held.shifts, cells[system[first]])
        near = (vectors.square().sum(1) <= self.potential.backbone.cutoff**2).nonzero().squeeze(1)
        nan, systems = vectors.new_full((), float("nan")), len(cells)
        return Batch(
            numbers=state.atomic_numbers.long(),
            frame=system,
            pairs=held.pairs[:, near],
            vectors=vectors[near],
            volumes=torch.linalg.det(cells).abs() if crystals else nan.expand(systems),
            energy=nan.expand(systems),
            forces=nan.expand(len(system), 3),
            stress=nan.expand(systems, 3, 3),
            weight=torch.ones_like(nan).expand(systems),
            counts=held.counts,
        )

    def _neighbours(self, state: SimState) -> _Held:
        """Pairs within cutoff + skin, made anew where one could be missing."""
        index = getattr(state, "index", None)
        if index is not None:
            keys = index.tolist()
        if index is None or len(set(keys)) < len(keys):
            keys = list(range(len(state.cell)))
            if not torch.equal(state.atomic_numbers, self._numbers):
                self._lists, self._numbers = {}, state.atomic_numbers.clone()
        held = self._held
        if held is None or held.keys != keys or not all(key in self._lists for key in keys):
            lists = self._lists
            self._lists = {
                key: lists[key] if key in lists else self._search(state, n)
                for n, key in enumerate(keys)
            }
            held = _Held.of(self._lists)
        if stale := held.stale(state, self.potential.backbone.cutoff, self.skin):
            self._lists |= {keys[n]: self._search(state, n) for n in stale}
            held = _Held.of(self._lists)
        self._held = held
        return held

    def _search(self, state: SimState, n: int) -> _List:
        atoms = state.system_idx == n
        counts = Counter(state.atomic_numbers[atoms].tolist())
        self.potential.require_elements({chemical_symbols[z] for z in counts})
        positions = state.positions[atoms].detach()
        cell = state.row_vector_cell[n].detach()
        crystal = periodic(state)
        box = cell if crystal else torch.zeros_like(cell)
        reach = self.potential.backbone.cutoff + self.skin
        pairs, shifts = search_pairs(
            positions.cpu().numpy(), box.cpu().numpy(), crystal, reach, "PS"
        )
        return _List(
            torch.from_numpy(pairs.astype(np.int64).T.copy()).to(self.device),
            torch.from_numpy(shifts.astype(np.float64)).to(self.device),
            positions.clone(),
            cell.clone(),
            counts,
        )


@dataclass(frozen=True)
class _List:
    """Pairs of one structure, where its atoms and cell (rows) were then, and what they are."""

    pairs: Tensor
    shifts: Tensor
    positions: Tensor
    cell: Tensor
    counts: Counter[int]


@dataclass(frozen=True)
class _Held:
    """The lists of a batch, joined: ``[2, pairs]``, cell shifts ``[pairs, 3]`` and geometries."""

    keys: list[int]
    pairs: Tensor
    shifts: Tensor
    positions: Tensor
    cells: Tensor
    counts: Counter[int]

    @classmethod
    def of(cls, lists: dict[int, _List]) -> _Held:
        parts = list(lists.values())
        first = np.cumsum([0] + [len(part.positions) for part in parts]).tolist()
        return cls(
            list(lists),
            torch.cat([part.pairs + n for part, n in zip(parts, first, strict=False)], dim=1),
            torch.cat([part.shifts for part in parts]),
            torch.cat([part.positions for part in parts]),
            torch.stack([part.cell for part in parts]),
            sum((part.counts for part in parts), Counter()),
        )

    def stale(self, state: SimState, cutoff: float, skin: float) -> list[int]:
        """Structures of whose pairs one could be missing by now.

        Atoms that were no less than R = cutoff + skin apart are, after the cell was deformed by F
        and each moved by at most d beyond that, no closer than σ_min(F) R − 2 d.
        """
        positions, least = self.positions, self.positions.new_ones(len(self.keys))
        if periodic(state):
            deformation = torch.linalg.solve(self.cells, state.row_vector_cell)
            least = torch.linalg.svdvals(deformation)[:, -1]
            positions = torch.einsum("ai,aij->aj", positions, deformation[state.system_idx])
        moved = (state.positions - positions).norm(dim=1)
        farthest = torch.zeros_like(least).scatter_reduce(0, state.system_idx, moved, "amax")
        missing = least * (cutoff + skin) - 2 * farthest < cutoff
        return missing.nonzero().squeeze(1).tolist()
