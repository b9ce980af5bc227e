"""`tlpot property train`: from a config to a run folder with model, metrics and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tlpot.config.sections import as_section
from tlpot.data.fingerprints import base_lines
from tlpot.data.read import find_files
from tlpot.errors import short_of_memory
from tlpot.optional import require
from tlpot.property.config import PropertyConfig
from tlpot.property.data import Crystals, by_id
from tlpot.property.evaluate import Metrics, errors
from tlpot.property.memory import keep_memory
from tlpot.property.prepare import Prepared, Run, prepare
from tlpot.property.report import write_report
from tlpot.property.task import PropertyTask
from tlpot.run_log import log, logged
from tlpot.training.manifest import about_file, common_part
from tlpot.training.parallel import Team
from tlpot.training.run_folder import (
    CHECKPOINT,
    begin,
    choose_device,
    claimed,
    fit,
    write_json,
)
from tlpot.training.trainer import Row


def train(
    config: PropertyConfig | Mapping[str, Any] | str | Path,
    resume: bool = False,
    on_start: Callable[[Prepared], None] = lambda prepared: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    crystals: Crystals | None = None,
) -> Run:
    """Train or fine-tune as the config says and write the run folder.

    Parameters
    ----------
    config
        A `PropertyConfig`, the same as nested dict, or the path of a YAML file.
    resume
        Continue an interrupted run; the result is bit-identical to one without interruption.
    on_start, on_epoch
        Called before the first step and after each epoch (progress displays).
    crystals
        Data in memory instead of what ``data.files`` hold, which then only say where it is from.

    Raises
    ------
    TlpotError
        On bad input; an existing run is never overwritten, nor one that another process is at.
    """
    config, team = as_section(PropertyConfig, config), Team()
    folder = Path(config.output)
    mend = (
        f"lower training.batch_size ({config.training.batch_size}), or compute on another "
        "training.device"
    )
    with (
        claimed(folder, config, resume, team) as resume,
        logged(folder, team.writer, begun=resume),
        short_of_memory(mend),
    ):
        return _train(config, folder, team, resume, on_start, on_epoch, crystals)


def _train(
    config: PropertyConfig,
    folder: Path,
    team: Team,
    resume: bool,
    on_start: Callable[[Prepared], None],
    on_epoch: Callable[[Row], None],
    crystals: Crystals | None,
) -> Run:
    if config.training.tensorboard:
        require("tensorboard", "tensorboard", "training.tensorboard")
    device = choose_device(config.training.device, team)
    prepared = prepare(config, crystals)
    for line in base_lines(prepared.seen_by_base, "crystals"):
        log.warning("%s", line)
    for line in prepared.crystals.rejected:
        log.info("left out %s", line)
    manifest = _manifest(prepared, device, team.size)
    begin(folder, config, manifest, team, resume)
    if team.writer:
        on_start(prepared)

    model, data = prepared.model, prepared.crystals
    keep_memory()
    model.network.to(device)
    graphs = data.graphs
    parts = {name: np.array(chosen, dtype=int) for name, chosen in vars(prepared.splits).items()}
    train, validation = (
        ([graphs[i] for i in parts[name]], data.values[parts[name]])
        for name in ("train", "validation")
    )
    task = PropertyTask(model, train, validation, new=config.model.base is None)
    progress = fit(task, config.training, folder, team, resume, on_epoch)
    if not team.writer:
        return Run(folder, model, {})
    task.settle()
    predicted = model.predict(graphs)
    metrics = {
        "seen_by_base": prepared.seen_by_base,
        "baseline": _judge(data.values, prepared.baseline, parts),
        "trained": _judge(data.values, predicted, parts),
    }
    manifest |= {"seconds": progress.seconds, "best_epoch": progress.best_epoch}
    model.metadata |= _elements(prepared) | {
        "training": config.model_dump(by_alias=True),
        "data": {k: manifest["data"][k] for k in ("property", "unit", "crystals")},
        "versions": manifest["versions"],
        "test": metrics["trained"]["test"],
        "validation": _validation(prepared, predicted),
        "seen": prepared.known.with_frames(
            [data.frames[i] for i in prepared.splits.train],
            [data.frames[i] for i in prepared.splits.validation],
        ).as_dict(),
    }
    model.network.cpu().requires_grad_(False)
    model.save(folder / "model.safetensors")
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "manifest.json", manifest)
    write_report(folder, prepared, metrics, manifest, predicted)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return Run(folder, model, metrics)


def _elements(prepared: Prepared) -> dict[str, list[str]]:
    """Elements of all training crystals, the base's too; none if the base does not tell its own."""
    base = prepared.model.metadata.get("elements", [])
    if prepared.config.model.base is not None and not base:
        return {}
    frames = (prepared.crystals.frames[i] for i in prepared.splits.train)
    return {"elements": sorted({*base, *(s for frame in frames for s in frame.atoms.symbols)})}


def _validation(prepared: Prepared, predicted: np.ndarray) -> dict[str, list[float]]:
    """Label and prediction of each validation crystal by its id, for intervals of ensembles."""
    at, data = prepared.splits.validation, prepared.crystals
    numbers = zip(data.values[at].tolist(), predicted[at].tolist(), strict=True)
    return dict(zip(by_id([data.frames[i] for i in at]), map(list, numbers), strict=True))


def _judge(
    values: np.ndarray, predicted: np.ndarray, parts: Mapping[str, np.ndarray]
) -> dict[str, Metrics]:
    return {name: errors(values[at], predicted[at]) for name, at in parts.items()}


def _manifest(prepared: Prepared, device: torch.device, processes: int) -> dict[str, Any]:
    config, data = prepared.config, prepared.crystals
    files = sorted({str(path) for path, _ in find_files(config.data.files)})
    structures = sorted({f.source for f in data.frames if f.source} - set(files))
    split, base = config.data.split, config.model.base
    common = common_part(split, prepared.splits, prepared.layers, device, processes, base)
    return common | {
        "data": {
            "files": [about_file(path) for path in [*files, *structures]],
            "property": data.name,
            "unit": prepared.model.unit,
            "crystals": len(data),
            "rejected": data.rejected,
        },
    }
