"""torchani beside it: its training step, its ASE calculator, the best of its neighbour lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torchani
from ase import units
from ase.calculators.calculator import Calculator
from torchani.neighbors import Neighbors

from benchmarks.speed.timing import Clock, sampler
from tlpot.structure.frames import Frame

LISTS = ("all_pairs", "cell_list", "adaptive", "verlet_cell_list")
AGREE = 2e-3
"""eV/Å; a neighbour list whose forces are further from tlpot's is wrong."""


class TorchaniTraining:
    """torchani's networks and descriptors, trained by autograd through the forces.

    The frames of a step are joined into one long molecule after torchani's own neighbour list has
    seen each of them, which is its fastest way for unlike cells.

    Parameters
    ----------
    neighborlist
        One of `LISTS`.
    stacked
        Use `torchani.nn.BmmEnsemble`, which torchani means for inference, in place of a loop over
        the members.
    """

    def __init__(
        self, frames: Sequence[Frame], device: torch.device, neighborlist: str, stacked: bool
    ) -> None:
        self.model = torchani_model(neighborlist, stacked, device)
        self.model.requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=5e-4, weight_decay=0.01, fused=True
        )
        put = partial(torch.tensor, device=device, dtype=torch.float32)
        self.positions = [put(f.atoms.positions)[None] for f in frames]
        self.cells = [put(f.atoms.cell.array) for f in frames]
        numbers = [torch.tensor(f.atoms.numbers, device=device) for f in frames]
        self.species = [self.model.species_converter(n[None]) for n in numbers]
        sizes = torch.tensor([len(f) for f in frames], device=device)
        self.sizes, self.frame = sizes, torch.arange(len(frames), device=device)
        self.frame = self.frame.repeat_interleave(sizes)
        self.offsets = [0, *sizes.cumsum(0).tolist()]
        self.energy = put([f.energy for f in frames])
        self.forces = torch.cat([put(f.forces) for f in frames])
        self.pbc = torch.tensor([True] * 3, device=device)

    def predict(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies ``[frames]`` eV and forces ``[atoms, 3]`` eV/Å, differentiable."""
        positions = torch.cat(self.positions, dim=1).requires_grad_()
        lists = []
        for start, own, species, cell in zip(
            self.offsets[:-1], self.positions, self.species, self.cells, strict=True
        ):
            part = positions[:, start : start + own.shape[1]]
            neighbours = self.model.neighborlist(self.model.cutoff, species, part, cell, self.pbc)
            lists.append(
                (neighbours.indices + start, neighbours.distances, neighbours.diff_vectors)
            )
        indices, distances, vectors = zip(*lists, strict=True)
        joined = Neighbors(torch.cat(indices, dim=1), torch.cat(distances), torch.cat(vectors))
        species = torch.cat(self.species, dim=1)
        atomic = self.model.compute_from_neighbors(species, positions, joined, atomic=True)
        energies = atomic.energies[0] * units.Hartree
        totals = energies.new_zeros(len(self.sizes)).index_add(0, self.frame, energies)
        (slope,) = torch.autograd.grad(totals.sum(), positions, create_graph=True)
        return totals, -slope[0]

    def step(self) -> None:
        """One optimiser step."""
        energy, forces = self.predict()
        force_error = (forces - self.forces).square().sum(dim=1).mean()
        energy_error = ((energy - self.energy) / self.sizes).square().mean()
        self.optimiser.zero_grad()
        (0.03 * force_error + 0.97 * energy_error).backward()
        self.optimiser.step()


def torchani_model(neighborlist: str, stacked: bool, device: torch.device) -> torchani.arch.ANI:
    """ANI-2x as torchani makes it.

    Its stacked networks mark CUDA ranges even on a CPU and fail where torch has no CUDA; there the
    marks are left out, so that they can compete.
    """
    if stacked and not torch.cuda.is_available():
        torch.cuda.nvtx.range_push = torch.cuda.nvtx.range_pop = lambda *_: None
    model = torchani.models.ANI2x(neighborlist=neighborlist).to(device)
    return model.to_infer_model() if stacked else model


def torchani_calculator(neighborlist: str, stacked: bool, device: torch.device) -> Calculator:
    """torchani's own ASE calculator of ANI-2x."""
    return torchani_model(neighborlist, stacked, device).ase()


def best_list(
    make: Callable[[str], Any],
    check: Callable[[Any], float],
    device: torch.device,
    clock: Clock,
) -> tuple[str, dict[str, object]]:
    """torchani's fastest neighbour list that gives the right forces.

    Parameters
    ----------
    make
        Name of a list → the work to time.
    check
        That work → largest deviation of its forces from tlpot's, eV/Å, after it was done.

    Returns
    -------
    The list's name, and for every list its ms or why it is out.
    """
    verdicts: dict[str, object] = {}
    for name in LISTS:
        try:
            work = make(name)
            sample = sampler(work, device, clock)
            sample()
            off = check(work)
            seconds = min(sample() for _ in range(2))
            off = max(off, check(work))
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            verdicts[name] = f"refuses: {str(error).splitlines()[0][:80]}"
            continue
        verdicts[name] = 1e3 * seconds if off < AGREE else f"wrong forces, by {off:.2g} eV/Å"
    right = {name: ms for name, ms in verdicts.items() if isinstance(ms, float)}
    return min(right, key=lambda name: right[name]), verdicts
