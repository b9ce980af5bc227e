"""The 6,862 binary compounds of ``seeds/xrd_binary_peaks.npz`` as examples to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from tlpot.frames import Frame
from tlpot.powder.data import Example, prototype
from tlpot.powder.lines import SYSTEMS, indexed, symmetry

SYMPREC = 0.1
"""Å, with which the Materials Project finds symmetry."""
SHIFT = 0.01
"""Degrees 2θ, of the original's copies."""


def read_binaries(folder: Path, some: slice = slice(None)) -> list[Example]:
    """Crystals with their lines; `prototype` and `crystal` (its id) in ``frame.info``."""
    found, crystals = (
        dict(np.load(folder / f"{name}.npz")) for name in ("xrd_binary_peaks", "crystals_mp36k")
    )
    atoms_at = np.concatenate([[0], np.cumsum(crystals["n_atoms"], dtype=int)])
    lines_at = np.concatenate([[0], np.cumsum(found["n_peaks"], dtype=int)])
    angles, heights = (found[key].astype(float) for key in ("two_theta", "intensity"))
    examples = []
    for i in range(len(found["idx"]))[some]:
        k = found["idx"][i]
        own = slice(atoms_at[k], atoms_at[k + 1])
        atoms = Atoms(
            crystals["Z"][own],
            scaled_positions=crystals["frac"][own],
            cell=crystals["cellpar"][k],
            pbc=True,
        )
        frame = Frame(atoms, source=str(found["mp_id"][i]), info={"crystal": i})
        group = symmetry(atoms, SYMPREC)
        frame.info["prototype"] = prototype(frame, group["number"], group["wyckoffs"])
        peaks = slice(lines_at[i], lines_at[i + 1])
        lines = indexed(angles[peaks], heights[peaks], atoms.cell.array, group["rotations"])
        examples.append(Example(frame, lines, SYSTEMS.index(str(found["crystal_system"][i]))))
    return examples


def with_shifted_copies(examples: Sequence[Example]) -> list[Example]:
    """Each crystal three times: as it is, and shifted by `SHIFT` to either side."""
    return [
        Example(
            replace(one.frame, index=place),
            replace(one.lines, two_theta=one.lines.two_theta + shift),
            one.system,
        )
        for one in examples
        for place, shift in enumerate((0.0, -SHIFT, SHIFT))
    ]
