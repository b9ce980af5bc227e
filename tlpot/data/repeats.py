"""Frames that show the same geometry twice."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from tlpot.structure.frames import Frame
from tlpot.structure.neighbours import heights

SAME_PLACE = 1e-5
"""Å within which positions and cells are the same."""

SHADOWS = 4
"""Random projections by which frames are compared first."""

SAME_ENERGY = 1e-5
"""eV/atom within which energies of one geometry are the same."""

SAME_FORCE = 1e-3
"""eV/Å within which forces of one geometry are the same."""


def find_repeats(frames: list[tuple[int, Frame]]) -> dict[int, tuple[str, str]]:
    """Repeated geometries: the later frame, or both where the labels disagree.

    Atoms count as the same in the same order, also where they were wrapped into the cell or all
    moved together. Frames are compared only where random projections of their coordinates agree,
    so the cost grows as n log n.

    Parameters
    ----------
    frames
        Frames with energy, each with the number it is reported by. Of two that agree, one with
        forces is kept before one without, or before a minimum's zeros.

    Returns
    -------
    ``{number: (reason, detail)}`` with reason "duplicate" or "contradicting labels".
    """
    groups: dict[bytes, list[tuple[int, Frame]]] = defaultdict(list)
    for i, frame in frames:
        groups[frame.atoms.numbers.tobytes() + frame.atoms.pbc.tobytes()].append((i, frame))
    repeats: dict[int, tuple[str, str]] = {}
    for group in groups.values():
        repeats |= _repeats_among_alike(group)
    return repeats


def _repeats_among_alike(group: list[tuple[int, Frame]]) -> dict[int, tuple[str, str]]:
    cells = np.array([f.atoms.cell.complete().array for _, f in group])
    pbc = group[0][1].atoms.pbc
    places = np.array([_from_first_atom(f) for _, f in group])
    shadows, reach = _shadows(cells, places, pbc)
    order = np.argsort(shadows[:, 0], kind="stable")
    sorted_shadows = shadows[order]
    ends = np.searchsorted(sorted_shadows[:, 0], sorted_shadows[:, 0] + reach, side="right")
    repeats: dict[int, tuple[str, str]] = {}
    for rank, i in enumerate(order):
        if group[i][0] in repeats:
            continue
        near = slice(rank + 1, ends[rank])
        close = np.abs(sorted_shadows[near] - sorted_shadows[rank]).max(1, initial=0.0) <= reach
        for j in order[near][close]:
            if np.abs(cells[i] - cells[j]).max() > SAME_PLACE:
                continue
            apart = places[j] - places[i]
            apart[:, pbc] -= np.round(apart[:, pbc])
            if np.abs(apart @ cells[i]).max() <= SAME_PLACE:
                earlier, later = sorted((group[i], group[j]), key=lambda item: item[0])
                repeats |= _judge(earlier, later, repeats)
    return repeats


def _from_first_atom(frame: Frame) -> np.ndarray:
    """``(n, 3)`` where atoms are from the first, in units of the cell vectors."""
    scaled = frame.atoms.cell.complete().scaled_positions(frame.atoms.positions)
    return np.asarray(scaled - scaled[0])


def _shadows(cells: np.ndarray, places: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, float]:
    """Random projections ``(frames, SHADOWS)`` that no lattice vector changes.

    And by how much those of the same geometry may differ.
    """
    turns = 2 * np.pi * places[..., pbc]
    lengths = np.linalg.norm(cells, axis=2)[:, None, :]
    straight = (places * lengths)[..., ~pbc]
    points = np.concatenate(
        [x.reshape(len(cells), -1) for x in (cells, np.cos(turns), np.sin(turns), straight)], axis=1
    )
    directions = np.random.default_rng(0).normal(size=(points.shape[1], SHADOWS))
    directions /= np.linalg.norm(directions, axis=0)
    steepest = 4 * np.pi * max(1.0, 1.0 / heights(cells).min())
    return points @ directions, float(SAME_PLACE * steepest * np.sqrt(points.shape[1]))


def _judge(
    first: tuple[int, Frame], second: tuple[int, Frame], repeats: dict[int, tuple[str, str]]
) -> dict[int, tuple[str, str]]:
    (i, a), (j, b) = first, second
    energy = abs((a.energy or 0.0) / len(a) - (b.energy or 0.0) / len(b))
    mine, theirs = _forces(a), _forces(b)
    force = 0.0 if mine is None or theirs is None else float(np.abs(mine - theirs).max())
    if energy <= SAME_ENERGY and force <= SAME_FORCE:
        if mine is None and theirs is not None:
            (i, a), (j, b) = second, first
        return {} if j in repeats else {j: ("duplicate", f"the same as {_as_seen_from(b, a)}")}
    seen = (
        f"differs by {1e3 * energy:.3g} meV/atom and {1e3 * force:.3g} meV/Å from the same geometry"
    )
    return {
        i: ("contradicting labels", f"{seen} in {_as_seen_from(a, b)}"),
        j: ("contradicting labels", f"{seen} in {_as_seen_from(b, a)}"),
    }


def _forces(frame: Frame) -> np.ndarray | None:
    """Forces that were computed; a minimum's zeros are good to its convergence only."""
    if frame.forces is None or (frame.labels == "relaxed" and not frame.forces.any()):
        return None
    return np.asarray(frame.forces, dtype=float)


def _as_seen_from(here: Frame, there: Frame) -> str:
    return f"#{there.index}" if there.source == here.source else there.name
