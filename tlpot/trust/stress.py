"""The stress test: whether there is a wall where atoms come close, and what holds when hot.

Fine-tuning on one crystal sees no atoms that are pressed together, and may open holes there that
the base does not have. So both are put through the same structures, and what becomes of each is
counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from tlpot.errors import TlpotError
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.domain import DOUBT, too_close
from tlpot.model.potential import Potential
from tlpot.relax.ending import NOT_CONVERGED, SWELLING
from tlpot.relax.relax import Relaxed, relax_each
from tlpot.relax.settings import Relaxation
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.frames import Frame, bare
from tlpot.structure.soundness import find_flaw, is_finite
from tlpot.trust.settings import Stress
from tlpot.trust.stress_cases import APART, RAMP, SCAN, points_of

Verdict = Literal["sound", "unfinished", "outside", "broken", "exploded", "collapsed"]
"""``collapsed``: atoms fell into one another; ``exploded``: into infinity; ``broken``: bonds broke
or were made; ``outside``: none of these, but beyond the model's domain; ``unfinished``: so far
good, when the steps were used up."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FAILURES: tuple[Verdict, ...] = ("broken", "exploded", "collapsed")

STOPPING = {"fmax": 0.05, "smax": 0.5}
"""eV/Å, GPa: what is asked is whether a structure holds, not where its minimum is."""
WALL, HOLE = 0.65, 0.1
"""Closeness from which the energy of two molecules must rise; eV by which it may fall."""
COLD, HOT = 300.0, 1000.0
"""K, of the ramp."""
RAMP_STEP, DRAG, LOOK_EVERY = 0.5, 0.01, 10
"""fs, 1/fs, and steps between two looks."""


@dataclass(frozen=True)
class CaseEnd:
    """What became of one case.

    Attributes
    ----------
    detail
        What was seen, in words.
    atoms
        The last geometry; of a scan the one that tells most.
    curve
        eV, of a scan: energies at its points, from the first.
    """

    verdict: Verdict
    detail: str
    atoms: Atoms
    curve: tuple[float, ...] = ()


def spread_bound(potential: Potential, structure: Atoms) -> float:
    """eV per √N beyond which the ensemble is in doubt: three times the largest in training.

    Of a potential that does not know its training (a published base), of what it has on the
    structure that the test is made of; infinite without an ensemble.
    """
    spread = potential.domain.spread
    if spread is None:
        spread = potential.predict(structure).energy_std / np.sqrt(len(structure))
    return DOUBT * spread or np.inf


def stressed(
    cases: Sequence[Frame],
    potential: Potential,
    settings: Stress,
    bound: float,
    engine: Literal["torch-sim", "ase"] = "ase",
) -> Iterator[dict[int, CaseEnd]]:
    """Number and outcome of each of `stress_cases`, of those that end together.

    Parameters
    ----------
    bound
        As `spread_bound` gives it.
    engine
        Of the relaxations.
    """
    by_pressure: dict[float, list[int]] = {}
    for i, case in enumerate(cases):
        if "pressure" in case.info:
            by_pressure.setdefault(float(str(case.info["pressure"])), []).append(i)
    for pressure, numbers in by_pressure.items():
        relaxation = Relaxation(
            pressure=pressure,
            steps=settings.steps,
            max_spread=bound if np.isfinite(bound) else None,
            engine=engine,
            **STOPPING,
        )
        for group in [numbers] if engine == "torch-sim" else [[i] for i in numbers]:
            try:
                for ends in relax_each([cases[i] for i in group], potential, relaxation):
                    yield {group[n]: judged_relaxation(end) for n, end in ends.items()}
            except TlpotError as error:  # atoms so close that nothing can be computed
                if len(group) > 1:
                    raise
                yield {group[0]: CaseEnd("collapsed", str(error), cases[group[0]].atoms)}
    for i, case in enumerate(cases):
        if case.info["kind"] == SCAN:
            yield {i: _scanned(case, potential, bound)}
        elif case.info["kind"] == RAMP:
            steps = round(1000 * settings.ramp / RAMP_STEP)
            yield {i: _heated(case.atoms, potential, steps, settings.seed, bound)}


