"""The ASE calculator: MD, relaxation, phonons with a fine-tuned model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from torch import Tensor

from tlpot.engine.device import usable
from tlpot.errors import TlpotError, TlpotWarning, short_of_memory
from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.model.prediction import voigt
from tlpot.model.uncertainty import Calibration
from tlpot.structure.electrons import require_closed_shell
from tlpot.structure.frames import Batch, Frame
from tlpot.structure.soundness import COINCIDENT, closest, find_flaw

SKIN = 0.5
KEYWORDS = ("model", "skin", "device", "atoms", "warn_above", "warn_outside")
"""Of `TLPotCalculator`."""


def placed(model: str | Path | Potential, device: str | torch.device = "auto") -> Potential:
    """A potential by name, from a file, or itself, on a device.

    Parameters
    ----------
    device
        ``auto``: a GPU when there is one, but a `Potential` stays where it is; ``cpu``,
        ``cuda:1`` …: a `Potential` is copied there.

    Raises
    ------
    TlpotError
        As `tlpot.model.load.load`.
    """
    if not isinstance(model, Potential):
        return load(model, str(device))
    return model if device == "auto" else copy.deepcopy(model).to(usable(str(device)))


class TLPotCalculator(Calculator):
    """ASE calculator of a tlpot model: energy, forces, stress, and the spread of the ensemble.

    Parameters
    ----------
    model
        Path of a model file or run folder, a `Potential`, or the name of a base such as
        ``"ani2x"``.
    skin
        Distance in Å beyond the cutoff within which neighbours are kept in the list. The list is
        rebuilt when an atom has moved by more than half of it, or when the cell, the periodicity or
        the elements change.
    device
        Where torch computes: ``cpu``, ``cuda``, ``cuda:1`` …, to which a `Potential` is copied.
        ``auto`` takes a GPU if there is one, but leaves a `Potential` where it is.
    atoms
        Structure that this calculator is attached to.
    warn_above
        Limit on ``energy_std``/√N in eV, for N atoms. A `TlpotWarning` is given when a structure
        exceeds it, and again only after the value has fallen below it. ``energy_std`` is calibrated
        if the model is. `tlpot relax` allows three times
        ``potential.metadata["domain"]["spread"]``. None: there is no warning.
    warn_outside
        Whether to warn in the same way when a structure comes to lie outside what the model was
        trained on, judged by its contacts, its spread and the surroundings of its atoms (as in
        `Potential.predict` with ``domain``). ``results`` then also hold ``outside`` and ``reason``.
        For 128 atoms this takes about 6 ms on one core.

    Raises
    ------
    TlpotError
        If the model cannot be loaded, the device cannot be used here or a keyword is unknown. With
        `warn_above`, if it is not a positive number or if the model is a single network, which has
        no spread. With `warn_outside`, if the model does not say what it was trained on.

    Notes
    -----
    A structure that states a charge or a spin (in ``atoms.info``, as initial charges or as initial
    magnetic moments) is refused, as it is in training: the models describe neutral closed-shell
    systems only.

    The properties are ``energy`` and ``free_energy`` (eV, equal), ``forces`` (``(n, 3)``, eV/Å),
    ``stress`` (``(6,)`` in Voigt order, eV/Å³, with ASE's sign), ``energies`` (``(n,)``, eV),
    ``energy_std`` (eV) and ``forces_std`` (``(n, 3)``, eV/Å). The last two are standard deviations
    over the members of the ensemble. If `calibration` is not None, they are scaled to the size of
    the model's errors, and `tlpot.model.uncertainty.Calibration.quantile` times them is the
    half-width of a 90 % prediction interval; otherwise they are raw.
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
        "energy_std",
        "forces_std",
    ]

    def __init__(
        self,
        model: str | Path | Potential,
        skin: float = SKIN,
        device: str | torch.device = "auto",
        atoms: Atoms | None = None,
        warn_above: float | None = None,
        warn_outside: bool = False,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise TlpotError(
                f"TLPotCalculator has no keyword '{name}'; it takes {', '.join(KEYWORDS)}"
            )
        if not skin >= 0:
            raise TlpotError(f"TLPotCalculator: skin is {skin}; give 0 Å or more")
        super().__init__()
        self.potential = placed(model, device)
        self.skin = skin
        if warn_above is not None and not 0 < warn_above < np.inf:
            raise TlpotError(f"TLPotCalculator: warn_above is {warn_above}; give eV per √N above 0")
        if warn_above is not None and self.potential.backbone.members < 2:
            raise TlpotError(
                "TLPotCalculator: warn_above has no effect: the model is a single network, which "
                "has no spread; leave it out"
            )
        self.warn_above, self._above = warn_above, False
        self._domain = self.potential.domain if warn_outside else None
        if self._domain and not self._domain.stated:
            raise TlpotError(
                "TLPotCalculator: warn_outside has no effect: the model does not say what it was "
                "trained on; leave it out"
            )
        self._outside = False
        self._list: _SkinList | None = None
        self._compact: Potential | None = None
        self._elements: set[str] = set()
        if atoms is not None:
            atoms.calc = self

    def __repr__(self) -> str:
        return f"<TLPotCalculator, {self.potential.device}: {self.potential!r}>"

    def set(self, **unknown: Any) -> dict[str, Any]:
        """Refuse every parameter, since this calculator has none to set later.

        ASE calls this method without parameters.

        Raises
        ------
        TlpotError
            Naming the first parameter.
        """
        for name in unknown:
            raise TlpotError(f"TLPotCalculator: {name} cannot be set; make another calculator")
        return {}

    @property
    def calibration(self) -> Calibration | None:
        """The scaling of ``energy_std`` and ``forces_std``; None if they are raw."""
        return self.potential.calibration

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Collection[str] = ("energy",),
        system_changes: Collection[str] = tuple(all_changes),
    ) -> None:
        """Compute the properties of a structure and store them in ``results``; ASE calls this."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        require_closed_shell(self.atoms)
        if "stress" in properties and not self.atoms.pbc.all():
            raise PropertyNotImplementedError("stress needs a cell periodic in three directions")
        batch = self._batch(self.atoms)
        assert self._compact is not None
        members = "forces_std" in properties
        with short_of_memory("use a smaller structure, or another device (device=…, --device)"):
            output = self._compact.evaluate(batch, members=members)
        energy = output.energy.mean().item()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": output.forces.mean(dim=0).cpu().numpy(),
            "energies": output.atomic.mean(dim=0).cpu().numpy(),
            "energy_std": self._compact.spread(output.energy, "energy").item(),
        }
        self._warn(self.atoms)
        self._judge(self.atoms, batch)
        if self.atoms.pbc.all():
            virial = output.virial.mean(dim=0)[0].cpu().numpy()
            self.results["stress"] = voigt(virial / self.atoms.get_volume())
        if members:
            doubt = self._compact.spread(output.forces, "forces")
            self.results["forces_std"] = doubt.cpu().numpy()

    def _warn(self, atoms: Atoms) -> None:
        """Say that the spread exceeds what is allowed, when it comes to."""
        if self.warn_above is None:
            return
        spread = self.results["energy_std"] / np.sqrt(len(atoms))
        above, self._above = self._above, bool(spread > self.warn_above)
        if self._above and not above:
            kind = "calibrated" if self.calibration and self.calibration.energy else "raw"
            warnings.warn(
                f"{atoms.get_chemical_formula()}: the ensemble's spread ({kind}) is "
                f"{1e3 * spread:.3g} meV per √N, above warn_above ({1e3 * self.warn_above:.3g})",
                TlpotWarning,
                stacklevel=3,
            )

    def _judge(self, atoms: Atoms, batch: Batch) -> None:
        """Say that the structure is outside of the training, when it comes to."""
        if self._domain is None:
            return
        reason = self._domain.reason(atoms, self.results["energy_std"], batch)
        self.results |= {"outside": reason is not None, "reason": reason}
        was, self._outside = self._outside, reason is not None
        if self._outside and not was:
            text = f"{atoms.get_chemical_formula()} lies outside the model's training: {reason}"
            warnings.warn(text, TlpotWarning, stacklevel=3)

    def forget(self) -> None:
        """Drop results and neighbour list, so that what follows depends on the structure alone."""
        self.reset()
        self._list = None

    def _batch(self, atoms: Atoms) -> Batch:
        if self._list is None or not self._list.covers(atoms):
            if flaw := find_flaw(atoms, shortest=None):
                raise TlpotError(f"{atoms.get_chemical_formula()}: {flaw}")
            symbols = set(atoms.symbols)
            if self._compact is None or symbols != self._elements:
                self._compact, self._elements = self.potential.for_elements(symbols), symbols
            self._list = _SkinList(self.potential, atoms, self.skin)
        return self._list.batch(atoms, self.potential.backbone.cutoff)


class _SkinList:
    """Neighbour pairs within cutoff + skin of one geometry, valid for all near it."""

    def __init__(self, potential: Potential, atoms: Atoms, skin: float) -> None:
        self.atoms, self.skin = atoms.copy(), skin
        self._template = Batch.of_frame(Frame(self.atoms), potential.backbone.cutoff + skin)
        if (self._template.vectors.norm(dim=1) < COINCIDENT).any():
            raise TlpotError(f"{atoms.get_chemical_formula()}: {closest(atoms, COINCIDENT)}")
        first, second = self._template.pairs
        positions = torch.from_numpy(self.atoms.positions)
        self._shifts = self._template.vectors - (positions[second] - positions[first])
        self._device = potential.device

    def covers(self, atoms: Atoms) -> bool:
        """Whether the list still holds every pair within the cutoff."""
        old = self.atoms
        same = (
            len(atoms) == len(old)
            and np.array_equal(atoms.numbers, old.numbers)
            and np.array_equal(atoms.pbc, old.pbc)
            and np.array_equal(atoms.cell.array, old.cell.array)
        )
        if not same:
            return False
        moved = np.linalg.norm(atoms.positions - old.positions, axis=1).max(initial=0.0)
        return bool(moved < self.skin / 2)

    def batch(self, atoms: Atoms, cutoff: float) -> Batch:
        """Batch of `atoms` with the pairs that are within `cutoff` now."""
        first, second = self._template.pairs
        positions = torch.from_numpy(atoms.positions)
        vectors: Tensor = positions[second] - positions[first] + self._shifts
        near = (vectors.square().sum(1) <= cutoff**2).nonzero().squeeze(1)
        fields = vars(self._template) | {
            "pairs": self._template.pairs[:, near],
            "vectors": vectors[near],
        }
        return Batch(**fields).to(self._device)
