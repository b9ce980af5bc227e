"""Which column of ANI's descriptor is whose: radial by element, angular by pair, components."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from tlpot.backbones.aev import Architecture


class Columns:
    """The columns of one architecture.

    Parameters
    ----------
    donors
        Elements that use another's columns, ``{"Si": "C"}``.
    """

    def __init__(self, architecture: Architecture, donors: Mapping[str, str]) -> None:
        self.architecture, self.donors = architecture, donors
        self.radial = architecture.elements * architecture.radial

    def parted(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., columns]``, all by themselves: those of ANI's own terms, and added ones."""
        about = self.architecture
        behind = self.radial + about.element_pairs * about.angular
        radial, pairs, moments = columns.tensor_split([self.radial, behind], dim=-1)
        blocks = pairs.unflatten(-1, (about.element_pairs, -1))
        own, fine = (part.flatten(-2) for part in blocks.tensor_split([about.own], dim=-1))
        return torch.cat([radial, own], dim=-1), torch.cat([fine, moments], dim=-1)

    def within(self, wider: Architecture) -> Tensor:
        """Where these are among the columns of an architecture with more in a block."""
        about = self.architecture
        blocks = torch.arange(about.element_pairs)[:, None] * wider.entering
        angular = blocks + torch.arange(about.angular)
        return torch.cat([torch.arange(self.radial), self.radial + angular.flatten()])

    def repeated_by(self, other: Architecture) -> Tensor:
        """For each column of `other`, which of these it repeats."""
        about = self.architecture
        radial = [torch.arange(about.radial) + about.radial * s for s in self.donors_of(other)]
        angular = self.radial + self.blocks(other, about.element_pairs * about.entering)
        last = torch.arange(about.features - about.last, about.features)
        return torch.cat([*radial, angular, last])

    def donors_of(self, other: Architecture) -> list[int]:
        """For each element of `other`, which of these it repeats."""
        symbols = self.architecture.symbols
        return [symbols.index(self.donors.get(s, s)) for s in other.symbols]

    def blocks(self, other: Architecture, columns: int) -> Tensor:
        """For each column of the element pairs of `other`, which of `columns` it repeats."""
        about, donor = self.architecture, self.donors_of(other)
        size, row = columns // about.element_pairs, about.pair_index(torch.device("cpu"))
        pairs = [(s, t) for i, s in enumerate(donor) for t in donor[i:]]
        return torch.cat([torch.arange(size) + size * row[s, t] for s, t in pairs])

    def added(self, other: Architecture) -> Tensor:
        """For each added column of `other`, finer angular or moment, which of these it repeats."""
        fine = self.architecture.fine_columns
        moments = fine + torch.arange(self.architecture.moment_columns)
        return torch.cat([self.blocks(other, fine), moments])

    def seeing(self, symbols: Collection[str]) -> Tensor:
        """``Tensor[features]``: whether a column sees one of `symbols`; components may."""
        about = self.architecture
        radial = self._among(symbols).repeat_interleave(about.radial)
        last = torch.ones(about.last, dtype=torch.bool)
        return torch.cat([radial, self._pairs(symbols, about.entering), last])

    def added_seeing(self, symbols: Collection[str]) -> Tensor:
        """Whether an added column sees one of `symbols` alone; moments see others too."""
        about = self.architecture
        moments = torch.zeros(about.moment_columns, dtype=torch.bool)
        return torch.cat([self._pairs(symbols, about.angular - about.own), moments])

    def _among(self, symbols: Collection[str]) -> Tensor:
        return torch.tensor([s in symbols for s in self.architecture.symbols])

    def _pairs(self, symbols: Collection[str], each: int) -> Tensor:
        among = self._among(symbols)
        first, second = torch.triu_indices(len(among), len(among))
        return (among[first] | among[second]).repeat_interleave(each)
