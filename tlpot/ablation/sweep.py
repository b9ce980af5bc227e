"""A sweep: one base config, axes along which it varies, seeds."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from tlpot.config.reading import read_yaml
from tlpot.config.run import Config, parse_config
from tlpot.config.sections import EXPANDED, STARTED, Needs, Section, parse_section, set_key
from tlpot.errors import TlpotError

SEEDED = ("data.split.seed", "training.seed")
"""What a sweep's seeds set, both to the same; the second alone where nothing is drawn."""

Choices = list[Any] | dict[str, dict[str, Any]]


class Sweep(Section):
    """A sweep over configs: `tlpot ablate sweep.yaml`."""

    base: Annotated[str | dict[str, Any], EXPANDED] = Field(
        description="a config file, or a config written out"
    )
    axes: dict[str, Choices] = Field(
        default_factory=dict,
        description="`section.key: [values]`, or `name: {choice: {section.key: value, …}, …}`",
    )
    seeds: list[int] = Field([0], description="each point runs once a seed (split and training)")
    output: Annotated[str, EXPANDED] = Field(
        "runs/sweep", description="folder of the points, the table, the figures"
    )
    keep_models: bool = Field(False, description="keep each point's model file")
    workers: Annotated[int, STARTED] = Field(1, gt=0, description="points that run at once")
    scheduler: str = Field(
        "local",
        description="`local`, the address of a Dask scheduler, or a YAML file of Slurm keywords",
    )
    slurm: Annotated[dict[str, Any] | None, Needs(scheduler="local")] = Field(
        None, description="keywords of dask_jobqueue.SLURMCluster: run in Slurm jobs"
    )

    @model_validator(mode="after")
    def _has_points(self) -> Sweep:
        empty = [name for name, choices in self.axes.items() if not choices]
        if empty or not self.seeds:
            raise ValueError(f"{empty[0] if empty else 'seeds'} is empty: no point to run")
        return self


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes
    ----------
    labels
        What it is on each axis.
    name
        Hash of its config: the same settings are the same point, in whatever sweep.
    """

    labels: Mapping[str, str]
    seed: int
    config: Config
    name: str


@dataclass(frozen=True)
class Outcome:
    """A point with what its ``metrics.json`` and ``manifest.json`` hold, or why it failed."""

    point: Point
    metrics: Mapping[str, Any] | None = None
    manifest: Mapping[str, Any] | None = None
    reason: str | None = None


def load_sweep(path: str | Path, changes: Mapping[str, Any] | None = None) -> Sweep:
    """Read a YAML sweep, with top-level `changes`; a relative `base` is beside it.

    Raises
    ------
    TlpotError
        Naming the file, the key and what is wrong with it.
    """
    values = read_yaml(path, "sweep")
    if isinstance(values, dict) and isinstance(values.get("base"), str):
        values = {**values, "base": str(Path(path).parent / values["base"])}
    if isinstance(values, dict):
        values = {**values, **(changes or {})}
    return parse_sweep(values, str(path))


def parse_sweep(values: Any, origin: str = "sweep") -> Sweep:
    """Validate a nested dict as `Sweep`."""
    if not isinstance(values, dict):
        raise TlpotError(f"{origin}: expected base, axes, seeds, output.")
    return parse_section(Sweep, values, f"{origin} is not a valid sweep")


def points(sweep: Sweep) -> list[Point]:
    """Every combination of the axes' choices with every seed; all are valid configs.

    Raises
    ------
    TlpotError
        If one is not, naming the point, or if two points are the same run.
    """
    base = sweep.base
    if isinstance(base, str):
        base = read_yaml(base, "config", "The sweep's `base` names it.")
    sweep_points = []
    for labels, changes in _combinations(sweep.axes):
        for seed in sweep.seeds:
            where = ", ".join(f"{axis}={label}" for axis, label in labels.items())
            values = json.loads(json.dumps(base))
            for key, value in changes.items():
                set_key(values, key, value, where)
            shuffled = parse_config(values, f"point {where}").data.shuffled
            for key in SEEDED if shuffled else SEEDED[1:]:
                set_key(values, key, seed, where)
            config = parse_config(values, f"point {where}")
            sweep_points.append(Point(labels, seed, config, name_of(config)))
    _refuse_repeats(sweep_points)
    return sweep_points


def _combinations(
    axes: Mapping[str, Choices],
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Labels of each combination and the config keys it sets."""
    choices = [
        [(label, changes) for label, changes in axis.items()]
        if isinstance(axis, dict)
        else [(_label(value), {name: value}) for value in axis]
        for name, axis in axes.items()
    ]
    for combination in itertools.product(*choices):
        labels = dict(zip(axes, [label for label, _ in combination], strict=True))
        changes = {k: v for _, change in combination for k, v in change.items()}
        yield labels, changes


def _label(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return str(value)


def settings(config: Config) -> str:
    """All that decides what a run gives."""
    values = config.model_dump(by_alias=True, exclude={"output"})
    if values["training"]["fine_angles"] is None:
        values["training"]["fine_angles"] = True  # as it was written before it could be left out
    if not values["training"]["moments"]:
        del values["training"]["moments"]  # likewise
    return json.dumps(values, sort_keys=True)


def name_of(config: Config) -> str:
    """What a sweep calls the point of these settings."""
    return hashlib.sha256(settings(config).encode()).hexdigest()[:12]


def _refuse_repeats(sweep_points: list[Point]) -> None:
    first: dict[str, Point] = {}
    for point in sweep_points:
        other = first.setdefault(point.name, point)
        if other is not point:
            raise TlpotError(
                f"two points of the sweep are the same run: {dict(other.labels)} and "
                f"{dict(point.labels)}; check the axes' keys and values"
            )
