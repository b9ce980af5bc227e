"""A backbone with its energy reference: structures in, eV and eV/Å out; save and load."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchani
from ase import Atoms
from torch import Tensor

from tlpot.backbones.ani import ANI
from tlpot.backbones.base import Backbone
from tlpot.backbones.emodes import Architecture, EModes
from tlpot.backbones.published import PUBLISHED, SYMBOLS, load_published, to_torchani
from tlpot.config import parse_elements
from tlpot.data.reference import EnergyReference
from tlpot.elements.donors import check_elements, require_elements
from tlpot.errors import TlpotError
from tlpot.frames import Batch, Frame
from tlpot.modelfile import read_model, write_model
from tlpot.spread import Calibration, Quantity, factor, member_spread
from tlpot.threads import own_threads

BACKBONES: dict[str, type[Backbone]] = {kind.kind: kind for kind in (ANI, EModes)}
MINI = Path(__file__).parent / "backbones" / "mini.safetensors"
CHUNK = 1024
"""Atoms evaluated together by `Potential.predict`."""


@dataclass(frozen=True)
class Prediction:
    """What a potential says of one structure of ``n`` atoms.

    Attributes
    ----------
    energy
        eV, ensemble mean, reference included.
    forces
        ``(n, 3)`` eV/Å.
    stress
        ``(6,)`` Voigt, eV/Å³, ASE's sign; None unless periodic in three directions.
    energy_std
        eV, standard deviation of the total energy over the ensemble members, calibrated if the
        potential is.
    energies
        ``(n,)`` eV, atomic energies of the mean, references included.
    forces_std
        ``(n, 3)`` eV/Å, as `energy_std`; None unless asked for.
    energy_members
        ``(members,)`` eV, the energy of each; uncalibrated.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    energy_std: float
    energies: np.ndarray
    forces_std: np.ndarray | None = None
    energy_members: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass
class Output:
    """Tensors behind predictions: a batch of ``F`` frames and ``A`` atoms, ``M`` members.

    Attributes
    ----------
    batch
        What was evaluated.
    atomic
        ``Tensor[M, A]`` eV, reference included.
    slope
        ``Tensor[K, pairs, 3]`` ∂E/∂vectors, eV/Å; K is M, or 1 for that of the mean energy.
    """

    batch: Batch
    atomic: Tensor
    slope: Tensor

    @cached_property
    def energy(self) -> Tensor:
        """``Tensor[M, F]`` eV."""
        return self.batch.sum_frames(self.atomic)

    @cached_property
    def forces(self) -> Tensor:
        """``Tensor[K, A, 3]`` eV/Å."""
        k, atoms = len(self.slope), len(self.batch.numbers)
        rows = self.slope.transpose(0, 1).flatten(1)
        first, second = self.batch.pairs
        forces = rows.new_zeros(atoms, 3 * k).index_add(0, first, rows)
        return forces.index_add(0, second, rows, alpha=-1).view(atoms, k, 3).transpose(0, 1)

    @cached_property
    def virial(self) -> Tensor:
        """``Tensor[K, F, 3, 3]`` dE/dstrain, eV."""
        k, frames = len(self.slope), self.batch.n_frames
        products = torch.einsum("pi,kpj->pkij", self.batch.vectors, self.slope).flatten(1)
        frame = self.batch.frame[self.batch.pairs[0]]
        virial = products.new_zeros(frames, 9 * k).index_add(0, frame, products)
        virial = virial.view(frames, k, 3, 3).transpose(0, 1)
        return (virial + virial.mT) / 2


