"""Iodoform, CHI3, P6_3, Z = 2, for ``tools/dataset.py``."""

from functools import partial

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal
from dft import sheared
from sampling import gather


def start() -> Atoms:
    """CHI3, P6_3, Z = 2, a = 6.818, c = 7.524 Angstrom; C-H along the axis.

    Built from C-I 2.14, C-H 1.09 Angstrom and I-C-I 113 degrees, the turn about the axis
    that keeps iodine atoms of neighbours furthest apart; to be relaxed.
    """
    a, c, bond, angle = 6.818, 7.524, 2.14, np.radians(113)
    radius = 2 * bond * np.sin(angle / 2) / np.sqrt(3)
    height = np.sqrt(bond**2 - radius**2)
    cell = Atoms(cell=crystal("H", [(0, 0, 0)], cellpar=[a, a, c, 90, 90, 120]).cell).cell
    axis, turn = np.array([1 / 3, 2 / 3, 0]) @ cell, np.radians(60)
    sites = axis + np.array(
        [
            (0, 0, height),
            (0, 0, height + 1.09),
            (radius * np.cos(turn), radius * np.sin(turn), 0),
        ]
    )
    atoms = crystal(
        "CHI", cell.scaled_positions(sites), spacegroup=173, cellpar=[a, a, c, 90, 90, 120]
    )
    near = atoms.get_all_distances(mic=True).argsort(axis=1)
    molecules = [near[c][:5] for c in np.flatnonzero(atoms.numbers == 6)]
    return gather(atoms, molecules)


setting = partial(sheared, bands=26)
MOLECULES = [list(range(5)), list(range(5, 10))]
REPEAT = (2, 2, 1)
"""How often GFN1-xTB repeats the cell."""
ROUGH = setting(400, (2, 0, 0), (0, 2, 0), (0, 0, 2))
"""Of the relaxation."""
SETTING = setting(500, (3, 0, 0), (0, 3, 0), (1, 2, 1))
"""Of the labels."""
SERIES = [
    [setting(cutoff, (1, 0, 0), (0, 1, 0), (0, 0, 1)) for cutoff in (800, 600, 500, 400)],
    [
        setting(350, (3, 0, 0), (0, 3, 0), (0, 0, 3)),
        setting(350, (3, 0, 0), (0, 3, 0), (1, 2, 1)),
        setting(350, (3, 0, 0), (0, 3, 0), (0, 0, 2)),
        setting(350, (3, 0, 0), (0, 3, 0), (0, 0, 1)),
        setting(350, (2, 0, 0), (0, 2, 0), (0, 0, 2)),
    ],
]
"""Cutoffs at few k-points, then k-points at a low cutoff; the reference comes first."""
