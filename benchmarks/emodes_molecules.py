"""Small molecules of twelve elements with GFN1-xTB energies and forces, for `emodes_transfer`.

Closed-shell molecules of ASE's G2 set and analogues of them (Br and I for F and Cl, Se for S),
relaxed and displaced along their normal modes. GFN1-xTB (tblite) is semi-empirical: cheap labels
of one consistent level for every element, not DFT.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import covalent_radii
from ase.data.g2 import data as G2

from tlpot.data.sample import sample_modes, take
from tlpot.errors import TlpotError
from tlpot.frames import Frame

ELEMENTS = {"H", "C", "N", "O", "F", "Si", "P", "S", "Cl"}
ANALOGUES = {"Br": ("F", "Cl"), "I": ("F", "Cl"), "Se": ("S",)}
TEMPERATURES = (300.0, 1000.0)
MAX_HEAVY, MAX_HEAVY_ANALOGUE = 5, 4
"""Atoms other than hydrogen in a molecule of G2, and in one that gets analogues."""


def label(frames_each: int, seed: int = 0) -> list[Frame]:
    """`frames_each` labelled frames of every molecule; those that fall apart are left out."""
    from tblite.ase import TBLite

    calculator, random = TBLite(method="GFN1-xTB", verbosity=0), np.random.default_rng(seed)
    frames: list[Frame] = []
    for name, start in molecules():
        try:
            for temperature in TEMPERATURES:
                proposals = sample_modes(start, calculator, temperature, random)
                for atoms in take(proposals, frames_each // len(TEMPERATURES), 0.6):
                    atoms.calc = calculator
                    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
                    bare = Atoms(atoms.symbols, atoms.positions)
                    frames.append(Frame(bare, energy, forces, info={"molecule": name}))
        except (TlpotError, RuntimeError) as error:
            print(f"left out {name}: {error}")
    return frames


def molecules() -> Iterator[tuple[str, Atoms]]:
    """Names and starting geometries, analogues with bonds stretched to fit."""
    for name in g2.names:
        atoms = molecule(name)
        heavy = (atoms.numbers > 1).sum()
        if (
            not set(atoms.symbols) <= ELEMENTS
            or atoms.numbers.sum() % 2
            or G2[name].get("magmoms")
            or not 1 <= heavy <= MAX_HEAVY
            or len(atoms) < 2
        ):
            continue
        yield name, atoms
        for new, olds in ANALOGUES.items():
            for old in olds:
                if old in atoms.symbols and heavy <= MAX_HEAVY_ANALOGUE:
                    yield f"{name} {old}→{new}", _analogue(atoms, old, new)


def _analogue(atoms: Atoms, old: str, new: str) -> Atoms:
    changed = atoms.copy()
    changed.symbols[changed.symbols == old] = new
    before, after = (covalent_radii[a.numbers].mean() for a in (atoms, changed))
    changed.positions *= after / before
    return changed
