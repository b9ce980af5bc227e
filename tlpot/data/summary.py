"""Labelled frames by file, kind and composition: their energies and forces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path

import numpy as np

from tlpot.structure.frames import Frame

MANY_COMPOSITIONS = 12
"""Compositions of one kind in one file beyond which they are shown as one group."""


@dataclass(frozen=True)
class FrameGroup:
    """Frames of one file, kind and composition (or many compositions, where a file has many).

    Attributes
    ----------
    file, formula, kind
        What the frames share, as shown.
    n_read
        Frames read, usable or not.
    frames
        The usable ones.
    """

    file: str
    formula: str
    kind: str
    n_read: int
    frames: list[Frame]

    def energies(self) -> np.ndarray:
        """``(frames,)`` eV/atom; less a fit of one energy per element if compositions differ."""
        sizes = np.array([len(frame) for frame in self.frames])
        energies = np.array([frame.energy for frame in self.frames], dtype=float)
        if len({frame.formula for frame in self.frames}) > 1:
            elements = sorted({int(n) for frame in self.frames for n in frame.atoms.numbers})
            counts = np.array(
                [[(frame.atoms.numbers == n).sum() for n in elements] for frame in self.frames]
            )
            fit = np.linalg.lstsq(counts / sizes[:, None], energies / sizes, rcond=None)[0]
            energies = energies - counts @ fit
        return energies / sizes

    def forces(self) -> np.ndarray:
        """``(atoms,)`` |F| on every atom of the frames with forces, eV/Å."""
        labelled = [frame for frame in self.frames if frame.forces is not None]
        forces = [np.linalg.norm(np.asarray(frame.forces), axis=1) for frame in labelled]
        return np.concatenate([np.empty(0), *forces])


def group_frames(frames: Sequence[Frame], usable: Sequence[Frame]) -> list[FrameGroup]:
    """Sort frames by file, kind and composition, in the order of the files."""
    by_file: dict[tuple[str, str], dict[str, list[Frame]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        kind = "unknown" if "incomplete" in frame.info else frame.kind
        by_file[frame.source, kind][frame.formula].append(frame)
    good = {id(frame) for frame in usable}
    names = _short({frame.source for frame in frames})
    groups = []
    for (source, kind), formulas in by_file.items():
        if len(formulas) > MANY_COMPOSITIONS:
            every = [frame for members in formulas.values() for frame in members]
            formulas = {f"{len(formulas)} compositions, less a fit by element": every}
        for formula, members in formulas.items():
            kept = [frame for frame in members if id(frame) in good]
            groups.append(FrameGroup(names[source], formula, kind, len(members), kept))
    return groups


def _short(sources: set[str]) -> dict[str, str]:
    """File names without the folders that all share."""
    if len(sources) < 2:
        return {source: Path(source).name for source in sources}
    shared = commonpath([str(Path(source).absolute()) for source in sources])
    return {s: str(Path(s).absolute().relative_to(shared)) for s in sources}
