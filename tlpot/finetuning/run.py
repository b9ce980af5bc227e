"""The main job: from a config to a run folder with model, metrics and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tlpot.config.run import Config
from tlpot.config.sections import as_section
from tlpot.data.fingerprints import base_lines
from tlpot.data.groups import IN_MEMORY
from tlpot.errors import short_of_memory
from tlpot.evaluation.calibration import calibrate
from tlpot.evaluation.metrics import Judgement, judge
from tlpot.evaluation.plots import figures, read_history, write
from tlpot.evaluation.report import write_report
from tlpot.finetuning.manifest import make_manifest
from tlpot.finetuning.prepare import Prepared, prepare
from tlpot.model.domain import training_domain
from tlpot.model.potential import Potential
from tlpot.run_log import log, logged
from tlpot.structure.frames import Frame
from tlpot.training.cache import DescriptorCache
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


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the fine-tuned potential, and what ``metrics.json`` holds.

    Of several processes only the writer has metrics.
    """

    folder: Path
    potential: Potential
    metrics: dict[str, Any]
    manifest: dict[str, Any]


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
