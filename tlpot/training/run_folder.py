"""What every training run shares, whatever it trains: its folder, its device, its loop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlpot.config.sections import AnySection, Section, load_section
from tlpot.config.training import Optimisation
from tlpot.engine.device import usable
from tlpot.engine.threads import limited_threads
from tlpot.errors import TlpotError, storage
from tlpot.files import make_folder, write_whole
from tlpot.model.file import MODEL
from tlpot.parallel.work import foreign, locked, stage
from tlpot.run_log import log
from tlpot.training.checkpoint import LAST, load_checkpoint
from tlpot.training.checkpoint import NAME as CHECKPOINT
from tlpot.training.parallel import Team
from tlpot.training.task import Task
from tlpot.training.trainer import HISTORY, Progress, Row, Trainer

RESULTS = (
    MODEL,
    "report.html",
    "metrics.json",
    HISTORY,
    "parity.png",
    "confusion.png",
    CHECKPOINT,
    LAST,
)
"""Files that a run fills as it goes on, besides `NOTES`."""
NOTES = ["manifest.json", "config.yaml"]
"""What a run writes first, in this order: a folder with both holds one."""
PRODUCT = "report.html"
"""What it writes last; then it calls its checkpoint `LAST`."""


FREE = ("output", "training.device", "training.tensorboard")
"""Settings that a resumed run may change: where it is, and on what."""
LONGER = {"training.epochs", "training.patience"}
"""Settings that it may change if asked to resume: how long it goes on."""


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
    keep: Callable[[Progress], None],
    columns: Mapping[str, Tensor] | None = None,
) -> Progress:
    """Train, from the folder's checkpoint if `resume` and there is one; log as settings say."""
    trainer = Trainer(task, settings, folder, team, columns)
    if resume and (folder / CHECKPOINT).exists():
        trainer.resume()
        log.info("taken up after epoch %d", trainer.progress.epoch)
    wanted = settings.tensorboard and team.writer
    with limited_threads(), _event_log(folder, wanted) as record:

        def report(row: Row) -> None:
            record(row)
            log.info("%s", ", ".join(f"{k} {_short(v)}" for k, v in row.items()))
            if team.writer:
                on_epoch(row)

        return trainer.fit(report, keep)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


@contextmanager
def claimed(folder: Path, config: Section, resume: bool, team: Team) -> Iterator[bool]:
    """Make the folder if need be, keep it for this run while it lasts; whether to go on in it.

    A run that was interrupted goes on if its settings are the same, asked to `resume` or not;
    asked to, also for more epochs, as a finished one does. One that fails before it wrote anything
    leaves no folder.

    Raises
    ------
    TlpotError
        If the folder holds another run or a finished one, or with `resume` none that this config
        can take up; if it cannot be written to; if another process is at work in it.
    """
    if folder.is_file():
        raise TlpotError(f"output: {folder} is a file; name a folder")
    if not team.writer:
        yield _goes_on(folder, config, resume)
        return
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
    except TlpotError as error:
        raise type(error)(f"output: {error}") from None
    try:
        with locked(folder):
            yield _goes_on(folder, config, resume)
    finally:
        with suppress(OSError):  # one is not empty
            for path in new:
                path.rmdir()


def _goes_on(folder: Path, config: Section, resume: bool) -> bool:
    """Whether this run takes up the folder's, rather than begins.

    A run that ended before its first epoch left nothing to lose: another may take its place.
    """
    now = stage(folder, NOTES, PRODUCT, CHECKPOINT)
    results = [name for name in RESULTS if (folder / name).exists()]
    there = [name for name in NOTES if (folder / name).exists()] + results
    begun = all((folder / name).exists() for name in NOTES)
    if resume and NOTES[-1] not in there:
        raise TlpotError(f"output: {folder} holds no run to resume; run without --resume")
    if there == NOTES[:1] and _is_manifest(folder / NOTES[0]):  # of a run that got no further
        return False
    if not begun and not resume and (strange := there[-1:] or foreign(folder)):
        raise TlpotError(
            f"output: {folder} holds {strange[0]} of something else; "
            "choose another folder (output=…)"
        )
    if now == "finished" and not resume:
        raise TlpotError(
            f"output: {folder} already holds a run, finished; choose another folder (output=…)"
        )
    if not resume and not results:
        return False
    stored = folder / NOTES[-1]
    changed = _differences(load_section(type(config), stored), config)
    longer = bool(changed) and changed.keys() <= LONGER
    if changed and not (longer and resume):
        hint = " go on with it for as many epochs (--resume)," if longer else ""
        raise TlpotError(
            f"output: {folder} already holds a run: {stored} differs from this config "
            f"({', '.join(changed.values())}), and a resumed run must keep its settings. Undo the "
            f"change,{hint} or start a new run in another folder (output=…)"
        )
    if now == "finished" and not changed:
        raise TlpotError(
            f"output: {folder} holds a finished run; there is nothing to resume. To go on for more "
            "epochs, say how many in all: --resume training.epochs=…"
        )
    if longer:
        _require_more(folder, config, finished=now == "finished")
    return True


