"""Read labelled structures from whatever people keep them in."""

from __future__ import annotations

import glob
import io
import os
import re
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import ase.db
import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from tlpot.config.data import Keys
from tlpot.data.compression import open_binary, plain_name, unpacked
from tlpot.data.crystals.cif import Unreadable, read_cif
from tlpot.data.crystals.shelx import read_shelx
from tlpot.data.labels import EnergyKind, make_frames
from tlpot.data.vasp.outcar import read_outcar
from tlpot.data.vasp.output import is_outcar, is_vasprun
from tlpot.data.vasp.vasprun import read_vasprun
from tlpot.data.xyz import read_xyz
from tlpot.errors import TlpotError, refusing, storage
from tlpot.files import expanded
from tlpot.structure.frames import Frame, bare

Files = str | Path | Sequence[str | Path]

LABELLED = (".traj", ".extxyz", ".xyz", ".db")
STRUCTURE_SUFFIXES = (".cif", ".res", ".ins", ".vasp", ".poscar")
CIFS = (".cif", ".mcif")
SHELX = (".res", ".ins", ".shelx")
XYZ = ("extxyz", "xyz")
POSCARS = ("vasp", "vasp-xdatcar")
BEGINS = {
    "vasp": re.compile(
        rb"^[ \t]*-?[\d.]+[ \t]*\r?\n(?:[ \t]*-?[\d.]\S*(?:[ \t]+-?[\d.]\S*){2}[ \t]*\r?\n){3}"
        rb"[ \t]*[A-Z]\S*(?:[ \t]+[A-Z]\S*)*[ \t]*\r?\n[ \t]*\d+(?:[ \t]+\d+)*[ \t]*\r?$",
        re.M,
    ),
    "sdf": re.compile(rb"^\$\$\$\$", re.M),
    "traj": re.compile(rb"- of UlmASE-Trajectory"),
}
"""What stands once, in formats of which ASE reads the first alone where files are put together."""
ULM = ("traj", "gpw", "gpaw-wfs")
"""ASE's names of the formats."""
SLICE = re.compile(r"-?\d+|((-?\d+)?:){1,2}(-?\d+)?")
"""What may stand after ``@``: ``3``, ``-1``, ``0:100``, ``::10``."""
COMPLAINTS = (
    (r"to float: '(-?\d+,\d+)'", "'{0}' has a comma; write a decimal point"),
    (r"to float: '(\S+[dD][-+]?\d+)'", "'{0}' is a number of Fortran's; write E for D"),
    (
        r"info item (\w+), expecting special 3x3",
        "{0} has not the nine numbers, with decimal points, that are a 3 × 3 matrix here; a cell "
        'of three lengths is Lattice="a 0 0 0 b 0 0 0 c"',
    ),
    (r"^'(\d+)'$", "'{0}' is a number where an element's symbol belongs"),
)
"""What ASE says of a file, and what it means."""
VASP_FILES = (
    r"(OSZICAR|vaspout|WAVECAR|CHG|CHGCAR|INCAR|KPOINTS|POTCAR|ML_ABN?|DOSCAR|EIGENVAL|REPORT|PCDAT)"
    r"([._-].*)?"
)
"""Those without labels that tlpot reads."""
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


def find_files(files: Files) -> list[tuple[Path, slice]]:
    """Expand variables, globs, folders and ``@index`` suffixes; raises as `read_frames`."""
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
        file for file in files if is_outcar(file) or is_vasprun(file) or _ends(file, LABELLED)
    ]
    runs = {_run_name(file) for file in labelled if is_vasprun(file)}
    labelled = [file for file in labelled if not is_outcar(file) or _run_name(file) not in runs]
    named = re.compile(r"(POSCAR|CONTCAR)")
    bare = [file for file in files if _ends(file, STRUCTURE_SUFFIXES) or named.match(file.name)]
    if not labelled and not bare:
        endings = ", ".join((*LABELLED, *STRUCTURE_SUFFIXES))
        raise TlpotError(f"{folder}: this folder holds no OUTCAR, vasprun.xml or {endings} file.")
    return labelled or bare


def _run_name(file: Path) -> Path:
    """The same for the OUTCAR and the vasprun.xml of one run."""
    return file.with_name(re.sub(r"outcar|vasprun(.*)\.xml", r"RUN\1", plain_name(file), count=1))


