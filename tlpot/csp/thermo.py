"""Harmonic free energy of a crystal from phonons by finite displacements."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from scipy.linalg import null_space

from tlpot.csp.landscape import Energies
from tlpot.optional import require
from tlpot.structure.neighbours import heights
from tlpot.structure.units import SPRING_QUANTUM, THZ

DISPLACEMENT = 0.02
"""Å by which atoms are displaced."""
MESH = 20.0
"""Å: wave vectors lie 2π/20 Å⁻¹ apart, or closer."""
PHONON_SYMPREC = 1e-3
"""Å within which symmetry saves displacements and finds the primitive cell."""
FREQUENCY_NOISE = 0.05
"""THz: a frequency this close to 0, from either side, is no vibration; one below −0.05 is
imaginary."""


@dataclass(frozen=True)
class Vibrations:
    """Phonons of one crystal at one temperature.

    Attributes
    ----------
    free_energy
        eV of the cell, vibrational: −TS with the zero-point energy, without the lattice energy.
    lowest
        THz, lowest frequency of all but the three uniform translations; negative: imaginary.
    """

    free_energy: float
    lowest: float

    @property
    def stable(self) -> bool:
        """Whether every mode is a vibration: none is imaginary, none without a frequency."""
        return self.lowest > FREQUENCY_NOISE


def vibrations(atoms: Atoms, energies: Energies, temperature: float, length: float) -> Vibrations:
    """Harmonic phonons with phonopy (Togo 2023, J. Phys. Soc. Jpn. 92, 012001).

    The free energy is summed over a grid of wave vectors centred on Γ but without it (Monkhorst
    and Pack 1976, Phys. Rev. B 13, 5188), which integrates the logarithm of acoustic frequencies
    well, and of the primitive cell, so that all cells of a crystal have the same. Stability is
    also judged at the wave vectors that fit the supercell, where nothing is interpolated; at Γ the
    uniform translations are projected out.

    Parameters
    ----------
    atoms
        A relaxed crystal; imaginary modes, which have no free energy, and whatever else is below
        `FREQUENCY_NOISE` are left out of the sum.
    temperature
        K.
    length
        Å that every height of the supercell reaches at least.
    """
    cell = primitive(atoms)
    high = heights(cell.cell.array)
    times = np.ceil(length / high - 1e-6).clip(min=1).astype(int)
    dynamical = _dynamical_matrix(cell, energies, times)
    halves = np.ceil(MESH / high / 2 - 1e-6).astype(int)
    mesh = _grid(2 * halves, shift=0.5)
    mesh = mesh[: len(mesh) // 2]  # the other half is −q, with the same frequencies
    quanta = np.array([_quanta(dynamical(q)) for q in mesh])
    fitting = [
        _quanta(dynamical(q) if q.any() else _without_translations(dynamical(q), cell))
        for q in _grid(times, shift=0.0)
    ]
    free = free_energy(quanta, temperature) / len(mesh) * len(atoms) / len(cell)
    return Vibrations(free, float(np.concatenate([*quanta, *fitting]).min()) / THZ)


def free_energy(quanta: np.ndarray, temperature: float) -> float:
    """Of harmonic oscillators, eV, zero-point energy included.

    Parameters
    ----------
    quanta
        ħω of each, eV; those below `FREQUENCY_NOISE` are left out.
    temperature
        K.
    """
    sound = quanta[quanta > FREQUENCY_NOISE * THZ]
    thermal = units.kB * temperature
    if not thermal:
        return float(0.5 * sound.sum())
    return float((0.5 * sound + thermal * np.log(-np.expm1(-sound / thermal))).sum())


def primitive(atoms: Atoms) -> Atoms:
    """The smallest cell of a crystal, its lattice reduced; as it is where none is found."""
    spglib = require("spglib", "use", "finding the primitive cell")
    given = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        cell, places, numbers = spglib.standardize_cell(
            given, to_primitive=True, no_idealize=True, symprec=PHONON_SYMPREC
        )
        reduced = spglib.niggli_reduce(cell)
    except Exception:  # newer spglib raises where older returns None, of which none can be unpacked
        return atoms
    small = Atoms(numbers, scaled_positions=places, cell=cell, pbc=True)
    if reduced is not None:
        small.set_cell(reduced)
        small.wrap()
    return small


def _dynamical_matrix(
    cell: Atoms, energies: Energies, times: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """``(3n, 3n)`` eV/Å²/u by wave vector, in units of the reciprocal lattice."""
    phonopy = require("phonopy", "use", "free energies from phonons")
    given = require("phonopy.structure.atoms", "use", "phonons").PhonopyAtoms(
        numbers=cell.numbers, cell=cell.cell.array, positions=cell.positions
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonons = phonopy.Phonopy(
            given, np.diag(times), primitive_matrix=np.eye(3), symprec=PHONON_SYMPREC, log_level=0
        )
        phonons.generate_displacements(distance=DISPLACEMENT)
        phonons.forces = [
            _forces(displaced, energies) for displaced in phonons.supercells_with_displacements
        ]
        phonons.produce_force_constants(show_drift=False)
        phonons.symmetrize_force_constants(show_drift=False)

    def at(q: np.ndarray) -> np.ndarray:
        phonons.dynamical_matrix.run(q)
        matrix: np.ndarray = phonons.dynamical_matrix.dynamical_matrix
        return matrix

    return at


def _forces(cell: object, energies: Energies) -> np.ndarray:
    atoms = Atoms(cell.symbols, cell.positions, cell=cell.cell, pbc=True)  # type: ignore[attr-defined]
    forces = energies.forces(atoms)
    return forces - forces.mean(axis=0)


def _grid(divisions: np.ndarray, shift: float) -> np.ndarray:
    """``(n, 3)`` wave vectors in units of the reciprocal lattice.

    The k-th last is −q of the k-th where they are shifted by a half.
    """
    indices = np.stack(np.meshgrid(*map(np.arange, divisions), indexing="ij"), axis=-1)
    return (indices.reshape(-1, 3) + shift) / divisions


def _without_translations(matrix: np.ndarray, cell: Atoms) -> np.ndarray:
    """Of the space of motions in which the centre of mass stands still."""
    shifts = np.kron(np.sqrt(cell.get_masses()), np.eye(3))
    inner = null_space(shifts)
    return inner.T @ matrix @ inner


def _quanta(matrix: np.ndarray) -> np.ndarray:
    """ħω, eV, of a dynamical matrix, lowest first; of imaginary modes negative."""
    squares = np.linalg.eigvalsh(matrix)
    return SPRING_QUANTUM * np.sign(squares) * np.sqrt(np.abs(squares))
