"""The one way to train, whatever is trained: from a config to a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tlpot.data.fingerprints import Overlap, TrainingSet, base_lines
from tlpot.data.split import Splits
from tlpot.errors import short_of_memory, storage
from tlpot.model.file import MODEL, SO_FAR
from tlpot.optional import require
from tlpot.run_log import log, logged
from tlpot.structure.frames import Frame
from tlpot.training.checkpoint import LAST
from tlpot.training.freeze import LayerState
from tlpot.training.manifest import about_data, common_part, recipe, without_folders
from tlpot.training.parallel import Team
from tlpot.training.run_folder import (
    CHECKPOINT,
    as_begun,
    begin,
    choose_device,
    claimed,
    fit,
    write_json,
)
from tlpot.training.task import Task
from tlpot.training.trainer import Progress, Row

OF_A_RUN = (SO_FAR, "domain", "test", "validation")
"""What a model file says of the run that made it, and not of those that start from it."""


class TrainedModel(Protocol):
    """What a run leaves: weights with what is known of them."""

    metadata: dict[str, Any]

    def save(self, path: str | Path) -> Path:
        """Write a model file."""
        ...


ModelT = TypeVar("ModelT", bound=TrainedModel)


@dataclass(frozen=True)
class Prepared:
    """What a run knows before its first step.

    Attributes
    ----------
    layers
        One row a layer: does it train?
    base_set
        What the base was trained on.
    seen_by_base
        How much of the data that is.
    """

    config: Any
    splits: Splits
    layers: list[LayerState]
    base_set: TrainingSet
    seen_by_base: Overlap

    def frames(self, part: str) -> list[Frame]:
        """Structures of ``train``, ``validation`` or ``test``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Run(Generic[ModelT]):
    """A finished run: its folder, the trained model, and what its JSON files hold.

    Of several processes only the writer has metrics.
    """

    folder: Path
    model: ModelT
    metrics: dict[str, Any]
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder}: {self.model!r}>"


class Job:
    """One run, in the order of its methods: `at_work`, `begin`, `fit`, `finish`.

    Parameters
    ----------
    config
        A `WholeRun`.
    resume
        Continue an interrupted run; the result is bit-identical to one without interruption. With
        a larger ``training.epochs`` than before also a finished one: as if it had been asked for
        from the start, but for the rates of ``schedule: cosine`` so far.
    on_start, on_epoch
        Called with what was prepared before the first step, and after each epoch (displays).
    mend
        What else to do where memory ran out than to take smaller batches or another device.
    """

    def __init__(
        self,
        config: Any,
        resume: bool = False,
        on_start: Callable[[Any], None] = lambda prepared: None,
        on_epoch: Callable[[Row], None] = lambda row: None,
        mend: str = "",
    ) -> None:
        self.config, self.resume, self.folder, self.team = (
            config,
            resume,
            Path(config.output),
            Team(),
        )
        self.on_start, self.on_epoch, self.mend = on_start, on_epoch, mend

    @contextmanager
    def at_work(self) -> Iterator[torch.device]:
        """Claim the folder and keep its log meanwhile; where to train.

        Raises
        ------
        TlpotError
            An existing run is never overwritten, nor one that another process is at.
        """
        settings, folder, team = self.config.training, self.folder, self.team
        batch = f"lower training.batch_size ({settings.batch_size}){self.mend}"
        with (
            claimed(folder, self.config, self.resume, team) as self.resume,
            logged(folder, team.writer, begun=self.resume),
            short_of_memory(f"{batch}, or compute on another training.device"),
        ):
            if settings.tensorboard:
                require("tensorboard", "tensorboard", "training.tensorboard")
            if self.resume:
                self.config = as_begun(folder, self.config)
            yield choose_device(settings.device, team)

    def begin(
        self,
        prepared: Prepared,
        device: torch.device,
        manifest: Mapping[str, Any],
        remarks: Sequence[str],
        warnings: Sequence[str] = (),
        items: str = "crystals",
    ) -> None:
        """Log what was prepared, write config and manifest.

        Parameters
        ----------
        manifest
            What it holds besides `common_part`: ``data`` with its ``files``, further ``inputs``.
        remarks, warnings
            Lines for the log: what was left out and why …
        items
            What is trained on, in words.
        """
        self.config = prepared.config
        for line in (*base_lines(prepared.seen_by_base, items), *warnings):
            log.warning("%s", line)
        for line in remarks:
            log.info("%s", line)
        common = common_part(
            self.config.data.split,
            prepared.splits,
            prepared.layers,
            device,
            self.team.size,
            self.config.model.base,
        )
        inputs = common["inputs"] | manifest.get("inputs", {})
        self.prepared, self.manifest = prepared, {**common, **manifest, "inputs": inputs}
        begin(self.folder, self.config, self.manifest, self.team, self.resume)
        if self.team.writer:
            self.on_start(prepared)

    def fit(
        self,
        task: Task,
        model: Callable[[], TrainedModel],
        about: Mapping[str, Any],
        columns: Mapping[str, Tensor] | None = None,
    ) -> bool:
        """Train or go on; the best weights are left in place. Whether this process is the writer.

        The best model so far is in the folder meanwhile.

        Parameters
        ----------
        model
            Gives the model with the weights that the task has.
        about
            What the model file says besides settings, data and versions.
        columns
            As `Trainer`'s.
        """
        settings, prepared = self.config.training, self.prepared
        seen = prepared.base_set.with_frames(
            prepared.frames("train"), prepared.frames("validation")
        )
        self.about = {
            "training": recipe(self.config),
            "inputs": without_folders(self.manifest["inputs"]),
            "data": about_data(self.manifest["data"]),
            "versions": self.manifest["versions"],
            "seen": seen.as_dict(),
            **about,
        }

        def keep(progress: Progress) -> None:
            best = model()
            base = best.metadata
            epochs = {"epoch": progress.epoch, "epochs": settings.epochs}
            best.metadata = self._described(base) | {
                SO_FAR: epochs | {"best_epoch": progress.best_epoch}
            }
            best.save(self.folder / MODEL)
            best.metadata = base

        loop = (self.folder, self.team, self.resume, self.on_epoch, keep, columns)
        progress = fit(task, settings, *loop)
        if self.team.writer:
            self.manifest |= {"seconds": progress.seconds, "best_epoch": progress.best_epoch}
        return self.team.writer

    def finish(
        self,
        model: ModelT,
        metrics: Mapping[str, Any],
        about: Mapping[str, Any],
        report: Callable[[dict[str, Any], dict[str, Any]], None],
    ) -> Run[ModelT]:
        """Write model and results.

        Parameters
        ----------
        metrics
            What ``metrics.json`` holds besides ``seen_by_base``.
        about
            What the model file says further.
        report
            Writes figures and page from the content of ``metrics.json`` and ``manifest.json``.
        """
        manifest, folder = self.manifest, self.folder
        metrics = {"seen_by_base": self.prepared.seen_by_base, **metrics}
        model.metadata = {**self._described(model.metadata), **about}
        model.save(folder / MODEL)
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "manifest.json", manifest)
        report(metrics, manifest)
        with storage(folder / LAST):
            os.replace(folder / CHECKPOINT, folder / LAST)
        return Run(folder, model, metrics, manifest)

    def _described(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """What a model file says, from what its base's says: not of how good that was."""
        return {k: v for k, v in base.items() if k not in OF_A_RUN} | self.about
