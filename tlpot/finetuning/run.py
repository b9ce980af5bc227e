"""The main job: from a config to a run folder with model, metrics and report."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tlpot.backbones.ani import ANI
from tlpot.backbones.schnet import SchNet
from tlpot.config.run import Config, Replay
from tlpot.config.sections import as_section, no_effect
from tlpot.data.check import Checked, check_frames, require_sound
from tlpot.data.fingerprints import Overlap, TrainingSet, base_lines
from tlpot.data.groups import IN_MEMORY, read_data
from tlpot.data.read import read_structures
from tlpot.data.split import Splits, split_unseen, thin
from tlpot.elements.donors import require_elements
from tlpot.errors import TlpotError, short_of_memory
from tlpot.evaluation.calibration import calibrate
from tlpot.evaluation.metrics import Judgement, judge
from tlpot.evaluation.plots import figures, read_history, write
from tlpot.evaluation.report import write_report
from tlpot.files import log, logged
from tlpot.finetuning.manifest import make_manifest
from tlpot.finetuning.units import check_units
from tlpot.model.domain import training_domain
from tlpot.model.potential import Potential, load_base
from tlpot.model.prediction import Prediction
from tlpot.model.reference import EnergyReference, fit_reference, require_determined
from tlpot.optional import require
from tlpot.structure.frames import Frame
from tlpot.training.cache import DescriptorCache
from tlpot.training.freeze import LayerState, freeze, train_only
from tlpot.training.parallel import Team
from tlpot.training.potential import PotentialTask
from tlpot.training.run_folder import (
    CHECKPOINT,
    begin,
    choose_device,
    claimed,
    fit,
    write_json,
)
from tlpot.training.trainer import Row

GAUSSIAN = 0.1
"""Standard deviation of weights with ``init: scratch`` (Parunov 2022)."""


@dataclass(frozen=True)
class Prepared:
    """Everything a run knows before its first step.

    Attributes
    ----------
    parts
        ``train``, ``validation``, ``test`` → frames.
    base
        The pretrained potential on the fitted reference: the baseline.
    potential
        The potential to train, layers frozen and initialised as the config says.
    layers
        One row a layer: does it train?
    replay
        What `base` labelled for ``training.replay``.
    known
        What the base was trained on.
    seen_by_base
        How much of the data that is.
    """

    config: Config
    checked: Checked
    splits: Splits
    parts: dict[str, list[Frame]]
    base: Potential
    potential: Potential
    layers: list[LayerState]
    replay: list[Frame]
    known: TrainingSet
    seen_by_base: Overlap


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the fine-tuned potential, and what ``metrics.json`` holds.

    Of several processes only the writer has metrics.
    """

    folder: Path
    potential: Potential
    metrics: dict[str, Any]
    manifest: dict[str, Any]


