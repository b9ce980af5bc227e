"""ANI networks (Smith 2017, Devereux 2020) from torchani, all ensemble members side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from ase.data import atomic_numbers
from ase.units import Hartree
from torch import Tensor, nn
from torchani.neighbors import Neighbors

from tlpot.backbones.aev import FINE, Architecture
from tlpot.backbones.base import Backbone, from_plain
from tlpot.engine.constants import Angles
from tlpot.engine.descriptors import keep
from tlpot.engine.environment import Descriptor, Environment
from tlpot.engine.networks import energy_and_slope
from tlpot.structure.frames import Batch

LAYERS = ("input", "hidden1", "hidden2", "output")
ALPHA = 0.1
"""CELU's α in every published ANI network."""


def celu(x: Tensor) -> Tensor:
    """CELU with `ALPHA`; torch's own has a derivative of float32 precision in float64."""
    return x.clamp(min=0.0) + ALPHA * torch.expm1(x.clamp(max=0.0) / ALPHA)


class Layer(nn.Module):
    """One linear layer of all members: ``weight[members, out, in]``, ``bias[members, out]``.

    If only some columns of the weight are to train, ``trained[in]`` is true for those.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("trained", None, persistent=False)
        self.trained: Tensor | None
        self.weight = nn.Parameter(torch.zeros(members, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(members, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[members, atoms, in]`` to ``[members, atoms, out]``."""
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class ANI(Backbone):
    """Ensemble of ANI networks.

    Parameters
    ----------
    architecture
        Elements, descriptor constants, layer widths, number of members.
    donors
        Elements that use another's networks and descriptor channels, ``{"Si": "C"}``.
    """

    kind = "ani"
    takes_donors = True
    keeps_descriptors = True
    exports = ("torchani", "metatomic")

    def __init__(self, architecture: Architecture, donors: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.donors = dict(donors or {})
        self.symbols = architecture.symbols
        self.cutoff = architecture.radial_cutoff
        self.members = architecture.members
        self.aev = architecture.aev_computer()
        self.networks = nn.ModuleDict()
        for symbol, widths in zip(self.symbols, architecture.widths, strict=True):
            sizes = (self.aev.out_dim, *widths, 1)
            self.networks[symbol] = nn.ModuleDict(
                {
                    name: Layer(self.members, n_in, n_out)
                    for name, n_in, n_out in zip(LAYERS, sizes[:-1], sizes[1:], strict=True)
                }
            )
        species = torch.full((119,), -1)
        for element in (*self.symbols, *self.donors):
            donor = self.donors.get(element, element)
            species[atomic_numbers[element]] = self.symbols.index(donor)
        self.register_buffer("species", species, persistent=False)
        self.species: Tensor
        self.left_out: nn.Parameter | None = None

    def atomic_energies(self, batch: Batch) -> Tensor:
        """``Tensor[members, atoms]`` eV, without any reference energy."""
        species = self.species[batch.numbers]
        return self.network_energies(species, self.descriptors(species, batch))

    @torch.no_grad()
    def keep(self, batch: Batch) -> Batch:
        """The batch with its descriptors and their Jacobian computed once (see `tlpot.engine`)."""
        return replace(batch, kept=keep(self._environment(batch)))

    def energy_and_slope(
        self, batch: Batch, training: bool = False, members: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `Backbone.energy_and_slope`; with kept descriptors no descriptor is computed."""
        if training and batch.kept is None:
            batch = self.keep(batch)
        descriptor = batch.kept or Descriptor(self._environment(batch))
        with torch.set_grad_enabled(training):
            species = self.species[batch.numbers]
            order = species.argsort(stable=True)
            energies, slope = energy_and_slope(
                descriptor.values[order],
                species.bincount(minlength=len(self.symbols)).tolist(),
                [self._weights(symbol) for symbol in self.symbols],
                ALPHA,
                members,
            )
            back = order.argsort()
            slope = slope.index_select(1, back) * Hartree
            return energies.index_select(1, back) * Hartree, descriptor.slope(slope)

    def _weights(self, symbol: str) -> list[Tensor]:
        return [w for name in LAYERS for w in self.layer(symbol, name).parameters()]

    def _environment(self, batch: Batch) -> Environment:
        species, vectors = self.species[batch.numbers], batch.vectors.to(self.dtype)
        return Environment(self.architecture, species, batch.pairs, vectors)

    def descriptors(self, species: Tensor, batch: Batch) -> Tensor:
        """Atomic environment vectors ``Tensor[atoms, features]``, torchani's own."""
        vectors = batch.vectors.to(self.dtype)
        neighbours = Neighbors(batch.pairs, vectors.norm(dim=1), -vectors)
        unused_positions = vectors.new_empty(1, len(species), 3)
        return self.aev.compute_from_neighbors(species[None], unused_positions, neighbours)[0]

    def network_energies(self, species: Tensor, features: Tensor) -> Tensor:
        """``[atoms]``, ``[atoms, features]`` to ``[members, atoms]`` eV."""
        energies = features.new_zeros(self.members, len(species))
        for symbol, atoms in self._by_element(species):
            x = features[atoms].expand(self.members, -1, -1)
            for name in LAYERS[:-1]:
                x = celu(self.layer(symbol, name)(x))
            energies = energies.index_copy(1, atoms, self.layer(symbol, "output")(x).squeeze(2))
        return energies * Hartree

    def layer(self, symbol: str, name: str) -> Layer:
        """One layer of one element (`LAYERS`)."""
        return cast(Layer, self.networks.get_submodule(f"{symbol}.{name}"))

    def describe(self) -> dict[str, Any]:
        """As `Backbone.describe`."""
        return {"architecture": asdict(self.architecture), "elements": self.donors}

    @classmethod
    def restore(cls, header: Mapping[str, Any]) -> ANI:
        """As `Backbone.restore`."""
        about = dict(header["architecture"])
        if about.get("fine"):
            about["fine"] = from_plain(Angles, about["fine"])
        return cls(from_plain(Architecture, about), header["elements"])

    def networks_of(self, symbols: Iterable[str]) -> set[str]:
        """Elements whose networks atoms of `symbols` enter."""
        return {self.donors.get(symbol, symbol) for symbol in symbols}

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `Backbone.features`; networks in the order of ``symbols``."""
        species = self.species[batch.numbers]
        return self.descriptors(species, batch), species

    def _by_element(self, species: Tensor) -> Iterator[tuple[str, Tensor]]:
        for index, symbol in enumerate(self.symbols):
            atoms = (species == index).nonzero().squeeze(1)
            if len(atoms):
                yield symbol, atoms

    @property
    def fine_angles(self) -> bool:
        """Whether it has finer angular terms than those it came with."""
        return self.architecture.fine is not None

    @torch.no_grad()
    def with_fine_angles(self, fine: Angles = FINE) -> ANI:
        """The same potential with more angular terms, which so far have no weight.

        Their first-layer columns are zero, so that energies do not change before training
        (function-preserving widening, Chen, Goodfellow, Shlens 2016).
        """
        other = ANI(replace(self.architecture, fine=fine), self.donors)
        n_old, n_new = self.architecture.angular, other.architecture.angular
        blocks = self.architecture.element_pairs
        radial = torch.arange(self.aev.radial_len)
        angular = torch.arange(blocks)[:, None] * n_new + torch.arange(n_old)
        columns = torch.cat([radial, len(radial) + angular.flatten()])
        for symbol in self.symbols:
            for name in LAYERS:
                own, new = self.layer(symbol, name), other.layer(symbol, name)
                new.bias.copy_(own.bias)
                if name == "input":
                    new.weight[..., columns] = own.weight.to(new.weight)
                else:
                    new.weight.copy_(own.weight)
        return other.requires_grad_(False).to(self.species.device, self.dtype)

    def with_donors(self, donors: Mapping[str, str]) -> ANI:
        """The same weights, with these for its donors."""
        other = ANI(self.architecture, donors).to(self.dtype)
        other.load_state_dict(self.state_dict())
        return other

    @torch.no_grad()
    def with_elements(self, symbols: Iterable[str]) -> ANI:
        """The same potential with networks for exactly `symbols`.

        Leaving out elements that do not occur drops descriptor columns that are zero; a symbol
        that stood on a donor gets channels and networks of its own, copied from the donor's.
        Energies of structures made of what is left do not change. Whether a weight is trainable
        carries over. See `absorb` for the way back.
        """
        symbols = tuple(symbols)
        donors = {e: d for e, d in self.donors.items() if e not in symbols and d in symbols}
        other = ANI(self.architecture.with_symbols(symbols, self.donors), donors)
        columns = self._columns(other.architecture)
        for symbol in symbols:
            for name in LAYERS:
                own = self.layer(self.donors.get(symbol, symbol), name)
                new = other.layer(symbol, name)
                weight = own.weight[..., columns] if name == "input" else own.weight
                new.weight.data, new.bias.data = weight.clone(), own.bias.clone()
                new.weight.requires_grad_(own.weight.requires_grad)
                new.bias.requires_grad_(own.bias.requires_grad)
                new.trained = None if own.trained is None else own.trained[columns]
        if not set(self.symbols) <= set(symbols):
            other.left_out = nn.Parameter(torch.ones(1))
        return other.to(self.species.device, self.dtype)

    @torch.no_grad()
    def absorb(self, trained: ANI) -> None:
        """Take over the weights of a smaller self (`with_elements`) after its training.

        Its ``left_out`` started at one and saw no gradient, so it now holds what weight decay did
        to any weight without one: the first-layer columns that the smaller model left out.
        """
        columns = self._columns(trained.architecture)
        for symbol in trained.symbols:
            for name in LAYERS:
                own, new = self.layer(symbol, name), trained.layer(symbol, name)
                own.bias.copy_(new.bias)
                if name != "input":
                    own.weight.copy_(new.weight)
                    continue
                if new.weight.requires_grad and trained.left_out is not None:
                    decayed = own.weight * trained.left_out
                    some = own.trained
                    own.weight.copy_(decayed if some is None else decayed.where(some, own.weight))
                own.weight[..., columns] = new.weight

    def _columns(self, other: Architecture) -> Tensor:
        """For each descriptor column of `other`, the column of ours that it repeats."""
        donor = [self.symbols.index(self.donors.get(s, s)) for s in other.symbols]
        n_radial, n_angular = self.architecture.radial, self.architecture.angular
        radial = [torch.arange(n_radial) + n_radial * s for s in donor]
        index, first = self.aev.triu_index, self.aev.radial_len
        pairs = [(s, t) for i, s in enumerate(donor) for t in donor[i:]]
        angular = [torch.arange(n_angular) + first + n_angular * index[s, t] for s, t in pairs]
        return torch.cat(radial + angular)

    def train_only(self, symbols: Collection[str]) -> None:
        """Of the trainable weights, leave only those that belong to `symbols`.

        These are the networks of `symbols` and, in the networks of all other elements, the
        first-layer columns of descriptors that see one of `symbols`. So whatever holds none of
        them keeps its energy exactly.
        """
        new = torch.tensor([s in symbols for s in self.symbols])
        radial = new.repeat_interleave(self.architecture.radial)
        first, second = torch.triu_indices(len(new), len(new))
        angular = (new[first] | new[second]).repeat_interleave(self.architecture.angular)
        columns = torch.cat([radial, angular]).to(self.species.device)
        for symbol in set(self.symbols) - set(symbols):
            for name in LAYERS:
                layer = self.layer(symbol, name)
                layer.bias.requires_grad_(False)
                if name == "input":
                    layer.trained = columns
                else:
                    layer.weight.requires_grad_(False)

    def trained_columns(self) -> dict[str, Tensor]:
        """Trainable weights of which only some columns train (`train_only`), by name."""
        return {
            f"{name}.weight": layer.trained
            for name, layer in self.named_modules()
            if isinstance(layer, Layer) and layer.trained is not None and layer.weight.requires_grad
        }
