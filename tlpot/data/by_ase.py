"""Formats that ASE reads, where it would read wrongly or say nothing that a user can mend."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import ase.db
import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from tlpot.data.xyz import read_xyz
from tlpot.errors import TlpotError, refusing

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


def read_by_ase(path: Path, plain: Path) -> list[Atoms]:
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
