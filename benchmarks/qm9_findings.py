"""What the finished runs of `qm9_runs` say, in numbers; `qm9_size_element` writes them down."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from qm9_runs import ELEMENTS, SOME, Molecules, folder_of, split, variants

from tlpot.data.reference import fit_reference

RANGE = range(10, 26)
"""Numbers of atoms that the original looks at."""
COMPOSITION = "composition alone"


class Findings:
    """Errors of all finished runs, by name and seed, eV a test molecule.

    Parameters
    ----------
    data
        The molecules.
    seeds
        To look for.
    times
        How many times `SEEN` molecules the trainings saw.
    """

    def __init__(self, data: Molecules, seeds: Sequence[int], times: int = 1) -> None:
        self.data, self.times = data, times
        parts = {seed: split(seed, len(data.sizes)) for seed in seeds}
        self.pools = {seed: pool for seed, (pool, _) in parts.items()}
        self.tests = {seed: test for seed, (_, test) in parts.items()}
        self.errors: dict[str, dict[int, np.ndarray]] = {}
        self.seconds: dict[str, dict[int, float]] = {}
        for name in variants(data, self.pools[seeds[0]]):
            for seed in seeds:
                file = folder_of(seed, name, times) / "test.npz"
                if file.exists():
                    kept = np.load(file)
                    self.errors.setdefault(name, {})[seed] = kept["error"]
                    self.seconds.setdefault(name, {})[seed] = float(kept["seconds"])
        self.errors[COMPOSITION] = {seed: self._composition(seed) for seed in seeds}

    def _composition(self, seed: int) -> np.ndarray:
        """Errors of one energy an element, fitted on the default's molecules."""
        chosen, test = self.pools[seed][:SOME], self.tests[seed]
        reference = fit_reference(self.data.frames(chosen, "MP2"), np.zeros(len(chosen)), {})
        values = np.array([reference.values[element] for element in ELEMENTS])
        return self.data.counts[test] @ values - self.data.energies["MP2"][test]

    def mae(self, name: str, low: int = 0, high: int = 99) -> dict[int, float]:
        """By seed, meV, of the test molecules of so many atoms; seeds without any are left out."""
        found = {}
        for seed, error in self.errors[name].items():
            sizes = self.data.sizes[self.tests[seed]]
            chosen = error[(sizes >= low) & (sizes <= high)]
            if len(chosen):
                found[seed] = 1e3 * float(np.abs(chosen).mean())
        return found

    def change(self, name: str, against: str, low: int = 0, high: int = 99) -> list[float]:
        """Of the MAE, %, seed by seed where both ran."""
        own, other = self.mae(name, low, high), self.mae(against, low, high)
        return [100 * (own[seed] / other[seed] - 1) for seed in own if seed in other]

    def trained_sizes(self) -> np.ndarray:
        """Molecules of each size that the default trains on, mean over seeds."""
        some = [np.bincount(self.data.sizes[p[:SOME]], minlength=40) for p in self.pools.values()]
        return np.mean(some, axis=0)

    def sizes(self) -> list[int]:
        """Those of `RANGE` that training and test set of every seed hold."""
        counts, seeds = self.trained_sizes(), self.errors["default"]
        return [s for s in RANGE if counts[s] >= 1 and len(self.mae("default", s, s)) == len(seeds)]

    def elements(self, name: str) -> dict[str, dict[str, float]]:
        """By element, means over seeds.

        The default's ``training atoms`` of it and the ``share`` (%) of molecules that hold it;
        ``MAE`` and ``MAE per atom`` (meV) of the test molecules, weighted by their atoms of it.
        """
        found: dict[str, dict[str, list[float]]] = {}
        for seed, error in self.errors[name].items():
            test, counts = self.tests[seed], self.data.counts[self.pools[seed][:SOME]]
            error = 1e3 * np.abs(error)
            for k, element in enumerate(ELEMENTS):
                weight = self.data.counts[test, k]
                row = {
                    "training atoms": counts[:, k].sum(),
                    "share": 100 * (counts[:, k] > 0).mean(),
                    "MAE": np.average(error, weights=weight),
                    "MAE per atom": np.average(error / self.data.sizes[test], weights=weight),
                }
                for key, value in row.items():
                    found.setdefault(element, {}).setdefault(key, []).append(float(value))
        return {e: {k: fmean(v) for k, v in row.items()} for e, row in found.items()}


def verdict(changes: Sequence[float]) -> str:
    """Whether three seeds or more agree on the sign of a change."""
    if len(changes) < 3:
        return "too few seeds"
    if min(changes) < 0 < max(changes):
        return "undecided"
    return "better" if fmean(changes) < 0 else "worse"