class Potential:
    """A fine-tunable interatomic potential.

    Parameters
    ----------
    backbone
        Network ensemble.
    reference
        Energy that every atom adds.
    metadata
        Anything worth keeping with the model (base, training summary, versions).
    calibration
        What turns the spread of these very weights into error bars; without it spreads are raw.
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

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements the potential answers for, stand-ins included."""
        return (*self.backbone.symbols, *self.backbone.donors)

    @property
    def clones(self) -> dict[str, str]:
        """Elements that began as a copy of another, ``{"Si": "C"}``."""
        return dict(self.metadata.get("clones", {}))

    @property
    def device(self) -> torch.device:
        return next(weight for _, weight in self.backbone.named_parameters()).device

    def batch(self, frames: Sequence[Frame]) -> Batch:
        """Neighbour lists and labels of `frames` on the potential's device.

        Raises
        ------
        TlpotError
            If a frame holds an element that the potential does not know.
        """
        present = {s for f in frames for s in f.atoms.symbols}
        require_elements(present, self.elements, self.backbone.symbols)
        cutoff = self.backbone.cutoff
        return Batch.join([Batch.of_frame(f, cutoff) for f in frames]).to(self.device)

    @own_threads()
    def evaluate(self, batch: Batch, training: bool = False, members: bool = False) -> Output:
        """Energies, forces and virial of a batch.

        Forces and virial are −∂E/∂r and ∂E/∂strain, assembled from ∂E/∂vectors: of the mean
        energy, or with `members` of every member. With `training` the result can be
        differentiated in the weights.
        """
        atomic, slope = self.backbone.energy_and_slope(batch, training, members)
        atomic = atomic.double() + self.reference.table().to(atomic.device)[batch.numbers]
        return Output(batch, atomic, slope.double())

    def spread(self, members: Tensor, quantity: Quantity) -> Tensor:
        """Standard deviation over members, ``[M, ...]`` to ``[...]``, calibrated if it can be."""
        return member_spread(members) * factor(self.calibration, quantity)

    def predict(
        self, structures: Sequence[Frame | Atoms], members: bool = False
    ) -> list[Prediction]:
        """Energy, forces, stress and spread of many structures, evaluated in batches.

        With `members` also the spread of the forces, at the cost of every member's forces.
        """
        frames = [Frame(s) if isinstance(s, Atoms) else s for s in structures]
        predictions: list[Prediction] = []
        chunk: list[Frame] = []
        for frame in frames:
            if chunk and sum(map(len, chunk)) + len(frame) > CHUNK:
                predictions += self._predict_chunk(chunk, members)
                chunk = []
            chunk.append(frame)
        return predictions + (self._predict_chunk(chunk, members) if chunk else [])

    def _predict_chunk(self, frames: Sequence[Frame], members: bool) -> list[Prediction]:
        batch = self.batch(frames)
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
            for i in range(len(frames))
        ]

    def for_elements(self, symbols: Collection[str]) -> Potential:
        """The same potential without the networks and descriptors of all other elements.

        Raises
        ------
        TlpotError
            If it does not know one of `symbols`.
        """
        backbone = self.backbone
        require_elements(symbols, self.elements, backbone.symbols)
        used = backbone.networks_of(symbols)
        compact = backbone.with_elements(s for s in backbone.symbols if s in used)
        return Potential(compact, self.reference, self.metadata, self.calibration)

    def to(self, device: torch.device | str) -> Potential:
        """Move the weights; returns self."""
        self.backbone.to(device)
        return self

    def to_torchani(self) -> torchani.arch.ANI:
        """torchani's own module with these weights and references (donors written out).

        Raises
        ------
        TlpotError
            If the backbone is not ANI.
        """
        if not isinstance(self.backbone, ANI):
            raise TlpotError(f"torchani has no counterpart of the backbone {self.backbone.kind}")
        return to_torchani(self.backbone, self.reference.values)

    def save(self, path: str | Path) -> Path:
        """Write weights and metadata to one safetensors file, atomically."""
        header = {
            "units": {"energy": "eV", "length": "Å", "stress": "eV/Å^3"},
            "backbone": self.backbone.kind,
            **self.backbone.describe(),
            "reference": asdict(self.reference),
            "calibration": self.calibration and asdict(self.calibration),
            "metadata": self.metadata,
        }
        return write_model(path, header, dict(self.backbone.named_parameters()))

    @classmethod
    def load(cls, path: str | Path) -> Potential:
        """Read a model file, or the model of a run folder.

        Raises
        ------
        TlpotError
            As `read_model`, and if it holds no potential.
        """
        header, weights = read_model(path)
        if "reference" not in header:
            raise TlpotError(f"{path} holds another kind of model, not a potential")
        try:
            backbone = BACKBONES[header.get("backbone", ANI.kind)].restore(header)
            reference = EnergyReference(**header["reference"])
            dtype = next(iter(weights.values())).dtype
            missing, unexpected = backbone.to(dtype).load_state_dict(weights, strict=False)
            metadata = dict(header["metadata"])
            calibration = Calibration.from_dict(header.get("calibration"))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise TlpotError(f"{path}: damaged, its header does not fit it ({error!r})") from None
        if unexpected or any(name.startswith("networks.") for name in missing):
            raise TlpotError(f"{path}: the weights do not fit the architecture it states")
        return cls(backbone.requires_grad_(False), reference, metadata, calibration)


