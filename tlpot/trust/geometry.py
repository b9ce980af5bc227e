"""Geometries that are not those of the labels: positions in Bohr, elements exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.structure.soundness import find_flaw
from tlpot.trust.scales import Cause, magnitude

Predict = Callable[[Sequence[Frame]], Sequence[Prediction]]

BOHR_MEND = "multiply positions and cell by 0.529177"
EXCHANGE_MEND = "name the elements in the order of the positions"
BOND_REACH = 4.0
"""Å within which an atom's nearest is looked for."""
STRETCHED, SQUEEZED = 1.45, 0.72
"""Nearest distances over the sums of covalent radii, median, beyond which no molecule is."""
LEFT_BY_GEOMETRY = 0.6
"""Share of the error of forces that another geometry may leave."""


FITS_MANY, MANY_COMPONENTS = 0.6, 200
"""Correlation, of so many components, that another geometry shows without leaving so little."""


def spacing(atoms: Atoms) -> float:
    """Median over the atoms of the nearest distance over the sum of covalent radii."""
    pairs, vectors = neighbour_pairs(atoms, BOND_REACH)
    nearest = np.full(len(atoms), np.inf)
    radii = covalent_radii[atoms.numbers]
    ratio = np.linalg.norm(vectors, axis=1) / radii[pairs].sum(axis=0)
    for side in pairs:
        np.minimum.at(nearest, side, ratio)
    return float(np.median(nearest)) if len(atoms) else 1.0


def explain_geometry(
    frames: Sequence[Frame], factor: float, before: float, predict: Predict
) -> Cause | None:
    """Another geometry for which a base expects the forces that frames have.

    Parameters
    ----------
    frames
        With forces, and with one fault in common.
    factor
        Of labels over the base's forces, as it usually is.
    before
        RMS error of the forces as the frames are, eV/Å.
    """
    best: Cause | None = None
    for text, mend, changed in _geometries(frames):
        if any(find_flaw(frame.atoms) for frame in changed):
            continue
        guesses = predict(changed)
        labels = np.concatenate([np.asarray(frame.forces) for frame in changed])
        expected = factor * np.concatenate([guess.forces for guess in guesses])
        error = magnitude(labels - expected)
        fits = float((labels * expected).sum())
        fits /= max(float(np.linalg.norm(labels) * np.linalg.norm(expected)), 1e-12)
        little = error < LEFT_BY_GEOMETRY * before and error < 0.75 * magnitude(labels)
        if not little and (fits < FITS_MANY or labels.size < MANY_COMPONENTS):
            continue
        if best is None or error < best.error:
            best = Cause(text, mend, error)
    return best


def _geometries(frames: Sequence[Frame]) -> Iterator[tuple[str, str, list[Frame]]]:
    apart = np.median([spacing(frame.atoms) for frame in frames])
    if apart > STRETCHED:
        yield "positions in Bohr", BOHR_MEND, [scaled(frame, units.Bohr) for frame in frames]
    elif apart < SQUEEZED:
        mend = "divide positions and cell by 0.529177"
        text = "positions converted from Bohr, that were in Å"
        yield text, mend, [scaled(frame, 1 / units.Bohr) for frame in frames]
    else:
        symbols = sorted({symbol for frame in frames for symbol in frame.atoms.symbols})
        for first, second in combinations(symbols, 2):
            text = f"elements {first} and {second} exchanged"
            yield text, EXCHANGE_MEND, [exchanged(frame, first, second) for frame in frames]


def scaled(frame: Frame, factor: float) -> Frame:
    """With positions and cell times a factor."""
    atoms = frame.atoms.copy()
    atoms.set_cell(atoms.cell * factor)
    atoms.set_positions(atoms.positions * factor, apply_constraint=False)
    return replace(frame, atoms=atoms)


def exchanged(frame: Frame, first: str, second: str) -> Frame:
    """With the names of two elements exchanged."""
    swap = {first: second, second: first}
    atoms = frame.atoms.copy()
    atoms.symbols = [swap.get(symbol, symbol) for symbol in atoms.symbols]
    return replace(frame, atoms=atoms)
