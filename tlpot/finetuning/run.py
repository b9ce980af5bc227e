"""The main job: from a config to a run folder with model, metrics and report."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tlpot.config.bases import untrained
from tlpot.config.run import Config
from tlpot.config.sections import as_section
from tlpot.data.displaced import kept_together
from tlpot.data.groups import IN_MEMORY
from tlpot.evaluation.calibration import calibrate
from tlpot.evaluation.metrics import Judgement, judge
from tlpot.evaluation.plots import figures, read_history, write
from tlpot.evaluation.report import write_report
from tlpot.finetuning.manifest import own_part
from tlpot.finetuning.prepare import PreparedPotential, compact, prepare
from tlpot.model.card import card, card_rows
from tlpot.model.density import Density
from tlpot.model.domain import training_domain
from tlpot.model.potential import Potential
from tlpot.run_log import log
from tlpot.structure.contacts import shortest_contacts
from tlpot.structure.frames import Frame
from tlpot.training.cost import Cost, measure_cost
from tlpot.training.job import Job, Run
from tlpot.training.potential import VALIDATED_AT_ONCE, PotentialTask
from tlpot.training.trainer import Row, Trainer
from tlpot.trust.gate import OnCompared, opinion_of, suspect_lines, suspect_rows
from tlpot.trust.residuals import unfitted
from tlpot.trust.stress_run import short_test
from tlpot.trust.suspects import Suspect

MEND = "; with ANI networks set training.fine_angles: false"
"""What else to do where memory ran out."""


class PotentialRun(Run[Potential]):
    """A finished fine-tuning: its folder, model, metrics and manifest."""

    @property
    def potential(self) -> Potential:
        """The fine-tuned potential."""
        return self.model


def validate(
    config: Config | Mapping[str, Any] | str | Path,
    on_cost: Callable[[Cost], None] | None = None,
    on_compared: OnCompared = lambda done, total: None,
) -> PreparedPotential:
    """Check everything that `finetune` would refuse before its first step.

    The output folder, the device, the data and the base are looked at; nothing is left behind.

    Parameters
    ----------
    config
        As for `finetune`.
    on_cost
        Called with the time and memory that the training will take, which are measured on a few
        steps of it. Without it no steps are made.
    on_compared
        As for `finetune`.

    Returns
    -------
    PreparedPotential
        What `finetune` would start from.

    Raises
    ------
    TlpotError
        As `finetune` would raise for a run that is not resumed.
    """
    config = as_section(Config, config)
    with Job(config, mend=MEND).at_work() as device:
        prepared = prepare(config, device=device, on_compared=on_compared)
        if on_cost:
            on_cost(_cost(prepared, device))
        return prepared


def finetune(
    config: Config | Mapping[str, Any] | str | Path,
    resume: bool = False,
    on_start: Callable[[PreparedPotential], None] = lambda prepared: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    frames: Sequence[Frame] | None = None,
    on_compared: OnCompared = lambda done, total: None,
) -> PotentialRun:
    """Fine-tune a potential as a config describes and write its run folder.

    Parameters
    ----------
    config
        A `Config`, the same settings as a nested dict, or the path of a YAML file.
    resume
        Whether to continue an interrupted run. The result is bit-identical to that of a run without
        interruption. A finished run is continued too if ``training.epochs`` is larger than before;
        it then ends as if that number had been asked for from the start, except that with
        ``schedule: cosine`` the epochs before were trained at the rates of the shorter schedule.
    on_start
        Called once before the first step, with what was prepared: data, splits and potential.
    on_epoch
        Called after each epoch with its row of ``history.csv``.
    frames
        Labelled structures in memory, used instead of ``data.files`` and ``data.groups``. Each
        `Frame` states its own labels and weight; ``data.files`` may be left out of the config. A
        resumed run must be given the same frames again.
    on_compared
        Called as ``on_compared(done, total)``, in frames, while the base model predicts the
        labelled structures to find suspect labels.

    Returns
    -------
    PotentialRun
        The run folder, the fine-tuned potential, its errors and its manifest.

    Raises
    ------
    TlpotError
        If the config or the data are not sound, if the run folder holds another run (which is never
        overwritten), or if another process is at work in it.
    """
    if frames is not None and isinstance(config, Mapping):
        config = {**config, "data": {"files": IN_MEMORY, **(config.get("data") or {})}}
    config = as_section(Config, config)
    job = Job(config, resume, on_start, on_epoch, MEND)
    with job.at_work() as device:
        prepared = prepare(job.config, frames, device, on_compared)
        manifest = own_part(prepared, in_memory=frames is not None)
        warnings = [*prepared.checked.remarks, *_suspicions(prepared)]
        job.begin(prepared, device, manifest, _remarks(prepared), warnings, "frames")
        trained = compact(prepared.potential, prepared.present, device)
        task = _task(prepared, trained, prepared.parts["validation"])
        whole = partial(_whole, prepared.potential, trained)
        train = (frame.atoms for frame in prepared.parts["train"])
        domain = {"contacts": shortest_contacts(train)}
        columns = trained.backbone.trained_columns()
        writer = job.fit(task, whole, {"domain": domain}, columns)
        potential = whole()
        if not writer:
            return PotentialRun(job.folder, potential, {}, job.manifest)
        return _finish(job, prepared, potential, trained, task)


def _finish(
    job: Job,
    prepared: PreparedPotential,
    potential: Potential,
    trained: Potential,
    task: PotentialTask,
) -> PotentialRun:
    """Judge what was trained, and write what is known of it."""
    config, train = prepared.config, prepared.parts["train"]
    judgement = _judge(prepared, potential, trained, task)
    test = judgement.metrics["finetuned"]["test"]
    about: dict[str, dict[str, Any]] = {
        "domain": training_domain(
            train,
            judgement.predictions["finetuned"]["train"],
            Density.fit(trained.backbone, task.train[: len(train)], task.validation),
        ),
        "test": {k: v for k, v in test.items() if k[:3] != "by_"},
    }
    odd = _unfitted(config, judgement, trained)
    for line in suspect_lines(odd):
        log.warning("look at %s", line)
    metrics: dict[str, Any] = {**judgement.metrics, "unfitted": suspect_rows(odd)}
    if config.evaluation.stress:
        metrics["stress"] = _stressed(prepared, trained, about["domain"])
    report = partial(_report, config, judgement)
    return PotentialRun(**vars(job.finish(potential, metrics, about, report)))


def _task(
    prepared: PreparedPotential, trained: Potential, validation: Sequence[Frame]
) -> PotentialTask:
    validated, replay = (
        [trained.batch([frame]) for frame in some] for some in (validation, prepared.replay)
    )
    settings = prepared.config.training
    base = compact(prepared.base, prepared.present, trained.device) if replay else None
    return PotentialTask(
        trained, prepared.batches, validated, settings, replay, base, prepared.partners
    )


def _cost(prepared: PreparedPotential, device: torch.device) -> Cost:
    """What the training will take; nothing of it stays."""
    config, validation = prepared.config, prepared.parts["validation"]
    trained = compact(prepared.potential, prepared.present, device)
    few = validation[:VALIDATED_AT_ONCE]
    task = _task(prepared, trained, few)
    columns = trained.backbone.trained_columns()
    trainer = Trainer(task, config.training, Path(config.output), columns=columns)
    by_size = sorted(range(len(task.train)), key=lambda i: task.train[i].pairs.shape[1])
    largest = by_size[-config.training.batch_size :]
    return measure_cost(trainer, largest, len(validation) / max(len(few), 1))


def _remarks(prepared: PreparedPotential) -> list[str]:
    """What was left out and why, what is known of the rest, and the energies' zero."""
    checked, reference = prepared.checked, prepared.potential.reference
    lines = [f"left out {r.frame.name}: {r.reason} — {r.detail}" for r in checked.rejected]
    if checked.surplus:
        lines.append(f"{checked.surplus} frames beyond data.max_frames")
    present = sorted({s for frame in checked.frames for s in frame.atoms.symbols})
    return [
        *lines,
        f"elements: {' '.join(present)}; base {prepared.config.model.base}",
        f"energy reference {reference.kind}: {reference.why}",
    ]


