"""Others' units in tlpot's own: eV, Å, u, eV/Å and eV/Å³.

A constant is what one of its unit is in ours: multiply what is read by it, divide what is shown.
``ase.units`` has the plain ones (``GPa``, ``fs``, ``kB``, ``Hartree``, ``Bohr``) and is used for
them directly; what is made of several lives here and nowhere else.
"""

from __future__ import annotations

import numpy as np
from ase import units

MEV = 1e-3
"""eV in 1 meV."""
KJ_PER_MOL = units.kJ / units.mol
"""eV in 1 kJ/mol."""
KCAL_PER_MOL = units.kcal / units.mol
"""eV in 1 kcal/mol."""
KBAR = 0.1 * units.GPa
"""eV/Å³ in 1 kbar."""
GRAM_PER_CM3 = units.mol / 1e24
"""u/Å³ in 1 g/cm³."""
THZ = 1e12 * units._hplanck / units._e
"""eV in a quantum of 1 THz."""
SPRING_QUANTUM = units._hbar * units.m / np.sqrt(units._e * units._amu)
"""eV in a quantum ħω of 1 u on a spring of 1 eV/Å²."""
KEV_PHOTON = 1e7 * units._hplanck * units._c / units._e
"""Å of a photon of 1 keV; of E keV, this over E."""
NS_PER_DAY = 86400 * 1e-6
"""ns/day in 1 fs/s."""

ENERGY_UNITS = {
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "meV": MEV,
}
"""eV in each unit of energy that files come in."""
FORCE_UNITS = {
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Rydberg/Bohr": units.Rydberg / units.Bohr,
    "Hartree/Å": units.Hartree,
    "kcal/mol/Å": KCAL_PER_MOL,
    "kJ/mol/Å": KJ_PER_MOL,
    "meV/Å or kJ/mol/nm": MEV,
    "eV/Bohr": 1.0 / units.Bohr,
}
"""eV/Å in each unit of force that files come in."""
STRESS_UNITS = {
    "GPa": units.GPa,
    "kbar": KBAR,
    "bar": 1e-3 * KBAR,
    "Hartree/Bohr³": units.Hartree / units.Bohr**3,
}
"""eV/Å³ in each unit of stress that files come in."""
