"""Whether a structure is neutral and closed-shell, as far as its notes and electrons tell."""

from __future__ import annotations

from tlpot.structure.frames import Frame

SPIN = 0.5
"""μB of a cell from which it has unpaired electrons."""


def open_shell(frame: Frame) -> str | None:
    """Why a frame is charged or has unpaired electrons, by its notes and by counting, or None."""
    info = {key.lower(): value for key, value in frame.info.items()}

    def number(*names: str) -> float:
        values = [info[name] for name in names if isinstance(info.get(name), int | float)]
        return float(values[0]) if values else 0.0  # type: ignore[arg-type]

    charge = number("charge", "total_charge", "net_charge")
    if abs(charge) > 1e-3:
        return f"total charge {charge:+g}"
    multiplicity = number("multiplicity", "spin_multiplicity", "mult")
    spin = number("spin", "total_spin")
    moment = number("magmom", "total_magnetization")
    if abs(moment) > SPIN:
        return f"magnetic moment {moment:.2g} μB"
    if multiplicity > 1 or spin > 1:
        return f"multiplicity {multiplicity:g}" if multiplicity > 1 else f"spin {spin:g}"
    if len(frame) == 1 and frame.kind == "molecule":
        return "a lone atom"
    electrons = int(frame.atoms.numbers.sum())
    if electrons % 2 and (spin or frame.kind == "molecule"):
        return f"odd number of electrons ({electrons})"
    return None
