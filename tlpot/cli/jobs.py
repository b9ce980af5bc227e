"""What the verbs that use a model are told: fields are options, and keys of a YAML file."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from tlpot.cli.shared import SCHEDULER
from tlpot.config.sections import EXPANDED, STARTED, Needs, Section
from tlpot.csp.settings import Ranking
from tlpot.md.settings import Dynamics
from tlpot.relax.settings import Relaxation

Settings = TypeVar("Settings", bound=Section)


class ModelUse(Section):
    """A use of a model."""

    model: Annotated[str, EXPANDED] = Field(
        "ani2x", description="model file, run folder or base name"
    )
    output: Annotated[str, EXPANDED] = Field("output", description="folder to write")
    device: str = Field("auto", description="auto, cpu, cuda …")

    def settings(self, section: type[Settings]) -> Settings:
        """The fields that are a `section`'s own."""
        return section(**{name: getattr(self, name) for name in section.model_fields})


class ShardedJob(ModelUse):
    """A use on many structures, by many workers."""

    files: list[str]
    scheduler: str = Field("local", description=SCHEDULER)
    workers: Annotated[int, STARTED] = Field(1, ge=1, description="local processes, or Slurm jobs")


class RankJob(Ranking, ShardedJob):
    """What `tlpot rank` is told."""

    output: Annotated[str, EXPANDED] = Field("ranking", description="folder to write")
    relax: bool = Field(True, description="cell and positions, before energies")
    relaxation: Annotated[Relaxation, Needs(relax=True)] = Field(default_factory=Relaxation)

    def ranking(self) -> Ranking:
        """How to rank."""
        relaxation = self.relaxation if self.relax else None
        return Ranking(**dict(self.settings(Ranking)) | {"relaxation": relaxation})


class RelaxJob(Relaxation, ShardedJob):
    """What `tlpot relax` is told."""

    output: Annotated[str, EXPANDED] = Field("relaxed", description="folder to write")


class DynamicsJob(Dynamics, ModelUse):
    """What `tlpot md` is told."""

    file: str
    output: Annotated[str, EXPANDED] = Field("md", description="folder to write")
    ps: float = Field(10.0, description="length in all, ps")
    supercell: str = Field("1x1x1", description="repeats of the cell, e.g. 2x2x3")
