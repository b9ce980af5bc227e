"""Write structures, with whatever labels they have, as extended XYZ."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from tlpot.data.label_names import label_of
from tlpot.data.notes import quoted, to_line
from tlpot.errors import TlpotError
from tlpot.files import make_folder, write_whole
from tlpot.structure.frames import Frame, movable

LABEL_KEYS = ("energy_key", "forces_key", "stress_key", "columns")
"""What reading notes about where a label stood; it does not hold for the new file."""
LETTERS = {"f": "R", "i": "I", "u": "I", "b": "L", "U": "S"}
"""How extended XYZ calls the kinds of columns."""


def write_frames(path: str | Path, frames: Iterable[Frame]) -> Path:
    """Write frames as extended XYZ, atomically; `tlpot.data.read.read_frames` reads the same back.

    Written are energy (eV), forces (eV/Å), stress (eV/Å³), the kind of labels, the weight and the
    notes in ``info``.

    Raises
    ------
    TlpotError
        If a note is of a kind that a file cannot keep; nothing is written then.
    """
    path = Path(path)
    text = "".join(map(to_text, frames))
    make_folder(path.parent)
    return write_whole(path, text)


def to_text(frame: Frame) -> str:
    """One frame as extended XYZ, numbers in full; errors as of `write_frames`."""
    atoms = frame.atoms
    columns = {"species": np.array(atoms.symbols, dtype=str), "pos": atoms.positions}
    columns |= _mask(atoms)
    columns |= {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    if frame.forces is not None:
        columns["forces"] = frame.forces
    try:
        line = _line(frame, columns)
        rows = zip(*(text for name in columns for text in _texts(name, columns[name])), strict=True)
        return "\n".join([str(len(atoms)), line, *map(" ".join, rows)]) + "\n"
    except TlpotError as error:
        raise TlpotError(f"{frame.name}: {error}") from None


def _line(frame: Frame, columns: dict[str, np.ndarray]) -> str:
    """The comment line: cell, columns, labels, notes."""
    atoms = frame.atoms
    parts = []
    if atoms.cell.any():
        parts.append(f'Lattice="{_numbers(atoms.cell.array)}"')
    listed = (
        f"{name}:{LETTERS[column.dtype.kind]}:{1 if column.ndim == 1 else column.shape[1]}"
        for name, column in columns.items()
    )
    parts.append(f"Properties={':'.join(listed)}")
    if frame.energy is not None:
        parts.append(f"energy={float(frame.energy)!r}")
    if frame.stress is not None:
        parts.append(f'stress="{_numbers(voigt_6_to_full_3x3_stress(frame.stress))}"')
    more: dict[str, Any] = {} if frame.labels == "full" else {"labels": frame.labels}
    more |= {} if frame.weight == 1.0 else {"weight": frame.weight}
    parts.append(
        to_line({k: v for k, v in frame.info.items() if k not in LABEL_KEYS}, more, label_of)
    )
    parts.append('pbc="' + " ".join("T" if periodic else "F" for periodic in atoms.pbc) + '"')
    return " ".join(filter(None, parts))


def _numbers(array: np.ndarray) -> str:
    return " ".join(map(repr, np.asarray(array, dtype=float).ravel().tolist()))


def _mask(atoms: Atoms) -> dict[str, np.ndarray]:
    """Which coordinates may move, where some may not."""
    free = movable(atoms)
    return {} if free.all() else {"move_mask": free}


def _texts(name: str, column: np.ndarray) -> list[list[str]]:
    """The texts of each column of an array."""
    width = int(np.prod(column.shape[1:]))
    values = column.reshape(len(column), width).T.tolist()
    if column.dtype.kind == "b":
        return [["T" if value else "F" for value in row] for row in values]
    texts = [[str(value) for value in row] for row in values]
    if column.dtype.kind == "U" and not all(re.fullmatch(r"\S+", t) for row in texts for t in row):
        raise TlpotError(f"the column {quoted(name)} has text with gaps, which no file can keep")
    return texts