def _require_more(folder: Path, config: Any, finished: bool) -> None:
    """Refuse to go on to an epoch that is there already, or that patience keeps it from."""
    name, settings = LAST if finished else CHECKPOINT, config.training
    if finished and not (folder / name).exists():
        raise TlpotError(
            f"output: {folder} holds a finished run without {name}, which more epochs would begin "
            f"from; train its model in a new run instead: model.base={folder} output=…"
        )
    if not (folder / name).exists():
        return
    progress = Progress(**load_checkpoint(folder, name)["progress"])
    done = len((folder / HISTORY).read_text().splitlines()) - 1  # some of it after the checkpoint
    if settings.epochs < done + finished:
        raise TlpotError(
            f"training.epochs: {settings.epochs}, but the run in {folder} has done {done} already; "
            "give more, or start a new run in another folder (output=…)"
        )
    if finished and progress.out_of(settings.patience):
        raise TlpotError(
            f"training.patience: {settings.patience} ended the run in {folder}: epoch "
            f"{progress.best_epoch} was the best of {progress.epoch}. To go on, give more "
            "patience too, or training.patience=null"
        )


def _is_manifest(path: Path) -> bool:
    with suppress(ValueError):
        content = json.loads(path.read_text())
        return isinstance(content, dict) and "trainable_parameters" in content
    return False


def _differences(before: Section, now: Section) -> dict[str, str]:
    """``key: before → now`` by key wherever two configs part, but for what changes no result."""
    old, new = (_flat(config.model_dump(by_alias=True, mode="json")) for config in (before, now))
    free = (*FREE, *(f"training.{name}" for name in decided(before, now)))
    keys = [k for k in {**old, **new} if k not in free and old.get(k) != new.get(k)]
    return {key: f"{key}: {old.get(key)} → {new.get(key)}" for key in keys}


def decided(stored: Any, config: Any) -> dict[str, Any]:
    """Settings of a `stored` run that its data decided and that the config leaves to them."""
    settings = config.training
    return {
        name: value
        for name, value in settings.by_data.items()
        if name not in settings.model_fields_set and getattr(stored.training, name) == value
    }


def as_begun(folder: Path, config: AnySection) -> AnySection:
    """The config of a run that goes on, with what its data decided when it began."""
    settings = config.training  # type: ignore[attr-defined]
    stored = load_section(type(config), folder / NOTES[-1])
    names = settings.by_data.keys() - settings.model_fields_set
    kept = {name: getattr(settings, name) for name in names} | decided(stored, config)
    return config.model_copy(update={"training": settings.model_copy(update=kept)})


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        deeper = isinstance(value, Mapping)
        flat |= _flat(value, f"{above}{key}.") if deeper else {f"{above}{key}": value}
    return flat


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
    if team.writer and (folder / LAST).exists():  # it is unfinished again
        with storage(folder / CHECKPOINT):
            os.replace(folder / LAST, folder / CHECKPOINT)
    team.wait()
    if team.writer:
        write_json(folder / NOTES[0], manifest)
        write_whole(folder / NOTES[1], config.dump())
    for about in ("versions", "hardware"):
        log.info("%s: %s", about, ", ".join(f"{k} {v}" for k, v in manifest[about].items()))
    for file in manifest["data"]["files"]:
        count = f": {file['frames']} frames used" if "frames" in file else ""
        log.info("read %s%s (sha256 %s)", file["path"], count, file["sha256"][:12])
    split = manifest["split"]
    sizes = ", ".join(f"{len(split[part])} {part}" for part in ("train", "validation", "test"))
    log.info("split (seed %d): %s", split["seed"], sizes)


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
