"""What `tlpot elements` says."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tlpot.elements.advice import Advice, Donor


def print_advice(advice: Advice, console: Console) -> None:
    """The ranking, the marks, and the line for the config."""
    for element in advice.own:
        console.print(f"{element} is already an element of {advice.model}", highlight=False)
    if not advice.donors:
        return
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("element")
    table.add_column(f"elements of {advice.model} by distance, nearest first")
    for element, donors in advice.donors.items():
        table.add_row(element, "   ".join(map(_cell, donors)))
    console.print(table)
    console.print(
        "* the thesis's choice, ' same column of the periodic table. Differences below 0.15 "
        "are ties. Distance is physical likeness; what a donor is worth, fine-tuning shows.",
        highlight=False,
    )
    line = ", ".join(f"{e}: {donor}" for e, donor in advice.suggested.items())
    console.print(f"to begin with: model.elements: {{{line}}}", markup=False, highlight=False)


def _cell(donor: Donor) -> str:
    marks = "*" * donor.thesis + "'" * donor.same_column
    return f"{donor.element}{marks} {donor.distance:.2f}"
