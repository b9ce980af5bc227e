"""`tlpot property train`: from a config to a run folder with model, metrics and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tlpot.config.sections import as_section
from tlpot.data.fingerprints import Overlap, TrainingSet, base_lines
from tlpot.data.read import find_files
from tlpot.data.split import Splits, split_unseen, thin
from tlpot.errors import TlpotError, short_of_memory
from tlpot.files import log, logged
from tlpot.finetuning.manifest import about_file, common_part
from tlpot.optional import require
from tlpot.property.config import PropertyConfig
from tlpot.property.data import Crystals, by_id, read_crystals
from tlpot.property.elements import element_table
from tlpot.property.evaluate import Metrics, errors
from tlpot.property.memory import keep_memory
from tlpot.property.model import PropertyModel
from tlpot.property.network import CGCNN, Architecture
from tlpot.property.report import write_report
from tlpot.property.task import PropertyTask
from tlpot.training.freeze import LayerState, freeze_layers
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


@dataclass(frozen=True)
class Prepared:
    """What a run knows before its first step.

    Attributes
    ----------
    model
        To be trained, layers frozen.
    splits
        Numbers of the crystals in each part.
    baseline
        ``(crystals,)`` what it must be better than: the base's predictions, or without a base of
        the same property the median of the training crystals.
    known
        What a base of the same property was trained on.
    seen_by_base
        How much of the data that is.
    """

    config: PropertyConfig
    crystals: Crystals
    splits: Splits
    model: PropertyModel
    layers: list[LayerState]
    baseline: np.ndarray
    known: TrainingSet
    seen_by_base: Overlap


@dataclass(frozen=True)
class Run:
    """A finished run; of several processes only the writer has metrics."""

    folder: Path
    model: PropertyModel
    metrics: dict[str, Any]


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


def prepare(config: PropertyConfig, crystals: Crystals | None = None) -> Prepared:
    """Read and split the data, make or load the network, freeze its layers.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    settings = config.model
    settings.require_effect(settings.model_fields_set, "model.")
    model = None if settings.base is None else PropertyModel.load(settings.base)
    data = read_crystals(config.data) if crystals is None else crystals
    same = model is not None and model.name == data.name
    known = TrainingSet.of(model.metadata if model is not None and same else {})
    splits, counts = split_unseen(data.frames, config.data.split, known)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    labels = data.values[splits.train]
    mean, scale = float(labels.mean()), float(labels.std())
    if not scale:
        raise TlpotError(f"data: all training crystals have the same {data.name}, {mean}")
    baseline = np.full(len(data), np.median(labels))
    if model is None:
        model = PropertyModel(_new_network(config), data.name)
    model.require_elements(data.frames)
    before, anew = model.name, set[str]()
    if same:
        baseline = model.predict(data.graphs)
    else:
        model.name, model.mean, model.scale = data.name, mean, scale
        anew = set(model.network.new_head(config.training.seed))
    model.unit = config.data.unit or (model.unit if same else "")
    layers: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.network.named_parameters():
        layers.setdefault(name.split(".")[0], []).append(parameter)
    states = freeze_layers(layers, settings.freeze)
    random = [state.name for state in states if not state.trained and state.name in anew]
    if random:
        raise TlpotError(
            f"model.freeze: {', '.join(random)}: the base predicts '{before}', so these layers "
            f"start anew for '{data.name}' and, frozen, would stay random. Freeze others "
            f"(embedding, conv*); or, if it is the same property, say so: data.property={before}"
        )
    return Prepared(config, data, splits, model, states, baseline, known, counts)


def _new_network(config: PropertyConfig) -> CGCNN:
    sizes = config.model
    table = element_table(sizes.elements)
    architecture = Architecture(
        features=table.shape[1],
        width=sizes.width,
        convolutions=sizes.convolutions,
        dense=sizes.dense,
        layers=sizes.layers,
        gate=sizes.gate,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return CGCNN(architecture, table)


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
