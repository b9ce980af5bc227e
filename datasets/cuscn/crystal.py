"""Beta-CuSCN, 2H polytype, P6_3mc, Z = 2, for ``tools/dataset.py``."""

from functools import partial

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal
from dft import sheared
from sampling import gather


def start() -> Atoms:
    """Cell: D. L. Smith and V. I. Saunders, Acta Cryst. B 38, 907 (1982).  All atoms lie on
    three-fold axes; heights from Cu-N 1.92, N-C 1.17 and C-S 1.68 Angstrom, to be relaxed.
    """
    a, c = 3.850, 10.938
    atoms = crystal(
        "CuNCS",
        [(1 / 3, 2 / 3, height / c) for height in (0, 1.92, 3.09, 4.77)],
        spacegroup=186,
        cellpar=[a, a, c, 90, 90, 120],
    )
    return gather(atoms, [np.arange(i, 8, 2) for i in (0, 1)])


setting = partial(sheared, bands=26)
MOLECULES = [[0], [1, 2, 3], [4], [5, 6, 7]]
REPEAT = (2, 2, 1)
"""How often GFN1-xTB repeats the cell."""
ROUGH = setting(600, (2, 0, 0), (0, 2, 0), (0, 0, 2))
"""Of the relaxation."""
SETTING = setting(800, (4, 2, 0), (-2, 2, 0), (0, 2, 1))
"""Of the labels."""
SERIES = [
    [setting(cutoff, (2, 0, 0), (0, 2, 0), (0, 0, 1)) for cutoff in (1000, 800, 700, 600, 500)],
    [
        setting(450, (5, 0, 0), (0, 5, 0), (0, 0, 2)),
        setting(450, (4, 2, 0), (-2, 2, 0), (0, 2, 1)),
        setting(450, (4, 0, 0), (0, 4, 0), (0, 0, 2)),
        setting(450, (3, 0, 0), (0, 3, 0), (0, 0, 2)),
        setting(450, (4, 0, 0), (0, 4, 0), (0, 0, 1)),
    ],
]
"""Cutoffs at few k-points, then k-points at a low cutoff; the reference comes first."""
