"""Crystals to rank or relax, read file by file: what cannot be used is named, the rest goes on."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from tlpot.config.data import Keys
from tlpot.data.find import Files, find_files
from tlpot.data.labels import make_frames
from tlpot.data.read import read_entries
from tlpot.errors import MachineError, TlpotError, refusing
from tlpot.optional import require
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import find_flaw

CRYSTAL_MENDS = {
    "non-finite": "; mend the file",
    "unknown element": "; mend the file",
    "unsupported element": "; fine-tune a model with it: tlpot elements",
    "not periodic": "; give it a cell that is periodic in three directions",
    "broken cell": "; give it a cell",
    "overlapping atoms": "; look at the geometry",
}
"""What to do about each flaw of a crystal."""


@dataclass(frozen=True)
class Refused:
    """A structure that is not used: its `name`, and the `reason` with the mend."""

    name: str
    reason: str


def read_crystals(
    files: Files, supported: Collection[str] | None = None
) -> tuple[list[Frame], list[Refused]]:
    """Read crystals from CIF, POSCAR, RES, extended XYZ or any other format that tlpot reads.

    `tlpot.data.crystals.cif` and `tlpot.data.crystals.shelx` say what a structure must agree with.

    Parameters
    ----------
    files
        As for `tlpot.data.read.read_frames`.
    supported
        Elements that the model knows; None accepts all elements.

    Returns
    -------
    frames : list of Frame
        Crystals in the order of the files, with their energies if the files have any.
    refused : list of Refused
        What cannot be used: broken or empty files, disorder, overlapping atoms, unknown elements
        and structures that are not crystals.

    Raises
    ------
    TlpotError
        If a named file does not exist, or if no crystal is left; the message has the first reason.
    """
    frames: list[Frame] = []
    frames_read, refused = read_each(files)
    for frame in frames_read:
        if flaw := find_flaw(frame.atoms, supported, periodic="crystal"):
            refused.append(Refused(frame.name, f"{flaw}{CRYSTAL_MENDS.get(flaw.reason, '')}"))
        else:
            frames.append(frame)
    require_some(frames, refused)
    return frames, refused


def read_each(files: Files) -> tuple[list[Frame], list[Refused]]:
    """Read file by file, as `read_crystals`, whatever can be read.

    Returns
    -------
    Frames, crystals or not, and the files that are broken, empty or disordered.

    Raises
    ------
    TlpotError
        If a file that is named does not exist.
    """
    frames: list[Frame] = []
    refused: list[Refused] = []
    for path, index in find_files(files):
        try:
            good, bad = _read_file(path, index)
        except MachineError:
            raise
        except TlpotError as error:
            good, bad = [], [Refused(str(path), str(error).removeprefix(f"{path}: "))]
        frames += good
        refused += bad
    return frames, refused


def require_some(frames: Collection[object], refused: Collection[Refused]) -> None:
    """Refuse to go on with nothing.

    Raises
    ------
    TlpotError
        If there is no frame, naming the first that was refused and why.
    """
    if frames:
        return
    if not refused:
        raise TlpotError("the files hold no structure at all; name some CIF, POSCAR or extxyz")
    first, others = next(iter(refused)), len(refused) - 1
    more = f" (and {others} more)" if others else ""
    raise TlpotError(f"no structure can be used: {first.name}: {first.reason}{more}")


def origin(frame: Frame) -> str:
    """``file#index`` of the structure; of one that `tlpot relax` wrote, of what it began as."""
    named = str(frame.info.get("name", ""))
    return named if re.search(r"#\d+$", named) else frame.name


def stem(name: str) -> str:
    """A short name of ``folder/file.cif#3``: ``file``, or ``file-3`` of a later frame."""
    path, _, index = name.partition("#")
    return Path(path).stem + (f"-{index}" if index not in ("", "0") else "")


def pymatgen_structure(atoms: Atoms, purpose: str) -> Any:
    """A crystal as pymatgen's ``Structure``; `purpose` as for `tlpot.optional.require`."""
    return require("pymatgen.core", "use", purpose).Structure(
        atoms.cell.array, atoms.numbers, atoms.positions, coords_are_cartesian=True
    )


def _read_file(path: Path, index: slice) -> tuple[list[Frame], list[Refused]]:
    entries, places = read_entries(path, index)
    images = {i: x for i, x in zip(places, entries, strict=True) if isinstance(x, Atoms)}
    with refusing(path, "labels"):
        frames = make_frames(
            list(images.values()), list(images), str(path), Keys(), energy="free_energy"
        )
    bad = {i: x for i, x in zip(places, entries, strict=True) if not isinstance(x, Atoms)}
    return frames, [Refused(f"{path}#{i}", str(entry)) for i, entry in bad.items()]
