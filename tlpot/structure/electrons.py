"""Whether a structure is neutral and closed-shell, as far as its notes and electrons tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real

import numpy as np
from ase import Atoms

from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

SPIN = 0.5
"""μB of a cell from which it has unpaired electrons."""
CHARGE = 0.1
"""e of a cell from which initial charges make an ion; those of force fields rarely sum to zero."""


NON_METALS = {
    *("H", "He", "B", "C", "N", "O", "F", "Ne", "Si", "P", "S", "Cl", "Ar"),
    *("As", "Se", "Br", "Kr", "Te", "I", "Xe"),
}

CHARGES = ("charge", "total_charge", "net_charge")
MULTIPLICITIES = ("multiplicity", "spin_multiplicity", "mult")
SPINS = ("spin", "total_spin")
MOMENTS = ("magmom", "total_magnetization")
"""Notes that state one, the first of them before the others."""


def stated_open_shell(atoms: Atoms, info: Mapping[str, object] | None = None) -> str | None:
    """Why a structure is charged or has unpaired electrons by what it states itself, or None.

    Parameters
    ----------
    info
        Notes (``charge``, ``multiplicity``, ``spin``, ``magmom`` …) that count before those in
        ``atoms.info``; where neither has any, initial charges and magnetic moments count.
    """
    notes = {**atoms.info, **(info or {})}
    notes |= initial_state(atoms, notes)
    charge, multiplicity, spin, moment = (
        _stated(notes, names) or 0.0 for names in (CHARGES, MULTIPLICITIES, SPINS, MOMENTS)
    )
    if abs(charge) > 1e-3:
        return f"total charge {charge:+.3g}"
    if abs(moment) > SPIN:
        return f"magnetic moment {moment:.2g} μB"
    if multiplicity > 1:
        return f"multiplicity {multiplicity:g}"
    return f"spin {spin:g}" if spin > 1 else None


def initial_state(atoms: Atoms, notes: Mapping[str, object]) -> dict[str, object]:
    """``charge`` (e) and ``magmom`` (μB) of the initial ones of atoms, where `notes` state none."""
    state: dict[str, object] = {}
    charge = float(atoms.get_initial_charges().sum())
    if abs(charge) > CHARGE and _stated(notes, CHARGES) is None:
        state["charge"] = charge
    moment = float(np.linalg.norm(atoms.get_initial_magnetic_moments().sum(axis=0)))
    if moment > SPIN and _stated(notes, (*MOMENTS, *MULTIPLICITIES, *SPINS)) is None:
        state["magmom"] = moment
    return state


def open_shell(frame: Frame) -> str | None:
    """Why a frame is charged or has unpaired electrons, as stated or by counting, or None."""
    if stated := stated_open_shell(frame.atoms, frame.info):
        return stated
    if len(frame) == 1 and frame.kind == "molecule":
        return "a lone atom"
    electrons = int(frame.atoms.numbers.sum())
    if electrons % 2 and (_stated(frame.info, SPINS) or frame.kind == "molecule"):
        return f"odd number of electrons ({electrons})"
    return None


def odd_without_metal(frame: Frame) -> bool:
    """Whether nothing but non-metals share an odd number of electrons; those of a metal may."""
    numbers = frame.atoms.numbers
    return bool(numbers.sum() % 2) and set(frame.atoms.symbols) <= NON_METALS


def require_closed_shell(
    atoms: Atoms, info: Mapping[str, object] | None = None, name: str = ""
) -> None:
    """Refuse what states a charge or a spin: models are trained without such frames.

    Raises
    ------
    TlpotError
        Naming the structure (`name`) and what it states.
    """
    if why := stated_open_shell(atoms, info):
        raise TlpotError(
            f"{name or atoms.get_chemical_formula()}: {why}; the models know neutral closed-shell "
            "systems only, and would answer for one. If it is neutral, mend its notes (atoms.info, "
            "initial charges, initial magnetic moments)"
        )


def _stated(notes: Mapping[str, object], names: Iterable[str]) -> float | None:
    """The first of some notes that is a number."""
    lower = {str(key).lower(): value for key, value in notes.items()}
    values = (_number(lower.get(name)) for name in names)
    return next((value for value in values if value is not None), None)


def _number(value: object) -> float | None:
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iuf":
        value = value.item()
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
