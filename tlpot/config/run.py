"""The config of a fine-tuning run: one model a section, a description a field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from tlpot.config.bases import BaseChoice
from tlpot.config.data import Data, Share
from tlpot.config.sections import (
    EXPANDED,
    Needs,
    Section,
    load_section,
    no_effect,
    parse_section,
    parse_whole,
)
from tlpot.config.training import Training


class NewElement(Section):
    """An element that the base lacks; ``Si: C`` is short for ``Si: {from: C, as: alias}``."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    donor: str = Field(alias="from", description="element of the base whose weights it takes")
    kind: Literal["alias", "clone"] = Field(
        "alias",
        alias="as",
        description="`alias`: uses the donor's networks; `clone`: gets weights of its own, "
        "copied from the donor's",
    )

    @model_validator(mode="before")
    @classmethod
    def _donor_alone_is_an_alias(cls, values: Any) -> Any:
        if isinstance(values, str):
            return {"from": values}
        if values is not None and not isinstance(values, dict | NewElement):
            raise ValueError("name a donor, e.g. `Si: C` or `Si: {from: C, as: clone}`")
        return values

    @model_serializer(mode="wrap")
    def _short_if_alias(self, full: SerializerFunctionWrapHandler) -> Any:
        return self.donor if self.kind == "alias" else full(self)


class Model(BaseChoice):
    """The pretrained potential and what of it may change."""

    elements: dict[str, NewElement] = Field(
        default_factory=dict,
        description="donors of elements that the base lacks: `Si: C` (the same to the networks as "
        "C) or `Si: {from: C, as: clone}` (weights of its own, copied from C's)",
    )
    train: Literal["all", "new"] = Field(
        "all",
        description="`new`: only the clones' weights; structures without them keep their forces",
    )
    freeze: list[str] = Field(
        default_factory=list,
        description="layers to keep: `input`, `hidden1`, `H.hidden1`, `O.*`, …",
    )
    init: Literal["pretrained", "scratch"] = Field(
        "pretrained", description="start from the base's weights, or from Gaussian(0, 0.1)"
    )

    @model_validator(mode="after")
    def _new_weights_need_old_ones(self) -> Model:
        if self.train == "new" and self.init == "scratch":
            raise ValueError("train: new keeps the base's weights, init: scratch forgets them")
        return self


class Active(Section):
    """Active learning (`tlpot sample learn`): train, add what the committee doubts."""

    start: Share = Field(0.02, description="share of the frames, picked by seed, to begin with")
    add: Share = Field(0.02, description="largest share of the frames to add in a round")
    criterion: float = Field(
        0.01, gt=0, description="ensemble spread per √N, eV, beyond which a frame is in doubt"
    )
    stop: Share = Field(0.05, description="share of frames in doubt below which learning ends")


class Evaluation(Section):
    """What the report of a run says besides its errors."""

    stress: bool = Field(
        False,
        description="a short stress test of model and base (`tlpot stress`): half a minute or so",
    )


COMPUTED = Needs(engine="!vasp")
"""Of vasp tlpot writes the input: what it computes is in ``parameters``."""


class Label(Section):
    """What labels geometries, and how (`tlpot label --config`)."""

    engine: str = Field(
        "gfn1", description="`gfn1`, `gfn2`, `gpaw`, `vasp`, a calculator of ASE, or `module:Class`"
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="the engine's settings, e.g. `{xc: PBE, cutoff: 700, kpts: [2, 2, 2]}`",
    )
    dispersion: Annotated[str | None, COMPUTED] = Field(
        None, description="add D3(BJ) with the parameters of this functional, e.g. `PBE`"
    )
    replicate: Annotated[float | None, COMPUTED] = Field(
        None, ge=0, description="repeat cells to this height, Å, and fold back; gfn1, gfn2: 10"
    )
    stress: Annotated[bool | None, COMPUTED] = Field(
        None, description="label the stress; left out: if the engine has it (GPAW: from 900 eV)"
    )


class WholeRun(Section):
    """What a training run is told, whatever it trains."""

    data: Any
    model: Any
    training: Any

    @property
    def validates(self) -> bool:
        """Whether a part of the data steers training."""
        return bool(self.data.split.validation)

    @model_validator(mode="after")
    def _patience_has_something_to_judge(self) -> Self:
        if self.training.patience is not None and not self.validates:
            raise ValueError(no_effect("training.patience", "without data.split.validation"))
        return self


class Config(WholeRun):
    """A whole run: `tlpot finetune config.yaml`."""

    data: Data
    model: Model = Field(default_factory=Model)
    training: Training = Field(default_factory=Training)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    active: Active = Field(default_factory=Active)
    label: Label = Field(default_factory=Label)
    output: Annotated[str, EXPANDED] = Field(
        "runs/finetune", description="run folder; must not hold another run"
    )

    @property
    def validates(self) -> bool:
        """As `WholeRun.validates`."""
        return bool(self.data.validation or self.data.drawn.validation)


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a whole run's config; as `load_section`, errors too."""
    return load_section(Config, path, overrides)


def parse_config(values: Any, origin: str = "config") -> Config:
    """Validate a nested dict as `Config`; errors as in `load_config`."""
    return parse_whole(Config, values, origin)


def parse_elements(elements: Mapping[str, Any]) -> dict[str, NewElement]:
    """``model.elements`` by itself; errors as in `load_config`."""
    return parse_section(Model, {"elements": elements}, "not valid as new elements").elements
