"""Finite displacements: frames that part from one structure by a small move of a single atom.

Phonon runs are such sets (VASP with IBRION = 5 or 6, phonopy, ASE): what they tell is how forces
change from frame to frame, the force constants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from tlpot.structure.frames import Frame

UNMOVED = 1e-4
"""Å within which an atom stands where it stood; files round to 1e-5."""
LONGEST_STEP = 0.05
"""Å beyond which a move is no finite displacement; twice as far where others go half as far."""
ALIKE = 0.2
"""Relative: how far the sizes of the displacements of one set may part."""
PROJECTIONS = 8
"""Random projections by which positions are compared first."""
CHUNKS = 3
"""Groups of atoms: where two atoms moved, one group stands still."""
MOST_OF_TWO = 50
"""Frames in which one or two atoms move at all from which on they are a scan or an MD."""
CELLS = 1e-3
"""Å within which cells are the same."""
FINITE = (5, 6)
"""IBRION of finite displacements."""


@dataclass(frozen=True, eq=False)
class DisplacedSet:
    """Frames of ``n`` atoms that are displacements of one structure.

    Attributes
    ----------
    members
        Their numbers among the frames that were looked at.
    moves
        ``(members, n, 3)`` Å from the structure at rest.
    """

    members: list[int]
    moves: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """``(members,)`` Å, how far the atom went."""
        return np.asarray(np.linalg.norm(self.moves, axis=2).max(axis=1))

    @property
    def at_rest(self) -> list[int]:
        """The members in which nothing is displaced: one, or none."""
        return [i for i, size in zip(self.members, self.sizes, strict=True) if size <= UNMOVED]

    @property
    def atoms(self) -> int:
        """How many atoms are displaced."""
        return int((np.linalg.norm(self.moves, axis=2) > UNMOVED).any(axis=0).sum())

    @property
    def step(self) -> float:
        """Å of the shortest displacement."""
        return float(self.sizes[self.sizes > UNMOVED].min())


def displaced_sets(frames: Sequence[Frame]) -> list[DisplacedSet]:
    """Sets of finite displacements, by geometry alone, wherever their frames come from.

    Frames of the same atoms in the same order, and of the same cell, are a set where each has one
    atom away from where the others have it, all by the same length or by twice that (VASP's
    NFREE = 4); the frame at rest may be there or not. A scan, which goes further step by step, is
    none, and no MD or relaxation, in which all atoms move.
    """
    buckets: dict[tuple[bytes, ...], list[int]] = defaultdict(list)
    for i, frame in enumerate(frames):
        atoms = frame.atoms
        if len(atoms) > 1 and np.isfinite(atoms.positions).all():
            cell = np.floor(atoms.cell.array / CELLS + 0.27).astype(int)
            key = (atoms.numbers.tobytes(), atoms.pbc.tobytes(), cell.tobytes())
            buckets[key].append(i)
    sets = []
    for bucket in buckets.values():
        structures = [frames[i].atoms for i in bucket]
        places = displacements_from(structures[0], structures)
        for near in _near(places):
            moves = _moves(places[near])
            if moves is not None:
                sets.append(DisplacedSet([bucket[i] for i in near], moves))
    return sets


def kept_together(frames: Sequence[Frame]) -> list[list[int]]:
    """Frames that are near twins, so that one tells of the other: those of a set, and of a run.

    A run of VASP's finite displacements has strained cells among its steps with ISIF ≥ 3.
    """
    runs: dict[str, list[int]] = defaultdict(list)
    for i, frame in enumerate(frames):
        if frame.info.get("ibrion") in FINITE:
            runs[frame.source].append(i)
    return merged([*(some.members for some in displaced_sets(frames)), *runs.values()], len(frames))


def merged(groups: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Groups of the numbers below `count`, joined where they share one; only those of several."""
    links = [(group[0], i) for group in groups for i in group]
    labels = _components(links, count)
    joined: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        joined[label].append(i)
    return [group for group in joined.values() if len(group) > 1]


def displacements_from(rest: Atoms, structures: Sequence[Atoms]) -> np.ndarray:
    """``(m, n, 3)`` Å from the atoms of `rest`, of the same cell, by the nearest image."""
    places = np.array([atoms.positions for atoms in structures]).reshape(-1, len(rest), 3)
    places -= rest.positions
    if rest.pbc.any():
        cell = rest.cell.complete()
        scaled = cell.scaled_positions(places.reshape(-1, 3)).reshape(places.shape)
        places -= (np.round(scaled) * rest.pbc) @ cell.array
    return places


def _near(places: np.ndarray) -> Iterator[list[int]]:
    """Frames, by number, that hang together by pairs in which at most two atoms moved."""
    moving = (np.ptp(places, axis=0) > UNMOVED).any(axis=1)
    if len(places) < 2 or not moving.any():
        return
    random = np.random.default_rng(0)
    links: list[tuple[int, int]] = []
    for chunk in np.array_split(np.flatnonzero(moving), CHUNKS):
        if not len(chunk) and len(places) > MOST_OF_TWO:
            continue
        points = places[:, chunk].reshape(len(places), -1)
        shadows = points @ random.normal(size=(points.shape[1], PROJECTIONS))
        reach = UNMOVED * PROJECTIONS * np.sqrt(max(points.shape[1], 1))
        links += _links(places, shadows, reach)
    labels = _components(links, len(places))
    for label in np.unique(labels):
        group = np.flatnonzero(labels == label)
        if len(group) > 1:
            yield group.tolist()


def _links(places: np.ndarray, shadows: np.ndarray, reach: float) -> Iterator[tuple[int, int]]:
    """Pairs of frames that part in one or two atoms, each frame with the first that it is near."""
    tree, free = KDTree(shadows), np.ones(len(places), dtype=bool)
    for i in range(len(places)):
        if not free[i]:
            continue
        ball = np.array(tree.query_ball_point(shadows[i], reach))
        others = ball[free[ball] & (ball != i)]
        away = np.linalg.norm(places[others] - places[i], axis=2)
        close = ((away > UNMOVED).sum(axis=1) <= 2) & (
            away.max(axis=1, initial=0.0) < 10 * LONGEST_STEP
        )
        free[others[close]] = False
        yield from ((i, int(j)) for j in others[close])


def _components(links: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    """``(count,)`` number of the group that each belongs to."""
    first, second = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def _moves(places: np.ndarray) -> np.ndarray | None:
    """``(m, n, 3)`` displacements from a structure at rest; None: they are none of one."""
    pair = len(places) == 2
    middle = places[0] if pair else np.median(places, axis=0)
    for rest in (middle, *places[:CHUNKS]):
        moves = places - rest
        sizes = np.linalg.norm(moves, axis=2)
        moved = sizes > UNMOVED
        steps = sizes[moved]
        if (moved.sum(axis=1) <= 1 + pair).all() and len(steps) and _even(steps):
            return np.asarray(np.where(moved[:, :, None], moves, 0.0))
    return None


def _even(steps: np.ndarray) -> bool:
    """Whether all are of one length, or some of twice that."""
    times = steps / steps.min()
    whole = np.round(times)
    return bool(
        steps.min() <= LONGEST_STEP
        and (whole <= 2).all()
        and (np.abs(times - whole) <= ALIKE).all()
    )
