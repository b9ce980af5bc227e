"""L-BFGS with a trust radius for many structures at once, in the manner of torch-sim's optimisers.

Positions and cell of each structure are minimised together in the coordinates of Tadmor, Smith,
Bernstein and Kaxiras 1999 (Phys. Rev. B 59, 235): atoms in the reference cell, and the deformation
F that takes the reference cell to the present one. Nothing depends on which other structures are
in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tlpot.interfaces.torchsim import TorchSimModel, periodic, torch_sim

if TYPE_CHECKING:
    from torch_sim.state import SimState

MEMORY = 40
"""Steps whose curvature is remembered."""

UNKNOWN_CURVATURE = 70.0
"""eV/Å², curvature taken for directions that nothing is known of (as ASE)."""

LONGEST_MOVE, FIRST_MOVE = 0.2, 0.1
"""Å that an atom may move in one step, at most and in the first."""

ENERGY_NOISE = 1e-6
"""eV per atom by which an energy may rise without counting as uphill."""

Project = Callable[[Tensor, Tensor, "LBFGSState"], tuple[Tensor, Tensor]]
"""What a symmetry or fixed atoms leave of the gradients in atoms and F."""


@dataclass(kw_only=True)
class Descent:
    """How far structures are on their way to a minimum; ``A`` atoms, ``S`` structures.

    Attributes
    ----------
    natural, reference_cell, deformation
        ``[A, 3]`` atoms in the reference cell, ``[S, 3, 3]`` that cell (rows) and F: positions
        are ``natural @ F.T``.
    energy, forces, stress
        ``[S]`` eV, ``[A, 3]`` eV/Å and ``[S, 3, 3]`` eV/Å³ (zero unless periodic).
    enthalpy
        ``[S]`` energy + pressure · volume.
    slope, cell_slope
        Its gradient in the coordinates.
    moves, turns, cell_moves, cell_turns, curvature
        The last steps, changes of the gradient, and 1 / their product (zero: not used), newest
        first: ``[A, MEMORY, 3]``, ``[S, MEMORY, 3, 3]``, ``[S, MEMORY]``.
    radius
        ``[S]`` Å that any atom may move in the next step.
    index, steps
        ``[S]`` number of the structure, and evaluations so far.
    """

    natural: Tensor
    reference_cell: Tensor
    deformation: Tensor
    energy: Tensor
    forces: Tensor
    stress: Tensor
    enthalpy: Tensor
    slope: Tensor
    cell_slope: Tensor
    moves: Tensor
    turns: Tensor
    cell_moves: Tensor
    cell_turns: Tensor
    curvature: Tensor
    radius: Tensor
    index: Tensor
    steps: Tensor


PER_ATOM = {"natural", "forces", "slope", "moves", "turns"}

if TYPE_CHECKING:

    class LBFGSState(Descent, SimState):
        """What `_state_class` makes."""


@cache
def _state_class() -> type[LBFGSState]:
    """`Descent` on top of torch-sim's state, which its batches are made of."""
    state = torch_sim("state").SimState
    scopes = {
        "_atom_attributes": state._atom_attributes | PER_ATOM,
        "_system_attributes": state._system_attributes
        | {field.name for field in fields(Descent)} - PER_ATOM,
    }
    return dataclass(kw_only=True)(type("LBFGSState", (Descent, state), scopes))


