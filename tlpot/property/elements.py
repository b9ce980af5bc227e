"""What an atom starts from: numbers that describe its element."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from torch import Tensor

from tlpot.elements import modes
from tlpot.errors import TlpotError
from tlpot.files import require_unshadowed

LAST_ELEMENT = 118
NOBLE_NUMBERS = (0, 2, 10, 18, 36, 54, 86, 118)
"""Where the periods end."""
RADII = np.linspace(0.4, 2.4, 11)[1:-1]
"""Å: borders of ten classes of covalent radii."""


def element_table(kind: str) -> Tensor:
    """Features of every element.

    Parameters
    ----------
    kind
        ``periodic``: group, period, block, place in the f block and class of the covalent radius,
        one-hot, for every element; ``modes``: the four elemental modes (H to Rn, see
        `tlpot.elements.modes`); or the path of a JSON file ``{"1": [0, 1, …], …}`` of numbers by
        atomic number, as CGCNN's ``atom_init.json``.

    Returns
    -------
    ``Tensor[119, features]`` by atomic number; NaN for elements that it does not know.

    Raises
    ------
    TlpotError
        If the file is missing or holds something else.
    """
    if kind in ("periodic", "modes"):
        require_unshadowed(kind, "a choice of model.elements")
    if kind == "periodic":
        rows = {z: _periodic(z) for z in range(1, LAST_ELEMENT + 1)}
    elif kind == "modes":
        rows = {atomic_numbers[s]: list(v) for s, v in modes.vectors().items()}
    else:
        rows = _read(Path(kind).expanduser())
    table = np.full((LAST_ELEMENT + 1, len(next(iter(rows.values())))), np.nan)
    for z, values in rows.items():
        table[z] = values
    return torch.from_numpy(table).float()


def unknown_elements(table: Tensor, numbers: np.ndarray) -> list[str]:
    """Symbols of those atomic numbers that a table does not know."""
    missing = {int(z) for z in np.unique(numbers) if z > LAST_ELEMENT or table[z].isnan().any()}
    return [chemical_symbols[z] for z in sorted(missing)]


def _periodic(z: int) -> list[float]:
    period = int(np.searchsorted(NOBLE_NUMBERS, z))
    place, length = (
        z - NOBLE_NUMBERS[period - 1] - 1,
        NOBLE_NUMBERS[period] - NOBLE_NUMBERS[period - 1],
    )
    f = place - 2 if length == 32 and 2 <= place < 16 else None
    column = place if place < 2 else place + 18 - length  # in an 18-column table
    group = 2 if f is not None else column
    block = 3 if f is not None else 0 if place < 2 or z == 2 else 1 if group >= 12 else 2
    if z == 2:
        group = 17
    radius = int(np.searchsorted(RADII, covalent_radii[z]))
    hot = np.zeros(18 + 7 + 4 + 14 + len(RADII) + 1)
    hot[[group, 18 + period - 1, 25 + block, 43 + radius]] = 1.0
    if f is not None:
        hot[29 + f] = 1.0
    return hot.tolist()


def _read(path: Path) -> dict[int, list[float]]:
    if not path.is_file():
        raise TlpotError(
            f"{path}: no such file of element features; write `periodic`, `modes`, or the path of "
            "a JSON file like CGCNN's atom_init.json (github.com/txie-93/cgcnn)"
        )
    try:
        rows = {int(z): [float(x) for x in v] for z, v in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise TlpotError(
            f"{path}: not a JSON object of a list of numbers by atomic number ({error})"
        ) from None
    if len({len(v) for v in rows.values()}) != 1 or not all(1 <= z <= LAST_ELEMENT for z in rows):
        raise TlpotError(
            f"{path}: needs equally many numbers for every element, named by atomic number"
        )
    return rows
