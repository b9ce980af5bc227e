"""What is timed: urea supercells, tlpot's default model and its training step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from benchmarks.speed.timing import Clock
from tlpot import TLPotCalculator, load, read_frames
from tlpot.config.run import Training
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame
from tlpot.training.freeze import freeze
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

Repeat = tuple[int, int, int]
UREA = Path(__file__).parents[2] / "datasets/urea/urea.extxyz"
SUPERCELLS: dict[int, Repeat] = {
    16: (1, 1, 1),
    128: (2, 2, 2),
    1024: (4, 4, 4),
    5120: (8, 8, 5),
}
TIMESTEP = 0.5
"""fs; the hydrogen atoms move freely."""
TEMPERATURE = 300.0
STEPS = 16
"""Steps in one timed epoch of tlpot's trainer; fewer above 128 atoms."""
SAME_WORK: Mapping[str, Any] = {
    "fit": "mean",
    "stress_weight": 0.0,
    "ema": 0.0,
    "clip": None,
    "fine_angles": False,
}
"""Recipe that does what torchani does: ANI's own terms, loss of the mean, AdamW."""


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


def default_model(structures: Sequence[Atoms]) -> Potential:
    """What `tlpot finetune` makes of ANI-2x by default, its new weights drawn instead of trained.

    Fine angles enter as components, fitted on `structures`; their first-layer weights are about as
    large as training leaves them.
    """
    potential = load("ani2x").for_elements({s for a in structures for s in a.symbols})
    potential = potential.with_terms()
    backbone = potential.backbone
    backbone.fit_components([potential.batch([Frame(atoms) for atoms in structures])])
    random = torch.Generator().manual_seed(0)
    components = backbone.architecture.components
    for symbol in backbone.symbols:
        columns = backbone.layer(symbol, "input").weight[..., -components:]
        columns.normal_(0.0, 0.01, generator=random)
    return potential


class TimedTask(PotentialTask):
    """The trainer's task; the trainer computes where it lets it have its threads."""

    clock: Clock
    seconds = 0.0

    @contextmanager
    def threads(self) -> Iterator[None]:
        """As `PotentialTask.threads`, timed."""
        with super().threads():
            started = self.clock()
            yield
            self.seconds = self.clock() - started


class TlpotTraining:
    """tlpot's own trainer.

    Parameters
    ----------
    frames
        The training frames. The trainer joins those of a step anew in every step.
    recipe
        Settings of ``training``; all left out: the default, fine angles included.
    batch_size
        Frames in a step; all if left out.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        device: torch.device,
        clock: Clock,
        recipe: Mapping[str, Any],
        batch_size: int | None = None,
    ) -> None:
        structures = [frame.atoms for frame in frames]
        if recipe.get("fine_angles") is False:
            potential = load("ani2x").for_elements({s for a in structures for s in a.symbols})
        else:
            potential = default_model(structures[:8])
        freeze(potential.backbone, [])
        potential.to(device)
        batches = [potential.batch([frame]) for frame in frames]
        self.steps = -(-len(frames) // (batch_size or len(frames)))
        if batch_size is None:
            self.steps = max(2, min(STEPS, STEPS * 128 // sum(map(len, frames))))
            batches *= self.steps
        size = batch_size or len(frames)
        settings = Training(epochs=1, batch_size=size, device=str(device), **recipe)
        self._folder = tempfile.TemporaryDirectory()
        self.task = TimedTask(potential, batches, [], settings)
        self.task.clock = clock
        self.trainer = Trainer(self.task, settings, Path(self._folder.name))

    def sample(self) -> float:
        """Seconds of one step, as part of an epoch without its checkpoint."""
        self.trainer.progress = type(self.trainer.progress)()
        self.trainer.fit()
        return self.task.seconds / self.steps


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
