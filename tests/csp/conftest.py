"""Small landscapes: crystals of urea that differ in packing, as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from tlpot.csp.rank import rank
from tlpot.csp.ranking import Ranked
from tlpot.data.read import read_frames
from tlpot.potential import Potential, load

UREA = Path(__file__).parents[2] / "datasets" / "urea" / "urea.extxyz"


@pytest.fixture(scope="session")
def mini() -> Potential:
    return load("mini")


@pytest.fixture(scope="session")
def crystals() -> list[Atoms]:
    """Five crystals of urea: the experimental cell, and four displaced and strained ones."""
    frames = read_frames(UREA)
    return [frames[i].atoms for i in (0, 20, 30, 40, 50)]


@pytest.fixture(scope="session")
def landscape(tmp_path_factory, crystals) -> Path:
    """A folder with the crystals, one file each, in several formats; not to be written to."""
    folder = tmp_path_factory.mktemp("landscape")
    for i, atoms in enumerate(crystals):
        if i == 1:
            ase.io.write(folder / "b.vasp", atoms, format="vasp")
        elif i == 2:
            ase.io.write(folder / "c.res", atoms)
        else:
            ase.io.write(folder / f"{'abcde'[i]}.cif", atoms)
    return folder


@pytest.fixture(scope="session")
def ranked(mini, landscape) -> Ranked:
    """The landscape in order."""
    return rank(landscape, mini)


@pytest.fixture(scope="session")
def moved() -> Callable[[Atoms], Atoms]:
    """The same crystal, shifted, turned, in a doubled and skewed cell, atoms in another order."""

    def move(atoms: Atoms) -> Atoms:
        twin = atoms.repeat((1, 2, 1))
        twin.positions += [0.7, -1.3, 2.1]
        skewed = twin.cell.array.copy()
        skewed[0] += skewed[2]
        twin.set_cell(skewed)
        twin.rotate(37, (1, 2, 3), rotate_cell=True)
        twin.wrap()
        return twin[np.random.default_rng(1).permutation(len(twin))]

    return move
