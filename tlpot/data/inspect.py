"""Look at data before learning from it: `tlpot inspect FILES`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

import numpy as np

from tlpot.config.run import Data
from tlpot.data.check import Checked, sort_frames
from tlpot.data.groups import marked
from tlpot.data.levels import described, named_levels, require_one_level
from tlpot.data.pictures import draw_energies, draw_forces
from tlpot.data.read import find_files, read_file
from tlpot.errors import TlpotError
from tlpot.files import require_absent
from tlpot.structure.frames import Frame

PICTURES = ("energies.png", "forces.png")
MANY = 12
"""Compositions of one kind in one file beyond which they are shown as one group."""


@dataclass(frozen=True)
class Group:
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
        known = [frame for frame in self.frames if frame.forces is not None]
        forces = [np.linalg.norm(np.asarray(frame.forces), axis=1) for frame in known]
        return np.concatenate([np.empty(0), *forces])


@dataclass(frozen=True)
class Inspection:
    """What `inspect_files` found.

    Attributes
    ----------
    checked
        Good and bad frames; nothing is refused.
    groups
        The frames by file, kind and composition.
    unreadable
        Why files could not be read, one message each.
    pictures
        PNG files written.
    conflict
        Why the frames cannot be used together, if they cannot.
    levels
        Levels of theory of the labels, each with the files that state it.
    """

    checked: Checked
    groups: list[Group]
    unreadable: list[str]
    pictures: list[Path] = field(default_factory=list)
    conflict: str = ""
    levels: list[str] = field(default_factory=list)


def inspect_files(
    files: Sequence[str],
    output: Path | None,
    settings: Data,
    supported: Collection[str] | None = None,
) -> Inspection:
    """Read and check files without refusing any, and draw their energies and forces.

    Parameters
    ----------
    files
        As for `tlpot.read_frames`.
    output
        Folder for ``energies.png`` and ``forces.png``, made if need be; None draws nothing.
    settings
        Bounds and label keys; `bad_frames` and `duplicates` change nothing here.
    supported
        Elements that the model knows, or None not to check.

    Raises
    ------
    TlpotError
        If a file does not exist, or a picture does already; a file that cannot be read is reported
        instead.
    """
    if output is not None:
        for name in PICTURES:
            require_absent(output / name, "name another folder with --output")
    frames: list[Frame] = []
    unreadable = []
    for path, index in find_files(files):
        try:
            found = read_file(path, index, settings.keys, settings.energy)
            frames += [marked(frame, settings) for frame in found]
        except TlpotError as error:
            unreadable.append(str(error))
    checked = sort_frames(frames, settings.model_copy(update={"max_frames": None}), supported)
    groups = group_frames(frames, checked.frames)
    pictures = []
    if output is not None and checked.frames:
        output.mkdir(parents=True, exist_ok=True)
        drawn = [draw_energies]
        if any(frame.forces is not None for frame in checked.frames):
            drawn.append(draw_forces)
        for name, draw in zip(PICTURES, drawn, strict=False):
            draw([group for group in groups if group.frames]).savefig(output / name)
            pictures.append(output / name)
    return Inspection(
        checked, groups, unreadable, pictures, _conflict(frames), list(_levels(frames))
    )


def _levels(frames: Sequence[Frame]) -> Iterator[str]:
    files: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        files[frame.source].append(frame)
    found: dict[str, list[str]] = defaultdict(list)
    for file, own in files.items():
        for level in named_levels(own):
            found[described(level)].append(Path(file).name)
    for words, names in found.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"labels of {', '.join(names[:3])}{more}: {words}"


def _conflict(frames: Sequence[Frame]) -> str:
    try:
        require_one_level(frames)
    except TlpotError as error:
        return str(error)
    return ""


def group_frames(frames: Sequence[Frame], usable: Sequence[Frame]) -> list[Group]:
    """Sort frames by file, kind and composition, in the order of the files."""
    by_file: dict[tuple[str, str], dict[str, list[Frame]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        kind = "unknown" if "incomplete" in frame.info else frame.kind
        by_file[frame.source, kind][frame.formula].append(frame)
    good = {id(frame) for frame in usable}
    names = _short({frame.source for frame in frames})
    groups = []
    for (source, kind), formulas in by_file.items():
        if len(formulas) > MANY:
            every = [frame for members in formulas.values() for frame in members]
            formulas = {f"{len(formulas)} compositions, less a fit by element": every}
        for formula, members in formulas.items():
            kept = [frame for frame in members if id(frame) in good]
            groups.append(Group(names[source], formula, kind, len(members), kept))
    return groups


def _short(sources: set[str]) -> dict[str, str]:
    """File names without the folders that all share."""
    if len(sources) < 2:
        return {source: Path(source).name for source in sources}
    shared = commonpath([str(Path(source).absolute()) for source in sources])
    return {s: str(Path(s).absolute().relative_to(shared)) for s in sources}
