"""ANI's architecture, and its atomic environment vectors as torchani's modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torchani.aev import AEVComputer, Angular, ANIAngular, ANIRadial, Radial
from torchani.neighbors import Neighbors

from tlpot.engine.constants import Angles, Constants, Moments
from tlpot.engine.moment_columns import MomentColumns
from tlpot.engine.moments import columns_of

FINE = Angles(
    eta=4.0,
    zeta=100.0,
    shifts=tuple(1.0 + 1.9 * i / 3 for i in range(4)),
    sections=tuple((i + 0.5) * pi / 16 for i in range(16)),
)
"""Angular terms four times as fine in the angle as ANI-2x's, half as fine in the distance."""
PRODUCTS_OF_MOMENTS = Moments(
    cutoff=4.0,
    eta=4.0,
    shifts=tuple(0.9 + 0.5 * i for i in range(6)),
    channels=12,
    seed=0,
)
"""Terms of three and four atoms; distances as far apart as ANI-2x's angular ones."""
COMPONENTS = 64
"""Of each added term around a centre, what enters its network."""


@dataclass(frozen=True, kw_only=True)
class Architecture(Constants):
    """Everything but the weights: enough to rebuild the backbone from a model file.

    The descriptor's constants, and for each of `symbols` the `widths` of its hidden layers. With
    `components` the networks see that many projections of the added columns, not these. `lent` says
    whose mixtures the moments take for each of `symbols`, where these are copies.
    """

    symbols: tuple[str, ...]
    widths: tuple[tuple[int, ...], ...]
    members: int
    components: int | None = None
    lent: tuple[str, ...] | None = None

    @property
    def mixed(self) -> tuple[str, ...]:
        """As `Constants.mixed`."""
        return self.lent or self.symbols

    @property
    def elements(self) -> int:
        """Number of elements with channels of their own."""
        return len(self.symbols)

    @property
    def own(self) -> int:
        """Angular columns of an element pair that are ANI's own."""
        return len(self.angular_shifts) * len(self.angular_sections)

    @property
    def entering(self) -> int:
        """Angular columns of an element pair that enter the networks by themselves."""
        return self.angular if self.components is None else self.own

    @property
    def features(self) -> int:
        """Inputs of the networks."""
        return self.elements * self.radial + self.element_pairs * self.entering + self.last

    @property
    def fine_columns(self) -> int:
        """Finer angular columns, of all element pairs."""
        return self.element_pairs * (self.angular - self.own)

    @property
    def moment_columns(self) -> int:
        """Columns of the moments."""
        return self.moments.columns if self.moments else 0

    @property
    def last(self) -> int:
        """Inputs behind the blocks of elements and their pairs."""
        return self.moment_columns if self.components is None else self.components

    def with_symbols(self, symbols: Iterable[str], donors: Mapping[str, str]) -> Architecture:
        """The same descriptors and widths for other elements, each sized as its donor."""
        symbols = tuple(symbols)
        sizes = dict(zip(self.symbols, self.widths, strict=True))
        widths = tuple(sizes[donors.get(s, s)] for s in symbols)
        mixed = dict(zip(self.symbols, self.mixed, strict=True))
        lent = tuple(mixed[donors.get(s, s)] for s in symbols)
        about = {**vars(self), "symbols": symbols, "widths": widths}
        return Architecture(**{**about, "lent": lent if self.moments and lent != symbols else None})

    @property
    def angular_columns(self) -> list[tuple[float, ...]]:
        """η, ζ, shift and section of every column of an angular block."""
        return [
            (a.eta, a.zeta, shift, section)
            for a in self.angles
            for shift in a.shifts
            for section in a.sections
        ]

    def aev_computer(self) -> AEVComputer:
        """torchani's descriptor with these constants."""
        radial = ANIRadial(self.radial_eta, self.radial_shifts, self.radial_cutoff)
        own, cutoff = self.angles[0], self.angular_cutoff
        angular: Angular = (
            AngularColumns(self.angular_columns, cutoff)
            if self.fine
            else ANIAngular(own.eta, own.zeta, own.shifts, own.sections, cutoff)
        )
        if self.moments:
            return AEVWithMoments(radial, angular, len(self.symbols), columns_of(self))
        return AEVComputer(radial, angular, len(self.symbols))


class AEVWithMoments(AEVComputer):
    """torchani's descriptor, and products of moments behind it."""

    def __init__(
        self, radial: Radial, angular: Angular, num_species: int, products: MomentColumns
    ) -> None:
        super().__init__(radial, angular, num_species)
        self.products = products
        self.out_dim += products.out_dim

    _without = AEVComputer._pyaev_compute_from_neighbors

    def _pyaev_compute_from_neighbors(
        self, elem_idxs: Tensor, coords: Tensor, neighbors: Neighbors
    ) -> Tensor:
        aev = self._without(elem_idxs, coords, neighbors)
        species, vectors = elem_idxs.flatten(), -neighbors.diff_vectors
        columns = self.products(species, neighbors.indices, vectors)
        return torch.cat([aev, columns.view(aev.shape[0], aev.shape[1], -1)], dim=-1)


class AngularColumns(Angular):
    """torchani's angular terms with constants (η, ζ, shift, section) for every column."""

    def __init__(self, columns: list, cutoff: float) -> None:
        super().__init__(cutoff)
        self.num_feats = len(columns)
        eta, zeta, shifts, sections = torch.tensor(columns).unbind(1)
        self.register_buffer("eta", eta)
        self.register_buffer("zeta", zeta)
        self.register_buffer("shifts", shifts)
        self.register_buffer("sections", sections)

    def forward(self, tri_distances: Tensor, tri_vectors: Tensor) -> Tensor:
        """``[2, triples]`` and ``[2, triples, 3]`` to ``[triples, columns]``."""
        fade = self.cutoff_fn(tri_distances, self.cutoff)
        a, b = tri_distances[0], tri_distances[1]
        cosine = (tri_vectors[0] * tri_vectors[1]).sum(1) / torch.clamp(a * b, min=1e-10)
        angle = torch.acos(0.95 * cosine)[:, None] - self.sections
        turned = 2 * ((1 + torch.cos(angle)) / 2) ** self.zeta
        off = (a + b)[:, None] / 2 - self.shifts
        return turned * torch.exp(-self.eta * off**2) * (fade[0] * fade[1])[:, None]
