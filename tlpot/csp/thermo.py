"""Harmonic free energy of a crystal from phonons by finite displacements."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from tlpot.csp.landscape import Energies
from tlpot.csp.structures import require

STEP = 0.02
"""Å by which atoms are displaced."""
MESH = 30.0
"""Å: phonopy's length of the mesh of wave vectors, about 2 π/30 Å⁻¹ between them."""
SYMPREC = 1e-3
"""Å within which symmetry saves displacements."""
IMAGINARY = -0.1
"""THz below which a frequency is imaginary, not noise of an acoustic one."""


@dataclass(frozen=True)
class Vibrations:
    """Phonons of one crystal at one temperature.

    Attributes
    ----------
    free_energy
        eV of the cell, vibrational: −TS with the zero-point energy, without the lattice energy.
    lowest
        THz, lowest frequency of the mesh; negative: imaginary.
    """

    free_energy: float
    lowest: float

    @property
    def stable(self) -> bool:
        """Whether no mode is imaginary (beyond noise)."""
        return self.lowest >= IMAGINARY


def vibrations(atoms: Atoms, energies: Energies, temperature: float, length: float) -> Vibrations:
    """Harmonic phonons with phonopy (Togo 2023, J. Phys. Soc. Jpn. 92, 012001).

    Parameters
    ----------
    atoms
        A relaxed crystal; imaginary modes, which have no free energy, are left out of the sum.
    temperature
        K.
    length
        Å that every height of the supercell reaches at least.
    """
    phonopy = require("phonopy")
    cell = require("phonopy.structure.atoms").PhonopyAtoms(
        numbers=atoms.numbers, cell=atoms.cell.array, positions=atoms.positions
    )
    heights = 1.0 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    times = np.ceil(length / heights - 1e-9).clip(min=1).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonons = phonopy.Phonopy(
            cell, np.diag(times), primitive_matrix=np.eye(3), symprec=SYMPREC, log_level=0
        )
        phonons.generate_displacements(distance=STEP)
        phonons.forces = [
            _forces(displaced, energies) for displaced in phonons.supercells_with_displacements
        ]
        phonons.produce_force_constants(show_drift=False)
        phonons.symmetrize_force_constants(show_drift=False)
        phonons.run_mesh(MESH)
        phonons.run_thermal_properties(temperatures=[temperature])
    lowest = float(phonons.mesh.frequencies.min())
    free = phonons.thermal_properties.free_energy[0]
    return Vibrations(float(free) * units.kJ / units.mol, lowest)


def _forces(cell: object, energies: Energies) -> np.ndarray:
    atoms = Atoms(cell.symbols, cell.positions, cell=cell.cell, pbc=True)  # type: ignore[attr-defined]
    forces = energies.forces(atoms)
    return forces - forces.mean(axis=0)
