"""Look at data before learning from it: `tlpot inspect FILES`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms

from tlpot.config.data import Data
from tlpot.data.check import Checked, Rejection, sort_frames
from tlpot.data.find import find_files
from tlpot.data.groups import marked
from tlpot.data.levels import level_text, named_levels, require_one_level
from tlpot.data.pictures import draw_energies, draw_forces
from tlpot.data.read import read_file
from tlpot.data.summary import FrameGroup, group_frames
from tlpot.errors import MachineError, TlpotError
from tlpot.files import figure_bytes, require_absent, write_new
from tlpot.structure.frames import Frame

PICTURES = ("energies.png", "forces.png")
ELSEWHERE = "name another folder with --output"


@dataclass(frozen=True)
class Inspection:
    """What `inspect_files` found.

    Attributes
    ----------
    checked
        Good and bad frames; nothing is refused.
    groups
        The frames by file, kind and composition.
    broken
        Files that could not be read, a frame without atoms each, and why.
    pictures
        PNG files written.
    conflict
        Why the frames cannot be used together, if they cannot.
    levels
        Levels of theory of the labels, each with the files that state it.
    """

    checked: Checked
    groups: list[FrameGroup]
    broken: list[Rejection]
    pictures: list[Path] = field(default_factory=list)
    conflict: str = ""
    levels: list[str] = field(default_factory=list)

    @property
    def unreadable(self) -> list[str]:
        """Why files could not be read, one message each."""
        return [rejection.detail for rejection in self.broken]


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
            require_absent(output / name, ELSEWHERE)
    frames: list[Frame] = []
    broken: list[Rejection] = []
    for path, index in find_files(files):
        try:
            frames_read = read_file(path, index, settings.keys, settings.energy)
            frames += [marked(frame, settings) for frame in frames_read]
        except MachineError:
            raise
        except TlpotError as error:
            empty = Frame(Atoms(), source=str(path))
            broken.append(Rejection(empty, "unreadable", str(error)))
    checked = sort_frames(frames, settings.model_copy(update={"max_frames": None}), supported)
    groups = group_frames(frames, checked.frames)
    pictures = []
    if output is not None and checked.frames:
        drawn = [draw_energies]
        if any(frame.forces is not None for frame in checked.frames):
            drawn.append(draw_forces)
        some = [group for group in groups if group.frames]
        contents = {
            output / name: figure_bytes(draw(some))
            for name, draw in zip(PICTURES, drawn, strict=False)
        }
        write_new(contents, ELSEWHERE)
        pictures = list(contents)
    return Inspection(checked, groups, broken, pictures, _conflict(frames), list(_levels(frames)))


def _levels(frames: Sequence[Frame]) -> Iterator[str]:
    files: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        files[frame.source].append(frame)
    levels: dict[str, list[str]] = defaultdict(list)
    for file, own in files.items():
        for level in named_levels(own):
            levels[level_text(level)].append(Path(file).name)
    for words, names in levels.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"labels of {', '.join(names[:3])}{more}: {words}"


def _conflict(frames: Sequence[Frame]) -> str:
    try:
        require_one_level(frames)
    except TlpotError as error:
        return str(error)
    return ""
