"""`tlpot property train`: from a config to a run folder with model, metrics and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlpot.config.sections import as_section
from tlpot.data.find import find_files
from tlpot.property.config import PropertyConfig
from tlpot.property.data import Crystals
from tlpot.property.evaluate import Metrics, errors
from tlpot.property.model import PropertyModel
from tlpot.property.prepare import PreparedProperty, prepare
from tlpot.property.report import write_report
from tlpot.property.task import PropertyTask
from tlpot.training.job import Job, Run
from tlpot.training.manifest import about_file
from tlpot.training.memory import keep_memory
from tlpot.training.trainer import Row


def train(
    config: PropertyConfig | Mapping[str, Any] | str | Path,
    resume: bool = False,
    on_start: Callable[[PreparedProperty], None] = lambda prepared: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    crystals: Crystals | None = None,
) -> Run[PropertyModel]:
    """Train or fine-tune as the config says and write the run folder.

    Parameters
    ----------
    config
        A `PropertyConfig`, the same as nested dict, or the path of a YAML file.
    resume, on_start, on_epoch
        As `Job`'s.
    crystals
        Data in memory instead of what ``data.files`` hold, which then only say where it is from.

    Raises
    ------
    TlpotError
        On bad input; an existing run is never overwritten, nor one that another process is at.
    """
    config = as_section(PropertyConfig, config)
    job = Job(config, resume, on_start, on_epoch)
    with job.at_work() as device:
        prepared = prepare(config, crystals)
        model, data = prepared.model, prepared.crystals
        job.begin(prepared, device, _manifest(prepared), [f"left out {r}" for r in data.rejected])
        keep_memory()
        model.network.to(device)
        parts = {name: np.array(at, dtype=int) for name, at in vars(prepared.splits).items()}
        train, validation = (
            ([data.graphs[i] for i in parts[name]], data.values[parts[name]])
            for name in ("train", "validation")
        )
        task = PropertyTask(model, train, validation, new=config.model.base is None)

        def settled() -> PropertyModel:
            task.settle()
            return model

        if not job.fit(task, settled, _elements(prepared)):
            return Run(job.folder, model, {}, job.manifest)
        predicted = settled().predict(data.graphs)
        model.network.cpu().requires_grad_(False)
        metrics = {
            "baseline": _judge(data.values, prepared.baseline, parts),
            "trained": _judge(data.values, predicted, parts),
        }
        about = {
            "test": metrics["trained"]["test"],
            "validation": _validation(prepared, predicted),
        }

        def report(metrics: dict[str, Any], manifest: dict[str, Any]) -> None:
            write_report(job.folder, prepared, metrics, manifest, predicted)

        return job.finish(model, metrics, about, report)


def _elements(prepared: PreparedProperty) -> dict[str, list[str]]:
    """Elements of all training crystals, the base's too; none if the base does not tell its own."""
    base = prepared.model.metadata.get("elements", [])
    if prepared.config.model.base is not None and not base:
        return {}
    symbols = (s for frame in prepared.frames("train") for s in frame.atoms.symbols)
    return {"elements": sorted({*base, *symbols})}


def _validation(prepared: PreparedProperty, predicted: np.ndarray) -> dict[str, list[float]]:
    """Label and prediction of each validation crystal by its id, for intervals of ensembles."""
    at, values = prepared.splits.validation, prepared.crystals.values
    numbers = zip(values[at].tolist(), predicted[at].tolist(), strict=True)
    frames = prepared.frames("validation")
    names = (str(frame.info.get("id", Path(frame.name).name)) for frame in frames)
    return dict(zip(names, map(list, numbers), strict=True))


def _judge(
    values: np.ndarray, predicted: np.ndarray, parts: Mapping[str, np.ndarray]
) -> dict[str, Metrics]:
    return {name: errors(values[at], predicted[at]) for name, at in parts.items()}


def _manifest(prepared: PreparedProperty) -> dict[str, Any]:
    data = prepared.crystals
    files = sorted({str(path) for path, _ in find_files(prepared.config.data.files)})
    structures = sorted({f.source for f in data.frames if f.source} - set(files))
    return {
        "data": {
            "files": [about_file(path) for path in [*files, *structures]],
            "property": data.name,
            "unit": prepared.model.unit,
            "crystals": len(data),
            "rejected": data.rejected,
        },
    }
