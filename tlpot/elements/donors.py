"""Which supported element gives its weights to one the pretrained model never saw."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ase.data import atomic_numbers

from tlpot.config.hints import hint
from tlpot.config.run import NewElement
from tlpot.elements.modes import nearest_elements, vectors
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
        ranked = [name for name, _ in nearest_elements(element, supported)]
    else:
        number = atomic_numbers[element]
        ranked = sorted(supported, key=lambda e: abs(atomic_numbers[e] - number))
    chosen = THESIS.get(element)
    return sorted(ranked, key=lambda e: (e != chosen, not same_column(e, element)))


def check_elements(
    elements: Mapping[str, NewElement],
    supported: Collection[str],
    clones: Mapping[str, str] | None = None,
) -> None:
    """Refuse a new element that cannot work.

    Parameters
    ----------
    elements
        The new elements.
    supported
        Elements of the base.
    clones
        Those of them that are clones, with their donors.

    Raises
    ------
    TlpotError
        If a name is no element, a donor is not supported or itself new, a clone's donor is a
        clone, or the element needs no donor.
    """
    clones = clones or {}
    native = [element for element in supported if element not in clones]
    for element, new in elements.items():
        donor = new.donor
        for name in (element, donor):
            if name not in atomic_numbers or name == "X":
                raise TlpotError(f"model.elements: '{name}' is not a chemical element")
        if element in supported:
            raise TlpotError(
                f"model.elements: {element} is already supported; remove '{element}: {donor}'"
            )
        if donor in elements:
            root = suggest_donors(element, native)[0]
            raise TlpotError(
                f"model.elements: donor {donor} of {element} is itself new; "
                f"name an element of the base, e.g. '{_line(element, root, new.kind)}'"
            )
        if donor not in supported:
            better = suggest_donors(element, native)[0]
            raise TlpotError(
                f"model.elements: donor {donor} of {element} is not supported "
                f"({', '.join(supported)}); try '{_line(element, better, new.kind)}'"
            )
        if new.kind == "clone" and donor in clones:
            raise TlpotError(
                f"model.elements: {element} cannot be a clone of {donor}, itself a clone in this "
                f"model; write '{_line(element, clones[donor], 'clone')}' or '{element}: {donor}'"
            )


def _line(element: str, donor: str, kind: str) -> str:
    short = kind == "alias"
    return f"{element}: {donor}" if short else f"{element}: {{from: {donor}, as: {kind}}}"


def require_elements(
    present: Collection[str],
    available: Collection[str],
    supported: Collection[str],
    where: str = "",
) -> None:
    """Refuse elements that are neither supported nor mapped, and suggest donors.

    Parameters
    ----------
    present
        Elements in the structures.
    known
        Elements that have networks, stand-ins included.
    supported
        Elements with networks of their own, the possible donors; none where there can be none.
    where
        File and frame for the message.

    Raises
    ------
    TlpotError
        Naming every unknown element and the line to add to the config.
    """
    unknown = sorted(set(present) - set(available))
    if unknown:
        mend = "Its networks take no new element; choose another base"
        if supported:
            lines = ", ".join(f"{e}: {suggest_donors(e, supported)[0]}" for e in unknown)
            mend = hint(
                f"Let a related one stand in: {{model.elements}}: {{{lines}}}",
                f"Fine-tune it with a related one: tlpot finetune, model.elements: {{{lines}}}",
            )
        prefix = f"{where}: " if where else ""
        what = "not an element" if len(unknown) == 1 else "not elements"
        raise TlpotError(
            f"{prefix}{', '.join(unknown)}: {what} of this model ({', '.join(available)}). {mend}"
        )
