"""Frames that show the same geometry twice."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from tlpot.frames import Frame

SAME_PLACE = 1e-5
"""Å within which positions and cells are the same."""

SAME_ENERGY = 1e-5
"""eV/atom within which energies of one geometry are the same."""

SAME_FORCE = 1e-3
"""eV/Å within which forces of one geometry are the same."""


def find_repeats(frames: list[tuple[int, Frame]]) -> dict[int, tuple[str, str]]:
    """Repeated geometries: the later frame, or both where the labels disagree.

    Atoms count as the same in the same order. Frames are compared only where a random projection
    of their coordinates agrees, so the cost grows as n log n.

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
    found: dict[int, tuple[str, str]] = {}
    for group in groups.values():
        found |= _repeats_among_alike(group)
    return found


def _repeats_among_alike(group: list[tuple[int, Frame]]) -> dict[int, tuple[str, str]]:
    points = np.array(
        [np.vstack([f.atoms.positions, f.atoms.cell.array]).ravel() for _, f in group]
    )
    direction = np.random.default_rng(0).normal(size=points.shape[1])
    shadow = points @ (direction / np.linalg.norm(direction))
    order = np.argsort(shadow, kind="stable")
    reach = SAME_PLACE * np.sqrt(points.shape[1])
    found: dict[int, tuple[str, str]] = {}
    for rank, one in enumerate(order):
        if group[one][0] in found:
            continue
        for two in order[rank + 1 :]:
            if shadow[two] - shadow[one] > reach:
                break
            if np.abs(points[one] - points[two]).max() <= SAME_PLACE:
                first, second = sorted((group[one], group[two]), key=lambda item: item[0])
                found |= _judge(first, second, found)
    return found


def _judge(
    first: tuple[int, Frame], second: tuple[int, Frame], found: dict[int, tuple[str, str]]
) -> dict[int, tuple[str, str]]:
    (i, one), (j, two) = first, second
    energy = abs((one.energy or 0.0) / len(one) - (two.energy or 0.0) / len(two))
    mine, theirs = _forces(one), _forces(two)
    force = 0.0 if mine is None or theirs is None else float(np.abs(mine - theirs).max())
    if energy <= SAME_ENERGY and force <= SAME_FORCE:
        if mine is None and theirs is not None:
            (i, one), (j, two) = second, first
        return {} if j in found else {j: ("duplicate", f"the same as {_as_seen_from(two, one)}")}
    seen = (
        f"differs by {1e3 * energy:.3g} meV/atom and {1e3 * force:.3g} meV/Å from the same geometry"
    )
    return {
        i: ("contradicting labels", f"{seen} in {_as_seen_from(one, two)}"),
        j: ("contradicting labels", f"{seen} in {_as_seen_from(two, one)}"),
    }


def _forces(frame: Frame) -> np.ndarray | None:
    """Forces that were computed; a minimum's zeros are good to its convergence only."""
    if frame.forces is None or (frame.labels == "relaxed" and not frame.forces.any()):
        return None
    return np.asarray(frame.forces, dtype=float)


def _as_seen_from(here: Frame, there: Frame) -> str:
    return f"#{there.index}" if there.source == here.source else there.name
