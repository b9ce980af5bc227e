"""`tlpot xrd train`: from a config to a run folder with classifier, metrics and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlpot.config.sections import as_section
from tlpot.powder.classifier import Classifier, first_lines
from tlpot.powder.config import Augmentation, PowderConfig
from tlpot.powder.data import Example
from tlpot.powder.judge import judge_systems
from tlpot.powder.lines import SYSTEMS
from tlpot.powder.prepare import PreparedClassifier, prepare
from tlpot.powder.report import write_report
from tlpot.powder.task import JUDGED_SEED, PowderTask, seen
from tlpot.training.job import Job, Run
from tlpot.training.manifest import about_file
from tlpot.training.memory import keep_memory
from tlpot.training.trainer import Row


def train(
    config: PowderConfig | Mapping[str, Any] | str | Path,
    resume: bool = False,
    on_crystal: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[PreparedClassifier], None] = lambda prepared: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    examples: Sequence[Example] | None = None,
) -> Run[Classifier]:
    """Train a classifier of powder patterns as the config says and write the run folder.

    Parameters
    ----------
    config
        A `PowderConfig`, the same as nested dict, or the path of a YAML file.
    on_crystal
        Called after each crystal read.
    resume, on_start, on_epoch
        As `Job`'s.
    examples
        Data in memory instead of what ``data.files`` hold, which then only say where it is from.

    Raises
    ------
    TlpotError
        On bad input; an existing run is never overwritten, nor one that another process is at.
    """
    config = as_section(PowderConfig, config)
    job = Job(config, resume, on_start, on_epoch)
    with job.at_work() as device:
        prepared = prepare(config, on_crystal, examples)
        refused = [f"left out {r.name}: {r.reason}" for r in prepared.refused]
        job.begin(prepared, device, _manifest(prepared), refused)
        keep_memory()
        classifier, validation = prepared.classifier, prepared.part("validation")
        balance, new = config.training.balance, config.model.base is None
        train = prepared.part("train")
        task = PowderTask(classifier, train, validation, balance, new, device)

        def calibrated() -> Classifier:
            if validation:
                classifier.calibrate(task.judged, [example.system for example in validation])
            return classifier

        lines = first_lines([example.lines for example in train])
        if not job.fit(task, calibrated, {"unseen": prepared.unseen(), "first_line": lines}):
            return Run(job.folder, classifier, {}, job.manifest)
        classifier.network.cpu().requires_grad_(False)
        metrics = _judge(prepared, calibrated())

        def report(metrics: dict[str, Any], manifest: dict[str, Any]) -> None:
            write_report(job.folder, config, metrics, manifest)

        return job.finish(classifier, metrics, {"test": metrics["test"]}, report)


def _judge(prepared: PreparedClassifier, classifier: Classifier) -> dict[str, Any]:
    """Metrics of held-out parts, on ideal patterns and on flawed ones."""
    flawed = classifier.augmentation or Augmentation()
    metrics: dict[str, Any] = {"temperature": classifier.temperature}
    for name in ("validation", "test"):
        part = prepared.part(name)
        systems = [example.system for example in part]
        metrics[name] = {}
        for kind, flaws in (("ideal", None), ("measured", flawed)):
            logits = classifier.logits(seen(classifier, part, flaws, JUDGED_SEED + 1))
            shares = (logits / classifier.temperature).softmax(dim=1).numpy()
            metrics[name][kind] = judge_systems(shares, systems)
    return metrics


def _manifest(prepared: PreparedClassifier) -> dict[str, Any]:
    examples, table = prepared.examples, prepared.config.data.table
    counts = Counter(SYSTEMS[example.system] for example in examples)
    sources = Counter(e.frame.source for e in examples if Path(e.frame.source).is_file())
    return {
        "data": {
            "files": [{**about_file(s), "frames": n} for s, n in sorted(sources.items())],
            "table": table and about_file(table),
            "crystals": len(examples),
            "refused": [f"{r.name}: {r.reason}" for r in prepared.refused],
            "by_system": {name: counts[name] for name in SYSTEMS},
            "unseen": prepared.unseen(),
        },
    }
