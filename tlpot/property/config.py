"""The YAML config of `tlpot property train`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tlpot.config.data import Action, Split
from tlpot.config.run import WholeRun
from tlpot.config.sections import EXPANDED, NEW, Needs, Section, WithFiles
from tlpot.config.training import Optimisation


class PropertyData(WithFiles):
    """Crystals and the number to learn of each."""

    files: list[str] = Field(
        description="CSV files of `id, value` beside their CIF files, or structure files whose "
        "info holds the property (extxyz, ASE databases …)"
    )
    property: str | None = Field(
        None,
        description="the CSV's column (left out: the second) or the key in the structures' info",
    )
    unit: str = Field("", description="of the property, for tables and figures")
    structures: Annotated[str | None, EXPANDED] = Field(
        None, description="folder of the CIF files; left out, that of the CSV"
    )
    bad_frames: Action = Field(
        "refuse", description="what to do with an entry that has no value or no structure"
    )
    train_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training crystals to train on, picked by seed"
    )
    split: Split = Field(default_factory=Split, description="test, validation, seed, group")


class PropertyNetwork(Section):
    """The network: a trained one, or the sizes of a new one."""

    base: Annotated[str | None, EXPANDED] = Field(
        None, description="model file to fine-tune; left out, training starts from scratch"
    )
    freeze: Annotated[list[str], Needs(base=True)] = Field(
        default_factory=list,
        description="layers to keep: `embedding`, `conv1`, `conv*`, `dense1`, `output`",
    )
    elements: Annotated[str, NEW] = Field(
        "periodic",
        description="what atoms start from: `periodic` (place in the periodic table), `modes` "
        "(elemental modes, H to Rn), or a JSON file like CGCNN's atom_init.json",
    )
    width: Annotated[int, NEW] = Field(64, gt=0, description="numbers that an atom carries")
    convolutions: Annotated[int, NEW] = Field(3, gt=0, description="graph convolutions")
    dense: Annotated[int, NEW] = Field(128, gt=0, description="width of the dense layers")
    layers: Annotated[int, NEW] = Field(1, gt=0, description="dense layers before the output")
    gate: Annotated[bool, NEW] = Field(
        False,
        description="a second output says whether the property is zero, as a metal's band gap is",
    )


class PropertyTraining(Optimisation):
    """The recipe: AdamW on the mean absolute error."""

    epochs: int = Field(60, gt=0, description="passes over the training crystals")
    batch_size: int = Field(32, gt=0, description="crystals per step")
    learning_rate: float = Field(2e-3, gt=0, description="AdamW's step size")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        "cosine", description="how the learning rate falls"
    )
    warmup_epochs: int = Field(1, ge=0, description="linear rise of the rate at the start")
    seed: int = Field(0, description="seed of shuffling and of a new network's weights")


class PropertyConfig(WholeRun):
    """A whole run: `tlpot property train config.yaml`."""

    data: PropertyData
    model: PropertyNetwork = Field(default_factory=PropertyNetwork)
    training: PropertyTraining = Field(default_factory=PropertyTraining)
    output: Annotated[str, EXPANDED] = Field(
        "runs/property", description="run folder; must not hold another run"
    )