@dataclass(frozen=True)
class LBFGS:
    """A minimiser: `init` evaluates and numbers structures, `step` moves each once.

    Attributes
    ----------
    positions, cell
        Which of them change; a cell must be periodic. With the cell alone, atoms follow it.
    pressure
        eV/Å³; what is minimised is the enthalpy.
    project
        Takes from the gradients what a symmetry or a constraint forbids.

    Notes
    -----
    A step that raises the enthalpy is taken back and halves the trust radius (its curvature is
    learnt all the same); a good one may double it. The two-loop recursion is that of Nocedal
    1980 (Math. Comput. 35, 773).
    """

    model: TorchSimModel
    positions: bool = True
    cell: bool = True
    pressure: float = 0.0
    project: Project | None = None

    def init(self, state: SimState, index: Tensor) -> LBFGSState:
        """`state` at the start of its way, evaluated; `index` numbers its structures."""
        systems, atoms = state.n_systems, state.n_atoms
        new = state.positions.new_zeros
        unit = torch.eye(3, dtype=state.dtype, device=state.device)
        return self._evaluate(
            _state_class()(
                **{name: getattr(state, name) for name in _GEOMETRY},
                natural=state.positions.clone(),
                reference_cell=state.row_vector_cell.clone(),
                deformation=unit.repeat(systems, 1, 1),
                energy=new(systems),
                forces=new(atoms, 3),
                stress=new(systems, 3, 3),
                enthalpy=new(systems),
                slope=new(atoms, 3),
                cell_slope=new(systems, 3, 3),
                moves=new(atoms, MEMORY, 3),
                turns=new(atoms, MEMORY, 3),
                cell_moves=new(systems, MEMORY, 3, 3),
                cell_turns=new(systems, MEMORY, 3, 3),
                curvature=new(systems, MEMORY),
                radius=new(systems) + FIRST_MOVE,
                index=index,
                steps=new(systems),
            )
        )

    def step(self, state: LBFGSState) -> LBFGSState:
        """`state` after one move of each structure, or none of those whose enthalpy would rise."""
        move, cell_move = _direction(state)
        longest = _longest(move, cell_move, state)
        scale = (state.radius / longest.clamp(min=1e-12)).clamp(max=1.0)
        move, cell_move = _scaled(move, cell_move, scale, state)
        before = state.clone()
        state.natural = state.natural + move
        state.deformation = state.deformation + cell_move / _lever(state)
        state = self._evaluate(state)
        _remember(state, before, move, cell_move)
        sizes = torch.bincount(state.system_idx)
        worse = ~(state.enthalpy <= before.enthalpy + ENERGY_NOISE * sizes)
        at_limit = scale < 1.0
        grown = torch.where(at_limit, 2 * state.radius, state.radius).clamp(max=LONGEST_MOVE)
        shrunk = 0.5 * scale * longest
        for name in _TAKEN_BACK:
            back = worse[state.system_idx] if name in state._atom_attributes else worse
            now, then = getattr(state, name), getattr(before, name)
            setattr(state, name, torch.where(back.view(-1, *[1] * (now.ndim - 1)), then, now))
        state.radius = torch.where(worse, shrunk, grown)
        return state

    def _evaluate(self, state: LBFGSState) -> LBFGSState:
        """Energy and gradients at the coordinates of `state`, in place."""
        rows = state.reference_cell @ state.deformation.mT
        state.cell = rows.mT
        state.positions = _each(state.natural, state.deformation.mT, state.system_idx)
        results, crystals = self.model(state), periodic(state)
        state.energy, state.forces = results["energy"], results["forces"]
        state.stress = results["stress"] if crystals else results["stress"].nan_to_num()
        volume = torch.linalg.det(rows).abs() if crystals else torch.zeros_like(state.energy)
        state.enthalpy = state.energy + self.pressure * volume
        slope, cell_slope = torch.zeros_like(state.forces), torch.zeros_like(state.stress)
        if self.positions:
            slope = -_each(state.forces, state.deformation, state.system_idx)
        if self.cell:
            unit = torch.eye(3, dtype=rows.dtype, device=rows.device)
            outer = state.stress + self.pressure * unit
            inverse = torch.linalg.inv(state.deformation).mT
            cell_slope = volume[:, None, None] * outer @ inverse / _lever(state)
        if self.project is not None:
            slope, cell_slope = self.project(slope, cell_slope, state)
            if self.positions:  # what is left of the forces is what counts
                inverse = torch.linalg.inv(state.deformation)
                state.forces = -_each(slope, inverse, state.system_idx)
        state.slope, state.cell_slope = slope, cell_slope
        state.steps = state.steps + 1
        return state


