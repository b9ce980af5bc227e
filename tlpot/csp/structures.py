"""Crystals to rank or relax, read file by file: what cannot be used is named, the rest goes on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from tlpot.config import Keys
from tlpot.data.read import Files, find_files, read_file
from tlpot.errors import TlpotError
from tlpot.frames import Frame, neighbour_pairs
from tlpot.optional import MissingLibraryError, require

SHORTEST = 0.6
"""Å below which two atoms cannot be meant to be there both."""
SITE_TOLERANCE = 0.01
"""Fractional: copies of an atom that symmetry puts this close together are one atom."""


@dataclass(frozen=True)
class Refused:
    """A structure that is not used: its `name`, and the `reason` with the mend."""

    name: str
    reason: str


def read_crystals(
    files: Files, supported: Collection[str] | None = None
) -> tuple[list[Frame], list[Refused]]:
    """Read crystals from CIF, POSCAR, RES, extended XYZ or anything else that tlpot knows.

    CIFs are read by pymatgen, which merges atoms that a rounded symmetry operation puts twice.

    Parameters
    ----------
    files
        As for `tlpot.data.read.read_frames`.
    supported
        Elements that the model knows; None: any.

    Returns
    -------
    Frames in file order, with energies where the files have them, and what was refused: broken or
    empty files, disorder, overlapping atoms, unknown elements, structures that are no crystals.

    Raises
    ------
    TlpotError
        If a file that is named does not exist, or nothing usable is left (with the first reason).
    """
    frames: list[Frame] = []
    found, refused = read_each(files)
    for frame in found:
        if flaw := find_flaw(frame, supported):
            refused.append(Refused(frame.name, flaw))
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
            frames += _read_cif(path, index) if _is_cif(path) else _read_other(path, index)
        except MissingLibraryError:
            raise
        except TlpotError as error:
            refused.append(Refused(str(path), str(error).removeprefix(f"{path}: ")))
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


def find_flaw(frame: Frame, supported: Collection[str] | None) -> str | None:
    """Why a structure cannot be used as a crystal, and what to do about it; None if it can."""
    atoms = frame.atoms
    if not atoms.pbc.all() or abs(atoms.cell.volume) < 1.0:
        return "not periodic in three directions; give it a cell"
    if not np.isfinite(atoms.positions).all():
        return "has positions that are no numbers; mend the file"
    if not atoms.numbers.all():
        return "holds an atom of no known element; mend the file"
    strange = sorted(set(atoms.symbols) - set(atoms.symbols if supported is None else supported))
    if strange:
        known = ", ".join(supported or ())
        return (
            f"unsupported element {', '.join(strange)} (the model knows {known}); fine-tune a "
            "model with it: tlpot elements"
        )
    pairs, vectors = neighbour_pairs(atoms, 2.5)
    distances = np.linalg.norm(vectors, axis=1)
    if distances.min(initial=np.inf) < SHORTEST:
        i, j = (f"{k} ({atoms.symbols[k]})" for k in pairs[:, distances.argmin()])
        return f"atoms {i} and {j} overlap, {distances.min():.2f} Å apart; look at the geometry"
    return None


def pymatgen_structure(atoms: Atoms, purpose: str) -> Any:
    """A crystal as pymatgen's ``Structure``; `purpose` as for `tlpot.optional.require`."""
    return require("pymatgen.core", "use", purpose).Structure(
        atoms.cell.array, atoms.numbers, atoms.positions, coords_are_cartesian=True
    )


def _is_cif(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".cif")


def _read_other(path: Path, index: slice) -> list[Frame]:
    return read_file(path, index, Keys(), "free_energy")


def _read_cif(path: Path, index: slice) -> list[Frame]:
    parser = require("pymatgen.io.cif", "use", "reading CIF files").CifParser
    dummy = require("pymatgen.core", "use", "reading CIF files").DummySpecies
    if not path.stat().st_size:
        raise TlpotError(f"{path}: the file is empty; copy it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cif = parser(path, site_tolerance=SITE_TOLERANCE)
            structures = cif.parse_structures(primitive=False, symmetrized=False)
        except Exception as error:  # pymatgen's parser raises anything on a broken file
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            if isinstance(error, ZeroDivisionError):  # its formula of no atoms at all
                text = "it has no atoms"
            raise TlpotError(
                f"{path}: cannot be read as CIF ({text}); mend it, or convert it to POSCAR"
            ) from None
    frames = []
    for place in range(len(structures))[index]:
        structure = structures[place]
        if not structure.is_ordered:
            site = next(site for site in structure if not site.is_ordered)
            raise TlpotError(
                f"{path}: disordered ({site.species_string} on one site); keep one orientation, "
                "delete the others and set its occupancy to 1"
            )
        if strange := {s.specie.symbol for s in structure if isinstance(s.specie, dummy)}:
            raise TlpotError(
                f"{path}: {', '.join(sorted(strange))}: no known element; mend the file"
            )
        numbers = [site.specie.Z for site in structure]
        atoms = Atoms(numbers, structure.cart_coords, cell=structure.lattice.matrix, pbc=True)
        frames.append(Frame(atoms, source=str(path), index=place))
    return frames
