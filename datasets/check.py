"""Convergence of the settings in ``crystals.py``: the figures of the READMEs.

    OMP_NUM_THREADS=1 python check.py cuscn

Takes the crystal before its relaxation, displaces every atom at random by 0.04 Angstrom a
component and compares the forces of PBE (D3 depends on none of this) between cutoffs at few
k-points and between k-points at a low cutoff; then a force of the dataset's second frame with
the finite difference of its energy.
"""

import argparse

import numpy as np
from ase.io import read
from crystals import COMPOUNDS, HERE
from label import Setting, label, pbe


def diagonal(a, b, c):
    return ((a, 0, 0), (0, b, 0), (0, 0, c))


# Cutoffs with their k-points, then k-points with their cutoff; the reference comes first.
SERIES = {
    "methylsilane": {
        diagonal(1, 1, 1): (800, 600, 500, 400),
        300: (
            diagonal(4, 2, 4),
            ((3, 0, 0), (1, 1, 1), (0, 0, 3)),
            diagonal(3, 2, 3),
            diagonal(3, 1, 3),
            diagonal(2, 2, 2),
        ),
    },
    "iodoform": {
        diagonal(1, 1, 1): (800, 600, 500, 400),
        350: (
            diagonal(3, 3, 3),
            ((3, 0, 0), (0, 3, 0), (1, 2, 1)),
            diagonal(3, 3, 2),
            diagonal(3, 3, 1),
            diagonal(2, 2, 2),
        ),
    },
    "cuscn": {
        diagonal(2, 2, 1): (1000, 800, 700, 600, 500),
        450: (
            diagonal(5, 5, 2),
            ((4, 2, 0), (-2, 2, 0), (0, 2, 1)),
            diagonal(4, 4, 2),
            diagonal(3, 3, 2),
            diagonal(4, 4, 1),
        ),
    },
}


def convergence(name):
    atoms = COMPOUNDS[name].start()
    atoms.positions += np.random.default_rng(0).normal(0, 0.04, atoms.positions.shape)
    bands = COMPOUNDS[name].setting.bands
    for fixed, series in SERIES[name].items():
        first = None
        for varied in series:
            cutoff, cells = sorted((fixed, varied), key=lambda value: isinstance(value, tuple))
            setting = Setting(cutoff, cells, bands)
            atoms.calc = pbe(setting)
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            first = first or (energy, forces)
            change = 1000 * (forces - first[1])
            print(
                f"{name} {cutoff} eV, {setting}: dE {1000 * (energy - first[0]):.1f} meV/cell, "
                f"dF max {abs(change).max():.1f} rms {np.sqrt((change**2).mean()):.1f} meV/A",
                flush=True,
            )


def finite_difference(name, atom=0, axis=2, step=0.004):
    atoms = read(HERE / name / f"{name}.extxyz", 1)
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[atom, axis] += sign * step
        ends.append(label(moved, COMPOUNDS[name].setting)[0])
    print(
        f"{name} force on atom {atom}, axis {axis}: {atoms.get_forces()[atom, axis]:.4f} "
        f"analytic, {(ends[1] - ends[0]) / (2 * step):.4f} eV/A finite difference"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=COMPOUNDS)
    for name in parser.parse_args().names:
        finite_difference(name)
        convergence(name)


if __name__ == "__main__":
    main()
