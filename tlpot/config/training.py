"""The section ``training`` of a config: the loss, its steps, and what is replayed."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from tlpot.config.sections import Needs, Section, WithFiles

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "thesis": {
        "lambda": 0.9,
        "fit": "mean",
        "stress_weight": 0.0,
        "epochs": 100,
        "batch_size": 2,
        "learning_rate": 1e-4,
        "weight_decay": 0.1,
        "schedule": "plateau",
        "warmup_epochs": 0,
        "ema": 0.0,
        "clip": None,
        "fine_angles": False,
        "curvature": 0.0,
    },
}


class Replay(WithFiles):
    """Structures that the base labels itself, so that training does not forget them.

    ``auto`` is short for ``{files: auto}``.
    """

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    files: list[str] = Field(
        description="`auto`: cells, pairs and molecules made of the training crystals; or files, "
        "folders or globs; labels in them are not read"
    )
    share: float = Field(0.2, gt=0, lt=1, description="share of an epoch's frames")
    weight: float | None = Field(
        None, gt=0, description="weight of replayed frames in the loss; left out: 1, of `auto` 0.02"
    )

    @model_validator(mode="before")
    @classmethod
    def _auto_alone_is_enough(cls, values: Any) -> Any:
        return {"files": ["auto"]} if values == "auto" else values

    @property
    def auto(self) -> bool:
        """Whether the pool is made, not read."""
        return self.files == ["auto"]


class Optimisation(Section):
    """How weights are optimised, whatever they are of."""

    epochs: int = Field(
        150, gt=0, description="passes over the training data; `--resume` takes more"
    )
    batch_size: int = Field(2, gt=0, description="frames, crystals or patterns per step")
    learning_rate: float = Field(1e-4, gt=0, description="AdamW's step size")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled decay")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        "cosine",
        description="how the learning rate falls; `cosine` to the last epoch, so that more epochs "
        "with `--resume` raise it to where it would be",
    )
    warmup_epochs: int = Field(2, ge=0, description="linear rise of the rate at the start")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights; 0 is off")
    clip: float | None = Field(10.0, gt=0, description="largest gradient norm; null is off")
    patience: int | None = Field(
        None, gt=0, description="stop after so many epochs without a better validation loss"
    )
    seed: int = Field(0, description="seed of shuffling and of `init: scratch`")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1` …")
    tensorboard: bool = Field(False, description="also write TensorBoard event files")

    by_data: ClassVar[dict[str, Any]] = {}
    """Fields that the data may decide about where a config leaves them out, and what they get."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if "warmup_epochs" in self.changed() and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs} of {self.epochs} epochs leave none at the "
                "learning rate; give fewer, or more epochs"
            )
        return self


class Training(Optimisation):
    """The recipe. `preset` fills in whatever is not given here."""

    by_data: ClassVar[dict[str, Any]] = {"learning_rate": 5e-4, "epochs": 60}

    preset: Literal["default", "thesis"] = Field(
        "default", description="`default` (crystal ranking) or `thesis` (Parunov 2022)"
    )
    force_share: float = Field(
        0.03, ge=0, le=1, alias="lambda", description="λ in L = λ·MSE(F) + (1−λ)·MSE(E/N)"
    )
    fit: Literal["mean", "members"] = Field(
        "members", description="what the loss judges: the ensemble mean, or each member by itself"
    )
    fine_angles: bool | None = Field(
        None,
        description="add finer angular terms to ANI's (done if left out); their weights start at "
        "zero, so that the model is unchanged before training",
    )
    moments: bool = Field(
        False,
        description="add terms of three and four atoms to ANI's, likewise",
    )
    stress_weight: float = Field(
        0.02, ge=0, description="adds stress_weight·MSE(V·stress/N), eV²; 0 leaves stress out"
    )
    curvature: Annotated[float, Needs(force_share=True)] = Field(
        0.1,
        ge=0,
        description="phonon runs: the change of forces between displacements is weighted as if "
        "the displacement were so many Å; 0 is off",
    )
    size_exponent: float = Field(
        1.0,
        ge=0,
        le=1,
        description="p in MSE(E/N^p): 1 judges energies per atom, 0.5 per √N, 0 per frame",
    )
    huber: float | None = Field(
        None,
        gt=0,
        description="errors beyond it (eV/Å, eV/atom) count linearly, not squared; null is off",
    )
    weighting: Literal["none", "size", "composition", "element"] = Field(
        "none",
        description="draw large frames, rare compositions or rare elements more often",
    )
    replay: Replay | None = Field(
        None,
        description="mix in structures that the base labels, against forgetting: `auto`, or "
        "`{files: …}`",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if "keep_gb" in values:
            raise ValueError(
                "keep_gb is no setting any more: descriptors take no memory between steps; remove "
                "it. A run that was begun with it is finished by the tlpot that began it"
            )
        if "force_share" in values:
            values = {**values, "lambda": values["force_share"]}
            del values["force_share"]
        return {**PRESETS.get(str(values.get("preset", "default")), {}), **values}

    def left_out(self, name: str, field: FieldInfo) -> Any:
        """What the preset says, or else the field's default."""
        return PRESETS[self.preset].get(field.alias or name, super().left_out(name, field))
