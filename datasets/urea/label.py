"""PBE+D3(BJ) energies, forces and stresses with GPAW for the frames of ``sample.py``.

Restartable: every finished frame goes to ``labels/NNNN.extxyz`` at once (atomic rename),
frames already there are skipped, and the collected file is rewritten after each frame.

Needs gpaw, dftd3 and ase.  One serial process, about 40 s a frame on one core:

    OMP_NUM_THREADS=1 python label.py frames.extxyz --out urea.extxyz
"""

import argparse
import os
import time
from pathlib import Path

import gpaw
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from dftd3.ase import DFTD3
from gpaw import GPAW, PW

CUTOFF = 1100  # eV
KPTS = (2, 2, 3)


def pbe(cutoff=CUTOFF, kpts=KPTS, gamma=False, txt=None, **convergence):
    """GPAW; Monkhorst-Pack mesh (even divisions skip the Gamma point), full bands only."""
    return GPAW(
        mode=PW(cutoff),
        xc="PBE",
        kpts={"size": kpts, "gamma": gamma},
        nbands=24,  # all 48 valence electrons; urea is an insulator
        occupations={"name": "fermi-dirac", "width": 0.0},
        symmetry={"point_group": False},  # the same k-points for every frame
        convergence={"energy": 1e-6, "density": 1e-5, "forces": 1e-3} | convergence,
        txt=txt,
    )


def d3():
    """D3(BJ) with its PBE parameters, two-body terms only (no Axilrod-Teller-Muto)."""
    parameters = {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407, "s9": 0.0}
    return DFTD3(damping="d3bj", params_tweaks=parameters)


def label(atoms, **settings):
    """Energy (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3, ASE sign and order)."""
    energy, forces, stress = 0.0, 0.0, 0.0
    for calc in (pbe(**settings), d3()):
        part = atoms.copy()
        part.calc = calc
        energy += part.get_potential_energy()
        forces += part.get_forces()
        stress += part.get_stress()
    return energy, forces, stress


def write_atomic(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    write(new, frames, format="extxyz")
    os.replace(new, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", nargs="?", default="frames.extxyz")
    parser.add_argument("--out", type=Path, default=Path("urea.extxyz"))
    parser.add_argument("--labels", type=Path, default=Path("labels"))
    args = parser.parse_args()

    frames, done = read(args.frames, ":"), []
    for n, atoms in enumerate(frames):
        path = args.labels / f"{n:04d}.extxyz"
        if not path.exists():
            start = time.process_time()
            energy, forces, stress = label(atoms)
            atoms.info.update(
                engine=f"GPAW {gpaw.__version__}",
                xc="PBE+D3(BJ)",
                cutoff=CUTOFF,
                kpts="{}x{}x{} MP".format(*KPTS),
            )
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=round(energy, 6),
                forces=forces.round(6),
                stress=stress.round(8),
            )
            write_atomic(path, atoms)
            seconds = time.process_time() - start
            top = (forces**2).sum(1).max() ** 0.5
            print(
                f"{n + 1}/{len(frames)} {atoms.info['kind']:10s} {energy:.4f} eV, "
                f"max |F| {top:.2f} eV/A, {seconds:.0f} CPU-s",
                flush=True,
            )
        done.append(read(path))
        write_atomic(args.out, done)


if __name__ == "__main__":
    main()
