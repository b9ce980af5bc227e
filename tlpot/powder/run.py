"""`tlpot xrd train`: from a config to a run folder with classifier, metrics and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tlpot.config.sections import as_section
from tlpot.data.crystals import Refused
from tlpot.data.fingerprints import Overlap, TrainingSet, base_lines
from tlpot.data.split import Splits, split_unseen
from tlpot.errors import TlpotError, short_of_memory
from tlpot.model.file import NAME as MODEL
from tlpot.optional import require
from tlpot.powder.classifier import Classifier, first_lines, load
from tlpot.powder.config import Augmentation, PowderConfig
from tlpot.powder.data import Example, read_examples
from tlpot.powder.judge import judge
from tlpot.powder.lines import SYSTEMS
from tlpot.powder.report import write_report
from tlpot.powder.task import JUDGED_SEED, PowderTask, seen
from tlpot.run_log import log, logged
from tlpot.training.freeze import LayerState, freeze_layers
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


@dataclass(frozen=True)
class Prepared:
    """What a run knows before its first step: the classifier to train, and on what.

    ``known`` is what the base was trained on, ``seen_by_base`` how much of the crystals that is.
    """

    config: PowderConfig
    examples: list[Example]
    refused: list[Refused]
    splits: Splits
    classifier: Classifier
    layers: list[LayerState]
    known: TrainingSet
    seen_by_base: Overlap

    def part(self, name: str) -> list[Example]:
        """Examples of ``train``, ``validation`` or ``test``."""
        return [self.examples[i] for i in getattr(self.splits, name)]

    def unseen(self) -> list[str]:
        """Crystal systems that no training crystal has: the classifier cannot learn them."""
        known = {one.system for one in self.part("train")}
        return [name for i, name in enumerate(SYSTEMS) if i not in known]


@dataclass(frozen=True)
class Run:
    """A finished run; of several processes only the writer has metrics."""

    folder: Path
    classifier: Classifier
    metrics: dict[str, Any]


def train(
    config: PowderConfig | Mapping[str, Any] | str | Path,
    resume: bool = False,
    on_crystal: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[Prepared], None] = lambda prepared: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    examples: Sequence[Example] | None = None,
) -> Run:
    """Train a classifier of powder patterns as the config says and write the run folder.

    Parameters
    ----------
    config
        A `PowderConfig`, the same as nested dict, or the path of a YAML file.
    resume
        Continue an interrupted run; the result is bit-identical to one without interruption.
    on_crystal, on_start, on_epoch
        Called after each crystal read, before the first step and after each epoch.
    examples
        Data in memory instead of what ``data.files`` hold, which then only say where it is from.

    Raises
    ------
    TlpotError
        On bad input; an existing run is never overwritten, nor one that another process is at.
    """
    config, team = as_section(PowderConfig, config), Team()
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
        return _train(config, folder, team, resume, on_crystal, on_start, on_epoch, examples)


def _train(
    config: PowderConfig,
    folder: Path,
    team: Team,
    resume: bool,
    on_crystal: Callable[[int, int], None],
    on_start: Callable[[Prepared], None],
    on_epoch: Callable[[Row], None],
    examples: Sequence[Example] | None,
) -> Run:
    if config.training.tensorboard:
        require("tensorboard", "tensorboard", "training.tensorboard")
    device = choose_device(config.training.device, team)
    prepared = prepare(config, on_crystal, examples)
    for line in base_lines(prepared.seen_by_base, "crystals"):
        log.warning("%s", line)
    for refused in prepared.refused:
        log.info("left out %s: %s", refused.name, refused.reason)
    manifest = _manifest(prepared, device, team.size)
    begin(folder, config, manifest, team, resume)
    if team.writer:
        on_start(prepared)

    classifier, settings = prepared.classifier, config.training
    validation, new = prepared.part("validation"), config.model.base is None
    task = PowderTask(classifier, prepared.part("train"), validation, settings.balance, new, device)
    progress = fit(task, settings, folder, team, resume, on_epoch)
    if not team.writer:
        return Run(folder, classifier, {})
    classifier.network.cpu().requires_grad_(False)
    if validation:
        classifier.calibrate(task.judged, [one.system for one in validation])
    metrics = _judge(prepared)
    manifest |= {"seconds": progress.seconds, "best_epoch": progress.best_epoch}
    classifier.metadata |= {
        "unseen": prepared.unseen(),
        "first_line": first_lines([one.lines for one in prepared.part("train")]),
        "training": config.model_dump(mode="json"),
        "data": manifest["data"],
        "versions": manifest["versions"],
        "seen": prepared.known.with_frames(
            [one.frame for one in prepared.part("train")], [one.frame for one in validation]
        ).as_dict(),
        "test": metrics["test"],
    }
    classifier.save(folder / MODEL)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "manifest.json", manifest)
    write_report(folder, config, metrics, manifest)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return Run(folder, classifier, metrics)


def prepare(
    config: PowderConfig,
    on_crystal: Callable[[int, int], None] = lambda done, total: None,
    examples: Sequence[Example] | None = None,
) -> Prepared:
    """Read and split the crystals, build the network or load the base, freeze.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    classifier, layers, known = _classifier(config)
    refused: list[Refused] = []
    if examples is None:
        examples, refused = read_examples(config.data, on_crystal)
    try:
        frames = [one.frame for one in examples]
        splits, counts = split_unseen(frames, config.data.split, known)
        if len({examples[i].system for i in splits.train}) < 2:
            raise TlpotError(
                "the training crystals all have the same crystal system: there is nothing to tell "
                "apart; give more crystals"
            )
    except TlpotError as error:
        if not refused:
            raise
        first = refused[0]
        raise TlpotError(
            f"{error} ({len(refused)} crystals were left out, the first of them {first.name}: "
            f"{first.reason})"
        ) from None
    return Prepared(config, list(examples), refused, splits, classifier, layers, known, counts)


