"""What every training run shares, whatever it trains: its folder, its device, its loop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlpot.config import Optimisation
from tlpot.engine.device import usable
from tlpot.errors import TlpotError
from tlpot.files import locked, write_whole
from tlpot.modelfile import NAME as MODEL
from tlpot.sections import Section, load_section
from tlpot.threads import limited_threads
from tlpot.training.checkpoint import NAME as CHECKPOINT
from tlpot.training.parallel import Team
from tlpot.training.task import Task
from tlpot.training.trainer import Progress, Row, Trainer

RESULTS = (
    MODEL,
    "report.html",
    "metrics.json",
    "history.csv",
    "parity.png",
    "confusion.png",
    CHECKPOINT,
)
"""Files that a run fills as it goes on, besides ``config.yaml`` and ``manifest.json``."""


FREE = ("output", "training.device", "training.keep_gb", "training.tensorboard")
"""Settings that a resumed run may change: where it is, and on what."""


def choose_device(name: str, team: Team) -> torch.device:
    """A process's own GPU for ``auto`` and of several processes ``cuda``; else as `usable`."""
    if name == "auto" or (name == "cuda" and team.size > 1):
        return team.device
    return usable(name, "training.device")


def fit(
    task: Task,
    settings: Optimisation,
    folder: Path,
    team: Team,
    resume: bool,
    on_epoch: Callable[[Row], None],
    columns: Mapping[str, Tensor] | None = None,
) -> Progress:
    """Train, from the folder's checkpoint if `resume` and there is one; log as settings say."""
    trainer = Trainer(task, settings, folder, team, columns)
    if resume and (folder / CHECKPOINT).exists():
        trainer.resume()
    wanted = settings.tensorboard and team.writer
    with limited_threads(), _event_log(folder, wanted) as log:

        def report(row: Row) -> None:
            log(row)
            if team.writer:
                on_epoch(row)

        return trainer.fit(report)


@contextmanager
def claimed(folder: Path, config: Section, resume: bool, team: Team) -> Iterator[None]:
    """Make the folder if need be, and keep it for this run alone while it lasts.

    A run that fails before it wrote anything leaves no folder.

    Raises
    ------
    TlpotError
        If the folder holds a run, or with `resume` none that this config can take up; if it cannot
        be written to; if another process is at work in it.
    """
    if folder.exists() and not folder.is_dir():
        raise TlpotError(f"output: {folder} is a file; name a folder")
    if not team.writer:
        _refuse_to_overwrite(folder, config, resume)
        yield
        return
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise TlpotError(f"output: {folder} cannot be made ({error.strerror})") from None
    if not writable:
        raise TlpotError(f"output: {folder} is not yours to write to; name another folder")
    try:
        with locked(folder):
            _refuse_to_overwrite(folder, config, resume)
            yield
    finally:
        for path in new:
            if any(path.iterdir()):
                break
            path.rmdir()


def _refuse_to_overwrite(folder: Path, config: Section, resume: bool) -> None:
    """Keep a run from writing over another, and a resumed one from changing its settings.

    A run that ended before its first epoch left nothing to lose: another may take its place.
    """
    stored = folder / "config.yaml"
    if not resume:
        there = [name for name in RESULTS if (folder / name).exists()]
        begun = stored.exists() and (folder / "manifest.json").exists()
        if begun and there:
            raise TlpotError(
                f"output: {folder} already holds a run; choose another folder "
                f"(output=…), or continue it with --resume"
            )
        if not begun and (stored.exists() or there):
            raise TlpotError(
                f"output: {folder} holds {there[0] if there else stored.name} of something else, "
                "which this run would overwrite; choose another folder (output=…)"
            )
    elif not stored.exists():
        raise TlpotError(f"output: {folder} holds no run to resume; run without --resume")
    elif (folder / "report.html").exists() and not (folder / CHECKPOINT).exists():
        raise TlpotError(f"output: {folder} holds a finished run; there is nothing to resume")
    elif changed := _differences(load_section(type(config), stored), config):
        raise TlpotError(
            f"{stored} differs from this config ({', '.join(changed)}): a resumed run must keep "
            "its settings. Undo the change, or start a new run in another folder"
        )


def _differences(before: Section, now: Section) -> list[str]:
    """``key: before → now`` wherever two configs part, but for what changes no result."""
    old, new = (_flat(config.model_dump(by_alias=True, mode="json")) for config in (before, now))
    keys = [k for k in {**old, **new} if k not in FREE and old.get(k) != new.get(k)]
    return [f"{key}: {old.get(key)} → {new.get(key)}" for key in keys]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        deeper = isinstance(value, Mapping)
        found |= _flat(value, f"{above}{key}.") if deeper else {f"{above}{key}": value}
    return found


def begin(
    folder: Path, config: Section, manifest: Mapping[str, Any], team: Team, resume: bool
) -> None:
    """Write config and manifest before the first step.

    Raises
    ------
    TlpotError
        With `resume`, if the contents of data files, base or replayed files, or the split, differ
        from the folder's manifest.
    """
    if resume and (folder / "manifest.json").exists():
        _require_same_data(folder, manifest)
    team.wait()
    if team.writer:
        write_whole(folder / "config.yaml", config.dump())
        write_json(folder / "manifest.json", manifest)


def _require_same_data(folder: Path, manifest: Mapping[str, Any]) -> None:
    stored = json.loads((folder / "manifest.json").read_text())
    before, now = (
        {"data files": m["data"]["files"], "split": m["split"], **m.get("inputs", {})}
        for m in (stored, manifest)
    )
    for what in before:
        if before[what] != now.get(what):
            raise TlpotError(
                f"{folder}: {what} changed since this run began; start a new run in another folder"
            )


@contextmanager
def _event_log(folder: Path, wanted: bool) -> Iterator[Callable[[Row], None]]:
    """Writes each epoch's row as TensorBoard events, if wanted."""
    if not wanted:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def log(row: Row) -> None:
            for name, value in row.items():
                if value is not None and name != "epoch":
                    writer.add_scalar(name, value, row["epoch"])

        yield log


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_whole(path, json.dumps(content, indent=2) + "\n")
