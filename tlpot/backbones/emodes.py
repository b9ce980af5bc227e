"""A network that any element enters without growing (Herr, Koh, Yao, Parkhill 2019).

Each element is a vector β of a few *elemental modes* (`tlpot.elements.modes`). ANI's terms (Smith
2017, eqs. 2–4) are summed over all neighbours, weighted by their vectors,

    G^R_i = Σ_j β(Z_j) · radial_ij
    G^A_i = Σ_jk ½(β(Z_j)⊗β(Z_k) + β(Z_k)⊗β(Z_j)) · angular_ijk,

and with β(Z_i) of the centre enter one network that all elements share. Neither descriptor nor
network knows how many elements there are. The sums are taken as ANI's, over the elements that occur
in a frame, and then contracted with their vectors: the same numbers, and one engine for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn
from torchani.aev import AEVComputer, ANIAngular, ANIRadial
from torchani.neighbors import Neighbors

from tlpot.backbones.ani import ALPHA, LAYERS, Layer, celu
from tlpot.backbones.base import Backbone, from_plain
from tlpot.backbones.weighted import Species, WeightedDescriptors
from tlpot.elements.modes import vectors
from tlpot.engine.constants import Constants
from tlpot.engine.descriptors import Descriptors
from tlpot.engine.neighbourhood import surroundings
from tlpot.engine.networks import energy_and_slope
from tlpot.structure.frames import Batch

SHARED = "shared"
"""Where an element's name stands in the names of ANI's weights."""
WIDTHS, MEMBERS = (256, 192, 160), 4
"""Of a new backbone: the layers of ANI-2x's hydrogen, and half its members."""


@dataclass(frozen=True, kw_only=True)
class Architecture(Constants):
    """Everything but the weights: descriptor constants, element vectors, hidden widths, members.

    The vectors (one for each of `symbols`) are part of it, so no later table changes a model.
    """

    symbols: tuple[str, ...]
    vectors: tuple[tuple[float, ...], ...]
    widths: tuple[int, ...]
    members: int

    @property
    def modes(self) -> int:
        """Components of an element's vector."""
        return len(self.vectors[0])

    @property
    def features(self) -> int:
        """Inputs of the network, whatever the number of elements."""
        pairs = self.modes * (self.modes + 1) // 2
        return self.modes * self.radial + pairs * self.angular + self.modes

    @classmethod
    def new(cls, widths: Sequence[int] = WIDTHS, members: int = MEMBERS) -> Architecture:
        """ANI-2x's descriptor constants, and every element of the modes table."""
        radial, angular = ANIRadial.like_2x(), ANIAngular.like_2x()
        return cls(
            radial_cutoff=radial.cutoff,
            radial_eta=radial.eta.item(),
            radial_shifts=tuple(radial.shifts.tolist()),
            angular_cutoff=angular.cutoff,
            angular_eta=angular.eta.item(),
            angular_zeta=angular.zeta.item(),
            angular_shifts=tuple(angular.shifts.tolist()),
            angular_sections=tuple(angular.sections.tolist()),
            symbols=tuple(vectors()),
            vectors=tuple(vectors().values()),
            widths=tuple(widths),
            members=members,
        )


class EModes(Backbone):
    """Ensemble of networks over element vectors.

    Parameters
    ----------
    architecture
        Element vectors, descriptor constants, layer widths, number of members.
    """

    kind = "emodes"
    analytic = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.symbols = architecture.symbols
        self.cutoff = architecture.radial_cutoff
        self.members = architecture.members
        sizes = (architecture.features, *architecture.widths, 1)
        layers = {
            name: Layer(self.members, n_in, n_out)
            for name, n_in, n_out in zip(LAYERS, sizes[:-1], sizes[1:], strict=True)
        }
        self.networks = nn.ModuleDict({SHARED: nn.ModuleDict(layers)})
        table = torch.full((119, architecture.modes), float("nan"), dtype=torch.float64)
        table[[atomic_numbers[s] for s in self.symbols]] = torch.tensor(
            architecture.vectors, dtype=torch.float64
        )
        self.register_buffer("table", table, persistent=False)
        self.table: Tensor

    def atomic_energies(self, batch: Batch, species: Species | None = None) -> Tensor:
        """``Tensor[members, atoms]`` eV, by torchani's descriptors and automatic differentiation.

        With `species` the atoms are what it says, not what ``batch.numbers`` says, and the result
        is differentiable in its vectors too.
        """
        species = species or self.species_of(batch)
        c, vectors = species.constants, batch.vectors.to(self.dtype)
        radial = ANIRadial(c.radial_eta, c.radial_shifts, c.radial_cutoff)
        angular = ANIAngular(
            c.angular_eta, c.angular_zeta, c.angular_shifts, c.angular_sections, c.angular_cutoff
        )
        aev = AEVComputer(radial, angular, c.elements).to(vectors.device, self.dtype)
        neighbours = Neighbors(batch.pairs, vectors.norm(dim=1), -vectors)
        unused_positions = vectors.new_empty(1, len(species.index), 3)
        sums = aev.compute_from_neighbors(species.index[None], unused_positions, neighbours)[0]
        x = species.features(sums).expand(self.members, -1, -1)
        for name in LAYERS[:-1]:
            x = celu(self.layer(name)(x))
        return self.layer("output")(x).squeeze(2)

    def energy_and_slope(
        self, batch: Batch, training: bool = False, members: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `Backbone.energy_and_slope`."""
        with torch.no_grad():
            descriptors = self._descriptors(batch)
        with torch.set_grad_enabled(training):
            weights = [w for name in LAYERS for w in self.layer(name).parameters()]
            x = descriptors.values
            energies, slope = energy_and_slope(x, [len(x)], [weights], ALPHA, members)
            return energies, descriptors.slope(slope)

    def species_of(self, batch: Batch) -> Species:
        """The elements of a batch, lightest first."""
        numbers, index = batch.numbers.unique(return_inverse=True)
        return Species(self.architecture, index, self.table[numbers].to(self.dtype))

    def _descriptors(self, batch: Batch) -> WeightedDescriptors:
        species, vectors = self.species_of(batch), batch.vectors.to(self.dtype)
        around = surroundings(species.constants, species.index, batch.pairs, vectors)
        return WeightedDescriptors(species, Descriptors(around))

    def layer(self, name: str) -> Layer:
        """One layer (`LAYERS`)."""
        return cast(Layer, self.networks.get_submodule(f"{SHARED}.{name}"))

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `Backbone.features`."""
        return self._descriptors(batch).values, torch.zeros_like(batch.numbers)

    def describe(self) -> dict[str, Any]:
        """As `Backbone.describe`."""
        return {"architecture": asdict(self.architecture)}

    @classmethod
    def new(cls, **sizes: Any) -> EModes:
        """As `Backbone.new`."""
        return cls(Architecture.new(**sizes))

    @classmethod
    def restore(cls, header: Mapping[str, Any]) -> EModes:
        """As `Backbone.restore`."""
        return cls(from_plain(Architecture, header["architecture"]))

    def init_gaussian(self, std: float, seed: int) -> None:
        """Every trainable tensor becomes N(0, (`std`/2)²): inputs are larger than one element's."""
        super().init_gaussian(std / 2, seed)
