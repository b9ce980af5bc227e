"""Which supported element stands in for one the pretrained model never saw."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ase.data import atomic_numbers

from tlpot.elements.modes import nearest, vectors
from tlpot.errors import TlpotError

THESIS = {"Si": "C", "I": "Cl", "Cu": "S"}
"""Donors that Parunov (2022) chose."""

_COLUMNS = (
    ("H", "Li", "Na", "K", "Rb", "Cs"),
    ("B", "Al", "Ga", "In", "Tl"),
    ("C", "Si", "Ge", "Sn", "Pb"),
    ("N", "P", "As", "Sb", "Bi"),
    ("O", "S", "Se", "Te", "Po"),
    ("F", "Cl", "Br", "I", "At"),
)
"""Columns of the periodic table that hold a non-metal."""


def same_column(first: str, second: str) -> bool:
    """Whether two elements share a column of the periodic table, one that holds a non-metal."""
    return any(first in column and second in column for column in _COLUMNS)


def suggest_donors(element: str, supported: Collection[str]) -> list[str]:
    """Supported elements, best donor first.

    The thesis's choice, then the element's own column, then the others; within each the nearest
    by elemental modes (`tlpot.elements.modes`), or by atomic number where the table ends.
    """
    if {element, *supported} <= vectors().keys():
        ranked = [name for name, _ in nearest(element, supported)]
    else:
        number = atomic_numbers[element]
        ranked = sorted(supported, key=lambda e: abs(atomic_numbers[e] - number))
    chosen = THESIS.get(element)
    return sorted(ranked, key=lambda e: (e != chosen, not same_column(e, element)))


def check_elements(mapping: Mapping[str, str], supported: Collection[str]) -> None:
    """Refuse a stand-in that cannot work.

    Raises
    ------
    TlpotError
        If a name is no element, a donor is not supported, or the element needs no donor.
    """
    for element, donor in mapping.items():
        for name in (element, donor):
            if name not in atomic_numbers or name == "X":
                raise TlpotError(f"model.elements: '{name}' is not a chemical element")
        if element in supported:
            raise TlpotError(
                f"model.elements: {element} is already supported; remove '{element}: {donor}'"
            )
        if donor not in supported:
            better = suggest_donors(element, supported)[0]
            raise TlpotError(
                f"model.elements: donor {donor} of {element} is not supported "
                f"({', '.join(supported)}); try '{element}: {better}'"
            )


def require_elements(
    present: Collection[str], known: Collection[str], supported: Collection[str], where: str = ""
) -> None:
    """Refuse elements that are neither supported nor mapped, and suggest donors.

    Parameters
    ----------
    present
        Elements in the structures.
    known
        Elements that have networks, stand-ins included.
    supported
        Elements with networks of their own, the possible donors.
    where
        File and frame for the message.

    Raises
    ------
    TlpotError
        Naming every unknown element and the line to add to the config.
    """
    unknown = sorted(set(present) - set(known))
    if unknown:
        lines = ", ".join(f"{e}: {suggest_donors(e, supported)[0]}" for e in unknown)
        prefix = f"{where}: " if where else ""
        raise TlpotError(
            f"{prefix}{', '.join(unknown)}: not an element of this model ({', '.join(known)}). "
            f"Let a related one stand in before fine-tuning: model.elements: {{{lines}}}"
        )
