"""Engines that fail as real ones do, told by the structure's element; EMT for all others."""

import os

import numpy as np
from ase.calculators.emt import EMT


class Faulty(EMT):
    """Ni raises, Pd kills the process, Pt exits, Ag gives NaN; others as EMT."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        symbols = set(atoms.symbols)
        if "Ni" in symbols:
            raise RuntimeError("SCF did not\n converge")
        if "Pd" in symbols:
            os.abort()
        if "Pt" in symbols:
            os._exit(3)
        super().calculate(atoms, properties, system_changes)
        if "Ag" in symbols:
            self.results["forces"] = np.full((len(atoms), 3), np.nan)


class Smeared(EMT):
    """An engine whose extrapolated energy is not the one that its forces belong to."""

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.results["free_energy"] = self.results["energy"] - 1.0
