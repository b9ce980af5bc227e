"""Checks of the settings of ``label.py`` on one frame: the figures in README.md.

Finite differences of the energy against the force and the stress, and the change with the
cutoff, the k-points and the convergence thresholds.  About ten minutes on one core:

    OMP_NUM_THREADS=1 python check.py urea.extxyz
"""

import argparse

import numpy as np
from ase.io import read
from ase.units import GPa
from label import CUTOFF, KPTS, label

TIGHT = {"energy": 1e-8, "density": 1e-8, "eigenstates": 1e-11, "forces": 1e-5}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default="urea.extxyz")
    parser.add_argument("--frame", type=int, default=1)
    args = parser.parse_args()
    atoms = read(args.data, args.frame)
    energy, forces, stress = (
        atoms.get_potential_energy(),
        atoms.get_forces(),
        atoms.get_stress(),
    )
    print(f"frame {args.frame}, {atoms.info['kind']}, {CUTOFF} eV, {KPTS}", flush=True)

    atom, axis, step = 0, 2, 0.004
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[atom, axis] += sign * step
        ends.append(label(moved)[0])
    print(
        f"force on atom {atom}, axis {axis}: {forces[atom, axis]:.4f} analytic, "
        f"{-(ends[0] - ends[1]) / (2 * step):.4f} eV/A finite difference",
        flush=True,
    )

    for name, voigt, (i, j), step in (
        ("zz", 2, (2, 2), 0.005),
        ("xz", 4, (0, 2), 0.005),
    ):
        ends = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
            ends.append(label(strained)[0])
        numeric = (ends[0] - ends[1]) / (2 * step * atoms.get_volume())
        print(
            f"stress {name}: {stress[voigt] / GPa:.3f} analytic, "
            f"{numeric / GPa:.3f} GPa finite difference at constant cutoff",
            flush=True,
        )

    for text, settings in (
        ("thresholds 1e-8", TIGHT),
        ("700 eV", {"cutoff": 700}),
        ("900 eV", {"cutoff": 900}),
        ("1500 eV", {"cutoff": 1500}),
        ("2x2x2", {"kpts": (2, 2, 2)}),
        ("3x3x4", {"kpts": (3, 3, 4)}),
    ):
        e, f, s = label(atoms, **settings)
        print(
            f"{text}: dE {1000 * (e - energy):.2f} meV/cell, "
            f"dF max {1000 * abs(f - forces).max():.2f} "
            f"rms {1000 * np.sqrt(((f - forces) ** 2).mean()):.2f} meV/A, "
            f"dstress {((s - stress) / GPa).round(3)} GPa",
            flush=True,
        )


if __name__ == "__main__":
    main()
