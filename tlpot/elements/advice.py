"""Donors for new elements, ranked and drawn: `tlpot elements Si I`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import dist
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from matplotlib.figure import Figure

from tlpot.elements.donors import THESIS, same_column, suggest_donors
from tlpot.elements.modes import nearest_elements, vectors
from tlpot.errors import TlpotError
from tlpot.files import figure_bytes, make_folder, write_whole
from tlpot.palette import BLUE, GRID, INK, MUTED, ORANGE

CROWDED = 0.3
"""Distance on the map below which labels step aside."""


@dataclass(frozen=True)
class Donor:
    """A supported element as a donor for a new one.

    Attributes
    ----------
    element
        Its symbol.
    distance
        Between the two elements' vectors, see `tlpot.elements.modes`.
    thesis
        Whether Parunov (2022) chose it.
    same_column
        Whether both are in one column of the periodic table.
    """

    element: str
    distance: float
    thesis: bool
    same_column: bool


@dataclass(frozen=True)
class Advice:
    """What `advise` found.

    Attributes
    ----------
    model
        The base, as the user named it.
    supported
        Its elements.
    donors
        By new element all supported ones, nearest first.
    suggested
        By new element the donor to begin with (`tlpot.elements.donors.suggest_donors`).
    own
        Elements asked for that need no donor.
    """

    model: str
    supported: tuple[str, ...]
    donors: dict[str, list[Donor]]
    suggested: dict[str, str]
    own: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        elements: dict[str, Any] = {e: {"supported": True} for e in self.own}
        for element, donors in self.donors.items():
            elements[element] = {
                "supported": False,
                "suggested": self.suggested[element],
                "donors": [vars(donor) for donor in donors],
            }
        return {"model": self.model, "supported": list(self.supported), "elements": elements}

    def draw(self, path: Path) -> None:
        """Write the map of the elements: the first two modes, which are principal components.

        Raises
        ------
        TlpotError
            If the file's type is none that matplotlib writes, or it cannot be written.
        """
        figure = self._map()
        kinds = figure.canvas.get_supported_filetypes()
        if path.suffix.lstrip(".") not in kinds:
            raise TlpotError(f"{path}: no type of picture; name it .png, .pdf or .svg")
        make_folder(path.parent)
        write_whole(path, figure_bytes(figure, path.suffix.lstrip(".")))

    def _map(self) -> Figure:
        figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
        axes = figure.subplots()
        marked: dict[str, tuple[float, float]] = {}
        for symbol, (x, y, *_) in vectors().items():
            if symbol in (*self.supported, *self.donors):
                marked[symbol] = x, y
            else:
                axes.text(x, y, symbol, color=MUTED, fontsize=7, ha="center", va="center")
        for symbol, place in marked.items():
            colour = ORANGE if symbol in self.donors else BLUE
            others = [p for p in marked.values() if p != place and dist(p, place) < CROWDED]
            below = bool(others) and min(others, key=lambda p: dist(p, place))[1] > place[1]
            axes.plot(*place, "o", color=colour, markersize=5, zorder=3)
            axes.annotate(
                symbol,
                place,
                (0, -6 if below else 6),
                textcoords="offset points",
                color=colour,
                fontsize=12,
                fontweight="bold",
                ha="center",
                va="top" if below else "bottom",
                zorder=4,
            )
        for element, donor in self.suggested.items():
            arrow = {"arrowstyle": "->", "color": ORANGE, "shrinkA": 4, "shrinkB": 4}
            axes.annotate("", marked[element], marked[donor], arrowprops=arrow, zorder=2)
        every = np.array(list(vectors().values()))
        shares = 100 * every.var(axis=0) / every.var(axis=0).sum()
        axes.update_datalim(every[:, :2])
        axes.autoscale_view()
        axes.set_aspect("equal")
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"first elemental mode ({shares[0]:.0f} % of the variance)", color=INK)
        axes.set_ylabel(f"second elemental mode ({shares[1]:.0f} %)", color=INK)
        asked = " and new ones, arrow from the suggested donor (orange)" if self.donors else ""
        axes.set_title(f"Elements of {self.model} (blue){asked}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def advise(symbols: Sequence[str], supported: Sequence[str], model: str) -> Advice:
    """Rank the supported elements as donors for others.

    Parameters
    ----------
    symbols
        Chemical symbols asked for; supported ones are reported as known.
    supported
        Elements of the base.
    model
        Its name, for the output.

    Raises
    ------
    TlpotError
        If a symbol is no chemical element, or has no element vector (beyond Rn).
    """
    asked = tuple(dict.fromkeys(symbols))
    for symbol in asked:
        if symbol not in atomic_numbers or symbol == "X":
            raise TlpotError(f"'{symbol}' is not a chemical element; write symbols as in Si I Cu")
    new = [symbol for symbol in asked if symbol not in supported]
    donors = {
        symbol: [
            Donor(name, round(distance, 3), THESIS.get(symbol) == name, same_column(symbol, name))
            for name, distance in nearest_elements(symbol, supported)
        ]
        for symbol in new
    }
    return Advice(
        model,
        tuple(supported),
        donors,
        {symbol: suggest_donors(symbol, supported)[0] for symbol in new},
        tuple(symbol for symbol in asked if symbol in supported),
    )
