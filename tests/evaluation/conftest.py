"""Small made-up frames, and stand-ins for `tlpot.model.potential`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from tlpot.model.uncertainty import Calibration
from tlpot.structure.frames import Frame


@dataclass(frozen=True)
class Guess:
    """Has the fields of `tlpot.model.potential.Prediction`."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    energy_std: float = 0.0
    forces_std: np.ndarray | None = None


@dataclass(frozen=True)
class Noisy:
    """A potential that knows the labels and adds an offset and noise of size `scale`."""

    scale: float
    offset: float = 0.0
    calibration: Calibration | None = None
    metadata: dict = field(default_factory=dict)

    def predict(self, frames, members=False):
        rng = np.random.default_rng(0)
        return [
            Guess(
                energy=frame.energy + len(frame) * (self.offset + self.scale * rng.normal()),
                forces=frame.forces + self.scale * rng.normal(size=frame.forces.shape),
                stress=None if frame.stress is None else frame.stress + self.scale * 0.01,
                energy_std=len(frame) * self.scale * abs(rng.normal()),
                forces_std=self.scale * abs(rng.normal(size=frame.forces.shape)),
            )
            for frame in frames
        ]


def water_crystal(size: int = 1) -> Atoms:
    """One water molecule in a 3 Å box, repeated along x: a "crystal" of molecules."""
    atoms = molecule("H2O", cell=[3.0, 3.0, 3.0], pbc=True)
    return atoms.repeat((size, 1, 1))


@pytest.fixture(name="noisy")
def _noisy() -> type[Noisy]:
    return Noisy


@pytest.fixture(name="water_crystal")
def _water_crystal() -> Callable[[int], Atoms]:
    return water_crystal


@pytest.fixture
def frames() -> list[Frame]:
    """Six crystals of water (cells of 3 and 6 atoms), two molecules of water, two of methane."""
    rng = np.random.default_rng(1)

    def labelled(atoms: Atoms, index: int) -> Frame:
        periodic = bool(atoms.pbc.all())
        return Frame(
            atoms,
            energy=-5.0 * len(atoms) + 0.1 * rng.normal(),
            forces=rng.normal(size=(len(atoms), 3)),
            stress=rng.normal(size=6) * 0.01 if periodic else None,
            source="made-up.extxyz",
            index=index,
        )

    structures = [water_crystal(1 + i % 2) for i in range(6)]
    structures += [molecule(name) for name in ("H2O", "H2O", "CH4", "CH4")]
    return [labelled(atoms, index) for index, atoms in enumerate(structures)]


@pytest.fixture
def exact(frames) -> list[Guess]:
    """Predictions equal to the labels of `frames`."""
    return Noisy(0.0).predict(frames)


@pytest.fixture
def history() -> dict[str, np.ndarray]:
    """The columns of a ``history.csv`` of twenty epochs, best at the nineteenth."""
    epoch = np.arange(1.0, 21.0)
    loss = 1.0 / epoch
    validation = np.where(epoch == 19, 0.04, 1.2 * loss)
    return {
        "epoch": epoch,
        "learning_rate": 1e-4 * loss,
        "train_loss": loss,
        "train_force_loss": loss,
        "train_energy_loss": loss,
        "validation_loss": validation,
        "validation_energy_rmse_meV_per_atom": 5.0 * loss,
        "validation_force_rmse_meV_per_A_component": 90.0 * loss,
        "seconds": 2.0 * epoch,
    }
