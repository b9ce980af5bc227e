"""The YAML config of `tlpot xrd train`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tlpot.config.data import Action, Split
from tlpot.config.run import WholeRun
from tlpot.config.sections import EXPANDED, NEW, Needs, Section, WithFiles
from tlpot.config.training import Optimisation


class Augmentation(Section):
    """Flaws of measured patterns that training patterns get."""

    strain: float = Field(
        0.02, ge=0, lt=0.3, description="of the lattice, within its symmetry: standard deviation"
    )
    texture: float = Field(
        0.3, ge=0, lt=1, description="preferred orientation: March-Dollase r from 1-texture on"
    )
    shift: float = Field(0.05, ge=0, lt=2, description="largest error of the zero, degrees 2θ")
    width: tuple[float, float] = Field(
        (0.05, 0.3), description="narrowest and widest line (FWHM), degrees 2θ"
    )
    background: float = Field(
        0.3, ge=0, description="largest background, as a share of the highest line"
    )
    counts: float = Field(
        1000.0,
        ge=0,
        description="fewest counts of the highest line (up to 100 × as many); 0: no noise",
    )
    variants: int = Field(
        10,
        ge=0,
        description="flawed patterns made of each crystal beside the ideal one; 0: new ones, and "
        "no ideal one, in each epoch",
    )
    first: float = Field(15.0, ge=0, description="largest first angle of a pattern, degrees 2θ")
    last: float = Field(70.0, le=135, description="smallest last angle of a pattern, degrees 2θ")

    @model_validator(mode="after")
    def _spans_something(self) -> Augmentation:
        if not 0 < self.width[0] <= self.width[1]:
            raise ValueError("width must be the narrowest and the widest line, above 0")
        if self.last <= self.first:
            raise ValueError("last must be larger than first: no angle is left")
        return self


PATTERN = ("two_theta", "log_q")
"""What a network can see of a pattern that is the pattern itself."""


class Convolutions(Section):
    """Convolutions along the pattern, each with ReLU, average pooling and dropout."""

    filters: int = Field(60, ge=1, description="of each convolution")
    kernels: list[int] = Field(
        [10, 5, 3], min_length=1, description="points, of each convolution; of pooled ones"
    )
    pooling: int = Field(2, ge=1, description="points averaged after each convolution")
    dropout: float = Field(0.3, ge=0, lt=1, description="after each convolution")


class Network(Section):
    """What the network sees of a pattern, its layers, and where its weights start."""

    base: Annotated[str | None, EXPANDED] = Field(
        None, description="model file to start from, whose network is kept; null: from scratch"
    )
    freeze: Annotated[list[str], Needs(base=True)] = Field(
        default_factory=list, description="layers of `base` to keep: `conv1`, `dense*`, `output` …"
    )
    sees: Annotated[Literal["lines", "two_theta", "log_q"], NEW] = Field(
        "lines",
        description="`lines`: the first so many lines found in the pattern; `two_theta`: the "
        "pattern; `log_q`: the pattern on an axis where another size of the lattice is a shift",
    )
    lines: Annotated[int, NEW, Needs(sees="lines")] = Field(
        40, ge=5, le=500, description="how many lines it sees, from low angles"
    )
    pool: Annotated[int, NEW, Needs(sees=PATTERN)] = Field(
        10, ge=1, le=500, description="points of 0.01° averaged into one that it sees of a pattern"
    )
    intensity: Annotated[Literal["linear", "sqrt"], NEW, Needs(sees=PATTERN)] = Field(
        "sqrt", description="of patterns; `sqrt` lets weak lines count: they tell symmetries apart"
    )
    convolutions: Annotated[Convolutions | None, NEW, Needs(sees=PATTERN)] = Field(
        None, description="along a pattern, before the dense layers"
    )
    dense: Annotated[list[int], NEW] = Field([512, 256], description="widths of the dense layers")
    dropout: Annotated[float, NEW] = Field(0.3, ge=0, lt=1, description="after each dense layer")


class PowderSplit(Split):
    """As for potentials, but crystals of one composition stay together unless told otherwise."""

    group: Annotated[str | None, Needs(test=True, validation=True)] = Field(
        "composition",
        description="keep crystals together that share this: `composition`, `prototype`, `file`, "
        "an info key or a column of the table; null: none",
    )


class PowderData(WithFiles):
    """Crystals whose patterns are simulated."""

    files: list[str] = Field(
        description="CIF, POSCAR, extended XYZ …: files, folders, globs; `$VARIABLES` are expanded"
    )
    table: Annotated[str | None, EXPANDED] = Field(
        None,
        description="CSV of id (file name without ending), crystal_system, and what to group by; "
        "left out: the crystal system by spglib",
    )
    symprec: float = Field(0.1, gt=0, description="Å within which symmetry is found")
    bad_crystals: Action = Field("drop", description="what to do with one that cannot be used")
    per_class: int | None = Field(
        None, gt=0, description="use at most this many of a crystal system, picked by seed"
    )
    split: PowderSplit = Field(
        default_factory=PowderSplit, description="test, validation, seed, group"
    )


class PowderTraining(Optimisation):
    """The recipe."""

    epochs: int = Field(60, gt=0, description="passes over the training patterns")
    batch_size: int = Field(64, gt=0, description="patterns per step")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's step size")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's decoupled decay; 0 is Adam")
    warmup_epochs: int = Field(1, ge=0, description="linear rise of the rate at the start")
    balance: float = Field(
        0.5, ge=0, le=1, description="crystal systems count by 1/n^balance each; 1: all the same"
    )
    augmentation: Augmentation | None = Field(
        default_factory=Augmentation,
        description="flaws of training patterns; null: ideal patterns, no good for measured ones",
    )


class PowderConfig(WholeRun):
    """A whole run: `tlpot xrd train config.yaml`."""

    data: PowderData
    model: Network = Field(default_factory=Network)
    training: PowderTraining = Field(default_factory=PowderTraining)
    output: Annotated[str, EXPANDED] = Field(
        "runs/powder", description="run folder; must not hold another run"
    )