def _suspicions(prepared: PreparedPotential) -> list[str]:
    return [f"look at {line}" for line in suspect_lines(prepared.suspects)]


def _whole(start: Potential, trained: Potential) -> Potential:
    """`start`, all elements of the base, with the weights that were trained of it."""
    backbone = copy.deepcopy(start.backbone)
    backbone.absorb(copy.deepcopy(trained.backbone).to(start.device))
    return Potential(backbone.requires_grad_(False), start.reference, dict(start.metadata))


def _judge(
    prepared: PreparedPotential, potential: Potential, trained: Potential, task: PotentialTask
) -> Judgement:
    """Calibrate, and compare with the base; every part is predicted once."""
    trained.backbone.requires_grad_(False)
    raw = trained.predict_batches(task.validation, members=True)
    validation = prepared.parts["validation"]
    potential.calibration = trained.calibration = calibrate(potential, validation, predictions=raw)
    base = compact(prepared.base, prepared.present, trained.device)
    baseline = dict(prepared.predictions)
    if "validation" not in baseline:
        baseline["validation"] = base.predict_batches(task.validation)
    train = task.train[: len(prepared.batches)]
    predictions = {
        "baseline": baseline,
        "finetuned": {
            "train": trained.predict_batches(train),
            "validation": [p.calibrated(trained.calibration) for p in raw],
        },
    }
    return judge(base, trained, prepared.parts, predictions)


