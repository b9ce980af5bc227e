"""PBE+D3(BJ) energies and forces with GPAW, one setting a dataset.

Restartable: every finished frame is written at once (atomic rename), frames already there
are skipped.
"""

import os
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write


@dataclass(frozen=True)
class Setting:
    """Plane-wave cutoff in eV, k-points, number of (full) bands.

    ``supercell`` names the k-points by the Born-von-Karman cell they stand for (rows in
    lattice vectors): all Bloch waves that change sign along each of its edges, hence none
    at Gamma.  A compact, sheared supercell needs far fewer than a diagonal one (Moreno and
    Soler, Phys. Rev. B 45, 13891, 1992; Wisesa et al., Phys. Rev. B 93, 155109, 2016).

    No smearing and no empty bands: all crystals here are insulators with paired electrons,
    so energy and free energy are the same.
    """

    cutoff: float
    supercell: tuple
    bands: int

    def kpoints(self):
        """Fractional k-points, one for each cell of the supercell, shape ``(cells, 3)``."""
        inverse, reach = np.linalg.inv(self.supercell), range(-8, 9)
        waves = (np.array(list(product(reach, repeat=3))) + 0.5) @ inverse.T
        waves -= np.ceil(np.round(waves, 9) - 0.5)  # into (-1/2, 1/2]
        return np.unique(np.round(waves, 9) + 0.0, axis=0)

    def __str__(self):
        return " / ".join(" ".join(map(str, row)) for row in self.supercell) + " off Gamma"


def pbe(setting, txt=None, **convergence):
    """GPAW.  All frames use the same k-points, whatever their symmetry."""
    from gpaw import GPAW, PW

    return GPAW(
        mode=PW(setting.cutoff),
        xc="PBE",
        kpts=setting.kpoints(),
        nbands=setting.bands,
        occupations={"name": "fermi-dirac", "width": 0.0},
        symmetry={"point_group": False},
        mixer={"backend": "pulay", "beta": 0.35, "nmaxold": 7, "weight": 50.0},
        convergence={"energy": 1e-5, "density": 1e-4, "eigenstates": 1e-6} | convergence,
        txt=txt,
    )


def d3():
    """D3(BJ) with its PBE parameters, two-body terms only (no Axilrod-Teller-Muto)."""
    from dftd3.ase import DFTD3

    parameters = {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407, "s9": 0.0}
    return DFTD3(damping="d3bj", params_tweaks=parameters)


def label(atoms, setting, **options):
    """Energy (eV) and forces (eV/Angstrom)."""
    energy, forces = 0.0, 0.0
    for calc in (pbe(setting, **options), d3()):
        part = atoms.copy()
        part.calc = calc
        energy += part.get_potential_energy()
        forces += part.get_forces()
    return energy, forces


def write_atomic(path, frames):
    new = path.with_name(path.name + ".new")
    write(new, frames, format="extxyz")
    os.replace(new, path)


def label_frames(frames, setting, folder):
    """Label what is not yet in ``folder``; yields the labelled frames in order."""
    import gpaw

    folder.mkdir(parents=True, exist_ok=True)
    for n, atoms in enumerate(frames):
        path = Path(folder) / f"{n:04d}.extxyz"
        if not path.exists():
            start = time.process_time()
            energy, forces = label(atoms, setting)
            atoms.info.update(
                engine=f"GPAW {gpaw.__version__}",
                xc="PBE+D3(BJ)",
                cutoff=setting.cutoff,
                kpts=str(setting),
            )
            atoms.calc = SinglePointCalculator(
                atoms, energy=round(energy, 6), forces=forces.round(6)
            )
            write_atomic(path, atoms)
            seconds = time.process_time() - start
            top = (forces**2).sum(1).max() ** 0.5
            print(
                f"{n + 1}/{len(frames)} {atoms.info['kind']:12s} {energy:.4f} eV, "
                f"max |F| {top:.2f} eV/A, {seconds:.0f} CPU-s",
                flush=True,
            )
        yield read(path)
