"""Relax many structures; those that go astray are set aside with the reason, the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from tlpot.config.sections import no_effect
from tlpot.data.constraints import fixed_components, hold
from tlpot.errors import TlpotError
from tlpot.model.domain import Domain, too_close
from tlpot.model.potential import Potential
from tlpot.relax.ending import Minimum, deforms
from tlpot.relax.settings import Relaxation
from tlpot.relax.symmetry import symmetrised
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.electrons import open_shell
from tlpot.structure.frames import Frame, bare
from tlpot.structure.soundness import find_flaw


@dataclass(frozen=True)
class Relaxed:
    """What became of one structure.

    Attributes
    ----------
    name
        ``file#index``, or the number of the structure.
    start
        The input.
    atoms
        The last geometry: of a good one the minimum. Without a calculator.
    energy
        eV, of `atoms`; None where nothing was computed.
    forces, stress
        ``(n, 3)`` eV/Å; ``(6,)`` Voigt, eV/Å³, None unless periodic in three directions.
    energy_std
        eV, the ensemble's spread, calibrated if the model is.
    steps
        Evaluations of the model that it took.
    reason
        Why it is set aside; None: it is good.
    """

    name: str
    start: Atoms
    atoms: Atoms
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    energy_std: float | None = None
    steps: int = 0
    reason: str | None = None

    @property
    def converged(self) -> bool:
        """Whether `atoms` is a minimum inside the model's domain."""
        return self.reason is None


def relax(
    structures: Sequence[Frame | Atoms],
    potential: Potential,
    settings: Relaxation | None = None,
    on_structure: Callable[[int], None] = lambda done: None,
    extra: Calculator | None = None,
) -> list[Relaxed]:
    """Relax the positions, the cell, or both, of structures that may be unlike.

    Parameters
    ----------
    structures
        Crystals and molecules in any order. Of molecules only the positions are relaxed.
    potential
        The potential, which computes on its own device.
    settings
        How to relax; by default positions and cell at zero pressure.
    on_structure
        Called with the number of structures that are done.
    extra
        An ASE calculator whose energy is added to the potential's, such as a dispersion correction.
        The structures are then relaxed one after the other with ASE. Energies and forces of the
        result are those of the potential alone.

    Returns
    -------
    list of Relaxed
        One result for each structure, in order. A structure is set aside with a reason, without
        disturbing the others, if the model does not know it (its elements, or contacts or a spread
        of the ensemble beyond the training's), if it explodes, does not converge, or breaks or
        forms bonds. Fixed atoms and components (`tlpot.data.constraints`) keep their fractional
        position when the cell changes; forces on them do not count.

    Raises
    ------
    TlpotError
        If a package that the settings need is not installed.
    """
    settings = settings or Relaxation()
    frames = [s if isinstance(s, Frame) else Frame(s, index=i) for i, s in enumerate(structures)]
    ends: dict[int, Relaxed] = {}
    for ended in relax_each(frames, potential, settings, extra):
        ends |= ended
        on_structure(len(ends))
    return [ends[i] for i in range(len(frames))]


def relax_each(
    frames: Sequence[Frame],
    potential: Potential,
    settings: Relaxation,
    extra: Calculator | None = None,
) -> Iterator[dict[int, Relaxed]]:
    """As `relax`; yields numbers and ends, of those that end together, as they end."""
    settings.require_libraries(serial=extra is not None)
    starts = dict(
        enumerate(_start(frame, i, potential, settings) for i, frame in enumerate(frames))
    )
    yield {i: start for i, start in starts.items() if start.reason is not None}
    todo = [i for i, start in starts.items() if start.reason is None]
    for minima in _minima([starts[i].start for i in todo], potential, settings, extra):
        ends = {}
        for n, minimum in minima.items():
            start, atoms = starts[todo[n]], bare(minimum.atoms)
            atoms.set_constraint(start.start.constraints)
            ends[todo[n]] = replace(start, atoms=atoms, steps=minimum.steps, reason=minimum.reason)
        yield _judged(ends, potential, settings)