def _unfitted(config: Config, judgement: Judgement, trained: Potential) -> list[Suspect]:
    """Training frames that the trained model does not fit; of near twins the first is asked.

    A phonon run is fitted as one structure is: its many small errors are not what is usual.
    """
    frames, predictions = judgement.frames["train"], judgement.predictions["finetuned"]["train"]
    again = {i for twins in kept_together(frames) for i in twins[1:]}
    alone = [i for i in range(len(frames)) if i not in again]
    return unfitted(
        [frames[i] for i in alone],
        [predictions[i] for i in alone],
        opinion_of(trained),
        stress=config.training.stress_weight > 0,
    )


def _stressed(
    prepared: PreparedPotential, trained: Potential, domain: dict[str, Any]
) -> dict[str, Any] | None:
    """The short stress test of the trained model and its base, as plain data."""
    config = prepared.config
    model = Potential(trained.backbone, trained.reference, {"domain": domain}, trained.calibration)
    potentials, models = {"model": model}, {"model": config.output}
    if config.model.init == "pretrained" and not untrained(str(config.model.base)):
        base = compact(prepared.base, prepared.present, trained.device)
        own = prepared.base.metadata.get("domain", {})
        base.metadata = {"domain": {k: v for k, v in own.items() if k != "density"}}
        potentials["base"], models["base"] = base, str(config.model.base)
    started = time.monotonic()
    try:
        test = short_test(prepared.parts["train"], potentials, models)
    except Exception as error:  # no reason to lose the training
        log.warning("no stress test in the report: %s", error)
        return None
    if test is None:
        return None
    content = test.as_dict()
    log.info("stress test in %.1f s: failures %s", time.monotonic() - started, content["failures"])
    return content


def _report(
    config: Config, judgement: Judgement, metrics: dict[str, Any], manifest: dict[str, Any]
) -> None:
    folder = Path(config.output)
    history = read_history(folder / "history.csv")
    pictures = figures(judgement, history)
    write(pictures["parity"], folder / "parity.png")
    write_report(
        folder / "report.html",
        config=config,
        metrics=metrics,
        manifest=manifest,
        history=history,
        figures=pictures,
        card=card_rows(card(folder)),
    )