def load(model: str | Path) -> Potential:
    """A potential by name or from a file.

    Parameters
    ----------
    model
        Path of a model file or run folder, or ``ani2x``, ``ani1x``, ``ani1ccx`` (torchani's
        weights, downloaded and cached by torchani), or ``mini`` (ships with tlpot).

    Raises
    ------
    TlpotError
        If it is neither, or cannot be read.
    """
    name = str(model)
    if name in PUBLISHED:
        backbone, energies = load_published(name)
        why = f"self-energies of {name} as published"
        potential = Potential(
            backbone.requires_grad_(False), EnergyReference(energies, "self-energies", why)
        )
    elif name == "mini":
        potential = Potential.load(MINI)
    elif Path(name).exists():
        potential = Potential.load(name)
    elif name == EModes.kind:
        raise TlpotError(f"{name} has no pretrained weights; name it as model.base and train it")
    else:
        known = ", ".join([*PUBLISHED, "mini"])
        raise TlpotError(f"'{name}' is neither an existing model file nor one of {known}")
    if name in (*PUBLISHED, "mini"):
        potential.metadata["base"] = name
    return potential


def load_onto(model: str | Path, device: str = "auto") -> Potential:
    """As `load`, on a device as torch calls it; ``auto`` takes a GPU when there is one.

    Raises
    ------
    TlpotError
        As `load`, and if the device cannot be used here.
    """
    potential = load(model)
    if device == "auto":
        return potential.to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return potential.to(device)
    except (RuntimeError, AssertionError) as error:
        raise TlpotError(f"device '{device}' cannot be used here ({error})") from None


def supported_elements(model: str | Path) -> tuple[str, ...]:
    """Elements that a potential (as for `load`) knows; needs no weights of a published one.

    Raises
    ------
    TlpotError
        As `load`.
    """
    return SYMBOLS[str(model)] if str(model) in SYMBOLS else load(model).elements


def load_base(name: str | Path, elements: Mapping[str, Any] | None = None) -> Potential:
    """A potential to start from, with new elements on the weights of its own.

    Parameters
    ----------
    name
        As for `load`; or ``emodes``, whose weights are yet to be trained.
    elements
        As in the config: ``{"Si": "C"}``, an alias, uses C's networks and looks like C to its
        neighbours; ``{"Si": {"from": "C", "as": "clone"}}`` gets networks and descriptor channels
        (radial, and angular with every element) of its own, with C's weights copied to all of
        them. Untrained, both give the same energies.

    Raises
    ------
    TlpotError
        As `load`, and as `tlpot.elements.donors.check_elements`.
    """
    base = _untrained() if str(name) == EModes.kind else load(name)
    if not elements:
        return base
    if not isinstance(base.backbone, ANI):
        raise TlpotError(
            f"model.elements: {name} knows every element by a vector of its own, none needs a "
            "donor; remove model.elements"
        )
    new = parse_elements(elements)
    check_elements(new, base.elements, base.clones)
    donors, energies = dict(base.backbone.donors), dict(base.reference.values)
    for element, entry in new.items():
        donors[element] = donors.get(entry.donor, entry.donor)
        energies[element] = energies[entry.donor]
    backbone = ANI(base.backbone.architecture, donors).to(base.backbone.dtype)
    backbone.load_state_dict(base.backbone.state_dict())
    metadata = base.metadata
    clones = {element: donors[element] for element in new if new[element].kind == "clone"}
    if clones:
        backbone = backbone.with_elements((*backbone.symbols, *clones))
        metadata = metadata | {"clones": base.clones | clones}
    reference = replace(base.reference, values=energies)
    return Potential(backbone.requires_grad_(False), reference, metadata)


def _untrained() -> Potential:
    """An `EModes` without weights: its energy is zero."""
    backbone = EModes(Architecture.new()).requires_grad_(False)
    reference = EnergyReference(dict.fromkeys(backbone.symbols, 0.0), "none", "never trained")
    return Potential(backbone, reference, {"base": EModes.kind})


def voigt(stress: np.ndarray) -> np.ndarray:
    """``(3, 3)`` to ``(6,)``: xx, yy, zz, yz, xz, xy."""
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
