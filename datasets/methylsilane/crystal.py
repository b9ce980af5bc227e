"""Methylsilane, CH3SiH3, an invented packing, for ``tools/dataset.py``."""

from functools import partial
from pathlib import Path

from ase import Atoms
from ase.io import read
from dft import sheared


def start() -> Atoms:
    """The lowest of ``packing.py``, cell relaxed by GFN1-xTB."""
    return read(Path(__file__).parent / "packing.extxyz")


setting = partial(sheared, bands=14)
MOLECULES = [list(range(8)), list(range(8, 16))]
REPEAT = (2, 1, 2)
"""How often GFN1-xTB repeats the cell."""
ROUGH = setting(400, (2, 0, 0), (0, 1, 0), (0, 0, 2))
"""Of the relaxation."""
SETTING = setting(500, (3, 0, 0), (1, 1, 1), (0, 0, 3))
"""Of the labels."""
SERIES = [
    [setting(cutoff, (1, 0, 0), (0, 1, 0), (0, 0, 1)) for cutoff in (800, 600, 500, 400)],
    [
        setting(300, (4, 0, 0), (0, 2, 0), (0, 0, 4)),
        setting(300, (3, 0, 0), (1, 1, 1), (0, 0, 3)),
        setting(300, (3, 0, 0), (0, 2, 0), (0, 0, 3)),
        setting(300, (3, 0, 0), (0, 1, 0), (0, 0, 3)),
        setting(300, (2, 0, 0), (0, 2, 0), (0, 0, 2)),
    ],
]
"""Cutoffs at few k-points, then k-points at a low cutoff; the reference comes first."""
