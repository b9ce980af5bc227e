"""What to know about the labels of frames that are used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from tlpot.config.hints import hint
from tlpot.data.displaced import displaced_sets
from tlpot.data.vasp.tags import RESPONSE
from tlpot.structure.electrons import odd_without_metal
from tlpot.structure.frames import Frame

DRIFT = 0.02
"""eV/Å that the sum of a frame's forces leaves to each atom from which it is told: no potential can
come nearer to them."""
_STRESS = re.compile("stress|virial", re.IGNORECASE)


def remarks_on(frames: Sequence[Frame]) -> Iterator[str]:
    """What the runs of some frames leave open about their labels."""
    yield from _phonons(frames)
    bands = [frame for frame in frames if frame.info.get("images")]
    if bands:
        yield (
            f"{len(bands)} frames are images of an elastic band, as {bands[0].name}: some versions "
            "of VASP add the springs to their forces. Single points of them are safe."
        )
    held = [frame for frame in frames if frame.force_labels is not frame.forces]
    if held:
        zeroed = int(np.isnan(np.asarray(held[0].force_labels)).any(axis=1).sum())
        yield (
            f"{len(held)} frames have forces of exactly zero on atoms that are held fast, as on "
            f"{zeroed} of {held[0].name}: no labels; only the other atoms' forces count."
        )
    yield from _drifts(frames)
    yield from _unread_stresses(frames)
    odd = [frame for frame in frames if odd_without_metal(frame)]
    if odd:
        yield (
            f"{len(odd)} frames have an odd number of electrons, as {odd[0].name} "
            f"({odd[0].formula}): ions, radicals, or a hydrogen is missing; ANI knows "
            "closed shells only."
        )
    guesses = [frame for frame in frames if str(frame.info.get("engine")).startswith("tlpot ")]
    if guesses:
        yield (
            f"{len(guesses)} frames have the energies of a tlpot model, not of DFT, as "
            f"{guesses[0].name} ({guesses[0].info.get('settings', 'of tlpot md')}): what trains on "
            "them learns a model's guesses. tlpot label gives them labels."
        )
    polarised = ("ISPIN = 2", "non-collinear", "spin-orbit")
    silent = [
        frame
        for frame in frames
        if frame.info.get("spin_treatment") in polarised and "magmom" not in frame.info
    ]
    if silent:
        yield (
            f"{len(silent)} frames are spin-polarised, and their file does not say with what "
            f"moment, as {silent[0].name}: the run's OUTCAR does; ANI knows closed shells only."
        )


def _drifts(frames: Sequence[Frame]) -> Iterator[str]:
    """Forces that do not sum to zero, though nothing holds an atom."""
    free = [f for f in frames if f.forces is not None and len(f) and not f.atoms.constraints]
    sums = [float(np.linalg.norm(np.asarray(frame.forces).mean(axis=0))) for frame in free]
    drifting = [i for i, size in enumerate(sums) if size > DRIFT]
    if drifting:
        worst = max(drifting, key=sums.__getitem__)
        yield (
            f"the forces of {len(drifting)} frames do not sum to zero, as those of "
            f"{free[worst].name}: {sums[worst]:.2g} eV/Å on each atom that no potential can learn. "
            "Another field, a fixed atom, a coarse grid, or forces of another quantity?"
        )


def _unread_stresses(frames: Sequence[Frame]) -> Iterator[str]:
    """Stresses under a name that is not known, mostly in another unit."""
    unread = [
        (frame, key)
        for frame in frames
        if frame.stress is None and frame.kind != "molecule"
        for key, value in frame.info.items()
        if _STRESS.search(key) and np.size(np.asarray(value)) in (6, 9)
    ]
    if unread:
        frame, key = unread[0]
        yield (
            f"{len(unread)} frames have no stress, but '{key}', as {frame.name}: a stress is read "
            "as 'stress', in eV/Å³ (1 GPa is 0.0062415)"
            + hint(", or by the name that {data.keys.stress} gives it")
            + "."
        )


def _phonons(frames: Sequence[Frame]) -> Iterator[str]:
    """What is to be known of force constants among the frames."""
    for some in displaced_sets(frames):
        first = frames[some.members[0]]
        rest = "with" if some.at_rest else "without"
        yield (
            f"{len(some.members)} frames are finite displacements, as {first.name}: "
            f"{some.atoms} of {len(first)} atoms of {first.formula} by {some.step:.3g} Å, {rest} "
            "the structure at rest. They stay together when frames are split"
        )
    responses = [f for f in frames if f.info.get("ibrion") in RESPONSE]
    if responses:
        yield (
            f"{len(responses)} frames are of runs of linear response (IBRION = 7, 8), as "
            f"{responses[0].name}: tlpot evaluate --phonons judges by their force constants."
        )
