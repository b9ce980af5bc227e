"""Urea, P-42_1m, Z = 2, for ``tools/dataset.py``; its geometries are those of ``sample.py``."""

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.spacegroup import crystal
from dft import Setting


def start() -> Atoms:
    """The experimental crystal at 12 K (CSD UREAXX12) with whole molecules: atoms 0-7 and 8-15."""
    atoms = crystal(
        "COHHN",
        [
            (0, 0.5, 0.3260),
            (0, 0.5, 0.5953),
            (0.2575, 0.7575, 0.2827),
            (0.1441, 0.6441, -0.0380),
            (0.1459, 0.6459, 0.1766),
        ],
        spacegroup=113,
        cellpar=[5.565, 5.565, 4.684, 90, 90, 90],
    )
    numbers, positions, order = atoms.numbers, atoms.positions, []
    for c in np.flatnonzero(numbers == 6):
        vectors, _ = find_mic(positions - positions[c], atoms.cell)
        near = np.linalg.norm(vectors, axis=1) < 2.3
        positions[near] = positions[c] + vectors[near]
        order += sorted(np.flatnonzero(near), key=lambda i: (numbers[i] == 1, -numbers[i]))
    plain = atoms[order]
    plain.info.clear()
    plain.arrays.pop("spacegroup_kinds", None)
    return plain


MOLECULES = [list(range(8)), list(range(8, 16))]
SETTING = Setting(
    1100,
    bands=24,  # all 48 valence electrons; urea is an insulator
    mesh=(2, 2, 3),
    stress=True,
    thresholds={"energy": 1e-6, "density": 1e-5, "forces": 1e-3},
)
"""Of the labels."""
TIGHT = {"energy": 1e-8, "density": 1e-8, "eigenstates": 1e-11, "forces": 1e-5}
SERIES = [
    [SETTING, replace(SETTING, thresholds=TIGHT)],
    [replace(SETTING, cutoff=cutoff, mesh=(2, 2, 2)) for cutoff in (1500, 1100, 900, 700)],
    [
        replace(SETTING, cutoff=900, mesh=mesh)
        for mesh in ((2, 2, 4), (2, 2, 3), (3, 3, 3), (3, 3, 2), (2, 2, 2))
    ],
]
"""Thresholds, cutoffs and k-points; the reference comes first."""
