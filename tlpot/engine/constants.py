"""The constants of ANI's descriptor, and how its columns are laid out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tlpot.errors import TlpotError

LEAST_CHANNELS = 4
"""As far as a product reaches for the channel of its second factor."""


@dataclass(frozen=True, kw_only=True)
class Angles:
    """Angular terms: every one of `shifts` (Å) with every one of `sections` (radians); η in Å⁻²."""

    eta: float
    zeta: float
    shifts: tuple[float, ...]
    sections: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Products of the moments of neighbours: Gaussians at `shifts` (Å), η in Å⁻², to `cutoff` (Å).

    `channels` random mixtures of these and of the elements, drawn by `seed`.
    """

    cutoff: float
    eta: float
    shifts: tuple[float, ...]
    channels: int
    seed: int

    @property
    def columns(self) -> int:
        """Numbers of an atom, of four kinds (`tlpot.engine.moments.PRODUCTS`)."""
        return 4 * self.channels**2


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The descriptor's constants; names as in Smith et al. 2017, eqs. 2–4.

    Lengths in Å, η in Å⁻², angles in radians. `fine` are angular terms beside ANI's own, within
    the same cutoff; in a block of columns they come last. `moments` are terms beside all of these.
    """

    radial_cutoff: float
    radial_eta: float
    radial_shifts: tuple[float, ...]
    angular_cutoff: float
    angular_eta: float
    angular_zeta: float
    angular_shifts: tuple[float, ...]
    angular_sections: tuple[float, ...]
    fine: Angles | None = None
    moments: Moments | None = None

    def __post_init__(self) -> None:
        about = self.moments
        if about and (about.channels < LEAST_CHANNELS or about.cutoff > self.radial_cutoff):
            raise TlpotError(
                f"moments of {about.channels} channels to {about.cutoff} Å: there are at least "
                f"{LEAST_CHANNELS}, to no more than the radial cutoff of {self.radial_cutoff} Å"
            )

    @property
    def angles(self) -> tuple[Angles, ...]:
        """ANI's own angular terms, then `fine`."""
        own = Angles(
            eta=self.angular_eta,
            zeta=self.angular_zeta,
            shifts=self.angular_shifts,
            sections=self.angular_sections,
        )
        return (own, self.fine) if self.fine else (own,)

    @property
    def mixed(self) -> tuple[str, ...]:
        """Whose mixtures the neighbours of each element have in the moments."""
        raise NotImplementedError

    @property
    def elements(self) -> int:
        """Elements with columns of their own."""
        raise NotImplementedError

    @property
    def radial(self) -> int:
        """Columns of one element's radial block."""
        return len(self.radial_shifts)

    @property
    def angular(self) -> int:
        """Columns of one element pair's angular block."""
        return sum(len(a.shifts) * len(a.sections) for a in self.angles)

    @property
    def element_pairs(self) -> int:
        """Blocks of angular columns, one for each unordered pair of elements."""
        return self.elements * (self.elements + 1) // 2

    def pair_index(self, device: torch.device) -> Tensor:
        """``Tensor[elements, elements]`` row of the angular block of two elements."""
        index = torch.zeros(self.elements, self.elements, dtype=torch.long, device=device)
        first, second = torch.triu_indices(self.elements, self.elements, device=device)
        index[first, second] = index[second, first] = torch.arange(len(first), device=device)
        return index
