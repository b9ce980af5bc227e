"""Minimise many structures at a time, swapping in the next as each is done."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms, units

from tlpot.data.constraints import fixed_components
from tlpot.interfaces.torchsim import TorchSimModel, torch_sim
from tlpot.model.potential import CHUNK, Potential
from tlpot.relax.ending import NOT_CONVERGED, Minimum, deforms, ending, still
from tlpot.relax.lbfgs import LBFGS, Project
from tlpot.relax.settings import Relaxation
from tlpot.relax.symmetry import Holder, Projector, symmetrised

if TYPE_CHECKING:
    from tlpot.relax.lbfgs import LBFGSState

STUCK = 1e-6
"""Å of a trust radius below which nothing moves any more."""


def minimise(
    structures: list[Atoms], potential: Potential, settings: Relaxation
) -> Iterator[dict[int, Minimum]]:
    """Yield number and minimum of what ends together; crystals and molecules in own batches.

    Each structure takes the steps that it would take alone.
    """
    if not structures:
        return
    model = TorchSimModel(potential, {s for atoms in structures for s in atoms.symbols})
    alike: dict[tuple[bool, bool], list[int]] = {}
    for i, atoms in enumerate(structures):
        alike.setdefault((bool(atoms.pbc.all()), deforms(atoms, settings)), []).append(i)
    for (_, cell), numbers in alike.items():
        yield from _minimise(numbers, structures, model, settings, cell)


def _minimise(
    numbers: list[int],
    structures: list[Atoms],
    model: TorchSimModel,
    settings: Relaxation,
    cell: bool,
) -> Iterator[dict[int, Minimum]]:
    starts = {i: structures[i] for i in numbers}
    project: Project | None = None
    if settings.symmetry and starts[numbers[0]].pbc.all():
        symmetric = {i: symmetrised(atoms, settings.symprec) for i, atoms in starts.items()}
        starts = {i: atoms for i, (atoms, _) in symmetric.items()}
        project = Projector({i: symmetry for i, (_, symmetry) in symmetric.items()})
    elif any(atoms.constraints for atoms in starts.values()):
        masks = {i: fixed_components(atoms) for i, atoms in starts.items()}
        free = {i: np.zeros((len(atoms), 3), bool) for i, atoms in starts.items()}
        project = Holder(free | {i: mask for i, mask in masks.items() if mask is not None})
    minimiser = LBFGS(
        model,
        positions=settings.free != "cell",
        cell=cell,
        pressure=settings.pressure * units.GPa,
        project=project,
    )

    def states() -> Iterator[LBFGSState]:
        for i, atoms in starts.items():
            state = torch_sim("state").initialize_state([atoms], model.device, model.dtype)
            yield minimiser.init(state, torch.tensor([i], device=model.device))

    limit = settings.batch_atoms
    if limit is None and model.device.type == "cpu":
        limit = CHUNK
    if limit is not None:
        limit = max(limit, *map(len, starts.values()), 0)
    batcher = torch_sim("autobatching").InFlightAutoBatcher(
        model, memory_scales_with="n_atoms", max_memory_scaler=limit
    )
    with redirect_stdout(io.StringIO()):
        batcher.load_states(states())
    batch, _ = batcher.next_batch(None, None)
    while batch is not None:
        reasons = _endings(batch, settings, cell)
        over = torch.tensor([reason is not None for reason in reasons])
        if over.any():
            reason_of = dict(zip(batch.index.tolist(), reasons, strict=True))
            batch, done = batcher.next_batch(batch, over)
            yield {
                i: Minimum(state.to_atoms()[0], int(state.steps), reason_of[i] or None)
                for state in done
                for i in [int(state.index)]
            }
        if batch is not None:
            batch = minimiser.step(batch)


def _endings(state: LBFGSState, settings: Relaxation, cell: bool) -> list[str | None]:
    """What `ending` says of each structure."""
    none = torch.zeros_like(state.energy)
    force, stress = none, none
    if settings.free != "cell":
        force = none.scatter_reduce(0, state.system_idx, state.forces.norm(dim=1), "amax")
    if cell:
        outer = settings.pressure * torch.eye(3, dtype=state.dtype, device=state.device)
        stress = (state.stress / units.GPa + outer).abs().amax(dim=(1, 2))
    growth = torch.linalg.det(state.deformation)
    values = torch.stack([force, stress, growth, state.steps, state.radius], dim=1).tolist()
    return [_ending(settings, *of_one) for of_one in values]


def _ending(
    settings: Relaxation, force: float, stress: float, growth: float, steps: float, radius: float
) -> str | None:
    reason = ending(force, stress, growth, int(steps), settings)
    if reason is None and radius < STUCK:
        return f"{NOT_CONVERGED}: no step leads downhill ({still(force, stress)})"
    return reason
