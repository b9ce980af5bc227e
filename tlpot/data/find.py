"""Which files are meant: names, folders, globs, and the frames picked of them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from tlpot.data.compression import plain_name
from tlpot.data.vasp.output import is_outcar, is_vasprun
from tlpot.errors import TlpotError
from tlpot.files import expanded

Files = str | Path | Sequence[str | Path]

LABELLED = (".traj", ".extxyz", ".xyz", ".db")
STRUCTURE_SUFFIXES = (".cif", ".res", ".ins", ".vasp", ".poscar")
SLICE = re.compile(r"-?\d+|((-?\d+)?:){1,2}(-?\d+)?")
"""What may stand after ``@``: ``3``, ``-1``, ``0:100``, ``::10``."""


def find_files(files: Files) -> list[tuple[Path, slice]]:
    """Files and the frames picked of each, from names as `tlpot.data.read.read_frames` takes.

    Raises
    ------
    TlpotError
        If one does not exist, or a folder or pattern has no file of structures.
    """
    listed = [files] if isinstance(files, str | Path) else files
    return [file for name in listed for file in _expand(str(name))]


def _expand(name: str) -> list[tuple[Path, slice]]:
    text = expanded(name)
    index = slice(None)
    stem, at, suffix = text.rpartition("@")
    if at and not Path(text).exists() and SLICE.fullmatch(suffix):
        text = stem
        bounds = [int(number) if number else None for number in suffix.split(":")]
        if bounds[2:] == [0]:
            raise TlpotError(f"{name}: a step of 0 picks nothing; leave it out, or give another")
        first = bounds[0]
        index = slice(*bounds) if len(bounds) > 1 else slice(first, (first or 0) + 1 or None)
    path = Path(text)
    if path.is_dir():
        return [(file, index) for file in _folder(path)]
    if path.exists():
        return [(path, index)]
    if glob.has_magic(text):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        files = [f for match in matches for f in (_folder(match) if match.is_dir() else [match])]
        if not files:
            raise TlpotError(f"{name}: no file matches; mend the pattern")
        return [(file, index) for file in files]
    raise TlpotError(_absent(path))


def _absent(path: Path) -> str:
    parent = path.parent
    if path.is_symlink():
        return f"{path}: a link to {path.readlink()}, which is not there; mend the link."
    if not parent.is_dir():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        return f"{path}: no such file; the folder {parent} does not exist{where} either."
    close = get_close_matches(path.name, os.listdir(parent), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    where = "" if path.is_absolute() or close else f" seen from {Path.cwd()}"
    return f"{path}: no such file{where}.{hint}"


def _folder(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    labelled = [
        file for file in files if is_outcar(file) or is_vasprun(file) or ends_with(file, LABELLED)
    ]
    runs = {_run_name(file) for file in labelled if is_vasprun(file)}
    labelled = [file for file in labelled if not is_outcar(file) or _run_name(file) not in runs]
    named = re.compile(r"(POSCAR|CONTCAR)")
    bare = [file for file in files if ends_with(file, STRUCTURE_SUFFIXES) or named.match(file.name)]
    if not labelled and not bare:
        endings = ", ".join((*LABELLED, *STRUCTURE_SUFFIXES))
        raise TlpotError(f"{folder}: this folder holds no OUTCAR, vasprun.xml or {endings} file.")
    return labelled or bare


def _run_name(file: Path) -> Path:
    """The same for the OUTCAR and the vasprun.xml of one run."""
    return file.with_name(re.sub(r"outcar|vasprun(.*)\.xml", r"RUN\1", plain_name(file), count=1))


def ends_with(file: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file has one of the suffixes, before that of its compression."""
    return plain_name(file).endswith(suffixes)