def judged_relaxation(end: Relaxed) -> CaseEnd:
    """What a relaxation led to."""
    atoms, reason = end.atoms, end.reason or ""
    if not is_finite(atoms):
        return CaseEnd("exploded", reason, end.start)
    growth = atoms.get_volume() / end.start.get_volume() if atoms.pbc.all() else 1.0
    if growth > SWELLING:
        return CaseEnd("exploded", reason, atoms)
    if overlap := too_close(atoms, {}) or find_flaw(atoms):
        return CaseEnd("collapsed", str(overlap), atoms)
    if changes := changed_bonds(end.start, atoms):
        return CaseEnd("broken", changes, atoms)
    if end.energy is None or not np.isfinite(end.energy):
        return CaseEnd("exploded", reason, atoms)
    if reason.startswith(NOT_CONVERGED):
        return CaseEnd("unfinished", reason, atoms)
    return CaseEnd("outside" if reason else "sound", reason, atoms)


def _scanned(scan: Frame, potential: Potential, bound: float) -> CaseEnd:
    points = list(points_of(scan))
    predictions = potential.predict(points)
    energies = np.array([p.energy for p in predictions])
    curve = tuple((energies - energies[0]).tolist())
    if not np.isfinite(energies).all():
        return CaseEnd("exploded", "the energy of two molecules is not finite", points[-1], curve)
    inside = np.flatnonzero(APART <= WALL + 1e-9)
    falls = np.maximum.accumulate(energies[inside]) - energies[inside]
    if falls.max() > HOLE:
        worst = int(inside[falls.argmax()])
        detail = (
            f"two molecules gain {falls.max():.2f} eV as they are pushed to {APART[worst]:.2f} of "
            "van der Waals contact"
        )
        return CaseEnd("collapsed", detail, points[worst], curve)
    spreads = [p.energy_std / np.sqrt(len(points[0])) for p in predictions]
    if max(spreads) > bound:
        detail = f"the ensemble's spread is {1e3 * max(spreads):.1f} meV per √N"
        return CaseEnd("outside", detail, points[int(np.argmax(spreads))], curve)
    return CaseEnd("sound", "", points[-1], curve)


def _heated(start: Atoms, potential: Potential, steps: int, seed: int, bound: float) -> CaseEnd:
    """Langevin dynamics while the temperature rises from `COLD` to `HOT`."""
    random = np.random.default_rng(seed)
    moving = bare(start)
    moving.calc = TLPotCalculator(potential)
    width = np.sqrt(units.kB * COLD * moving.get_masses())[:, None]
    moving.set_momenta(width * random.standard_normal(moving.positions.shape))
    dynamics = Langevin(
        moving,
        RAMP_STEP * units.fs,
        temperature_K=COLD,
        friction=DRAG / units.fs,
        rng=random,
        fixcm=False,
    )
    doubtful, last = "", bare(start)
    for step in range(0, steps, LOOK_EVERY):
        kelvin = COLD + (HOT - COLD) * step / steps
        dynamics.set_temperature(temperature_K=kelvin)
        where = f"at {kelvin:.0f} K: "
        try:
            dynamics.run(min(LOOK_EVERY, steps - step))
        except TlpotError as error:  # atoms so close, or so far, that nothing can be computed
            return CaseEnd("collapsed", f"{where}{error}", last)
        if not (is_finite(moving) and np.isfinite(moving.get_forces()).all()):
            return CaseEnd("exploded", f"{where}positions or forces are not finite", last)
        last = bare(moving)
        if overlap := too_close(last, {}):
            return CaseEnd("collapsed", where + overlap, last)
        if changes := changed_bonds(start, last):
            return CaseEnd("broken", where + changes, last)
        if (actual := moving.get_temperature()) > 3 * kelvin + COLD:
            return CaseEnd("exploded", f"{where}its own temperature is {actual:.0f} K", last)
        spread = moving.calc.results["energy_std"] / np.sqrt(len(last))
        if spread > bound and not doubtful:
            doubtful = f"{where}the ensemble's spread is {1e3 * spread:.1f} meV per √N"
    return CaseEnd("outside" if doubtful else "sound", doubtful, last)


def label(case: Frame) -> str:
    """The kind of a case, with its pressure."""
    pressure = case.info.get("pressure")
    kind = str(case.info["kind"])
    return kind if pressure is None else f"{kind}, {float(str(pressure)):g} GPa"


def counted(
    cases: Sequence[Frame], outcomes: Mapping[int, CaseEnd]
) -> dict[str, dict[Verdict, int]]:
    """How many of each kind had which verdict."""
    counts: dict[str, dict[Verdict, int]] = {}
    for i, case in enumerate(cases):
        row = counts.setdefault(label(case), dict.fromkeys(VERDICTS, 0))
        row[outcomes[i].verdict] += 1
    return counts


def failures(counts: Mapping[str, Mapping[Verdict, int]]) -> int:
    """How many cases collapsed, exploded or broke."""
    return sum(row[verdict] for row in counts.values() for verdict in FAILURES)