def _start(frame: Frame, number: int, potential: Potential, settings: Relaxation) -> Relaxed:
    """A structure that is yet to be relaxed, or the reason why it cannot be."""
    name = frame.name if frame.source else str(number)
    atoms, reason = bare(frame.atoms), None
    try:
        hold(atoms, fixed_components(frame.atoms))
    except TlpotError as error:
        reason = str(error)
    reason = reason or unfit(frame.atoms, potential, frame.info) or _unmoved(atoms, settings)
    return Relaxed(name, atoms, atoms, reason=reason or _unsymmetric(atoms, settings))


def unfit(
    atoms: Atoms, potential: Potential, info: Mapping[str, object] | None = None
) -> str | None:
    """Why the model should not even be asked, or None; `info` are notes of the structure."""
    if flaw := find_flaw(atoms, potential.elements, periodic="whole"):
        return str(flaw)
    if shell := open_shell(Frame(atoms, info=dict(info or {}))):
        return f"{shell}; the models know neutral closed-shell systems only"
    if reason := too_close(atoms, {}):
        return f"too close for any model: {reason}"
    return None


def require_crystals(frames: Sequence[Frame], settings: Relaxation) -> None:
    """Refuse settings that only crystals follow where there is none.

    Raises
    ------
    TlpotError
        Naming the setting.
    """
    changed = settings.changed()
    for names, follows in (
        (("pressure",), lambda frame: frame.kind == "crystal"),
        (("symmetry", "symprec"), lambda frame: frame.atoms.pbc.all()),
    ):
        idle = [name for name in names if name in changed]
        if idle and not any(map(follows, frames)):
            raise TlpotError(no_effect(idle[0], "without a crystal among the structures"))


def _unmoved(atoms: Atoms, settings: Relaxation) -> str | None:
    """Why nothing of a structure may move, or None."""
    if settings.free == "cell" and not deforms(atoms, settings):
        return "a molecule, alone in its box or without one, has no cell to relax (free: cell)"
    return None


def _unsymmetric(atoms: Atoms, settings: Relaxation) -> str | None:
    """Why the symmetry that is asked for cannot be kept, or None."""
    if settings.symmetry and atoms.pbc.all():
        if atoms.constraints:
            return "it has fixed atoms, which may break the symmetry to keep; do without either"
        try:
            symmetrised(atoms, settings.symprec)
        except TlpotError as error:
            return str(error)
    return None


def _minima(
    structures: list[Atoms],
    potential: Potential,
    settings: Relaxation,
    extra: Calculator | None,
) -> Iterator[dict[int, Minimum]]:
    if settings.engine == "ase" or extra is not None:
        from tlpot.relax import serial

        return serial.minimise(structures, potential, settings, extra)
    from tlpot.relax import batched

    return batched.minimise(structures, potential, settings)


def _judged(
    ends: Mapping[int, Relaxed], potential: Potential, settings: Relaxation
) -> dict[int, Relaxed]:
    """With energies, forces and spread at the end, and the domain's verdict on the minima."""
    judged = dict(ends)
    for i, end in ends.items():
        if end.reason is None and (close := too_close(end.atoms, {}) or find_flaw(end.atoms)):
            judged[i] = replace(end, reason=f"collapsed: {close}")
    sound = [i for i, end in ends.items() if not (find_flaw(end.atoms) or too_close(end.atoms, {}))]
    predictions = potential.predict([ends[i].atoms for i in sound]) if sound else []
    domain = potential.domain
    for i, prediction in zip(sound, predictions, strict=True):
        end = ends[i]
        reason = end.reason or _outside(end, prediction.energy_std, domain, settings)
        judged[i] = replace(
            end,
            energy=prediction.energy,
            forces=prediction.forces,
            stress=prediction.stress,
            energy_std=prediction.energy_std,
            reason=reason,
        )
    return judged


def _outside(end: Relaxed, energy_std: float, domain: Domain, settings: Relaxation) -> str | None:
    """Why the model is not to be trusted with what a relaxation led to, or None."""
    changes = changed_bonds(end.start, end.atoms) if settings.bonds else None
    doubts = domain.doubts(end.atoms, energy_std, settings.max_spread, settings.max_distance)
    return too_close(end.atoms, domain.contacts) or changes or next(doubts, None)
