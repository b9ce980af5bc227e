"""Do energies and forces belong together? The work along a file's frames says, without a base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlpot.structure.frames import Frame
from tlpot.trust.expectation import displacements

NEAREST = 2
"""Frames nearest to each that it is compared with, besides the next of the file."""
SAME_CELL = 1e-4
"""Å."""
FARTHEST = 0.2
"""Å of RMS displacement up to which the work is that of the mean force."""


def near_pairs(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of near frames: their work −½(F + F')·Δx should be the difference of their energies.

    Parameters
    ----------
    frames
        Of one order of atoms, with energies.

    Returns
    -------
    pairs : ``(p, 2)`` of frames in one cell
    energies : ``(p,)`` E' − E, eV
    moves : ``(p, n, 3)`` Δx, Å
    """
    moves = displacements(frames)
    places = moves.reshape(len(frames), -1)
    energies = np.array([frame.energy for frame in frames], dtype=float)
    cells = np.array([frame.atoms.cell.array.ravel() for frame in frames])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    far = np.abs(cells[:, None] - cells[None]).max(axis=2) > SAME_CELL
    far |= apart > FARTHEST * np.sqrt(len(frames[0]))
    apart[far | np.eye(len(frames), dtype=bool)] = np.inf
    near = np.argsort(apart, axis=1)[:, :NEAREST]
    pairs = {(i, int(j)) for i, row in enumerate(near) for j in row if np.isfinite(apart[i, j])}
    pairs |= {(i, i + 1) for i in range(len(frames) - 1) if np.isfinite(apart[i, i + 1])}
    ordered = sorted({(min(pair), max(pair)) for pair in pairs})
    first, second = np.array(ordered, dtype=int).reshape(-1, 2).T
    pairs_of = np.stack([first, second], axis=1)
    return pairs_of, energies[second] - energies[first], moves[second] - moves[first]
