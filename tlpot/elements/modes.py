"""Elements as vectors: how alike two of them are, from their physical properties.

The four *elemental modes* of an element (Herr, Koh, Yao, Parkhill, J. Chem. Phys. 151, 084103
(2019)) are its properties (mass, valence electrons by shell, electronegativity, covalent and van
der Waals radius, ionisation energy, electron affinity, polarisability) compressed by autoencoders.
The table covers H to Rn; ``tools/element_modes.py`` makes it from mendeleev's values and says which
are missing and how they are filled.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from tlpot.errors import TlpotError

MODES = Path(__file__).parent / "modes.csv"
SIZE = 4
"""Numbers in an element's vector."""


def element_vectors(symbols: Sequence[str]) -> np.ndarray:
    """The vectors of elements, dimensionless.

    Parameters
    ----------
    symbols
        ``n`` chemical symbols, H to Rn.

    Returns
    -------
    ``(n, 4)`` float64. Over the table each column has mean zero, the first varies most, columns
    are uncorrelated and the mean square of all entries is one.

    Raises
    ------
    TlpotError
        If a symbol is not in the table.
    """
    table = vectors()
    unknown = sorted(set(symbols) - set(table))
    if unknown:
        raise TlpotError(
            f"no element vector for {', '.join(map(repr, unknown))}: "
            "the table has the chemical symbols from H to Rn"
        )
    return np.array([table[s] for s in symbols]).reshape(-1, SIZE)


def nearest_elements(symbol: str, supported: Collection[str]) -> list[tuple[str, float]]:
    """Supported elements and their Euclidean distance from `symbol`, nearest first.

    Distances that differ by less than about 0.15 are ties: they change order with the autoencoders'
    random start.

    Raises
    ------
    TlpotError
        As `element_vectors`.
    """
    names = list(supported)
    distances = np.linalg.norm(element_vectors(names) - element_vectors([symbol]), axis=1)
    return sorted(zip(names, distances.tolist(), strict=True), key=lambda pair: pair[1])


@cache
def vectors() -> dict[str, tuple[float, ...]]:
    """The whole table, by symbol."""
    with MODES.open(newline="") as file:
        _, *rows = csv.reader(file)
    return {symbol: tuple(map(float, values)) for symbol, *values in rows}