def prepare(config: Config, frames: Sequence[Frame] | None = None) -> Prepared:
    """Read, check and split the data, load the base, fit the reference, freeze.

    Parameters
    ----------
    frames
        As `finetune`'s.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    if config.training.tensorboard:
        require("tensorboard", "tensorboard", "training.tensorboard")
    base = load_base(config.model.base, config.model.elements, config.model.schnet)
    layers = freeze(base.backbone, config.model.freeze)
    fine = config.training.fine_angles
    if fine is not False and any(x.trained for x in layers if x.name.endswith(".input")):
        base = base.with_fine_angles()
        layers = freeze(base.backbone, config.model.freeze)
    _require_effect(config, base)
    if config.model.train == "new":
        layers = train_only(base.backbone, base.clones, layers)
    frames = read_data(config.data, frames)
    if config.data.bad_frames == "refuse":
        for frame in frames:
            present = set(frame.atoms.symbols)
            require_elements(present, base.elements, base.backbone.symbols, frame.name)
    checked = check_frames(frames, config.data, base.elements)
    known = TrainingSet.of(base.metadata if config.model.init == "pretrained" else {})
    splits, counts = split_unseen(checked.frames, config.data.split, known)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    parts = {name: [checked.frames[i] for i in chosen] for name, chosen in vars(splits).items()}
    require_determined(parts["train"], parts["validation"] + parts["test"])
    weighed = config.training.stress_weight and "stress_weight" in config.training.changed()
    if weighed and all(frame.stress is None for frame in parts["train"]):
        raise TlpotError(no_effect("training.stress_weight", "without a frame that has a stress"))
    used = base.backbone.networks_of({s for f in checked.frames for s in f.atoms.symbols})
    if config.model.train == "new" and not used & set(base.clones):
        raise TlpotError(f"model.train: new: no frame holds {' or '.join(base.clones)}")
    layers = [x if x.name.split(".")[0] in used else replace(x, trained=0) for x in layers]
    potential = Potential(copy.deepcopy(base.backbone), base.reference, dict(base.metadata))
    predictions = base.predict(parts["train"])
    if config.model.init == "pretrained":
        check_units(parts["train"], predictions, stress=config.training.stress_weight > 0)
    base = _with_reference(base, parts["train"], predictions)
    if config.model.init == "scratch":
        potential.backbone.init_gaussian(GAUSSIAN, config.training.seed)
        predictions = potential.predict(parts["train"])
        potential = _with_reference(potential, parts["train"], predictions)
    else:
        potential = Potential(potential.backbone, base.reference, potential.metadata)
    again = config.training.replay
    replay = replayed(base, again, config.data.min_distance) if again else []
    return Prepared(config, checked, splits, parts, base, potential, layers, replay, known, counts)


def _require_effect(config: Config, base: Potential) -> None:
    """Refuse what was set and does nothing with this base, that of `config` made ready."""
    settings, name, backbone = config.training, config.model.base, base.backbone
    given = settings.changed()
    if isinstance(backbone, SchNet) and "keep_gb" in given:
        raise TlpotError(no_effect("training.keep_gb", f"with {name}, a SchNet"))
    if "fine_angles" not in given or settings.fine_angles is None:
        return
    lacking = ""
    if not isinstance(backbone, ANI):
        lacking = f"with {name}, which is no ANI network"
    elif settings.fine_angles is False and backbone.architecture.fine:
        lacking = f"with {name}, which has them"
    elif settings.fine_angles and not backbone.architecture.fine:
        lacking = "with model.freeze: input"
    if lacking:
        raise TlpotError(
            no_effect(f"training.fine_angles: {settings.fine_angles}".lower(), lacking)
        )


def validate(config: Config | Mapping[str, Any] | str | Path) -> Prepared:
    """Find whatever `finetune` would refuse before its first step: output, device, data, base.

    Raises
    ------
    TlpotError
        As `finetune` would, of a run that is not resumed. Nothing is left behind.
    """
    config, team = as_section(Config, config), Team()
    with claimed(Path(config.output), config, False, team):
        choose_device(config.training.device, team)
        return prepare(config)


def finetune(
    config: Config | Mapping[str, Any] | str | Path,
    resume: bool = False,
    on_start: Callable[[Prepared], None] = lambda prepared: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    cache: DescriptorCache | None = None,
    frames: Sequence[Frame] | None = None,
) -> Run:
    """Fine-tune as the config says and write the run folder.

    Parameters
    ----------
    config
        A `Config`, the same as nested dict, or the path of a YAML file.
    resume
        Continue an interrupted run in ``config.output``; the result is bit-identical to a run
        without interruption.
    on_start, on_epoch
        Called before the first step and after each epoch (progress displays).
    cache
        Descriptors that runs in one process share.
    frames
        Data in memory instead of what ``data.files`` and ``data.groups`` hold, with the labels
        and the weight that each `Frame` states; ``data.files`` may be left out. To resume, give
        the same frames again.

    Raises
    ------
    TlpotError
        On bad input; an existing run is never overwritten, nor one that another process is at.
    """
    if frames is not None and isinstance(config, Mapping):
        config = {**config, "data": {"files": IN_MEMORY, **(config.get("data") or {})}}
    config, team = as_section(Config, config), Team()
    folder = Path(config.output)
    settings = config.training
    mend = (
        f"lower training.batch_size ({settings.batch_size}); with ANI networks training.keep_gb "
        f"({settings.keep_gb:g}; a resumed run may change it), or set training.fine_angles: false; "
        "or compute on another training.device"
    )
    with (
        claimed(folder, config, resume, team) as resume,
        logged(folder, team.writer, begun=resume),
        short_of_memory(mend),
    ):
        return _finetune(config, folder, team, resume, on_start, on_epoch, cache, frames)


def _finetune(
    config: Config,
    folder: Path,
    team: Team,
    resume: bool,
    on_start: Callable[[Prepared], None],
    on_epoch: Callable[[Row], None],
    cache: DescriptorCache | None,
    frames: Sequence[Frame] | None,
) -> Run:
    device = choose_device(config.training.device, team)
    prepared = prepare(config, frames)
    _log(prepared)
    manifest = make_manifest(prepared, device, team.size, in_memory=frames is not None)
    begin(folder, config, manifest, team, resume)
    if team.writer:
        on_start(prepared)

    potential = prepared.potential
    progress = _train(prepared, folder, device, team, resume, on_epoch, cache)
    if not team.writer:
        return Run(folder, potential, {}, manifest)
    potential.calibration = calibrate(potential, prepared.parts["validation"])
    judgement = judge(prepared.base, potential, prepared.parts)
    metrics = {"seen_by_base": prepared.seen_by_base, **judgement.metrics}
    manifest |= {"seconds": progress.seconds, "best_epoch": progress.best_epoch}
    potential.metadata |= {
        "training": config.model_dump(by_alias=True),
        "data": manifest["data"],
        "versions": manifest["versions"],
        "domain": training_domain(potential, prepared.parts["train"]),
        "seen": prepared.known.with_frames(
            prepared.parts["train"], prepared.parts["validation"]
        ).as_dict(),
        "test": {k: v for k, v in judgement.metrics["finetuned"]["test"].items() if k[:3] != "by_"},
    }
    potential.save(folder / "model.safetensors")
    _report(folder, config, judgement, metrics, manifest)
    return Run(folder, potential, metrics, manifest)


def _log(prepared: Prepared) -> None:
    """Note what was left out and why, what is known of the rest, and the energies' zero."""
    checked = prepared.checked
    for line in (*base_lines(prepared.seen_by_base), *checked.remarks):
        log.warning("%s", line)
    for r in checked.rejected:
        log.info("left out %s: %s — %s", r.frame.name, r.reason, r.detail)
    if checked.surplus:
        log.info("%d frames beyond data.max_frames", checked.surplus)
    present = sorted({s for frame in checked.frames for s in frame.atoms.symbols})
    log.info("elements: %s; base %s", " ".join(present), prepared.config.model.base)
    reference = prepared.potential.reference
    log.info("energy reference %s: %s", reference.kind, reference.why)


