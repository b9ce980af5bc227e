"""Write structures, with whatever labels they have, as extended XYZ."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import ase.io
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot.errors import TlpotError
from tlpot.files import write_whole
from tlpot.frames import Frame

KEYS = ("energy_key", "forces_key", "stress_key")
"""What reading notes about where a label stood; it does not hold for the new file."""


def refuse_to_overwrite(path: str | Path) -> Path:
    """The path of a file to write.

    Raises
    ------
    TlpotError
        If it is there already, or is no ``.xyz`` or ``.extxyz`` file.
    """
    path = Path(path)
    if path.suffix not in (".extxyz", ".xyz"):
        raise TlpotError(f"{path}: structures are written as .extxyz; name such a file")
    if path.exists():
        raise TlpotError(f"{path} exists already; name another file")
    return path


def write_frames(path: str | Path, frames: Iterable[Frame]) -> Path:
    """Write `frames` in order, atomically: energy (eV), forces (eV/Å), stress (eV/Å³), info."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, "".join(map(to_text, frames)))


def to_text(frame: Frame) -> str:
    """One frame as extended XYZ."""
    atoms = frame.atoms.copy()
    info = {k: v for k, v in frame.info.items() if k not in KEYS and v is not None}
    # the format has no way to say an empty text either
    atoms.info = {k: v for k, v in info.items() if not isinstance(v, str) or v}
    labels = {name: getattr(frame, name) for name in ("energy", "forces", "stress")}
    if labels := {name: value for name, value in labels.items() if value is not None}:
        atoms.calc = SinglePointCalculator(atoms, **labels)
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue()
