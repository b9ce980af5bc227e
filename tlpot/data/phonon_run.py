"""DFT's force constants of a crystal: a phonon run of VASP's, or a folder of phonopy's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from tlpot.config.data import Keys
from tlpot.data.compression import SUFFIXES, unpacked
from tlpot.data.displaced import DisplacedSet, displaced_sets, displacements_from
from tlpot.data.read import read_frames
from tlpot.data.vasp.hessian import Hessian, read_hessian
from tlpot.errors import TlpotError, refusing
from tlpot.optional import require
from tlpot.structure.frames import Frame

YAML = ("phonopy_params.yaml", "phonopy_disp.yaml", "phonopy.yaml")
"""Files in which phonopy keeps cells and displacements, the fullest first."""
IN_EV = (None, "vasp", "aims", "castep")
"""Interfaces of phonopy whose files are in Å and eV."""
SAME_CALCULATION = 2e-3
"""Å up to which a calculation is that of a displacement that phonopy lists."""


@dataclass(frozen=True, eq=False)
class PhononRun:
    """Forces on displacements of one structure, or its force constants, or both.

    Attributes
    ----------
    rest
        The structure at rest; a supercell where phonopy made one.
    displaced
        Displaced ones with forces (eV/Å), atoms in the same order.
    rest_forces
        ``(n, 3)`` eV/Å, None: not computed.
    hessian
        Force constants that the file itself has.
    phonopy
        phonopy's own object, with cells and displacements; None where the run is VASP's alone.
    """

    rest: Atoms
    displaced: list[Frame]
    rest_forces: np.ndarray | None = None
    hessian: Hessian | None = None
    phonopy: Any = None

    @property
    def moves(self) -> np.ndarray:
        """``(displaced, n, 3)`` Å."""
        return displacements_from(self.rest, [frame.atoms for frame in self.displaced])


def read_phonon_run(path: Path, keys: Keys | None = None) -> PhononRun:
    """Read a file or folder.

    Parameters
    ----------
    path
        A folder with one of `YAML`, and FORCE_SETS or calculations (of any names: they are known
        by their geometry); or an OUTCAR or vasprun.xml with IBRION = 5 to 8; or a folder or file
        of frames that are displacements of one structure.
    keys
        As `tlpot.read_frames`.

    Raises
    ------
    TlpotError
        If there is no phonon run, more than one, or one that lacks calculations.
    """
    if not path.exists():
        raise TlpotError(f"{path}: no such file or folder; name a phonon run of VASP or phonopy")
    if path.is_dir():
        names = {SUFFIXES.sub("", file.name): file for file in sorted(path.iterdir())}
        if listed := next((names[name] for name in YAML if name in names), None):
            return _phonopy_run(path, listed, names, keys)
    frames = [frame for frame in read_frames(path, keys) if _is_good(frame)]
    for source in dict.fromkeys(frame.source for frame in frames):
        own = [frame for frame in frames if frame.source == source]
        if (hessian := read_hessian(Path(source), len(own[0]))) is not None:
            some = max(displaced_sets(own), key=lambda some: len(some.members), default=None)
            run = _of_set(own, some) if some else PhononRun(own[0].atoms, [], own[0].forces)
            return replace(run, hessian=hessian)
    sets = displaced_sets(frames)
    if len(sets) != 1:
        what = f"{len(sets)} of them" if sets else "none"
        raise TlpotError(
            f"{path}: a phonon run is wanted, and there is {what}: name one OUTCAR or vasprun.xml "
            "of IBRION = 5 to 8, a folder with phonopy_disp.yaml and the calculations, or frames "
            "in which single atoms of one structure are displaced"
        )
    return _of_set(frames, sets[0])


def _is_good(frame: Frame) -> bool:
    converged = frame.info.get("converged") is not False
    return converged and frame.forces is not None and bool(np.isfinite(frame.forces).all())


def _of_set(frames: Sequence[Frame], some: DisplacedSet) -> PhononRun:
    first = frames[some.members[0]].atoms
    rest = first.copy()
    rest.positions -= some.moves[0]
    still = some.at_rest
    displaced = [frames[i] for i in some.members if i not in still]
    return PhononRun(rest, displaced, frames[still[0]].forces if still else None)


def _phonopy_run(
    folder: Path, listed: Path, names: dict[str, Path], keys: Keys | None
) -> PhononRun:
    require("phonopy", "use", "a folder of phonopy's")
    reader = require("phonopy.interface.phonopy_yaml", "use", "reading phonopy's files")
    file_io = require("phonopy.file_IO", "use", "reading phonopy's files")
    api = require("phonopy", "use", "phonons")
    with unpacked(listed) as plain, refusing(listed, "phonopy file"):
        content = reader.PhonopyYaml()
        content.read(plain)
        if content.calculator not in IN_EV:
            raise TlpotError(
                f"{listed}: of {content.calculator}, whose units are others: give calculations as "
                "files that tlpot reads (extxyz), without phonopy's"
            )
        phonons = api.Phonopy(
            content.unitcell,
            content.supercell_matrix,
            primitive_matrix=content.primitive_matrix,
            log_level=0,
        )
    dataset = content.dataset
    if (sets := names.get("FORCE_SETS")) is not None:
        with unpacked(sets) as plain, refusing(sets, "FORCE_SETS"):
            dataset = file_io.parse_FORCE_SETS(natom=len(phonons.supercell), filename=plain)
    if not dataset:
        raise TlpotError(
            f"{listed}: lists no displacements; name a folder with phonopy_disp.yaml, or FORCE_SETS"
        )
    phonons.dataset = dataset
    rest = _atoms(phonons.supercell)
    cells = [_atoms(cell) for cell in phonons.supercells_with_displacements]
    if "forces" in dataset or "forces" in dataset.get("first_atoms", [{}])[0]:
        frames = [
            Frame(cell, forces=np.array(f), source=str(sets or listed), index=i)
            for i, (cell, f) in enumerate(zip(cells, phonons.forces, strict=True))
        ]
        return PhononRun(rest, frames, phonopy=phonons)
    frames = [frame for frame in read_frames(folder, keys) if _is_good(frame)]
    matches = [_calculation(cell, frames) for cell in (rest, *cells)]
    lacking = [i for i, match in enumerate(matches) if match is None and i]
    if lacking:
        raise TlpotError(
            f"{folder}: {len(lacking)} of the {len(cells)} displacements that {listed.name} lists "
            f"have no finished calculation here, first number {lacking[0]}: run them, or write "
            "FORCE_SETS with phonopy"
        )
    done = [match for match in matches[1:] if match is not None]
    return PhononRun(rest, done, matches[0].forces if matches[0] else None, phonopy=phonons)


def _atoms(cell: Any) -> Atoms:
    return Atoms(cell.symbols, cell.positions, cell=cell.cell, pbc=True)


def _calculation(cell: Atoms, frames: Sequence[Frame]) -> Frame | None:
    """The frame that is closest to a displaced cell, if it is one of it."""
    alike = [
        frame
        for frame in frames
        if np.array_equal(frame.atoms.numbers, cell.numbers)
        and np.abs(frame.atoms.cell.array - cell.cell.array).max() < SAME_CALCULATION
    ]
    if not alike:
        return None
    away = np.abs(displacements_from(cell, [frame.atoms for frame in alike])).max(axis=(1, 2))
    return alike[int(away.argmin())] if away.min() < SAME_CALCULATION else None
