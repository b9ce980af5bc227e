"""Molecules and pairs of molecules for `forgetting.py`: what to replay, and what to ask about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.units import Hartree

from tlpot.errors import TlpotError
from tlpot.model.potential import Potential
from tlpot.sampling.propose import propose
from tlpot.structure.frames import Frame
from tlpot.structure.packing import facing, turned

S66X8 = "comp6/s66x8_wb97x6-31gd.h5"
SEPARATIONS = 8
IN_S66 = ("H2O", "CH3OH", "H3CNH2", "C6H6", "C5H5N", "C2H2", "C2H4", "CH3COOH", "CH3CONH2")
"""Molecules of ase's G2 collection that dimers of S66 are made of: never replayed."""
ODD = ("CH2_s1A1d", "CH2_s3B1d", "O3")
CLOSE, FAR = 0.65, 1.6
"""Of a pair, closeness (`tlpot.structure.packing`): its range."""
TEMPERATURE = 600.0


def replayable() -> list[str]:
    """Closed-shell molecules of H, C, N, O with three atoms or more that S66 does not have."""
    return [
        name
        for name in g2.names
        if name not in (*IN_S66, *ODD)
        and set((atoms := molecule(name)).symbols) <= set("HCNO")
        and len(atoms) > 2
        and sum(atoms.numbers) % 2 == 0
    ]


def molecules_and_pairs(
    names: Sequence[str], model: Potential, each: int, pairs: int, seed: int
) -> list[Frame]:
    """Thermal geometries of molecules (normal modes of `model`, 600 K), and random pairs of them.

    Parameters
    ----------
    each
        Geometries of a molecule.
    pairs
        Pairs for each geometry that is paired: the molecules of a pair differ, turned at random.
    """
    frames = [Frame(molecule(name), source=name) for name in names]
    number = each * len(names)
    single = propose(frames, "modes", number, model, temperature=TEMPERATURE, seed=seed)
    random = np.random.default_rng(seed)
    pool = list(single)
    for _ in range(pairs):
        order = random.permutation(len(single))
        pool += [
            Frame(pair(single[i].atoms, single[j].atoms, random), source=f"pair {i}-{j}")
            for i, j in pairwise(order)
        ]
    return pool


def pair(first: Atoms, second: Atoms, random: np.random.Generator) -> Atoms:
    """Two molecules, turned at random, brought together along a random line to contact."""
    placed = [turned(molecule, random) for molecule in (first, second)]
    line = random.normal(size=3)
    return facing(*placed, line / np.linalg.norm(line), random.uniform(CLOSE, FAR))


def s66x8() -> list[Frame]:
    """66 dimers at 8 separations each, nearest first, ωB97X/6-31G*: ANI-2x's own level.

    The file's forces are gradients, in Hartree/Å.

    Raises
    ------
    TlpotError
        If there is no such file under ``$TLPOT_DATA``, or no h5py.
    """
    path = Path(os.environ.get("TLPOT_DATA", "")) / S66X8
    if not path.is_file():
        raise TlpotError(f"{S66X8} of COMP6 is not under $TLPOT_DATA; set TLPOT_DATA")
    try:
        import h5py
    except ImportError:
        raise TlpotError("reading S66x8 takes h5py: pip install h5py") from None
    frames = []
    with h5py.File(path) as file:
        for name, group in file["s66x8"].items():
            symbols = [s.decode() for s in group["species"]]
            for i, energy in enumerate(group["energies"]):
                atoms = Atoms(symbols, group["coordinates"][i])
                forces = -Hartree * group["forces"][i].astype(float)
                frames.append(Frame(atoms, Hartree * float(energy), forces, None, name, i))
    return frames
