"""What a network must say to be a backbone, what it may say, and how backbones are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from tlpot.config.bases import BACKBONES, BASES, Base
from tlpot.errors import TlpotError
from tlpot.structure.frames import Batch

T = TypeVar("T")


class Backbone(nn.Module, ABC):
    """A network that turns geometry into atomic energies; it knows no loss and no reference.

    A backbone must have the attributes below, `atomic_energies`, `describe` and `restore`, and
    `new` if it can be trained from scratch. All else has a default, which is right for a network
    that all elements share; override what can be faster or more.

    Attributes
    ----------
    kind
        What a model file calls it.
    symbols
        Elements that it knows by themselves.
    donors
        Elements that it takes for another, ``{"Si": "C"}``.
    cutoff
        Å; neighbours beyond it do not matter.
    members
        Networks in the ensemble.
    networks
        The weights, as ``networks.<network>.<layer>.<weight|bias>``.
    """

    kind: ClassVar[str]
    takes_donors: ClassVar[bool] = False
    """Whether a new element may begin on another's weights: `with_donors`, `train_only`."""
    analytic: ClassVar[bool] = False
    """Whether `energy_and_slope` is written out, and so faster than `atomic_energies`."""
    exports: ClassVar[Collection[str]] = ()
    """Formats of ``tlpot export`` that can hold it."""

    symbols: tuple[str, ...]
    donors: dict[str, str]
    cutoff: float
    members: int
    networks: nn.ModuleDict

    def __init__(self) -> None:
        super().__init__()
        self.donors = {}

    @abstractmethod
    def atomic_energies(self, batch: Batch) -> Tensor:
        """``Tensor[members, atoms]``, eV, differentiable in ``batch.vectors``."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything but the weights, as plain data for a model file."""

    @classmethod
    @abstractmethod
    def restore(cls, header: Mapping[str, Any]) -> Self:
        """A backbone without weights from what `describe` said."""

    @classmethod
    def new(cls, **sizes: Any) -> Self:
        """A backbone yet to be trained; `sizes` as in the config's section of its name."""
        raise TlpotError(f"a backbone of kind {cls.kind} is not trained from scratch")

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.networks.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.networks.parameters()).device

    @property
    def fine_angles(self) -> bool | None:
        """Whether it has finer angular terms than those it came with; None: it cannot have any."""
        return None

    @property
    def moments(self) -> bool | None:
        """Likewise of products of moments."""
        return None

    def with_terms(self, fine_angles: bool, moments: bool) -> Self:
        """The same potential with more terms, yet without weight."""
        return self

    def fit_components(self, batches: Iterable[Batch], new: Collection[str] | None = None) -> None:
        """Settle, before training, what the networks see of the geometry of `batches`.

        By default there is nothing to settle.

        Parameters
        ----------
        new
            Elements that alone are to train (`train_only`); None: all are.
        """

    def settled(self) -> dict[str, Tensor]:
        """What `fit_components` settles, by name in a model file."""
        return {}

    def energy_and_slope(
        self, batch: Batch, training: bool = False, members: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Atomic energies and the slope of their sum in ``batch.vectors``.

        Returns ``Tensor[members, atoms]`` eV and ``Tensor[1, pairs, 3]`` eV/Å for the member mean,
        or ``Tensor[members, pairs, 3]`` if `members`; differentiable in the weights if `training`.
        `plain_energy_and_slope` is the reference to agree with.
        """
        return plain_energy_and_slope(self, batch, training, members)

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Descriptors ``Tensor[atoms, features]`` and which network each atom enters."""
        raise TlpotError(
            f"the backbone {self.kind} has no descriptors to tell frames apart by; "
            "pick by committee"
        )

    def networks_of(self, symbols: Iterable[str]) -> set[str]:
        """Names of the networks that atoms of `symbols` enter."""
        return set(self.networks)

    def trained_columns(self) -> dict[str, Tensor]:
        """Trainable weights of which only some columns train, by name: ``Tensor[columns]`` bool."""
        return {}

    def with_donors(self, donors: Mapping[str, str]) -> Self:
        """The same weights, with these for its donors."""
        raise NotImplementedError(f"{self.kind} takes no donors")

    def train_only(self, symbols: Collection[str]) -> None:
        """Of the trainable weights, leave only those that belong to `symbols`."""
        raise NotImplementedError(f"{self.kind} takes no donors")

    def with_elements(self, symbols: Iterable[str]) -> Self:
        """The same potential with networks for exactly `symbols`, where that saves anything."""
        return self

    def absorb(self, trained: Self) -> None:
        """Take over the weights of a smaller self (`with_elements`) after its training."""
        self.load_state_dict(trained.state_dict())

    @torch.no_grad()
    def init_gaussian(self, std: float, seed: int) -> None:
        """Forget what was learned: every trainable tensor becomes N(0, `std`²)."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))


def register(backbone: type[Backbone]) -> type[Backbone]:
    """Make a backbone known by its kind: to model files, and as a base to train from scratch.

    For one that lives outside tlpot, as a decorator of its class; those of tlpot stand in
    `tlpot.config.bases`. A process that loads such a model must have imported the class.

    Raises
    ------
    TlpotError
        If tlpot has a base or a backbone of this name.
    """
    kind = backbone.kind
    ours = isinstance(BACKBONES.get(kind), str)
    if ours or (kind in BASES and kind not in BACKBONES):
        raise TlpotError(
            f"tlpot has a base {kind} already; name the kind of {backbone.__name__} otherwise"
        )
    BACKBONES[kind], BASES[kind] = backbone, Base(kind)
    return backbone


def find_backbone(kind: str) -> type[Backbone]:
    """The class of a kind of backbone.

    Raises
    ------
    TlpotError
        If there is none.
    """
    if kind not in BACKBONES:
        raise TlpotError(
            f"the backbone '{kind}' is none of {', '.join(BACKBONES)}; import the module that "
            "registers it, or use the version of tlpot that has it"
        )
    where = BACKBONES[kind]
    return resolve_name(where) if isinstance(where, str) else where


def from_plain(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass of numbers and tuples from what JSON made of it."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value

    return kind(**{name: frozen(value) for name, value in values.items()})


def plain_energy_and_slope(
    backbone: Backbone, batch: Batch, training: bool = False, members: bool = False
) -> tuple[Tensor, Tensor]:
    """`Backbone.energy_and_slope` by automatic differentiation of ``atomic_energies``."""
    vectors = batch.vectors.detach().requires_grad_()
    with torch.enable_grad():
        energies = backbone.atomic_energies(replace(batch, vectors=vectors))
        totals = energies.sum(dim=1) if members else energies.mean(dim=0).sum()[None]
        slopes = [
            torch.autograd.grad(e, vectors, create_graph=training, retain_graph=True)[0]
            for e in totals
        ]
    return energies if training else energies.detach(), torch.stack(slopes)