def _ends(file: Path, suffixes: tuple[str, ...]) -> bool:
    return plain_name(file).endswith(suffixes)


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
    if _ends(path, PICKLES) or re.match(rb"\x80[\x02-\x05]", head):
        raise TlpotError(
            f"{path}: a pickle can run code when it is loaded, so tlpot reads none. Convert it to "
            ".extxyz or .traj where you trust it."
        )
    for kind, read, is_one in (
        ("OUTCAR", read_outcar, is_outcar(path) or re.match(rb"\s*vasp\.\d", head)),
        ("vasprun.xml", read_vasprun, is_vasprun(path) or b"<modeling>" in head),
        ("CIF", read_cif, _ends(path, CIFS) or re.match(CIF_HEAD, head)),
        ("SHELX", read_shelx, _ends(path, SHELX)),
    ):
        if is_one:
            with refusing(path, kind):
                if kind not in DECODED:
                    _require_narrow(path, head)
                return read(path)
    _require_narrow(path, head)
    with unpacked(path) as plain:
        return _read_ase(path, plain)


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


def _read_ase(path: Path, plain: Path) -> list[Atoms]:
    """What ASE reads in a file, which lies unpacked at `plain`."""
    with refusing(path, "any kind of file", _meaning):
        try:
            kind = filetype(str(plain))
            ioformats[kind]
        except (UnknownFileTypeError, KeyError):
            if re.fullmatch(VASP_FILES, path.name):
                raise TlpotError(
                    f"{path}: of VASP's files tlpot reads OUTCAR and vasprun.xml; give this run's"
                ) from None
            raise TlpotError(
                f"{path}: not a kind of file that tlpot or ASE knows; .extxyz, .traj, .db, OUTCAR "
                "and vasprun.xml always work."
            ) from None
    if _declares_entities(plain):
        raise TlpotError(f"{path}: its XML declares entities, which no data does; remove them.")
    if kind == "bundletrajectory":
        raise TlpotError(f"{path}: old ASE bundles may hold pickles; convert it to .traj.")
    with refusing(path, kind, _meaning), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "db":
            rows = ase.db.connect(plain).select()
            return [row.toatoms(add_additional_information=True) for row in rows]
        if kind in XYZ:
            return read_xyz(path, plain, kind, _meaning)
        if kind in BEGINS:
            _require_one(path, plain, BEGINS[kind])
        source: Path | io.BytesIO = plain
        if kind in POSCARS:
            _require_lines(plain)
        if kind in ULM:  # of a path ASE makes room for what the file claims, not for what it holds
            source = io.BytesIO(plain.read_bytes())
        read = ase.io.read(source, ":", format=kind, do_not_split_by_at_sign=True)
    return read if isinstance(read, list) else [read]


def _require_lines(plain: Path) -> None:
    """Refuse a POSCAR of more atoms than lines: ASE makes room for them before it looks."""
    lines = plain.read_bytes().splitlines()
    counts = [word for line in lines[5:7] for word in line.split() if word.isdigit()]
    if most := next((word for word in counts if len(word) > 9 or int(word) > len(lines)), None):
        raise ValueError(
            f"it counts {most.decode()[:20]} atoms of an element in {len(lines)} lines"
        )


def _require_one(path: Path, plain: Path, begin: re.Pattern[bytes]) -> None:
    """Refuse files put together: those behind the first would vanish."""
    if (count := len(begin.findall(plain.read_bytes()))) > 1:
        raise TlpotError(
            f"{path}: is {count} files put together, of which the first alone would be read; name "
            "each by itself, or write all into one .extxyz"
        )


def _declares_entities(plain: Path) -> bool:
    """Whether it is XML that could grow out of all proportion, or ask for other files."""
    with plain.open("rb") as file:
        if not file.read(100).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
            return False
        file.seek(0)
        return b"<!ENTITY" in file.read()


def _meaning(error: Exception) -> str:
    """What a reader of ASE's complains of, where its own words do not tell."""
    for words, meaning in COMPLAINTS:
        if match := re.search(words, str(error)):
            return meaning.format(*match.groups())
    if isinstance(error, KeyError) and re.fullmatch(r"'[A-Z][a-z]?'", str(error)):
        return f"{error} is no known element"
    if isinstance(error, KeyError) and re.fullmatch(r"'[A-Za-z]+\d\w*'", str(error)):
        return f"{error} is the label of an atom; its element belongs there"
    if "need at least one array" in str(error):
        return "it holds no atoms"
    if "Could not determine chemical symbols" in str(error):
        return "it names no elements (VASP 4); add a line of symbols above their numbers"
    if "StopIteration" in str(error):
        return "it ends inside a frame"
    return f"{type(error).__name__}: {error}".removesuffix(": ")