def replayed(base: Potential, replay: Replay, shortest: float) -> list[Frame]:
    """Structures with the energies (eV) and forces (eV/Å) that `base` gives them.

    Raises
    ------
    TlpotError
        If there is none; or one holds an element that the base does not know, has no sound
        geometry, or atoms closer than `shortest` (Å).
    """
    frames = read_structures(replay.files)
    try:
        require_sound(frames, shortest)
    except TlpotError as error:
        raise TlpotError(f"training.replay.files: {error}") from None
    for frame in frames:
        present = set(frame.atoms.symbols)
        require_elements(present, base.elements, base.backbone.symbols, frame.name)
    labels = zip(frames, base.predict(frames), strict=True)
    return [replace(f, energy=p.energy, forces=p.forces) for f, p in labels]


def _train(
    prepared: Prepared,
    folder: Path,
    device: torch.device,
    team: Team,
    resume: bool,
    on_epoch: Callable[[Row], None],
    cache: DescriptorCache | None,
) -> Any:
    """Train on the elements that occur; the others' zero columns and networks need no time."""
    potential, backbone = prepared.potential, prepared.potential.backbone
    settings = prepared.config.training
    everything = [*prepared.parts.values(), prepared.replay]
    present = {s for frames in everything for f in frames for s in f.atoms.symbols}
    home = potential.device
    compact = potential.for_elements(present).to(device)
    parts = (prepared.parts["train"], prepared.parts["validation"], prepared.replay)
    train, validation, replay = ([compact.batch([f]) for f in frames] for frames in parts)
    if cache is not None:
        train, replay, validation = cache.keep(
            compact, (train, replay, validation), settings.keep_gb
        )
    columns = compact.backbone.trained_columns()
    task = PotentialTask(compact, train, validation, settings, replay)
    progress = fit(task, settings, folder, team, resume, on_epoch, columns)
    backbone.absorb(compact.to(home).backbone)
    backbone.requires_grad_(False)
    return progress


def _with_reference(
    potential: Potential, train: list[Frame], predictions: Sequence[Prediction]
) -> Potential:
    """The potential on the reference that fits its residual on the training frames."""
    table = potential.reference.table()
    own = [table[torch.as_tensor(f.atoms.numbers)].sum().item() for f in train]
    network = np.array([p.energy for p in predictions]) - own
    reference: EnergyReference = fit_reference(train, network, potential.reference.values)
    return Potential(potential.backbone, reference, potential.metadata)


def _report(
    folder: Path,
    config: Config,
    judgement: Judgement,
    metrics: dict[str, Any],
    manifest: dict[str, Any],
) -> None:
    history = read_history(folder / "history.csv")
    pictures = figures(judgement, history)
    write(pictures["parity"], folder / "parity.png")
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "manifest.json", manifest)
    write_report(
        folder / "report.html",
        config=config,
        metrics=metrics,
        manifest=manifest,
        history=history,
        figures=pictures,
    )
    (folder / CHECKPOINT).unlink(missing_ok=True)