def _classifier(config: PowderConfig) -> tuple[Classifier, list[LayerState], TrainingSet]:
    how, settings, known = config.model, config.training, TrainingSet.of({})
    how.require_effect(how.model_fields_set, "model.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if how.base is None:
            found = Classifier(how, settings.augmentation)
        else:
            base = load(how.base)
            known = TrainingSet.of(base.metadata)
            found = Classifier(base.how, settings.augmentation)
            found.network.load_state_dict(base.network.state_dict())
    layers: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in found.network.named_parameters():
        layers.setdefault(name.split(".")[1], []).append(parameter)
    return found, freeze_layers(layers, how.freeze), known


def _judge(prepared: Prepared) -> dict[str, Any]:
    """Metrics of held-out parts, on ideal patterns and on flawed ones."""
    classifier = prepared.classifier
    flawed = classifier.augmentation or Augmentation()
    metrics: dict[str, Any] = {
        "seen_by_base": prepared.seen_by_base,
        "temperature": classifier.temperature,
    }
    for name in ("validation", "test"):
        part = prepared.part(name)
        systems = [one.system for one in part]
        metrics[name] = {}
        for kind, how in (("ideal", None), ("measured", flawed)):
            logits = classifier.logits(seen(classifier, part, how, JUDGED_SEED + 1))
            shares = (logits / classifier.temperature).softmax(dim=1).numpy()
            metrics[name][kind] = judge(shares, systems)
    return metrics


def _manifest(prepared: Prepared, device: torch.device, processes: int) -> dict[str, Any]:
    """What ``manifest.json`` holds before the first step."""
    config, examples = prepared.config, prepared.examples
    counts = Counter(SYSTEMS[one.system] for one in examples)
    sources = Counter(one.frame.source for one in examples if Path(one.frame.source).is_file())
    split, base = config.data.split, config.model.base
    common = common_part(split, prepared.splits, prepared.layers, device, processes, base)
    return common | {
        "data": {
            "files": [{**about_file(s), "frames": n} for s, n in sorted(sources.items())],
            "table": config.data.table and about_file(config.data.table),
            "crystals": len(examples),
            "refused": [f"{r.name}: {r.reason}" for r in prepared.refused],
            "by_system": {name: counts[name] for name in SYSTEMS},
            "unseen": prepared.unseen(),
        },
    }
