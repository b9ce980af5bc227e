"""ANI networks (Smith 2017, Devereux 2020) from torchani, all ensemble members side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from ase.data import atomic_numbers, chemical_symbols
from ase.units import Hartree
from torch import Tensor, nn
from torchani.neighbors import Neighbors

from tlpot.backbones.aev import COMPONENTS, FINE, PRODUCTS_OF_MOMENTS, Architecture
from tlpot.backbones.base import Backbone, from_plain
from tlpot.backbones.columns import Columns
from tlpot.engine.constants import Angles, Moments
from tlpot.engine.descriptors import Descriptors, terms
from tlpot.engine.neighbourhood import surroundings
from tlpot.engine.networks import energy_and_slope
from tlpot.engine.projection import Covariances, Projection, components
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
    exports = ("torchani", "metatomic")
    analytic = True

    def __init__(self, architecture: Architecture, donors: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.donors = dict(donors or {})
        self.symbols = architecture.symbols
        self.cutoff = architecture.radial_cutoff
        self.members = architecture.members
        self.aev = architecture.aev_computer()
        self.columns = Columns(architecture, self.donors)
        self.networks = nn.ModuleDict()
        for symbol, widths in zip(self.symbols, architecture.widths, strict=True):
            sizes = (architecture.features, *widths, 1)
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
        self.register_buffer("projection", None)
        self.projection: Tensor | None
        """``[elements, components, added columns]``: of fine angles orthonormal rows."""
        if architecture.components is not None:
            columns = architecture.fine_columns + architecture.moment_columns
            self.projection = torch.zeros(len(self.symbols), architecture.components, columns)

    def atomic_energies(self, batch: Batch) -> Tensor:
        """``Tensor[members, atoms]`` eV, without any reference energy."""
        species = self.species[batch.numbers]
        return self.network_energies(species, self.descriptors(species, batch))

    def energy_and_slope(
        self, batch: Batch, training: bool = False, members: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `Backbone.energy_and_slope`."""
        species = self.species[batch.numbers]
        order = species.argsort(stable=True)
        counts = self._counts(batch)
        descriptors = self._surroundings(batch, species, order, counts)
        with torch.set_grad_enabled(training):
            energies, slope = energy_and_slope(
                descriptors.values[order],
                counts,
                [self._weights(symbol) for symbol in self.symbols],
                ALPHA,
                members,
            )
            back = order.argsort()
            slope = descriptors.slope(slope.index_select(1, back))
            return energies.index_select(1, back) * Hartree, slope * Hartree

    def _counts(self, batch: Batch) -> list[int]:
        """Atoms that enter each element's networks."""
        counts = dict.fromkeys(self.symbols, 0)
        for number, atoms in batch.counts.items():
            symbol = chemical_symbols[number]
            counts[self.donors.get(symbol, symbol)] += atoms
        return list(counts.values())

    @torch.no_grad()
    def _surroundings(
        self, batch: Batch, species: Tensor, order: Tensor, counts: list[int]
    ) -> Descriptors:
        """Descriptors with their slopes; `order` and `counts` of atoms sorted by element."""
        vectors = batch.vectors.to(self.dtype)
        around = surroundings(self.architecture, species, batch.pairs, vectors)
        if self.projection is None:
            return Descriptors(around)
        return Descriptors(around, Projection(self.projection, order, counts))

    def _weights(self, symbol: str) -> list[Tensor]:
        return [w for name in LAYERS for w in self.layer(symbol, name).parameters()]

    def descriptors(self, species: Tensor, batch: Batch) -> Tensor:
        """Atomic environment vectors ``Tensor[atoms, features]``, torchani's own, projected."""
        vectors = batch.vectors.to(self.dtype)
        neighbours = Neighbors(batch.pairs, vectors.norm(dim=1), -vectors)
        unused_positions = vectors.new_empty(1, len(species), 3)
        all_columns = self.aev.compute_from_neighbors(species[None], unused_positions, neighbours)[
            0
        ]
        if self.projection is None:
            return all_columns
        own, added = self.columns.parted(all_columns)
        components = torch.einsum("acf,af->ac", self.projection[species], added)
        return torch.cat([own, components], dim=1)

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
        about = asdict(self.architecture)
        if self.projection is None:
            del about["components"]  # unknown to models without any
        if self.architecture.moments is None:
            del about["moments"], about["lent"]
        return {"architecture": about, "elements": self.donors}

    def settled(self) -> dict[str, Tensor]:
        """As `Backbone.settled`."""
        return {} if self.projection is None else {"projection": self.projection}

    @classmethod
    def restore(cls, header: Mapping[str, Any]) -> ANI:
        """As `Backbone.restore`."""
        about = dict(header["architecture"])
        if about.get("fine"):
            about["fine"] = from_plain(Angles, about["fine"])
        if about.get("moments"):
            about["moments"] = from_plain(Moments, about["moments"])
        return cls(from_plain(Architecture, about), header["elements"])

    def networks_of(self, symbols: Iterable[str]) -> set[str]:
        """Elements whose networks atoms of `symbols` enter."""
        return {self.donors.get(symbol, symbol) for symbol in symbols}

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `Backbone.features`; networks in the order of ``symbols``."""
        species = self.species[batch.numbers]
        order = species.argsort(stable=True)
        return self._surroundings(batch, species, order, self._counts(batch)).values, species

    def _by_element(self, species: Tensor) -> Iterator[tuple[str, Tensor]]:
        for index, symbol in enumerate(self.symbols):
            atoms = (species == index).nonzero().squeeze(1)
            if len(atoms):
                yield symbol, atoms

    @property
    def fine_angles(self) -> bool:
        """Whether it has finer angular terms than those it came with."""
        return self.architecture.fine is not None

    @property
    def moments(self) -> bool:
        """Whether it has products of moments (`tlpot.engine.moments`)."""
        return self.architecture.moments is not None

    def with_terms(self, fine_angles: bool, moments: bool) -> ANI:
        """As `Backbone.with_terms`; moments have twice the components of fine angles."""
        fine = FINE if fine_angles else None
        count = COMPONENTS * (fine_angles + 2 * moments)
        return self.with_fine_angles(fine, count, PRODUCTS_OF_MOMENTS if moments else None)

    @torch.no_grad()
    def with_fine_angles(
        self,
        fine: Angles | None = FINE,
        components: int | None = COMPONENTS,
        moments: Moments | None = None,
    ) -> ANI:
        """The same potential with more terms, which so far have no weight.

        Their first-layer columns are zero, so that energies do not change before training
        (function-preserving widening, Chen, Goodfellow, Shlens 2016). They enter as so many
        `components`, which `fit_components` is to say; with None, by themselves.
        """
        about = replace(self.architecture, fine=fine, moments=moments, components=components)
        other = ANI(about, self.donors)
        other.to(self.species.device, self.dtype)
        columns = self.columns.within(other.architecture)
        for symbol in self.symbols:
            other._take(symbol, self, lambda weight: weight, into=columns)
        return other.requires_grad_(False)

    @torch.no_grad()
    def fit_components(self, batches: Iterable[Batch], new: Collection[str] | None = None) -> None:
        """Let components be the principal ones of the added columns of `batches`, term by term.

        For each centre element that has none yet: the directions in which the columns vary most;
        those of the moments, of unlike height, are made alike first.

        Parameters
        ----------
        new
            Only what sees one of these is to train (`train_only`): columns around other centres
            that see none of them have no part in a component.
        """
        if self.projection is None:
            return
        added = terms(self.architecture)[2:]
        covariances = [Covariances(len(self.symbols), term.size) for term in added]
        for batch in batches:
            species, vectors = self.species[batch.numbers], batch.vectors.to(self.dtype)
            around = surroundings(self.architecture, species, batch.pairs, vectors)
            for term, some in zip(added, covariances, strict=True):
                some.add(species, term.values(around).flatten(1))
        for element in covariances[0].counts.nonzero().flatten().tolist():
            if not self.projection[element].any():
                old = new is not None and self.symbols[element] not in new
                blind = ~self.columns.added_seeing(new or ()) if old else None
                own = [some.of(element) for some in covariances]
                self.projection[element] = components(added, own, len(self.projection[0]), blind)

    @torch.no_grad()
    def unprojected(self) -> ANI:
        """The same potential, whose networks see every fine column: what other programs take."""
        if self.projection is None:
            return self
        other = ANI(replace(self.architecture, components=None), self.donors)
        other.to(self.species.device, self.dtype)
        columns = torch.cat(self.columns.parted(torch.arange(self.aev.out_dim)))
        for symbol, matrix in zip(self.symbols, self.projection, strict=True):

            def spelt_out(weight: Tensor, matrix: Tensor = matrix) -> Tensor:
                direct, components = weight.tensor_split([-len(matrix)], dim=-1)
                return torch.cat([direct, components @ matrix], dim=-1)

            other._take(symbol, self, spelt_out, into=columns)
        return other.requires_grad_(False)

    def _take(
        self, symbol: str, other: ANI, first: Callable[[Tensor], Tensor], into: Tensor
    ) -> None:
        """Take over the networks of an element, what `first` makes of the first layer `into`."""
        for name in LAYERS:
            own, given = self.layer(symbol, name), other.layer(symbol, name)
            own.bias.copy_(given.bias)
            if name == "input":
                own.weight[..., into] = first(given.weight)
            else:
                own.weight.copy_(given.weight)

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
        columns = self.columns.repeated_by(other.architecture)
        for symbol in symbols:
            for name in LAYERS:
                own = self.layer(self.donors.get(symbol, symbol), name)
                new = other.layer(symbol, name)
                weight = own.weight[..., columns] if name == "input" else own.weight
                new.weight = nn.Parameter(weight.clone(), own.weight.requires_grad)
                new.bias = nn.Parameter(own.bias.clone(), own.bias.requires_grad)
                new.trained = None if own.trained is None else own.trained[columns]
        if self.projection is not None:
            assert other.projection is not None
            donors_of = self.columns.donors_of(other.architecture)
            fine = self.columns.added(other.architecture)
            other.projection = self.projection[donors_of][..., fine].clone()
        if not set(self.symbols) <= set(symbols):
            other.left_out = nn.Parameter(torch.ones(1))
        return other.to(self.species.device, self.dtype)

    @torch.no_grad()
    def absorb(self, trained: ANI) -> None:
        """Take over the weights of a smaller self (`with_elements`) after its training.

        Its ``left_out`` started at one and saw no gradient, so it now holds what weight decay did
        to any weight without one: the first-layer columns that the smaller model left out.
        """
        columns = self.columns.repeated_by(trained.architecture)
        if self.projection is not None:
            assert trained.projection is not None
            fine = self.columns.added(trained.architecture)
            for element, matrix in zip(
                self.columns.donors_of(trained.architecture), trained.projection, strict=True
            ):
                self.projection[element][:, fine] = matrix.to(self.projection)
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

    def train_only(self, symbols: Collection[str]) -> None:
        """Of the trainable weights, leave only those that belong to `symbols`.

        These are the networks of `symbols` and, in the networks of all other elements, the
        first-layer columns of descriptors that see one of `symbols`. So whatever holds none of
        them keeps its energy exactly.
        """
        columns = self.columns.seeing(symbols).to(self.species.device)
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
