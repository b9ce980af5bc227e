"""Propose geometries worth labelling: normal modes, molecular dynamics, strain and rattle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from tlpot.data.constraints import anchor, fixed_components, hold
from tlpot.errors import TlpotError
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.frames import Frame, bare
from tlpot.structure.soundness import find_flaw

LEAST_STIFFNESS = 0.3
"""eV/Å² (0.05 mdyn/Å) that softer modes, and unstable ones, are taken to have."""

HESSIAN_STEP = 0.01
"""Å by which an atom is moved for the Hessian."""

FMAX, RELAX_STEPS = 0.01, 1000
"""eV/Å at which a structure counts as relaxed, and the steps it may take."""

TIMESTEP, FRICTION = 0.5 * units.fs, 0.02 / units.fs
EQUILIBRATION, SPACING = 1000, 200
"""MD steps before the first snapshot and between snapshots."""

TRIES = 20
"""Proposals in a row that may be refused before a structure is given up."""

LINEAR = 0.02
"""Å, radius of gyration about an axis below which a molecule does not turn about it."""

BROKEN = 10.0
"""Times the set temperature from which MD counts as broken apart."""


@dataclass(frozen=True)
class NormalModes:
    """Vibrations about a minimum.

    Attributes
    ----------
    atoms
        The minimum, without a calculator.
    directions
        ``(modes, n, 3)`` Cartesian directions of unit length, from mass-weighted coordinates.
    stiffness
        ``(modes,)`` force constant K along each direction, eV/Å²: the harmonic energy of
        displacements R along all of them is ½ Σ K R².
    """

    atoms: Atoms
    directions: np.ndarray
    stiffness: np.ndarray


def take(proposals: Iterator[Atoms], number: int, min_distance: float) -> list[Atoms]:
    """The first `number` proposals that bring no two atoms closer than `min_distance` (Å).

    Raises
    ------
    TlpotError
        If too many proposals in a row are refused.
    """
    taken: list[Atoms] = []
    refused = 0
    while len(taken) < number:
        atoms = next(proposals)
        if find_flaw(atoms, shortest=min_distance) is None:
            taken.append(atoms)
            refused = 0
            continue
        refused += 1
        if refused == TRIES:
            raise TlpotError(
                f"{TRIES} proposals in a row bring atoms closer than {min_distance} Å; lower the "
                "temperature (or strain and rattle), or the shortest distance allowed"
            )
    return taken


def sample_modes(
    atoms: Atoms, calculator: Calculator, temperature: float, random: np.random.Generator
) -> Iterator[Atoms]:
    """Endless normal-mode sampling (thesis eq. 2.45; Smith, Isayev, Roitberg 2017).

    The structure is relaxed in its cell first. Each proposal moves it by
    R_i = ±√(3 c_i N k_B T / K_i) along every mode, the c_i ≥ 0 drawn uniformly with Σ c_i ≤ 1, so
    that its harmonic energy is 3/2 N k_B T Σ c_i. Translations, and rotations of a molecule,
    are left out; of a crystal the modes are the optical phonons at Γ. What is fixed
    (`tlpot.data.constraints`) stays where it is, here and in the other ways of sampling.

    Raises
    ------
    TlpotError
        If the structure does not relax or does not stay what it is, or has no vibration.
    """
    modes = normal_modes(nearest_minimum(atoms, calculator), calculator)
    if not len(modes.stiffness):
        raise TlpotError(
            f"{atoms.get_chemical_formula()} has no vibration but the shift of the whole; sample "
            "a supercell, or by md or rattle"
        )
    stiffness = modes.stiffness.clip(min=LEAST_STIFFNESS)
    energy = 3.0 * len(atoms) * units.kB * temperature
    while True:
        shares = random.dirichlet(np.ones(len(stiffness) + 1))[:-1]
        signs = random.choice([-1.0, 1.0], len(stiffness))
        moved = modes.atoms.copy()
        moved.positions += np.tensordot(
            signs * np.sqrt(energy * shares / stiffness), modes.directions, 1
        )
        yield moved


def sample_md(
    atoms: Atoms, calculator: Calculator, temperature: float, random: np.random.Generator
) -> Iterator[Atoms]:
    """Endless snapshots of Langevin MD in the given cell; a run that breaks apart starts afresh.

    Raises
    ------
    TlpotError
        If `TRIES` runs break apart before their first snapshot.
    """
    broken = 0
    while broken < TRIES:
        moving = anchor(bare(atoms), fixed_components(atoms))
        moving.calc = calculator
        width = np.sqrt(units.kB * temperature * moving.get_masses())[:, None]
        moving.set_momenta(width * random.normal(size=moving.positions.shape))
        dynamics = Langevin(
            moving, TIMESTEP, temperature_K=temperature, friction=FRICTION, rng=random, fixcm=False
        )
        dynamics.run(EQUILIBRATION)
        while moving.get_temperature() < BROKEN * temperature:
            broken = 0
            yield bare(moving)
            dynamics.run(SPACING)
        broken += 1
    raise TlpotError(
        f"MD at {temperature:g} K breaks apart with this model; lower the temperature, or start "
        "from a better structure or model"
    )


def sample_rattle(
    atoms: Atoms, strain: float, rattle: float, random: np.random.Generator
) -> Iterator[Atoms]:
    """Endless random deformations of the cell and shifts of the atoms; needs no potential.

    Parameters
    ----------
    strain
        Standard deviation of each component of the symmetric strain along periodic directions.
    rattle
        Standard deviation of each coordinate, Å. Fixed ones keep their place in the cell.
    """
    fixed = fixed_components(atoms)
    free = 1.0 if fixed is None else ~fixed
    periodic = np.outer(atoms.pbc, atoms.pbc)
    while True:
        change = random.normal(0.0, strain, (3, 3)) * periodic
        moved = bare(atoms)
        cell = atoms.cell.array @ (np.eye(3) + (np.triu(change) + np.triu(change, 1).T))
        moved.set_cell(cell, scale_atoms=bool(atoms.pbc.any()))
        moved.positions += free * random.normal(0.0, rattle, moved.positions.shape)
        yield moved


def nearest_minimum(atoms: Atoms, calculator: Calculator) -> Atoms:
    """The nearest minimum in the given cell (forces below `FMAX`).

    Raises
    ------
    TlpotError
        If there is none within reach, or bonds break or are made on the way.
    """
    fixed = fixed_components(atoms)
    moving = hold(bare(atoms), fixed)
    moving.calc = calculator
    if not BFGS(moving, logfile=None).run(fmax=FMAX, steps=RELAX_STEPS):
        raise TlpotError(
            f"{moving.get_chemical_formula()} does not relax to {FMAX} eV/Å in {RELAX_STEPS} steps "
            "with this model; start from a better structure, or sample by md."
        )
    if changes := changed_bonds(atoms, moving):
        raise TlpotError(
            f"{moving.get_chemical_formula()} does not stay what it is as it relaxes with this "
            f"model ({changes}); start from a better structure, or sample by md."
        )
    return hold(bare(moving), fixed)


def normal_modes(atoms: Atoms, calculator: Calculator) -> NormalModes:
    """Vibrations of a relaxed structure: 3N less translations, and less rotations of a molecule.

    Of a structure with fixed atoms, those of what is free.
    """
    weights = np.repeat(atoms.get_masses() ** -0.5, 3)
    weighted = hessian(atoms, calculator) * np.outer(weights, weights)
    fixed = fixed_components(atoms)
    if fixed is None:
        rigid = _rigid_motions(atoms).reshape(-1, 3 * len(atoms)) / weights
        u, sizes, _ = np.linalg.svd(rigid.T)
        inner = u[:, int((sizes > LINEAR * np.sqrt(atoms.get_masses().sum())).sum()) :]
    else:
        inner = np.eye(3 * len(atoms))[:, ~fixed.ravel()]
    squares, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    directions = (inner @ vectors).T * weights
    lengths = np.linalg.norm(directions, axis=1)
    shape = (-1, len(atoms), 3)
    return NormalModes(
        bare(atoms), (directions / lengths[:, None]).reshape(shape), squares / lengths**2
    )


def hessian(atoms: Atoms, calculator: Calculator) -> np.ndarray:
    """``(3n, 3n)`` second derivatives of the energy, eV/Å², by central differences of forces."""
    moved = bare(atoms)
    moved.calc = calculator
    rows = []
    for place in np.ndindex(len(atoms), 3):
        ends = []
        for step in (HESSIAN_STEP, -HESSIAN_STEP):
            moved.positions = atoms.positions
            moved.positions[place] += step
            ends.append(moved.get_forces().ravel())
        rows.append((ends[1] - ends[0]) / (2 * HESSIAN_STEP))
    second = np.array(rows)
    return (second + second.T) / 2


def _rigid_motions(atoms: Atoms) -> np.ndarray:
    """``(3 or 6, n, 3)``: translations, and the rotations of a molecule about its centre."""
    shifts = np.broadcast_to(np.eye(3)[:, None], (3, len(atoms), 3))
    if Frame(atoms).kind == "crystal":
        return shifts
    whole = atoms.copy()
    if atoms.pbc.any():
        whole.wrap(pretty_translation=True)
    centred = whole.positions - whole.get_center_of_mass()
    return np.concatenate([shifts, [np.cross(axis, centred) for axis in np.eye(3)]])
