"""SchNet: continuous-filter convolutions over atoms (Schütt et al., NeurIPS 2017; JCP 2018, 148).

Every atom starts as a vector of its element and is refined by a few *interaction blocks*, each of
which adds what it hears of its neighbours through filters that a network makes of the distance,

    x_i ← x_i + W″ ssp(W′ Σ_j (W x_j) ∘ filter(r_ij)),    ssp(x) = ln(½eˣ + ½),
    filter(r) = F″(ssp(F′ exp(−(r − μ)²/2σ²))) · ½(cos(πr/r_c) + 1);

two dense layers turn the last vector into the atom's energy. A filter depends on a distance alone,
so it is made once for both directions of a pair, and so are forces: ∂E/∂r along the pair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import log, pi
from typing import Any, cast

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from tlpot.backbones.base import Backbone, from_plain
from tlpot.config.bases import SchNetSizes
from tlpot.elements.modes import vectors
from tlpot.structure.frames import Batch

SHARED = "shared"
"""Where an element's name stands in the names of ANI's weights; embeddings have their element."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything but the weights.

    Attributes
    ----------
    symbols
        Elements with an embedding.
    cutoff
        Å.
    features
        Width of an atom's vector, of filters and of hidden layers (the last has half).
    interactions
        Blocks.
    gaussians
        That a distance is expanded in, evenly from 0 to the cutoff, as wide as they are apart.
    members
        Networks in the ensemble.
    """

    symbols: tuple[str, ...]
    cutoff: float
    features: int
    interactions: int
    gaussians: int
    members: int

    @classmethod
    def new(cls, **sizes: Any) -> Architecture:
        """With an embedding for each element from H to Rn; `sizes` as in ``model.schnet``."""
        return cls(symbols=tuple(vectors()), **sizes)


class Dense(nn.Module):
    """A linear layer of all members: ``weight[members, out, in]``, ``bias[members, out]``."""

    def __init__(self, members: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(members, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``[members, rows, in]`` to ``[members, rows, out]``."""
        if self.bias is None:
            return x @ self.weight.mT
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class Embedding(nn.Module):
    """The vector that an element starts with: ``weight[members, features]``."""

    def __init__(self, members: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, features))


