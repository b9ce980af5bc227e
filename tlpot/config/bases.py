"""The bases that a config may name, and how it says one: the one place where a backbone is named.

Nothing here imports a backbone (nor torch): `tlpot.backbones.base.find_backbone` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tlpot.config.sections import EXPANDED, Needs, Section

BACKBONES: dict[str, str | type] = {
    "ani": "tlpot.backbones.ani:ANI",
    "emodes": "tlpot.backbones.emodes:EModes",
    "schnet": "tlpot.backbones.schnet:SchNet",
}
"""Where each kind of backbone is, by the name that model files give it."""


@dataclass(frozen=True)
class Base:
    """A name that ``model.base`` may have.

    Attributes
    ----------
    backbone
        One of `BACKBONES`.
    weights
        ``torchani``: published, downloaded and cached by torchani; ``bundled``: in
        ``tlpot/backbones/<name>.safetensors``; None: yet to be trained.
    title
        What a report calls it; left out, its name.
    labels
        Level of theory of the labels that it was trained on.
    licence
        Of its weights.
    """

    backbone: str
    weights: Literal["torchani", "bundled"] | None = None
    title: str | None = None
    labels: str | None = None
    licence: str | None = None


TORCHANI = "MIT, as torchani distributes it"

BASES: dict[str, Base] = {
    "ani2x": Base("ani", "torchani", "ANI-2x", "wB97X", TORCHANI),
    "ani1x": Base("ani", "torchani", "ANI-1x", "wB97X", TORCHANI),
    "ani1ccx": Base("ani", "torchani", "ANI-1ccx", "CCSD(T)", TORCHANI),
    "mini": Base("ani", "bundled", labels="wB97X", licence="MIT, as tlpot; distilled from ANI-2x"),
    "emodes": Base("emodes"),
    "schnet": Base("schnet"),
}


def pretrained() -> list[str]:
    """Names of the bases that have weights."""
    return [name for name, base in BASES.items() if base.weights]


def untrained(name: Any) -> bool:
    """Whether this is the name of a base whose weights are yet to be trained."""
    return isinstance(name, str) and name in BASES and BASES[name].weights is None


class SchNetSizes(Section):
    """Of a new SchNet."""

    cutoff: float = Field(5.0, gt=0, description="how far an atom sees in one interaction, Å")
    features: int = Field(64, gt=1, description="numbers that describe an atom")
    interactions: int = Field(3, gt=0, description="blocks, each a cutoff further")
    gaussians: int = Field(32, gt=1, description="that distances are expanded in")
    members: int = Field(4, gt=0, description="networks in the ensemble")


class BaseChoice(Section):
    """The base, and the sizes of one that is yet to be trained: a field with the base's name."""

    base: Annotated[str, EXPANDED] = Field(
        "ani2x",
        description=f"{', '.join(f'`{name}`' for name in pretrained())}, or a tlpot model file; "
        "`emodes` (for any element) and `schnet` start from scratch",
    )
    schnet: Annotated[SchNetSizes | None, Needs(base="schnet")] = Field(
        None, description="sizes of `base: schnet`: cutoff, features, interactions, members …"
    )

    @model_validator(mode="before")
    @classmethod
    def _untrained_starts_from_scratch(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not untrained(values.get("base")):
            return values
        base = values["base"]
        if values.get("init") == "pretrained":
            raise ValueError(
                f"base: {base} has no pretrained weights; write init: scratch or leave it out, "
                "or name the model file of a trained one as base"
            )
        sizes = {base: values.get(base) or {}} if base in cls.model_fields else {}
        return {**values, **sizes, "init": "scratch"}

    @property
    def sizes(self) -> Section | None:
        """Sizes of the base, where it has any to choose."""
        return vars(self).get(self.base) if untrained(self.base) else None
