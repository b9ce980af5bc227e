"""The data of a fine-tuning run: which frames, what their labels are, which are held out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tlpot.config.sections import EXPANDED, Needs, Section, WithFiles, no_effect

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Action = Literal["drop", "refuse"]
NAMED: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
"""Parts that may have files of their own."""


class Keys(Section):
    """Names of the labels in the files; left out, they are detected."""

    energy: str | None = Field(None, description="key of the total energy")
    forces: str | None = Field(None, description="key of the forces")
    stress: str | None = Field(None, description="key of the stress")


class Split(Section):
    """Which frames are held out. Test frames are never trained or tuned on."""

    test: Share = Field(0.2, description="share of the frames held out for the final judgement")
    validation: Share = Field(0.1, description="share that steers schedule and early stopping")
    seed: int = Field(0, ge=0, description="seed of the shuffle")
    group: Annotated[str | None, Needs(test=True, validation=True)] = Field(
        None,
        description="keep frames together that share this: `file`, `composition` or an info key",
    )

    @model_validator(mode="after")
    def _leaves_training_frames(self) -> Split:
        if self.test + self.validation >= 1.0:
            raise ValueError("test + validation must be below 1: no frame is left to train on")
        return self


class Labelled(WithFiles):
    """Files and which labels their frames have."""

    relaxed: bool | Literal["cell"] = Field(
        False,
        description="frames are DFT minima: zero forces are labels where a file has none; `cell`: "
        "their cells too, so that the stress of crystals is that of `pressure`",
    )
    pressure: Annotated[float, Needs(relaxed="cell")] = Field(
        0.0, description="GPa, at which DFT relaxed the cells; energies stay without P·V"
    )
    energy_only: bool = Field(
        False, description="frames without forces are used too, for their energies alone"
    )

    @model_validator(mode="after")
    def _says_one_thing_of_missing_forces(self) -> Self:
        if self.relaxed and self.energy_only:
            raise ValueError("missing forces are zero (relaxed) or unknown (energy_only), not both")
        return self


BESIDE_TABLE = Needs(table=True)


class Group(Labelled):
    """More frames, with labels or a weight of their own."""

    files: list[str] = Field(description="files, folders or globs")
    keys: Annotated[Keys | None, Needs(table=False)] = Field(
        None, description="label names; left out, those of data.keys"
    )
    table: Annotated[str | None, EXPANDED] = Field(
        None,
        description="CSV of id (a structure's file name) and energy; labels in files are not read",
    )
    column: Annotated[str | None, BESIDE_TABLE] = Field(
        None, description="title of its energies; left out, the first that says so"
    )
    unit: Annotated[
        Literal["eV", "meV", "kJ/mol", "kcal/mol", "Hartree", "Rydberg"] | None, BESIDE_TABLE
    ] = Field(None, description="of its energies; left out, as the title says")
    per: Annotated[Literal["cell", "molecule", "formula", "atom"] | None, BESIDE_TABLE] = Field(
        None, description="what an energy is of; left out, as the title says, or cell"
    )
    relative: Annotated[bool | None, BESIDE_TABLE] = Field(
        None, description="energies have a zero of their own; left out, as title or numbers say"
    )
    weight: float = Field(
        1.0, gt=0, description="of the frames' squared errors, times what a file says"
    )

    @model_validator(mode="after")
    def _says_what_forces_are(self) -> Self:
        if self.table is not None and not (self.relaxed or self.energy_only):
            raise ValueError(
                "a table has energies alone: add relaxed: true if these are DFT minima, whose "
                "forces are zero, or energy_only: true"
            )
        return self


class Data(Labelled):
    """The DFT frames and what counts as a good one."""

    files: list[str] = Field(
        description="files, folders or globs; `$VARIABLES` are expanded, `file@0:100` picks frames"
    )
    groups: list[Group] = Field(
        default_factory=list,
        description="more frames, as `[{files: landscape/*.cif, table: energies.csv, relaxed: "
        "true, weight: 0.5}]`; without, or with, `files`",
    )
    train: list[str] = Field(
        default_factory=list,
        description="files all of whose frames train; beside `files`, which are split, or instead",
    )
    validation: list[str] = Field(
        default_factory=list, description="files to validate by, instead of `split.validation`"
    )
    test: list[str] = Field(
        default_factory=list, description="files to test on, instead of `split.test`"
    )
    leaks: Annotated[Action, Needs(validation=True, test=True)] = Field(
        "refuse",
        description="what to do with a frame that `test` or `validation` hold and that trains too",
    )
    keys: Keys = Field(default_factory=Keys, description="label names, where detection is unsure")
    energy: Literal["free_energy", "energy"] = Field(
        "free_energy",
        description="VASP energy: `free_energy` belongs to the forces, `energy` is sigma→0",
    )
    bad_frames: Action = Field("refuse", description="what to do with a frame that fails a check")
    duplicates: Action = Field("drop", description="what to do with a frame that repeats another")
    suspects: Literal["drop", "keep", "refuse"] = Field(
        "keep",
        description="what to do with suspicious labels, judged by the base and the other frames: "
        "`keep` reports doubtful ones and stops if one is certainly wrong, `refuse` stops at both, "
        "`drop` leaves both out",
    )
    max_force: float = Field(50.0, gt=0, description="largest plausible |F| on an atom, eV/Å")
    min_distance: float = Field(0.5, gt=0, description="shortest plausible distance, Å")
    max_frames: Annotated[int | None, Needs(files=True, groups=True)] = Field(
        None, gt=0, description="use this many frames of `files` and `groups`, picked by seed"
    )
    train_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training frames to train on, picked by seed"
    )
    split: Split = Field(default_factory=Split, description="test, validation, seed, group")

    @model_validator(mode="before")
    @classmethod
    def _other_files_will_do(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        names = [name for name in NAMED if isinstance(values.get(name), str)]
        values = {**values, **{name: [values[name]] for name in names}}
        if "files" not in values and (values.get("groups") or values.get("train")):
            values["files"] = []
        return values

    @model_validator(mode="after")
    def _names_files(self) -> Self:
        if not self.files and not self.groups and not self.train:
            raise ValueError("files is empty: name at least one file")
        return self

    @model_validator(mode="after")
    def _split_has_an_effect(self) -> Self:
        if not any(vars(self)[name] for name in NAMED):
            return self
        free = bool(self.files or self.groups)
        idle = {name: bool(vars(self)[name]) or not free for name in ("validation", "test")}
        idle |= {"group": all(idle.values()), "seed": not self.shuffled}
        for name in self.split.changed():
            if idle[name]:
                named = name if name in NAMED else "validation and test"
                lacking = f"with {named}" if free else "without files or groups"
                raise ValueError(no_effect(f"split.{name}", lacking))
        return self

    @property
    def drawn(self) -> Split:
        """The split of `files` and `groups`: nothing of a part that has files of its own."""
        free = self.files or self.groups
        named = [name for name in ("validation", "test") if vars(self)[name] or not free]
        return self.split.model_copy(update=dict.fromkeys(named, 0.0))

    @property
    def shuffled(self) -> bool:
        """Whether anything depends on `split.seed`."""
        held_out = self.drawn.test or self.drawn.validation
        return bool(held_out or self.train_fraction < 1 or self.max_frames)