class SchNet(Backbone):
    """Ensemble of SchNets.

    Parameters
    ----------
    architecture
        Elements, cutoff and sizes.
    donors
        Elements that use another's embedding, ``{"Si": "C"}``.
    """

    kind = "schnet"
    takes_donors = True

    def __init__(self, architecture: Architecture, donors: Mapping[str, str] | None = None) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.donors = dict(donors or {})
        self.symbols, self.cutoff, self.members = a.symbols, a.cutoff, a.members
        sizes: dict[str, tuple[int, int]] = {}
        for block in self._blocks():
            sizes[f"{block}_filter1"] = (a.gaussians, a.features)
            sizes |= dict.fromkeys(
                (f"{block}_{part}" for part in ("filter2", "input", "hidden", "output")),
                (a.features, a.features),
            )
        sizes |= {"hidden": (a.features, a.features // 2), "output": (a.features // 2, 1)}
        shared = {
            name: Dense(a.members, *size, bias=not name.endswith("_input"))
            for name, size in sizes.items()
        }
        self.networks = nn.ModuleDict({SHARED: nn.ModuleDict(shared)})
        for symbol in a.symbols:
            embedding = Embedding(a.members, a.features)
            self.networks[symbol] = nn.ModuleDict({"embedding": embedding})
        self.random: frozenset[str] = frozenset()
        """Elements whose embedding `init_gaussian` drew and nothing has trained."""

    def atomic_energies(self, batch: Batch) -> Tensor:
        """``Tensor[members, atoms]`` eV, without any reference energy."""
        return self._energies(batch, batch.vectors.to(self.dtype).norm(dim=1)[None])

    def energy_and_slope(
        self, batch: Batch, training: bool = False, members: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `Backbone.energy_and_slope`: one backward pass, over distances."""
        vectors = batch.vectors.to(self.dtype)
        lengths = vectors.norm(dim=1)
        copies = self.members if members else 1
        distances = lengths.expand(copies, -1).detach().clone().requires_grad_()
        with torch.enable_grad():
            energies = self._energies(batch, distances)
            total = energies.sum() * (copies / self.members)
            (slope,) = torch.autograd.grad(total, distances, create_graph=training)
        slope = slope[..., None] * (vectors / lengths[:, None])
        return energies if training else energies.detach(), slope

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `Backbone.features`: the refined vectors, members side by side."""
        x = self._atoms(batch, batch.vectors.to(self.dtype).norm(dim=1)[None])
        return x.transpose(0, 1).flatten(1), self._species(batch)

    def _energies(self, batch: Batch, distances: Tensor) -> Tensor:
        """``Tensor[members, atoms]`` from ``distances[members or 1, pairs]``."""
        x = self._atoms(batch, distances)
        return self._layer("output")(ssp(self._layer("hidden")(x))).squeeze(2)

    def _atoms(self, batch: Batch, distances: Tensor) -> Tensor:
        """Refined vectors ``Tensor[members, atoms, features]``."""
        a, atoms = self.architecture, len(batch.numbers)
        spacing = a.cutoff / (a.gaussians - 1)
        centres = spacing * torch.arange(a.gaussians, device=distances.device, dtype=self.dtype)
        gaussians = torch.exp(-0.5 * ((distances[..., None] - centres) / spacing) ** 2)
        gaussians = gaussians.expand(self.members, -1, -1)
        fade = 0.5 * torch.cos(pi * (distances / a.cutoff).clamp(max=1.0))[..., None] + 0.5
        offset = atoms * torch.arange(self.members, device=distances.device)[:, None]
        first, second = (batch.pairs[:, None] + offset).flatten(1)
        starts: list[Tensor] = [self._embedding(symbol).weight for symbol in self.symbols]
        x = torch.stack(starts, dim=1).index_select(1, self._species(batch))
        for block in self._blocks():
            hidden = ssp(self._layer(f"{block}_filter1")(gaussians))
            filters = (self._layer(f"{block}_filter2")(hidden) * fade).flatten(0, 1)
            sent = self._layer(f"{block}_input")(x).flatten(0, 1)
            received = torch.zeros_like(sent)
            received = received.index_add(0, first, sent.index_select(0, second) * filters)
            received = received.index_add(0, second, sent.index_select(0, first) * filters).view_as(
                x
            )
            received = ssp(self._layer(f"{block}_hidden")(received))
            x = x + self._layer(f"{block}_output")(received)
        return x

    def _species(self, batch: Batch) -> Tensor:
        """``Tensor[atoms]`` place of each atom's element (or its donor) in ``symbols``."""
        table = torch.full((119,), -1)
        for element in (*self.symbols, *self.donors):
            place = self.symbols.index(self.donors.get(element, element))
            table[atomic_numbers[element]] = place
        return table.to(batch.numbers.device)[batch.numbers]

    def _blocks(self) -> list[str]:
        return [f"interaction{i + 1}" for i in range(self.architecture.interactions)]

    def _layer(self, name: str) -> Dense:
        return cast(Dense, self.networks.get_submodule(f"{SHARED}.{name}"))

    def _embedding(self, symbol: str) -> Embedding:
        return cast(Embedding, self.networks.get_submodule(f"{symbol}.embedding"))

    def networks_of(self, symbols: Iterable[str]) -> set[str]:
        """The network of all atoms, and the elements whose embeddings `symbols` use."""
        return {SHARED, *(self.donors.get(symbol, symbol) for symbol in symbols)}

    def train_only(self, symbols: Collection[str]) -> None:
        """Of the trainable weights, leave only the embeddings of `symbols`."""
        for name, network in self.networks.items():
            if name not in symbols:
                network.requires_grad_(False)

    def with_donors(self, donors: Mapping[str, str]) -> SchNet:
        """The same weights, with these for its donors."""
        other = SchNet(self.architecture, donors).to(self.dtype)
        other.load_state_dict(self.state_dict())
        return other

    @torch.no_grad()
    def with_elements(self, symbols: Iterable[str]) -> SchNet:
        """The same potential with embeddings for exactly `symbols`.

        One that stood on a donor gets an embedding of its own, a copy of the donor's. Whether a
        weight is trainable carries over. See `absorb` for the way back.
        """
        symbols = tuple(symbols)
        donors = {e: d for e, d in self.donors.items() if e not in symbols and d in symbols}
        other = SchNet(replace(self.architecture, symbols=symbols), donors)
        for name, network in other.networks.items():
            own = self.networks[self.donors.get(name, name)]
            for new, old in zip(network.parameters(), own.parameters(), strict=True):
                new.data = old.clone()
                new.requires_grad_(old.requires_grad)
        return other

    @torch.no_grad()
    def absorb(self, trained: SchNet) -> None:
        """Take over the weights of a smaller self (`with_elements`) after its training.

        Elements whose embedding is still random are forgotten: the model does not know them.
        """
        for symbol in self.random.difference(trained.symbols):
            del self.networks[symbol]
        self.symbols = tuple(s for s in self.symbols if s in self.networks)
        self.architecture = replace(self.architecture, symbols=self.symbols)
        self.random = frozenset()
        for name, network in trained.networks.items():
            self.networks[name].load_state_dict(network.state_dict())

    def describe(self) -> dict[str, Any]:
        """As `Backbone.describe`."""
        return {"architecture": asdict(self.architecture), "elements": self.donors}

    @classmethod
    def new(cls, **sizes: Any) -> SchNet:
        """As `Backbone.new`."""
        return cls(Architecture.new(**SchNetSizes(**sizes).model_dump()))

    @classmethod
    def restore(cls, header: Mapping[str, Any]) -> SchNet:
        """As `Backbone.restore`."""
        return cls(from_plain(Architecture, header["architecture"]), header["elements"])

    @torch.no_grad()
    def init_gaussian(self, std: float, seed: int) -> None:
        """Draw every trainable weight anew, with variances as published for `std` 0.1.

        Those are 1 for an embedding and 1/inputs for a layer. Biases and the last layer become
        zero: energies start at the reference, not at a random network's.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                embedding = name.endswith("embedding.weight")
                size = 10 * std * (1.0 if embedding else parameter.shape[-1] ** -0.5)
                if name.endswith("bias") or name == f"networks.{SHARED}.output.weight":
                    size = 0.0
                drawn = torch.empty(parameter.shape).normal_(generator=generator)
                parameter.copy_(size * drawn)
        drawn_anew = (s for s in self.symbols if self._embedding(s).weight.requires_grad)
        self.random = frozenset(drawn_anew)


def ssp(x: Tensor) -> Tensor:
    """Shifted softplus, ln(½eˣ + ½)."""
    return nn.functional.softplus(x) - log(2.0)