_GEOMETRY = ("positions", "masses", "cell", "pbc", "atomic_numbers", "system_idx")
_TAKEN_BACK = (
    *("positions", "cell", "natural", "deformation", "energy", "forces", "stress", "enthalpy"),
    *("slope", "cell_slope"),
)


def _each(vectors: Tensor, matrices: Tensor, system: Tensor) -> Tensor:
    """Every atom's vector (row) times the matrix of its structure."""
    return torch.einsum("ai,aij->aj", vectors, matrices[system])


def _lever(state: SimState) -> Tensor:
    """``[S, 1, 1]`` Å by which F is scaled, to be as stiff as an atom."""
    return torch.bincount(state.system_idx).double().sqrt()[:, None, None]


def _dot(a: Tensor, cell_a: Tensor, b: Tensor, cell_b: Tensor, system: Tensor) -> Tensor:
    """``[S]`` scalar products over atoms and cell."""
    return (cell_a * cell_b).sum((1, 2)).index_add(0, system, (a * b).sum(1))


def _longest(move: Tensor, cell_move: Tensor, state: SimState) -> Tensor:
    """``[S]`` length of the longest row."""
    rows = cell_move.norm(dim=2).amax(dim=1)
    return rows.scatter_reduce(0, state.system_idx, move.norm(dim=1), "amax")


def _scaled(move: Tensor, cell_move: Tensor, by: Tensor, state: SimState) -> tuple[Tensor, Tensor]:
    return move * by[state.system_idx, None], cell_move * by[:, None, None]


def _remember(state: LBFGSState, before: LBFGSState, move: Tensor, cell_move: Tensor) -> None:
    """Add a step and what it did to the gradient, if the surface curves upwards along it."""
    turn, cell_turn = state.slope - before.slope, state.cell_slope - before.cell_slope
    system = state.system_idx
    product = _dot(move, cell_move, turn, cell_turn, system)
    size = _dot(move, cell_move, move, cell_move, system)
    good = product > 1e-4 * size
    for name, new in (
        ("moves", move),
        ("turns", turn),
        ("cell_moves", cell_move),
        ("cell_turns", cell_turn),
        ("curvature", 1 / product),
    ):
        old = getattr(state, name)
        use = good[system] if name in ("moves", "turns") else good
        use = use.view(-1, *[1] * (old.ndim - 1))
        added = torch.cat([new[:, None], old[:, :-1]], dim=1)
        setattr(state, name, torch.where(use, added, old))


def _direction(state: LBFGSState) -> tuple[Tensor, Tensor]:
    """Minus the inverse Hessian, as the last steps tell it, times the gradient."""
    system, q, cell_q = state.system_idx, state.slope, state.cell_slope
    used = int((state.curvature != 0).sum(1).max())
    history = [
        (state.moves[:, k], state.cell_moves[:, k], state.turns[:, k], state.cell_turns[:, k])
        for k in range(used)
    ]
    weights = []
    for k, (s, cell_s, y, cell_y) in enumerate(history):
        a = state.curvature[:, k] * _dot(s, cell_s, q, cell_q, system)
        q, cell_q = q - a[system, None] * y, cell_q - a[:, None, None] * cell_y
        weights.append(a)
    q, cell_q = q / UNKNOWN_CURVATURE, cell_q / UNKNOWN_CURVATURE
    for k, (s, cell_s, y, cell_y) in reversed(list(enumerate(history))):
        a = weights[k] - state.curvature[:, k] * _dot(y, cell_y, q, cell_q, system)
        q, cell_q = q + a[system, None] * s, cell_q + a[:, None, None] * cell_s
    return -q, -cell_q
