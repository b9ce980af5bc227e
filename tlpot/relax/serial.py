"""Minimise structures one after the other with ASE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator, Calculator
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms, FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from tlpot.model.calculator import TLPotCalculator
from tlpot.model.potential import Potential
from tlpot.relax.ending import Minimum, deforms, ending
from tlpot.relax.settings import Relaxation
from tlpot.relax.symmetry import symmetrised


def minimise(
    structures: list[Atoms],
    potential: Potential,
    settings: Relaxation,
    extra: Calculator | None = None,
) -> Iterator[dict[int, Minimum]]:
    """Yield number and minimum in order; BFGS, over ASE's Fréchet filter where cells change.

    What the calculator `extra` gives is added to the potential.
    """
    own = TLPotCalculator(potential)
    calculator = own if extra is None else SumCalculator([own, extra])
    for i, start in enumerate(structures):
        yield {i: _minimise(start, calculator, settings)}


def _minimise(start: Atoms, calculator: BaseCalculator, settings: Relaxation) -> Minimum:
    periodic = bool(start.pbc.all())
    moving, pressure = start.copy(), settings.pressure * units.GPa
    if settings.symmetry and periodic:
        moving, _ = symmetrised(start, settings.symprec)
        moving.set_constraint(FixSymmetry(moving, 1e-4))
    if settings.free == "cell":
        moving.set_constraint([*moving.constraints, FixAtoms(range(len(moving)))])
    moving.calc = calculator
    cell = deforms(start, settings)
    what: Any = FrechetCellFilter(moving, scalar_pressure=pressure) if cell else moving
    volume = moving.get_volume() if periodic else 1.0
    steps, growth, stress = 0, 1.0, 0.0
    with BFGS(what, logfile=None) as optimiser:
        for _ in optimiser.irun(fmax=0.0, steps=settings.steps):
            steps += 1
            force = np.linalg.norm(moving.get_forces(), axis=1).max(initial=0.0)
            if cell:
                outer = moving.get_stress(voigt=False) / units.GPa + settings.pressure * np.eye(3)
                stress, growth = np.abs(outer).max(), moving.get_volume() / volume
            reason = ending(float(force), float(stress), growth, steps, settings)
            if reason is not None:
                break
    assert reason is not None
    return Minimum(moving, steps, reason or None)
