"""A backbone with its energy reference: structures in, eV and eV/Å out; save and load."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
import torchani
from ase import Atoms
from torch import Tensor

from tlpot.backbones.base import Backbone, find_backbone
from tlpot.backbones.published import to_torchani
from tlpot.elements.donors import require_elements
from tlpot.engine.threads import own_threads
from tlpot.errors import TlpotError, short_of_memory
from tlpot.model.domain import Domain
from tlpot.model.file import content, fitting, read_model, require_shapes, write_model
from tlpot.model.prediction import Output, Prediction, voigt
from tlpot.model.reference import EnergyReference
from tlpot.model.uncertainty import Calibration, Quantity, factor, member_spread
from tlpot.structure.electrons import require_closed_shell
from tlpot.structure.frames import Batch, Frame
from tlpot.structure.soundness import require_sound

CHUNK = 1024
"""Atoms evaluated together by `Potential.predict`."""

Structure = TypeVar("Structure", Frame, Atoms, Batch)


def chunks(structures: Sequence[Structure]) -> Iterator[list[Structure]]:
    """Runs of structures of at most `CHUNK` atoms, or of one that has more."""
    chunk: list[Structure] = []
    atoms = 0
    for structure in structures:
        size = len(structure.numbers if isinstance(structure, Batch) else structure)
        if chunk and atoms + size > CHUNK:
            yield chunk
            chunk, atoms = [], 0
        chunk.append(structure)
        atoms += size
    if chunk:
        yield chunk


def _as_frame(structure: Frame | Atoms, place: int) -> Frame:
    """A structure that a potential can be asked of."""
    if isinstance(structure, Atoms):
        structure = Frame(structure, index=place)
    if not isinstance(structure, Frame):
        raise TlpotError(
            f"predict takes ase.Atoms or the frames of tlpot.read_frames, not {structure!r}; read "
            "files with tlpot.read_frames"
        )
    require_sound([structure])
    require_closed_shell(structure.atoms, structure.info, structure.name)
    return structure


class Potential:
    """A potential that predicts structures and can be fine-tuned: an ensemble of neural networks.

    Parameters
    ----------
    backbone
        The ensemble of networks and their descriptor.
    reference
        The energy that each atom adds to the networks' sum.
    metadata
        What is kept with the model: its base, a summary of its training, versions.
    calibration
        What scales the spread of these very weights to error bars; without it the spread is raw.
    """

    def __init__(
        self,
        backbone: Backbone,
        reference: EnergyReference,
        metadata: dict[str, Any] | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.backbone = backbone
        self.reference = reference
        self.metadata = metadata or {}
        self.calibration = calibration

    def __repr__(self) -> str:
        base = self.metadata.get("base", self.backbone.kind)
        test = self.metadata.get("test") or {}
        errors = [
            f"{test[key]:.3g} {unit}"
            for key, unit in (
                ("energy_rmse_meV_per_atom", "meV/atom"),
                ("force_rmse_meV_per_A_component", "meV/Å"),
            )
            if test.get(key) is not None
        ]
        tested = f", on test frames {', '.join(errors)}" if errors else ""
        members = f"{self.backbone.members} members"
        return f"<Potential of {base}: {' '.join(self.elements)}, {members}{tested}>"

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements that the potential knows, including those added on the weights of another."""
        return (*self.backbone.symbols, *self.backbone.donors)

    @property
    def clones(self) -> dict[str, str]:
        """Elements whose weights began as a copy of another element's, as in ``{"Si": "C"}``."""
        return dict(self.metadata.get("clones", {}))

    @property
    def takes_donors(self) -> bool:
        """Whether elements can be added on the weights of others: some backbones have none."""
        return self.backbone.takes_donors and self.reference.kind != "none"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.backbone.device

    def require_elements(self, present: Collection[str], where: str = "") -> None:
        """Refuse elements that the potential does not know.

        Parameters
        ----------
        present
            Elements of the structures.
        where
            Name of the structures in the message.

        Raises
        ------
        TlpotError
            As `tlpot.elements.donors.require_elements` does.
        """
        donors = self.backbone.symbols if self.takes_donors else ()
        require_elements(present, self.elements, donors, where)

    def batch(self, frames: Sequence[Frame]) -> Batch:
        """Gather the neighbour lists and labels of frames on the potential's device.

        Raises
        ------
        TlpotError
            If a frame holds an element that the potential does not know.
        """
        present = {s for f in frames for s in f.atoms.symbols}
        self.require_elements(present)
        cutoff = self.backbone.cutoff
        return Batch.join([Batch.of_frame(f, cutoff) for f in frames]).to(self.device)

    @own_threads()
    def evaluate(
        self, batch: Batch, training: bool = False, members: bool = False, slope: bool = True
    ) -> Output:
        """Compute the energies, forces and virials of a batch.

        Forces are −∂E/∂r and virials ∂E/∂strain; both are assembled from the derivatives of the
        energy with respect to the vectors between neighbours.

        Parameters
        ----------
        batch
            As `batch` makes it.
        training
            Whether the result can be differentiated with respect to the weights.
        members
            Whether to give forces and virials of every member, and not of the mean energy only.
        slope
            Whether derivatives are needed at all. Without them the output has energies alone, which
            spares backbones that differentiate automatically that work.
        """
        slopes: Tensor | None = None
        if slope or self.backbone.analytic:
            atomic, slopes = self.backbone.energy_and_slope(batch, training, members)
        else:
            with torch.set_grad_enabled(training):
                atomic = self.backbone.atomic_energies(batch)
        atomic = atomic.double() + self.reference.table(atomic.device)[batch.numbers]
        return Output(batch, atomic, slopes)

    def spread(self, members: Tensor, quantity: Quantity) -> Tensor:
        """Standard deviation over members, ``[M, ...]`` to ``[...]``; calibrated if possible."""
        return member_spread(members) * factor(self.calibration, quantity)

    @property
    def domain(self) -> Domain:
        """What the potential was trained on, as far as the model file says."""
        return Domain(self.metadata.get("domain", {}), self.backbone)

    @overload
    def predict(
        self, structures: Frame | Atoms, members: bool = False, domain: bool = False
    ) -> Prediction: ...
    @overload
    def predict(
        self, structures: Iterable[Frame | Atoms], members: bool = False, domain: bool = False
    ) -> list[Prediction]: ...
    def predict(
        self,
        structures: Frame | Atoms | Iterable[Frame | Atoms],
        members: bool = False,
        domain: bool = False,
    ) -> Prediction | list[Prediction]:
        """Predict the energies, forces, stresses and spreads of structures, in batches.

        Parameters
        ----------
        structures
            One structure or any number of them, which may differ in cell, size and elements.
        members
            Whether to predict the spread of the forces too, which takes the forces of every member.
        domain
            Whether to judge if each structure lies outside what the potential was trained on
            (`Prediction.outside`), which takes the descriptors.

        Returns
        -------
        Prediction or list of Prediction
            One prediction for one structure, or a list in the order of the structures.

        Raises
        ------
        TlpotError
            If a structure is not sound, holds an element that the potential does not know, or
            states a charge or a spin (`tlpot.structure.electrons`); if something other than
            structures is given; or if there is not enough memory.
        """
        if isinstance(structures, Frame | Atoms):
            return self.predict([structures], members, domain)[0]
        if isinstance(structures, str) or not isinstance(structures, Iterable):
            structures = [structures]
        frames = [_as_frame(structure, i) for i, structure in enumerate(structures)]
        with short_of_memory("use a smaller structure, or another device (device=…, --device)"):
            if not domain:
                batches = (self.batch(chunk) for chunk in chunks(frames))
                return [p for batch in batches for p in self._predict(batch, members)]
            home, judged = self.domain, []
            for chunk in chunks(frames):
                each = [self.batch([frame]) for frame in chunk]
                predictions = self._predict(Batch.join(each), members)
                own = zip(chunk, predictions, each, strict=True)
                judged += [home.judged(frame.atoms, p, batch) for frame, p, batch in own]
            return judged

    def predict_batches(self, batches: Sequence[Batch], members: bool = False) -> list[Prediction]:
        """Predict as `predict` does, from batches of one structure each."""
        together = (Batch.join(chunk) for chunk in chunks(batches))
        return [p for batch in together for p in self._predict(batch, members)]

    def _predict(self, batch: Batch, members: bool) -> list[Prediction]:
        output = self.evaluate(batch, members=members)
        sizes = batch.n_atoms.tolist()
        stress = (output.virial.mean(dim=0) / batch.volumes[:, None, None]).cpu().numpy()
        energy = output.energy.mean(dim=0).tolist()
        members_energy = output.energy.T.cpu().numpy()
        spread = self.spread(output.energy, "energy").tolist()
        forces = output.forces.mean(dim=0).cpu().split(sizes)
        doubt = self.spread(output.forces, "forces").cpu().split(sizes)
        atomic = output.atomic.mean(dim=0).cpu().split(sizes)
        return [
            Prediction(
                energy=energy[i],
                forces=forces[i].numpy(),
                stress=None if np.isnan(stress[i]).any() else voigt(stress[i]),
                energy_std=spread[i],
                energies=atomic[i].numpy(),
                forces_std=doubt[i].numpy() if members else None,
                energy_members=members_energy[i],
            )
            for i in range(batch.n_frames)
        ]

    def for_elements(self, symbols: Collection[str]) -> Potential:
        """The same potential, without networks and descriptors of all elements but these.

        Raises
        ------
        TlpotError
            If the potential does not know one of `symbols`.
        """
        backbone = self.backbone
        self.require_elements(symbols)
        used = backbone.networks_of(symbols)
        compact = backbone.with_elements(s for s in backbone.symbols if s in used)
        return Potential(compact, self.reference, self.metadata, self.calibration)

    def with_terms(self, fine_angles: bool = True, moments: bool = False) -> Potential:
        """The same potential with more terms in its descriptor, if it has none but its base's."""
        about = (self.backbone.fine_angles, self.backbone.moments)
        if about != (False, False) or not (fine_angles or moments):
            return self
        backbone = self.backbone.with_terms(fine_angles, moments)
        return Potential(backbone, self.reference, self.metadata, self.calibration)

    def to(self, device: torch.device | str) -> Potential:
        """Move the weights to a device, and return this potential."""
        self.backbone.to(device)
        return self

    def require_export(self, to: str) -> None:
        """Refuse a format of ``tlpot export`` that cannot express the backbone.

        Raises
        ------
        TlpotError
            If the format is not among `Backbone.exports`.
        """
        kind, formats = self.backbone.kind, self.backbone.exports
        if to not in formats:
            raise TlpotError(
                f"the backbone {kind} cannot be exported to {to}"
                + (f"; {' and '.join(formats)} can hold it" if formats else "")
            )

    def to_torchani(self) -> torchani.arch.ANI:
        """Build torchani's own module with these weights and references; aliases get written out.

        Raises
        ------
        TlpotError
            If the backbone is not ANI.
        """
        self.require_export("torchani")
        return to_torchani(self.backbone, self.reference.values)

    def save(self, path: str | Path) -> Path:
        """Write weights and metadata to one safetensors file, atomically, and return its path."""
        return write_model(path, *self._content())

    @property
    def identity(self) -> str:
        """SHA-256 of what `save` writes, by which an interrupted run knows its model again."""
        return hashlib.sha256(content(*self._content())).hexdigest()

    def _content(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        header = {
            "units": {"energy": "eV", "length": "Å", "stress": "eV/Å^3"},
            "backbone": self.backbone.kind,
            **self.backbone.describe(),
            "reference": asdict(self.reference),
            "calibration": self.calibration and asdict(self.calibration),
            "metadata": self.metadata,
        }
        own = dict(self.backbone.named_parameters())
        weights = {name: own[name] for name in own if name.startswith("networks.")}
        return header, {**weights, **self.backbone.settled()}

    @classmethod
    def load(cls, path: str | Path) -> Potential:
        """Read a model file, or the model of a run folder.

        Raises
        ------
        TlpotError
            As `read_model` does, and if the file holds another kind of model.
        """
        header, weights = read_model(path)
        if "reference" not in header:
            raise TlpotError(f"{path} holds another kind of model, not a potential")
        with fitting(path):
            kind = find_backbone(header.get("backbone", "ani"))
            with torch.device("meta"):
                claimed = kind.restore(header)
            own = {n: p for n, p in claimed.named_parameters() if n.startswith("networks.")}
            require_shapes(own | claimed.settled(), weights)
            backbone = kind.restore(header)
            reference = EnergyReference(**header["reference"])
            dtype = next(iter(weights.values())).dtype
            _, unexpected = backbone.to(dtype).load_state_dict(weights, strict=False)
            if unexpected:
                raise TlpotError("the weights do not fit the architecture it states")
            metadata = dict(header["metadata"])
            calibration = Calibration.from_dict(header.get("calibration"))
            backbone.requires_grad_(False)
            Domain(metadata.get("domain", {}), backbone)
        return cls(backbone, reference, metadata, calibration)
