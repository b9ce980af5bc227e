"""The calculators that label: any of ASE's by name, settings in plain words, small cells folded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, FileIOCalculator, get_calculator_class

from tlpot.config.hints import hint
from tlpot.config.run import Label
from tlpot.errors import TlpotError
from tlpot.optional import require
from tlpot.structure.neighbours import heights

XTB = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}
GAMMA_ONLY = 10.0
"""Å to which cells are repeated for an engine without k-points."""

GPAW: dict[str, Any] = {
    "xc": "PBE",
    "cutoff": 700,
    "kpts": {"density": 2.0, "gamma": True},
    "occupations": {"name": "fermi-dirac", "width": 0.05},
    "symmetry": {"point_group": False},
    "convergence": {"energy": 1e-6, "density": 1e-5, "forces": 1e-3},
    "txt": None,
}
GPAW_STRESS = 900
"""eV of plane-wave cutoff from which GPAW's stress is worth keeping."""

ASE_WORDS = ("restart", "ignore_bad_restart_file", "label", "atoms", "directory")
"""What every calculator of ASE can be made with."""

CELL_VACUUM = 5.0
"""Å around a molecule for an engine that needs a cell."""


@dataclass(frozen=True)
class EngineLabels:
    """What an engine says of one structure: eV, ``(n, 3)`` eV/Å, ``(6,)`` eV/Å³ or None.

    The energy is the one that the forces belong to (ASE's ``free_energy``, where there is one).
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


@dataclass(frozen=True)
class Engine:
    """A calculator by name with its settings; small enough to send to another process.

    Parameters
    ----------
    settings
        The config's ``label`` section.
    """

    settings: Label

    @property
    def name(self) -> str:
        """Name and version, as ``frame.info["engine"]`` records them."""
        home, stem = self._class.__module__.partition(".")[0], self._class.__name__
        try:
            return f"{stem} {version(home)}"
        except PackageNotFoundError:
            return f"{stem} unknown"

    @property
    def description(self) -> str:
        """All settings in one line, as ``frame.info["settings"]`` records them."""
        settings = {k: v for k, v in self.parameters.items() if k not in ("txt", "verbosity")}
        settings |= {"d3bj": self.settings.dispersion, "replicate": self.replicate or None}
        return describe(settings) or "default"

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What the calculator is made with, in the user's words; the engine's defaults included."""
        name, given = self.settings.engine, self.settings.parameters
        if name in XTB:
            return {"method": XTB[name], "verbosity": 0, **given}
        return {**GPAW, **given} if name == "gpaw" else dict(given)

    @property
    def replicate(self) -> float:
        """Å to which periodic cells are repeated; 0 leaves them."""
        if self.settings.replicate is not None:
            return self.settings.replicate
        return GAMMA_ONLY if self.settings.engine in XTB else 0.0

    def check(self) -> None:
        """Make the calculators once.

        Raises
        ------
        TlpotError
            Naming the package that is missing, or the setting that does not fit.
        """
        try:
            self.calculator()
        except TlpotError:
            raise
        except Exception as error:  # any calculator's own complaint
            raise TlpotError(
                f"label.parameters: {self.settings.engine} cannot be set up with "
                f"{describe(self.parameters) or 'no settings'}: {type(error).__name__}: {error}"
            ) from None
        defaults = getattr(self._class, "default_parameters", {})
        unknown = sorted(set(self.settings.parameters) - set(defaults))
        if unknown and (self.settings.engine in XTB or _takes_defaults_only(self._class)):
            raise TlpotError(
                f"label.parameters: {self.settings.engine} knows no '{unknown[0]}'; it knows "
                f"{', '.join(sorted(defaults))}"
            )
        if self.settings.dispersion is not None:
            d3bj(self.settings.dispersion)

    def label(self, atoms: Atoms) -> EngineLabels:
        """Energy, forces and stress of one structure, dispersion added, small cells folded."""
        calculator = self.calculator()
        stress = self._stress(atoms, calculator)
        labels = folded(self._placed(atoms), calculator, self.replicate, stress)
        if self.settings.dispersion is None:
            return labels
        extra = folded(atoms, d3bj(self.settings.dispersion), 0.0, stress)
        total = None
        if labels.stress is not None and extra.stress is not None:
            total = labels.stress + extra.stress
        return EngineLabels(labels.energy + extra.energy, labels.forces + extra.forces, total)

    def calculator(self) -> Calculator:
        """A new calculator with these settings."""
        parameters = dict(self.parameters)
        if self.settings.engine == "gpaw" and "cutoff" in parameters:
            parameters["mode"] = {"name": "pw", "ecut": parameters.pop("cutoff")}
        return self._class(**parameters)

    def _stress(self, atoms: Atoms, calculator: Calculator) -> bool:
        if not atoms.pbc.all() or self.settings.stress is False:
            return False
        if self.settings.stress is None and self.settings.engine == "gpaw":
            return float(self.parameters.get("cutoff", 0)) >= GPAW_STRESS
        return self.settings.stress or "stress" in calculator.implemented_properties

    def _placed(self, atoms: Atoms) -> Atoms:
        """GPAW needs a cell; a free molecule gets `CELL_VACUUM` around it."""
        if self.settings.engine != "gpaw" or atoms.cell.rank == 3:
            return atoms
        placed = atoms.copy()
        placed.center(vacuum=CELL_VACUUM, axis=np.flatnonzero(~atoms.cell.any(1)))
        return placed

    @cached_property
    def _class(self) -> Any:
        name = self.settings.engine
        if name in XTB:
            return require("tblite.ase", "label", hint("{label.engine}") + f": {name}").TBLite
        module, colon, attribute = name.partition(":")
        try:
            if colon:
                return getattr(import_module(module), attribute)
            return get_calculator_class(name)
        except (ImportError, AttributeError) as error:
            package = module.partition(".")[0]
            mend = {
                "gpaw": "pip install gpaw (and its PAW data: gpaw install-data DIR)",
            }.get(package, "name gfn1, gfn2, gpaw, vasp, a calculator of ASE, or module:Class")
            raise TlpotError(
                hint("{label.engine}") + f": '{name}' is not at hand ({error}); {mend}"
            ) from None


