"""Urea supercells, labels to train on, and positions as an MD visits them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.spacegroup import crystal

from tlpot.calculator import TLPotCalculator
from tlpot.frames import Frame
from tlpot.potential import Potential

Repeat = tuple[int, int, int]

SUPERCELLS: dict[int, Repeat] = {16: (1, 1, 1), 128: (2, 2, 2), 432: (3, 3, 3), 1024: (4, 4, 4)}
SCALING: tuple[Repeat, ...] = ((2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5), (8, 8, 5))
TIMESTEP = 0.5
"""fs; the hydrogen atoms move freely."""
TEMPERATURE = 300.0


def urea(repeat: Repeat, seed: int = 0) -> Atoms:
    """Urea P-42_1m (Swaminathan 1984, 12 K), 16 atoms a cell, each moved by about 0.03 Å."""
    sites = [
        ("C", (0.0, 0.5, 0.3260)),
        ("O", (0.0, 0.5, 0.5953)),
        ("N", (0.1459, 0.6459, 0.1766)),
        ("H", (0.2575, 0.7575, 0.2827)),
        ("H", (0.1441, 0.6441, -0.0380)),
    ]
    symbols, basis = zip(*sites, strict=True)
    cell = (5.565, 5.565, 4.684, 90, 90, 90)
    atoms = crystal(symbols, basis, spacegroup=113, cellpar=cell).repeat(repeat)
    bare = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    bare.rattle(0.03, seed=seed)
    return bare


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
