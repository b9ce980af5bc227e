"""Writes examples/landscape: crystals of urea for the tutorials.

    python tools/landscape.py        minutes

Molecules as they are in the measured crystal, turned at random in cells of common space groups,
ranked by `mini`; of the lowest unlike ones, and of the measured crystal strained by 2 %, CIF files.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import numpy as np
from ase import Atoms
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from tlpot.csp.rank import rank
from tlpot.csp.settings import Ranking
from tlpot.errors import TlpotError
from tlpot.model.load import load
from tlpot.relax.settings import Relaxation
from tlpot.structure.molecules import find_molecules

ROOT = Path(__file__).parents[1]
MOLECULES = {2: 2, 4: 2, 7: 2, 14: 4, 19: 4}
"""Space group → molecules in its cell."""
VOLUME, TRIES, KEPT = 90.0, 5, 11
"""Å³ a molecule; packings a space group; files."""


def main() -> None:
    random = np.random.default_rng(0)
    measured = ase.io.read(ROOT / "datasets/urea/urea.extxyz", "0")
    molecule = find_molecules(measured)[0]
    folder = ROOT / "examples/landscape"
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory() as name:
        for group in MOLECULES:
            for number in range(TRIES):
                ase.io.write(f"{name}/{group}-{number}.extxyz", packing(molecule, group, random))
        settings = Ranking(relaxation=Relaxation(steps=400))
        ranked = rank(name, load("mini"), settings)
        lowest = [candidate.atoms for candidate in ranked.candidates[:KEPT]]
    strain = np.eye(3) + 0.02 * random.normal(size=(3, 3))
    measured.set_cell(measured.cell @ strain, scale_atoms=True)
    everything = [*lowest, measured]
    for number, place in enumerate(random.permutation(len(everything))):
        ase.io.write(folder / f"{number:02d}.cif", everything[place])


def packing(molecule: Atoms, group: int, random: np.random.Generator) -> Atoms:
    """A packing without molecules that touch."""
    while True:
        edges = random.uniform(0.6, 1.6, 3)
        angles = [90.0, random.uniform(90, 115), 90.0]
        if group == 2:
            angles = list(random.uniform(75, 105, 3))
        if group == 19:
            angles = [90.0] * 3
        edges *= (VOLUME * MOLECULES[group] / np.prod(edges)) ** (1 / 3)
        one = molecule.copy()
        one.positions -= one.get_center_of_mass()
        one.positions = Rotation.random(random_state=random).apply(one.positions)
        one.set_cell([*edges, *angles])
        one.positions += random.random(3) @ one.cell.array
        atoms = crystal(
            one.symbols,
            one.cell.scaled_positions(one.positions),
            spacegroup=group,
            cell=one.cell.cellpar(),
        )
        with suppress(TlpotError):  # its molecules touch
            if [len(m) for m in find_molecules(atoms)] == [len(one)] * MOLECULES[group]:
                return atoms


if __name__ == "__main__":
    main()