def _takes_defaults_only(calculator: Any) -> bool:
    """Whether a calculator takes settings that are none of its defaults, and ignores them.

    ASE's own do that compute in this process and name no further argument; those that write
    another program's input pass on whatever it knows.
    """
    if not (isinstance(calculator, type) and issubclass(calculator, Calculator)):
        return False
    words = inspect.signature(calculator.__init__).parameters.values()  # type: ignore[misc]
    named = {w.name for w in words if w.kind is w.POSITIONAL_OR_KEYWORD} - {"self", *ASE_WORDS}
    return (
        calculator.__module__.startswith("ase.")
        and bool(calculator.default_parameters)
        and not issubclass(calculator, FileIOCalculator)
        and not named
    )


def folded(atoms: Atoms, calculator: Calculator, shortest: float, stress: bool) -> EngineLabels:
    """Labels of a periodic cell from one repeated until no height is below `shortest` (Å).

    At Γ a supercell stands for a mesh of k-points in the small cell. Energy is shared among the
    images, forces are averaged over them, and the stress is the same.
    """
    large = atoms.repeat(repeats(atoms, shortest))
    images = len(large) // len(atoms)
    large.calc = calculator
    energy = large.get_potential_energy()
    energy = calculator.results.get("free_energy", energy)
    forces = large.get_forces().reshape(images, len(atoms), 3).mean(axis=0)
    labels = EngineLabels(float(energy) / images, forces, large.get_stress() if stress else None)
    values = [
        np.array(labels.energy),
        labels.forces,
        np.zeros(1) if labels.stress is None else labels.stress,
    ]
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("the engine gave NaN or infinite labels")
    return labels


def repeats(atoms: Atoms, shortest: float) -> tuple[int, int, int]:
    """How often to repeat each periodic direction so that its height reaches `shortest` (Å)."""
    high = heights(atoms.cell.complete().array)
    times = np.where(atoms.pbc, np.ceil(shortest / high - 1e-9).clip(min=1), 1)
    a, b, c = times.astype(int).tolist()
    return a, b, c


def d3bj(functional: str) -> Calculator:
    """D3(BJ) with the parameters of a functional, two-body terms only, as VASP's IVDW = 12.

    Raises
    ------
    TlpotError
        If dftd3 is not installed or has no parameters for it.
    """
    library = require("dftd3.ase", "label", "D3 dispersion")
    tweaks = {"method": functional, "atm": False}
    try:
        require("dftd3.interface", "label", "D3 dispersion").RationalDampingParam(**tweaks)
    except RuntimeError:
        raise TlpotError(f"dispersion: D3(BJ) has no parameters for '{functional}'") from None
    calculator: Calculator = library.DFTD3(damping="d3bj", params_tweaks=tweaks)
    return calculator


def describe(parameters: Mapping[str, Any], prefix: str = "") -> str:
    """Settings as ``key=value`` words in order; nested keys are joined by a dot."""
    words = []
    for key, value in sorted(parameters.items()):
        if isinstance(value, Mapping):
            words.append(describe(value, f"{prefix}{key}."))
        elif isinstance(value, list | tuple):
            words.append(f"{prefix}{key}={'x'.join(map(str, value))}")
        elif value is not None:
            words.append(f"{prefix}{key}={value}")
    return " ".join(filter(None, words))
