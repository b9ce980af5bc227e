"""The crystals of ``make.py``: where each comes from, its molecules, its DFT setting."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from ase.spacegroup import crystal
from label import Setting
from sample import Recipe

HERE = Path(__file__).parent


def gather(atoms, molecules):
    """Atoms in the order of ``molecules``, each made whole around its first atom."""
    positions = atoms.positions.copy()
    for mol in molecules:
        vectors = atoms.get_distances(mol[0], mol, mic=True, vector=True)
        positions[mol] = positions[mol[0]] + vectors
    order = np.concatenate(molecules)
    return Atoms(atoms.numbers[order], positions[order], cell=atoms.cell, pbc=True)


def around(atoms, centres, sizes):
    """Each centre with its nearest atoms, the centre first."""
    d = atoms.get_all_distances(mic=True)
    return [np.argsort(d[c])[:n] for c, n in zip(centres, sizes, strict=True)]


def cuscn():
    """Beta-CuSCN, 2H polytype, P6_3mc, Z = 2.

    Cell: D. L. Smith and V. I. Saunders, Acta Cryst. B 38, 907 (1982).  All atoms lie on
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


def iodoform():
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
    return gather(atoms, around(atoms, np.flatnonzero(atoms.numbers == 6), (5, 5)))


def methylsilane():
    """CH3SiH3, an invented packing: the lowest of ``packing.py``, cell relaxed by GFN1-xTB."""
    return read(HERE / "methylsilane" / "packing.extxyz")


@dataclass
class Compound:
    """A crystal, its rigid units, how often GFN1-xTB repeats it, and how it is drawn.

    ``rough`` is the DFT setting of the relaxation, ``setting`` that of the labels.
    """

    start: callable
    molecules: list
    repeat: tuple
    rough: Setting
    setting: Setting
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 4


COMPOUNDS = {
    "methylsilane": Compound(
        start=methylsilane,
        molecules=[list(range(8)), list(range(8, 16))],
        repeat=(2, 1, 2),
        rough=Setting(400, ((2, 0, 0), (0, 1, 0), (0, 0, 2)), bands=14),
        setting=Setting(500, ((3, 0, 0), (1, 1, 1), (0, 0, 3)), bands=14),
    ),
    "iodoform": Compound(
        start=iodoform,
        molecules=[list(range(5)), list(range(5, 10))],
        repeat=(2, 2, 1),
        rough=Setting(400, ((2, 0, 0), (0, 2, 0), (0, 0, 2)), bands=26),
        setting=Setting(500, ((3, 0, 0), (0, 3, 0), (1, 2, 1)), bands=26),
    ),
    "cuscn": Compound(
        start=cuscn,
        molecules=[[0], [1, 2, 3], [4], [5, 6, 7]],
        repeat=(2, 2, 1),
        rough=Setting(600, ((2, 0, 0), (0, 2, 0), (0, 0, 2)), bands=26),
        setting=Setting(800, ((4, 2, 0), (-2, 2, 0), (0, 2, 1)), bands=26),
    ),
}
