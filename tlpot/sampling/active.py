"""Active learning: let the committee say which of many frames are worth training on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlpot.config.run import Config, Evaluation, load_config
from tlpot.config.sections import no_effect
from tlpot.data.check import Checked, check_frames
from tlpot.data.groups import read_data, without_files
from tlpot.errors import TlpotError
from tlpot.finetuning.run import finetune
from tlpot.model.load import load, load_base
from tlpot.model.potential import Potential
from tlpot.sampling.choose import committee
from tlpot.sampling.scores import worst
from tlpot.structure.frames import Frame
from tlpot.training.checkpoint import NAME as CHECKPOINT
from tlpot.training.manifest import about_frames


@dataclass(frozen=True)
class Round:
    """One training and what its committee thinks of the frames left out.

    Attributes
    ----------
    number
        From 0.
    frames
        Frames trained on.
    left
        Frames left out.
    in_doubt
        Those of them with a spread beyond the criterion.
    median, largest
        Spread per √N of the frames left out, eV; zero where none is left.
    """

    number: int
    frames: int
    left: int
    in_doubt: int
    median: float
    largest: float


def active_learning(
    config: Config,
    number: int | None = None,
    on_round: Callable[[Round], None] = lambda done: None,
    on_checked: Callable[[Checked], None] = lambda checked: None,
) -> tuple[list[Frame], list[Round]]:
    """Grow a training set from the frames of ``config.data`` until few others are in doubt.

    After Smith, Nebgen, Lubbers, Isayev, Roitberg 2018 (ANI-1x) in the thesis's form: fine-tune
    the base on ``active.start`` of the frames; of the others, those whose ensemble spread per √N
    exceeds ``active.criterion`` are in doubt; add the worst of these (at most ``active.add`` of
    all frames) and begin again from the base, until less than ``active.stop`` of the frames left
    out are in doubt or `number` frames are chosen.

    Each round trains on all frames chosen so far in ``<output>/round-NN``; keep test frames in
    another file. A round that is finished is not run again, one that was cut off goes on.

    Returns
    -------
    Frames chosen, in the order they were added, and what happened in each round.

    Raises
    ------
    TlpotError
        As `finetune`; or if the rounds found in ``output`` were made with other settings.
    """
    if config.training.patience is not None:
        raise TlpotError(
            no_effect("training.patience", "with tlpot sample learn: no frame is held out")
        )
    for part in ("validation", "test"):
        if getattr(config.data, part):
            raise TlpotError(
                no_effect(f"data.{part}", "with tlpot sample learn: no frame is held out")
            )
    settings, folder = config.active, Path(config.output)
    base = load_base(config.model.base, config.model.elements, config.model.sizes)
    pool = read_data(config.data)
    checked = check_frames(pool, config.data, base.elements)
    on_checked(checked)
    pool = checked.frames
    limit = min(number or len(pool), len(pool))
    first, step = (max(1, round(share * len(pool))) for share in (settings.start, settings.add))
    random = np.random.default_rng(config.data.split.seed)
    chosen = np.sort(random.choice(len(pool), min(first, limit), replace=False)).tolist()
    rounds: list[Round] = []
    while True:
        run = folder / f"round-{len(rounds):02d}"
        model = _train(config, run, [pool[i] for i in chosen])
        left = sorted(set(range(len(pool))) - set(chosen))
        spread = committee(model, [pool[i] for i in left]) if left else np.zeros(1)
        doubt = int((spread > settings.criterion).sum())
        median, largest = float(np.median(spread)), float(spread.max())
        rounds.append(Round(len(rounds), len(chosen), len(left), doubt, median, largest))
        on_round(rounds[-1])
        if doubt < settings.stop * len(left) or not doubt or len(chosen) >= limit:
            return [pool[i] for i in chosen], rounds
        chosen += [left[i] for i in worst(spread, min(step, doubt, limit - len(chosen)))]


def _train(config: Config, folder: Path, frames: list[Frame]) -> Potential:
    """The base fine-tuned on `frames`, none held out; a finished run is only loaded."""
    split = config.data.split.model_copy(update={"test": 0.0, "validation": 0.0, "group": None})
    data = without_files(config.data).model_copy(update={"max_frames": None, "split": split})
    short = {"data": data, "output": str(folder), "evaluation": Evaluation(stress=False)}
    config = config.model_copy(update=short)
    stored = folder / "config.yaml"
    if not (folder / "report.html").exists() or (folder / CHECKPOINT).exists():
        return finetune(config, resume=stored.exists(), frames=frames).potential
    manifest = json.loads((folder / "manifest.json").read_text())
    if load_config(stored) != config or manifest["data"]["files"] != about_frames(frames):
        raise TlpotError(
            f"{folder} was made with other settings or frames; undo the change, or choose another "
            "output"
        )
    return load(folder)
