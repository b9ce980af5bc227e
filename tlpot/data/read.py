"""Read labelled structures from whatever people keep them in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from tlpot.config.data import Keys
from tlpot.data.by_ase import read_by_ase
from tlpot.data.compression import open_binary, unpacked
from tlpot.data.crystals.cif import Unreadable, read_cif
from tlpot.data.crystals.shelx import read_shelx
from tlpot.data.find import Files, ends_with, find_files
from tlpot.data.labels import EnergyKind, make_frames
from tlpot.data.vasp.outcar import read_outcar
from tlpot.data.vasp.output import is_outcar, is_vasprun
from tlpot.data.vasp.vasprun import read_vasprun
from tlpot.errors import TlpotError, refusing, storage
from tlpot.structure.frames import Frame, bare

CIFS = (".cif", ".mcif")
SHELX = (".res", ".ins", ".shelx")
DECODED = ("CIF", "SHELX")
"""Kinds that are read in any encoding."""
CIF_HEAD = rb"(\xef\xbb\xbf)?\s*data_\S*\s"
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".bundle", ".trj")


def read_frames(
    files: Files, keys: Keys | None = None, energy: EnergyKind = "free_energy"
) -> list[Frame]:
    """Read structures with their energies (eV), forces (eV/Å) and stresses (eV/Å³, ASE's sign).

    Parameters
    ----------
    files
        One file, folder or glob pattern, or several of them. ``~`` and ``$VARIABLES`` are expanded,
        and ``file@0:100`` selects frames as in ASE. A folder is searched for files of known names;
        a vasprun.xml is read in place of the OUTCAR beside it, and structures without labels count
        only if nothing in the folder is labelled. VASP's OUTCAR and vasprun.xml are recognised by
        name or content; all other formats are read by ASE. Any file may be compressed: gzip, bz2,
        xz, lzma, or a zip archive of one file.
    keys
        Names of the labels in the files. Without them the names are detected (``energy``,
        ``REF_energy``, ``TotEnergy``, ``dft_forces``, ``virial`` …); forces and stress are then
        those with the same prefix as the energy.
    energy
        Which energy is read from a file that has both: ``free_energy``, of which the forces are the
        derivative, or ``energy``, VASP's extrapolation to zero smearing (sigma→0).
        ``frame.info["energy_key"]`` records which one was read.

    Returns
    -------
    list of Frame
        In the order of `files`, and unchecked (see `tlpot.data.check.check_frames`). A label of
        weight zero (``config_stress_weight=0``) is left out. So is a stress without a meaning: of a
        structure that is not periodic in three directions, or of a single molecule in a large box.
        ``frame.info`` holds what else the file says (charge, spin …), and for VASP ``converged``,
        ``machine_learned`` and ``incomplete``.

    Raises
    ------
    TlpotError
        If a file is missing, empty, truncated or unreadable, or if it is not clear which of several
        labels to read.
    """
    return [
        frame
        for path, index in find_files(files)
        for frame in read_file(path, index, keys or Keys(), energy)
    ]


def read_structures(files: Files) -> list[Frame]:
    """Structures alone, whatever labels their files have; `files` and errors as `read_frames`."""
    return [
        Frame(bare(atoms), source=str(path), index=place)
        for path, index in find_files(files)
        for atoms, place in zip(*read_images(path, index), strict=True)
    ]


def read_file(path: Path, index: slice, keys: Keys, energy: EnergyKind) -> list[Frame]:
    """Read the frames of one file that `index` picks; the rest as `read_frames`."""
    images, places = read_images(path, index)
    with refusing(path, "labels"):
        return make_frames(images, places, str(path), keys, energy)


def read_images(path: Path, index: slice) -> tuple[list[Atoms], range]:
    """Structures of one file as ASE has them, and their places in it; raises as `read_frames`."""
    entries, places = read_entries(path, index)
    images = []
    for entry, place in zip(entries, places, strict=True):
        if isinstance(entry, Unreadable):
            raise TlpotError(f"{path}#{place}: {entry}")
        images.append(entry)
    return images, places


def read_entries(path: Path, index: slice) -> tuple[Sequence[Atoms | Unreadable], range]:
    """As `read_images`, but what is no structure (a disordered block of a CIF) is an entry too."""
    with storage(path, "read"):
        entries = _read_any(path)
    if not entries:
        raise TlpotError(f"{path}: the file holds no structure.")
    places = range(len(entries))[index]
    if not places:
        bounds = (index.start, index.stop, *([index.step] if index.step else []))
        picked = ":".join("" if n is None else str(n) for n in bounds)
        raise TlpotError(f"{path}@{picked}: picks none of the file's {len(entries)} frames.")
    return entries[index], places


def _read_any(path: Path) -> Sequence[Atoms | Unreadable]:
    with open_binary(path) as file:
        head = file.read(1000)
    if not head.strip():
        raise TlpotError(f"{path}: the file is empty. Copy it again, or leave it out.")
    if named := _no_data(head):
        raise TlpotError(f"{path}: {named}")
    if ends_with(path, PICKLES) or re.match(rb"\x80[\x02-\x05]", head):
        raise TlpotError(
            f"{path}: a pickle can run code when it is loaded, so tlpot reads none. Convert it to "
            ".extxyz or .traj where you trust it."
        )
    for kind, read, is_one in (
        ("OUTCAR", read_outcar, is_outcar(path) or re.match(rb"\s*vasp\.\d", head)),
        ("vasprun.xml", read_vasprun, is_vasprun(path) or b"<modeling>" in head),
        ("CIF", read_cif, ends_with(path, CIFS) or re.match(CIF_HEAD, head)),
        ("SHELX", read_shelx, ends_with(path, SHELX)),
    ):
        if is_one:
            with refusing(path, kind):
                if kind not in DECODED:
                    _require_narrow(path, head)
                return read(path)
    _require_narrow(path, head)
    with unpacked(path) as plain:
        return read_by_ase(path, plain)


def _require_narrow(path: Path, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TlpotError(f"{path}: text in UTF-16, as Windows writes it; save it as UTF-8")


def _no_data(head: bytes) -> str:
    """What stands in the place of a file that never came, where `head` is the begin of one."""
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself; fetch it: git lfs pull"
    if re.match(rb"\s*(<!doctype html|<html)", head, re.I):
        return "a web page, not data; the download went wrong, repeat it"
    return ""
