"""Run the points of a sweep; a finished point is never run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isnan
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from tlpot.ablation.sweep import Outcome, Point, Sweep, points, settings
from tlpot.ablation.table import write_results
from tlpot.config.run import Config, load_config
from tlpot.errors import MachineError, TlpotError
from tlpot.evaluation.plots import read_history
from tlpot.files import make_folder, sha256
from tlpot.finetuning.run import finetune
from tlpot.model.file import MODEL
from tlpot.parallel.processes import as_done, require_scheduler
from tlpot.parallel.work import foreign, locked
from tlpot.run_log import log, logged
from tlpot.training.checkpoint import LAST
from tlpot.training.checkpoint import NAME as CHECKPOINT
from tlpot.training.trainer import Row

POINT_FOLDER = "points"
"""Folder of their run folders: what a sweep makes first."""

OnEpoch = Callable[[Point, Row], None]


def ablate(
    sweep: Sweep,
    on_point: Callable[[Sequence[Outcome], int], None] = lambda done, total: None,
    outcomes: Sequence[Outcome] = (),
    on_epoch: OnEpoch | None = None,
) -> list[Outcome]:
    """Run every point that has not finished yet; write table and figures as they come in.

    Parameters
    ----------
    on_point
        Called at the start and as each point ends, with the outcomes so far, the latest last, and
        how many there will be.
    outcomes
        Points that finished elsewhere, and are not run here.
    on_epoch
        Called, from another thread, within a second or so of each epoch of a point.

    Returns
    -------
    Outcomes in the order of the points. A failed point is one with its reason; the next call
    tries it again, and takes up an interrupted one after its last checkpoint.

    Raises
    ------
    TlpotError
        If the sweep is not sound, its data or base changed since a point finished, or another
        process is at it.
    """
    require_scheduler(sweep.scheduler)
    folder = Path(sweep.output)
    make_folder(folder)
    begun = (folder / POINT_FOLDER).exists()
    if not begun and (strange := foreign(folder)):
        raise TlpotError(
            f"output: {folder} holds {strange[0]} of something else; name another folder"
        )
    with locked(folder):
        make_folder(folder / POINT_FOLDER)
        with logged(folder, begun=begun):
            return _ablate(sweep, folder, on_point, outcomes, on_epoch)


def _ablate(
    sweep: Sweep,
    folder: Path,
    on_point: Callable[[Sequence[Outcome], int], None],
    outcomes: Sequence[Outcome],
    on_epoch: OnEpoch | None,
) -> list[Outcome]:
    wanted = points(sweep)
    folders = _folders(folder / POINT_FOLDER, wanted)
    by_name = {outcome.point.name: outcome for outcome in (*outcomes, *finished(sweep))}
    done = list(by_name.values())
    log.info("%d points, %d of them finished before", len(wanted), len(done))
    waiting = [point for point in wanted if point.name not in by_name]
    for point in wanted:
        if point.name in by_name:  # it may have been stopped before that
            _tidy(folders[point.name], sweep.keep_models)
    on_point(done, len(wanted))
    pieces = [(p.config, str(folders[p.name].absolute()), sweep.keep_models) for p in waiting]
    with _watched([(point, folders[point.name]) for point in waiting], on_epoch) as look:
        for i, result in as_done(run_point, pieces, sweep.scheduler, sweep.workers, sweep.slurm):
            point = waiting[i]
            outcome = _finished(folders[point.name], point)
            if outcome is None:
                lost = f"it ran, but {folders[point.name]} holds no result; do the workers see it?"
                reason = lost if result is None else str(result) or type(result).__name__
                outcome = Outcome(point, reason=reason)
            look()
            done.append(outcome)
            log.info("%s: %s", point.name, outcome.reason or "finished")
            write_results(folder, _ordered(done, wanted))
            on_point(done, len(wanted))
    write_results(folder, _ordered(done, wanted))
    return _ordered(done, wanted)


@contextmanager
def _watched(
    waiting: Sequence[tuple[Point, Path]], on_epoch: OnEpoch | None
) -> Iterator[Callable[[], None]]:
    """Tell meanwhile of the epochs that points end, wherever they run; yields how to look now."""
    if on_epoch is None:
        yield lambda: None
        return
    told = {point.name: len(_history(folder)) for point, folder in waiting}
    ended, at_it = Event(), Lock()

    def look() -> None:
        with at_it:
            for point, folder in waiting:
                for row in _history(folder)[told[point.name] :]:
                    on_epoch(point, row)
                    told[point.name] += 1

    def watch() -> None:
        while not ended.wait(1.0):
            look()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield look
    finally:
        ended.set()
        thread.join()


def _history(folder: Path) -> list[Row]:
    """What a point's ``history.csv`` holds by now."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    columns = {k: v.tolist() for k, v in read_history(path).items()}
    series = [[None if isnan(x) else x for x in column] for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*series, strict=True)]


def finished(sweep: Sweep) -> list[Outcome]:
    """The points that have finished, in order; errors as `ablate`'s."""
    wanted = points(sweep)
    folders = _folders(Path(sweep.output) / POINT_FOLDER, wanted)
    outcomes = (_finished(folders[point.name], point) for point in wanted)
    done = [outcome for outcome in outcomes if outcome is not None]
    _require_same_data(done)
    return done


def run_point(config: Config, folder: str, keep_model: bool) -> None:
    """Fine-tune one point in this process."""
    config = config.model_copy(update={"output": folder})
    finetune(config)
    _tidy(Path(folder), keep_model)


def _tidy(folder: Path, keep_model: bool) -> None:
    """Take away what only a run by itself is for: to go on from, and to be used."""
    for name in (LAST,) if keep_model else (LAST, MODEL):
        (folder / name).unlink(missing_ok=True)


def _folders(root: Path, wanted: Sequence[Point]) -> dict[str, Path]:
    """Where each point is: of its name, unless an earlier version of tlpot began it.

    That one knew fewer settings, so it called the point otherwise; what it did not know is read
    as its default.
    """
    begun = {}
    for stored in root.glob("*/config.yaml"):
        try:
            begun[settings(load_config(stored))] = stored.parent
        except MachineError:
            raise
        except TlpotError:  # it had settings that are gone
            continue
    return {p.name: begun.get(settings(p.config), root / p.name) for p in wanted}


def _ordered(done: Sequence[Outcome], wanted: Sequence[Point]) -> list[Outcome]:
    place = {point.name: i for i, point in enumerate(wanted)}
    return sorted(done, key=lambda outcome: place[outcome.point.name])


def _finished(folder: Path, point: Point) -> Outcome | None:
    metrics = folder / "metrics.json"
    if not metrics.exists() or (folder / CHECKPOINT).exists():
        return None
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return Outcome(point, json.loads(metrics.read_text()), manifest)


def _require_same_data(done: Sequence[Outcome]) -> None:
    digests: dict[str, str] = {}
    for outcome in done:
        assert outcome.manifest is not None
        inputs = outcome.manifest.get("inputs", {}).values()
        for file in chain(outcome.manifest["data"]["files"], *inputs):
            path = file["path"]
            if path not in digests and Path(path).is_file():
                digests[path] = sha256(path)
            if digests.get(path, file["sha256"]) != file["sha256"]:
                raise TlpotError(
                    f"{path} changed since point {outcome.point.name} of this sweep finished; "
                    "name another output, so that its table does not mix two data sets"
                )
