"""`tlpot md`: molecular dynamics that can be taken up exactly where it was, and stops in time.

A run is a chain of segments. Each begins with what the last one wrote: positions, momenta, cell,
random numbers and the integrator's memory, a neighbour list made anew. So an interrupted run and
one that was not are the same, bit for bit.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics

from tlpot import __version__
from tlpot.data.constraints import anchor, fixed_components, hold
from tlpot.data.tables.cells import cell_text
from tlpot.data.write import to_text
from tlpot.errors import TlpotError, short_of_memory, storage
from tlpot.files import append, make_folder, write_whole
from tlpot.md.guard import Guard
from tlpot.md.integrators import conserved, draw_momenta, integrator, remembered
from tlpot.md.settings import Dynamics
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.potential import Potential
from tlpot.parallel.work import begin_work, end_work, locked
from tlpot.relax.relax import unfit
from tlpot.run_log import log, logged
from tlpot.structure.frames import Frame, bare
from tlpot.structure.units import NS_PER_DAY

LOG_COLUMNS = (
    *("step", "time_ps", "potential_eV", "kinetic_eV", "conserved_eV", "temperature_K"),
    *("pressure_GPa", "volume_A3", "a_A", "b_A", "c_A", "alpha", "beta", "gamma", "spread_eV"),
)

LOG, TRAJECTORY, RESTART = "log.csv", "trajectory.extxyz", "restart.npz"
SETTINGS, SUMMARY = "settings.json", "summary.json"
GOOD, DOUBTFUL, STOPPED = "last_good.extxyz", "doubtful.extxyz", "stopped.txt"


@dataclass(frozen=True)
class Pace:
    """How far a run is: steps done and wanted, and nanoseconds a day at the present pace."""

    step: int
    steps: int
    ns_per_day: float


def run_md(
    start: Atoms,
    potential: Potential,
    steps: int,
    output: str | Path,
    settings: Dynamics | None = None,
    on_progress: Callable[[Pace], None] = lambda progress: None,
    ended: bool = False,
) -> str | None:
    """Run molecular dynamics and write a folder; called again, it continues or extends the run.

    Parameters
    ----------
    start
        The structure. Its velocities are drawn anew, without motion of the whole. Fixed atoms and
        components (`tlpot.data.constraints`) stay where they are.
    steps
        Number of steps in all. More steps than an earlier call had extend its run.
    output
        The folder: ``trajectory.extxyz`` (positions, velocities, energy, forces), ``log.csv`` and
        ``restart.npz``. If a guard stops the run, also ``stopped.txt``, ``last_good.extxyz`` and
        ``doubtful.extxyz``, the last frames seen, which are worth labelling.
    settings
        Ensemble, temperature, time step, guards and intervals of output.
    ended
        Whether to accept a run that has all its steps already.

    Returns
    -------
    str or None
        Why a guard stopped the run, or None.

    Raises
    ------
    TlpotError
        If the model does not know the structure, if npt would move fixed atoms, if the folder holds
        something else, another run, or this one with as many steps, or if another process is at
        work in it.
    """
    settings, folder = settings or Dynamics(), Path(output)
    if reason := unfit(start, potential):
        raise TlpotError(f"the structure cannot be run: {reason}")
    if settings.ensemble == "npt" and not start.pbc.all():
        raise TlpotError("npt needs a structure that is periodic in three directions")
    fixed = fixed_components(start)
    if fixed is not None and settings.ensemble == "npt":
        raise TlpotError("npt moves all atoms with the cell, and some are fixed; run nvt")
    if fixed is not None and fixed.all():
        raise TlpotError("all atoms are fixed: nothing can move")
    start = hold(bare(start), fixed)
    make_folder(folder)
    with locked(folder):
        state = _begin(folder, start, potential, settings)
        if ended and ((folder / STOPPED).exists() or state.step >= steps):
            return _stopped(folder)
        _go_further(folder, state, steps)
        lower = "take a smaller --supercell or another --device"
        with logged(folder, begun=True), short_of_memory(lower):
            about = (start.get_chemical_formula(), potential.device, state.step, steps, settings)
            log.info("%s on %s, steps %d to %d: %s", *about)
            calculator = TLPotCalculator(potential)
            energy = potential.predict([start])[0].energy
            guard = Guard(start, energy, potential, settings)
            while state.step < steps:
                reason = _segment(state, calculator, settings, steps, folder, guard, on_progress)
                if reason is not None:
                    _stop(folder, guard, state.step, reason)
                    log.warning("stopped at step %d: %s", state.step, reason)
                    return reason
    return None


@dataclass
class _State:
    """All that the rest of a run depends on, and how long its files are."""

    atoms: Atoms
    random: np.random.Generator
    memory: dict[str, float]
    step: int
    lengths: dict[str, int]

    def save(self, folder: Path) -> None:
        content = io.BytesIO()
        notes = {
            "random": self.random.bit_generator.state,
            "memory": self.memory,
            "step": self.step,
            "lengths": self.lengths,
        }
        arrays = {
            "numbers": self.atoms.numbers,
            "positions": self.atoms.positions,
            "momenta": self.atoms.get_momenta(),
            "cell": self.atoms.cell.array,
            "pbc": self.atoms.pbc,
        }
        np.savez(content, notes=np.array(json.dumps(notes)), **arrays)
        write_whole(folder / RESTART, content.getvalue())

    @classmethod
    def load(cls, folder: Path, fixed: np.ndarray | None) -> _State:
        with np.load(folder / RESTART) as file:
            notes = json.loads(str(file["notes"]))
            atoms = Atoms(file["numbers"], file["positions"], cell=file["cell"], pbc=file["pbc"])
            anchor(atoms, fixed)
            atoms.set_momenta(file["momenta"], apply_constraint=False)
        random = np.random.default_rng()
        random.bit_generator.state = notes["random"]
        return cls(atoms, random, notes["memory"], notes["step"], notes["lengths"])


def _begin(folder: Path, start: Atoms, potential: Potential, settings: Dynamics) -> _State:
    """A new run, or the one that the folder holds."""
    fixed = fixed_components(start)
    identity: dict[str, Any] = {
        "settings": settings.model_dump(),
        "model": potential.identity,
        "formula": start.get_chemical_formula(),
        "positions": start.positions.tolist(),
        "cell": start.cell.array.tolist(),
        "fixed": None if fixed is None else fixed.tolist(),
    }
    note = folder / SETTINGS
    if note.exists():
        there = json.loads(note.read_text())
        if isinstance(there.get("model"), float):  # of a run begun before models had an identity
            there["model"] = identity["model"]
        if differs := [key for key in identity if there.get(key) != identity[key]]:
            raise TlpotError(
                f"{folder} holds a run with other {', '.join(differs)}; name another folder"
            )
        end_work(folder)
        return _State.load(folder, fixed)
    begin_work(folder, {"md": identity})
    random = np.random.default_rng(settings.seed)
    atoms = start.copy()
    anchor(atoms, fixed)
    draw_momenta(atoms, settings.temperature, random)
    write_whole(folder / LOG, ",".join(LOG_COLUMNS) + "\n")
    write_whole(folder / TRAJECTORY, "")
    lengths = {name: (folder / name).stat().st_size for name in (LOG, TRAJECTORY)}
    state = _State(atoms, random, {}, 0, lengths)
    state.save(folder)
    write_whole(note, json.dumps(identity, indent=2) + "\n")
    end_work(folder)
    return state


def _go_further(folder: Path, state: _State, steps: int) -> None:
    """Cut the files to the point of restart; what sums up an earlier end goes."""
    if (folder / STOPPED).exists():
        raise TlpotError(f"{folder} holds a run that a guard stopped; name another folder")
    if state.step >= steps:
        raise TlpotError(
            f"{folder} holds {state.step} steps of this run already; ask for more, or name "
            "another folder"
        )
    (folder / SUMMARY).unlink(missing_ok=True)
    for name, length in state.lengths.items():
        with storage(folder / name):
            os.truncate(folder / name, length)


def _stopped(folder: Path) -> str | None:
    """Why a guard stopped the run, or None."""
    file = folder / STOPPED
    return file.read_text().strip().partition(": ")[2] if file.exists() else None


def _segment(
    state: _State,
    calculator: TLPotCalculator,
    settings: Dynamics,
    steps: int,
    folder: Path,
    guard: Guard,
    on_progress: Callable[[Pace], None],
) -> str | None:
    """Run to the next point of restart and save there; the reason if a guard stops it."""
    atoms = state.atoms
    calculator.forget()
    atoms.calc = calculator
    moving = integrator(atoms, settings, state.random, state.memory, state.step)
    begin, clock, reason = state.step, time.monotonic(), None
    end = min(_next(begin, settings.save_every), steps)
    if begin == 0:
        reason = _look(0, moving, settings, guard, folder)
    while state.step < end and reason is None:
        pauses = (_next(state.step, n) for n in (settings.log_every, settings.frame_every))
        pause = min(*pauses, end)
        moving.run(pause - state.step)
        state.step = pause
        reason = _look(pause, moving, settings, guard, folder)
        pace = (pause - begin) * settings.timestep / (time.monotonic() - clock)
        on_progress(Pace(pause, steps, pace * NS_PER_DAY))
    for name in state.lengths:
        append(folder / name, "")  # settled
    if reason is None:
        state.memory = remembered(moving)
        state.lengths = {name: (folder / name).stat().st_size for name in state.lengths}
        state.save(folder)
    return reason


def _next(step: int, every: int) -> int:
    """The next multiple of `every`."""
    return (step // every + 1) * every


def _look(
    step: int,
    moving: MolecularDynamics,
    settings: Dynamics,
    guard: Guard,
    folder: Path,
) -> str | None:
    """Write what is due at this step; what the guard says."""
    atoms: Atoms = moving.atoms
    reason = guard.check(atoms)
    if step % settings.log_every == 0:
        row = _row(step, moving, settings)
        line = ",".join(cell_text(float(value), 10) for value in row.values())
        append(folder / LOG, f"{line}\n", settled=False)
    if step % settings.frame_every == 0 and (reason is None or step == 0):
        notes = {"step": step, "time_ps": step * settings.timestep / 1000}
        append(folder / TRAJECTORY, _text(atoms, notes, labels=True), settled=False)
    return reason


def _row(step: int, moving: MolecularDynamics, settings: Dynamics) -> dict[str, float]:
    atoms: Atoms = moving.atoms
    periodic = bool(atoms.pbc.all())
    pressure = -atoms.get_stress(include_ideal_gas=True)[:3].mean() if periodic else np.nan
    values = (
        *(step, step * settings.timestep / 1000, atoms.get_potential_energy()),
        *(atoms.get_kinetic_energy(), conserved(moving, settings), atoms.get_temperature()),
        *(pressure / units.GPa, atoms.get_volume() if periodic else np.nan),
        *(atoms.cell.cellpar() if periodic else np.full(6, np.nan)),
        atoms.calc.results["energy_std"],
    )
    return dict(zip(LOG_COLUMNS, values, strict=True))


def _text(atoms: Atoms, notes: dict[str, Any], labels: bool) -> str:
    """One frame as extended XYZ with momenta, and with what the model says of it if `labels`."""
    moving = bare(atoms)
    moving.set_momenta(atoms.get_momenta())
    if not labels:
        return to_text(Frame(moving, info=notes))
    energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
    return to_text(Frame(moving, energy, forces, info=notes | {"engine": f"tlpot {__version__}"}))


def _stop(folder: Path, guard: Guard, step: int, reason: str) -> None:
    """Write the last good frame and, without labels, those up to the one that stopped the run."""
    if guard.good is not None:
        write_whole(folder / GOOD, _text(guard.good, {}, labels=False))
    doubtful = (_text(atoms, {"stopped": reason}, labels=False) for atoms in guard.recent)
    write_whole(folder / DOUBTFUL, "".join(doubtful))
    write_whole(folder / STOPPED, f"step {step}: {reason}\n")
