"""What is timed: urea supercells, and one training step or ASE call of each contender."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchani
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from torchani.neighbors import Neighbors

from benchmarks.speed.timing import sampler
from tlpot import TLPotCalculator, load, read_frames
from tlpot.config.run import Training
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame
from tlpot.training.freeze import freeze
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

Repeat = tuple[int, int, int]
UREA = Path(__file__).parents[2] / "datasets/urea/urea.extxyz"
SUPERCELLS: dict[int, Repeat] = {16: (1, 1, 1), 128: (2, 2, 2), 432: (3, 3, 3), 1024: (4, 4, 4)}
SCALING: tuple[Repeat, ...] = ((2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5), (8, 8, 5))
TIMESTEP = 0.5
"""fs; the hydrogen atoms move freely."""
TEMPERATURE = 300.0
STEPS = 16
"""Steps in one timed epoch of tlpot's trainer; fewer above 128 atoms."""
LISTS = ("all_pairs", "cell_list", "adaptive", "verlet_cell_list")
SAME_WORK: Mapping[str, Any] = {"fit": "mean", "stress_weight": 0.0, "ema": 0.0, "clip": None}
"""Recipe that does what the other contenders do: loss of the mean, AdamW, nothing else."""
AGREE = 2e-3
"""eV/Å; a neighbour list whose forces are further from tlpot's is wrong."""


def urea(repeat: Repeat, seed: int = 0) -> Atoms:
    """Supercells of ``datasets/urea`` as measured, 16 atoms a cell, each moved by about 0.03 Å."""
    atoms = read_frames(UREA)[0].atoms.repeat(repeat)
    atoms.rattle(0.03, seed=seed)
    return atoms


def labelled(potential: Potential, structures: Sequence[Atoms]) -> list[Frame]:
    """Frames with `potential`'s labels off by about 0.01 eV/atom and 0.1 eV/Å."""
    random = np.random.default_rng(0)
    frames = []
    for atoms, guess in zip(structures, potential.predict(structures), strict=True):
        energy = guess.energy + len(atoms) * 0.01 * random.normal()
        forces = guess.forces + 0.1 * random.normal(size=guess.forces.shape)
        frames.append(Frame(atoms, energy, forces))
    return frames


def trajectory(potential: Potential, atoms: Atoms, steps: int) -> list[np.ndarray]:
    """Positions of each step of an MD (NVE, 300 K), by the unchanged base potential."""
    atoms = thermal(atoms)
    atoms.calc = TLPotCalculator(potential)
    visited = []
    dynamics = VelocityVerlet(atoms, TIMESTEP * units.fs)
    dynamics.attach(lambda: visited.append(atoms.positions.copy()))
    dynamics.run(steps)
    return visited


def thermal(atoms: Atoms) -> Atoms:
    """A copy with velocities for 300 K; always the same ones."""
    atoms = atoms.copy()
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(0))
    return atoms


class TlpotTraining:
    """tlpot's own trainer.

    Parameters
    ----------
    frames
        What one step sees. The trainer joins them anew in every step.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        device: torch.device,
        steps: int = 0,
        recipe: Mapping[str, Any] = SAME_WORK,
    ) -> None:
        atoms = sum(map(len, frames))
        self.steps = steps or max(2, min(STEPS, STEPS * 128 // atoms))
        potential = load("ani2x")
        freeze(potential.backbone, [])
        compact = potential.for_elements({s for f in frames for s in f.atoms.symbols}).to(device)
        batches = [compact.batch([frame]) for frame in frames] * self.steps
        settings = Training(epochs=1, batch_size=len(frames), device=str(device), **recipe)
        self.potential = compact
        self._folder = tempfile.TemporaryDirectory()
        self.task = PotentialTask(compact, batches, [], settings)
        self.trainer = Trainer(self.task, settings, Path(self._folder.name))

    def epoch(self) -> float:
        """Seconds of one epoch by the trainer's own clock (without its checkpoint)."""
        self.trainer.progress = type(self.trainer.progress)()
        return self.trainer.fit().seconds

    def kept_bytes(self) -> int:
        """What the trainer keeps of the frames of one step."""
        return sum(t.nbytes for b in self.task.train for t in vars(b).values()) // self.steps

    def sample(self) -> float:
        """Seconds of one step."""
        return self.epoch() / self.steps


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


class OriginTraining:
    """The origin's way of training, written after its description (Parunov 2022).

    torchani's ANI-2x with its default neighbour list, one frame at a time, float32, the ensemble's
    mean, L = λ·MSE(F) + (1−λ)·MSE(E/N), torch's default AdamW on all weights.
    """

    SHARE, RATE, DECAY = 0.9, 1e-4, 0.1

    def __init__(self, frames: Sequence[Frame], device: torch.device) -> None:
        self.model = torchani.models.ANI2x(periodic_table_index=True)
        self.model.to(device).requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=self.RATE, weight_decay=self.DECAY
        )
        put = partial(torch.tensor, device=device, dtype=torch.float32)
        self.frames = [
            {
                "numbers": torch.tensor(f.atoms.numbers, device=device),
                "positions": put(f.atoms.positions),
                "cell": put(f.atoms.cell.array),
                "energy": put(f.energy),
                "forces": put(f.forces),
            }
            for f in frames
        ]
        self.pbc = torch.tensor([True, True, True], device=device)

    def step(self, chosen: Sequence[int]) -> float:
        """One optimiser step on the frames `chosen`; returns the loss."""
        force_errors, energy_errors = [], []
        for frame in (self.frames[i] for i in chosen):
            positions = frame["positions"][None].clone().requires_grad_()
            inputs = (frame["numbers"][None], positions)
            hartree = self.model(inputs, cell=frame["cell"], pbc=self.pbc).energies[0]
            energy = hartree * units.Hartree
            (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
            force_errors.append((-slope[0] - frame["forces"]).square().sum(dim=1))
            energy_errors.append(((energy - frame["energy"]) / len(slope[0])).square())
        forces, energies = torch.cat(force_errors).mean(), torch.stack(energy_errors).mean()
        loss = self.SHARE * forces + (1 - self.SHARE) * energies
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


class Calling:
    """An ASE calculator asked for energy and forces at one position after another."""

    def __init__(self, calculator: Calculator, atoms: Atoms, visited: Sequence) -> None:
        self.calculator, self.atoms = calculator, atoms.copy()
        self.visited, self.calls = visited, 0

    def __call__(self) -> None:
        """Energy and forces in one request, so that no contender computes anything twice."""
        there_and_back = [*self.visited, *self.visited[-2:0:-1]]
        self.atoms.positions = there_and_back[self.calls % len(there_and_back)]
        self.calls += 1
        self.calculator.calculate(self.atoms, ["energy", "forces"], all_changes)

    @property
    def forces(self):
        return self.calculator.results["forces"]


CALCULATORS = ("tlpot", "torchani", "torchani stacked")


def ase_calculator(contender: str, neighborlist: str, device: torch.device) -> Calculator:
    """One of `CALCULATORS`."""
    if contender == "tlpot":
        return TLPotCalculator("ani2x", device=device)
    return torchani_model(neighborlist, contender == "torchani stacked", device).ase()


def best_list(make, check, device: torch.device) -> tuple[str, dict[str, object]]:
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
            sample = sampler(work, device)
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
