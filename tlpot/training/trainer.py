"""The training loop: optimiser, schedule, averages, checkpoints. What it trains is a `Task`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from tlpot.config.training import Optimisation
from tlpot.data.tables.cells import table_text
from tlpot.errors import TlpotError
from tlpot.files import write_whole
from tlpot.training.checkpoint import load_checkpoint, save_checkpoint
from tlpot.training.parallel import Team
from tlpot.training.task import Task

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 10
FINAL_RATE = 0.01
"""Cosine ends at this share of the learning rate."""
CHECKPOINT_SHARE = 0.05
"""Of a run's time for checkpoints: some epochs are shorter than the disk takes to write one."""

HISTORY = "history.csv"

Row = dict[str, float | int | None]


@dataclass
class Progress:
    """Where a run stands; everything a resumed run needs besides weights and optimiser."""

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)

    def out_of(self, patience: int | None) -> bool:
        """Whether so many epochs have gone by without a better one."""
        return patience is not None and self.epoch - self.best_epoch >= patience


class Trainer:
    """Trains the trainable weights of a task's model, in place.

    Parameters
    ----------
    task
        What to train, and on what.
    settings
        How; of a potential the config's ``training`` section.
    folder
        Receives ``history.csv`` after every epoch, and the checkpoint after the first, the last
        and as often between as `CHECKPOINT_SHARE` allows.
    team
        The processes that share the work; by default those that torchrun started.
    columns
        Weights of which only some columns train, and which (``Tensor[columns]`` bool), by name.
    """

    def __init__(
        self,
        task: Task,
        settings: Optimisation,
        folder: Path,
        team: Team | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.team = team or Team()
        self.task, self.settings, self.folder = task, settings, folder
        named = dict(task.named_parameters())
        self.parameters = [p for p in named.values() if p.requires_grad]
        self.settled = task.settled()
        mine = [t if self.team.writer else torch.zeros_like(t) for t in self.settled]
        if mine:  # other processes may have other processors, and so other roundings
            torch._foreach_copy_(self.settled, self.team.add(mine))
        self.fixed = []
        for name, trained in (columns or {}).items():
            at = (~trained).nonzero().squeeze(1)
            self.fixed.append((named[name], at, named[name].detach()[..., at]))
        self.optimiser = AdamW(
            self.parameters,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.steps_per_epoch = -(-len(task) // settings.batch_size)
        self.warmup = settings.warmup_epochs * self.steps_per_epoch
        self.rate = LambdaLR(self.optimiser, self._rate)
        self.plateau = None
        if settings.schedule == "plateau":
            self.plateau = ReduceLROnPlateau(
                self.optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
            )
        self.average = self._copy() if settings.ema else None
        self.best = self._copy()
        self.progress = Progress()

    def fit(
        self,
        on_epoch: Callable[[Row], None] = lambda row: None,
        keep: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress:
        """Run to the last epoch (or until patience ends) and leave the best weights in place.

        Best is the lowest validation loss; without validation frames, the last epoch.

        Parameters
        ----------
        keep
            Called with the best weights so far in place, after each checkpoint and where training
            is stopped or fails.
        """
        next_checkpoint, kept = 0.0, 0
        try:
            while not self._done():
                with self.task.threads():
                    row = self._run_epoch()
                if self.team.writer:
                    self._write_history()
                    started = time.monotonic()
                    if started >= next_checkpoint or self._done():
                        save_checkpoint(self.folder, self._state())
                        self._keep(keep)
                        kept, now = self.progress.epoch, time.monotonic()
                        next_checkpoint = now + (now - started) / CHECKPOINT_SHARE
                on_epoch(row)
        except (KeyboardInterrupt, SystemExit, TlpotError):
            if self.team.writer and self.progress.epoch > kept:
                self._keep(keep)
            raise
        self._assign(self.best)
        return self.progress

    def resume(self) -> None:
        """Take up the folder's checkpoint; what follows is bit-identical to no interruption."""
        state = load_checkpoint(self.folder)
        self._assign(state["weights"])
        if self.settled:
            torch._foreach_copy_(self.settled, state["settled"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rate.load_state_dict(state["rate"])
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
        if self.average is not None:
            torch._foreach_copy_(self.average, state["average"])
        torch._foreach_copy_(self.best, state["best"])
        self.progress = Progress(**state["progress"])
        if self._scheduled():  # by now for another number of epochs, maybe
            for group, rate in zip(self.optimiser.param_groups, self.rate.base_lrs, strict=True):
                group["lr"] = rate * self._rate(self.rate.last_epoch)

    def _run_epoch(self) -> Row:
        started = time.perf_counter()
        epoch = self.progress.epoch + 1
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        order = self.task.order(generator)
        sums = torch.zeros(len(self.task.terms), dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed() + self.team.rank)
            for start in range(0, len(order), self.settings.batch_size):
                chosen = order[start : start + self.settings.batch_size]
                sums += len(chosen) * self.step(chosen)
        terms = dict(zip(self.task.terms, (sums / len(order)).tolist(), strict=True))
        total = terms["loss"]
        if not isfinite(total):
            raise TlpotError(
                f"training diverged in epoch {epoch}: the loss is {total}. Lower "
                "training.learning_rate, or set training.clip"
            )
        row: Row = {
            "epoch": epoch,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
        }
        row |= {f"train_{name}": value for name, value in terms.items()}
        row |= {f"validation_{name}": value for name, value in self.validate().items()}
        self.progress.epoch = epoch
        judged = row["validation_loss"] = self.team.agreed(row["validation_loss"])
        if judged is None or judged < self.progress.best_loss:
            self.best = self._copy() if self.average is None else [a.clone() for a in self.average]
            self.progress.best_loss = total if judged is None else judged
            self.progress.best_epoch = epoch
        if self.plateau is not None:
            self.plateau.step(total if judged is None else judged)
        self.progress.seconds += time.perf_counter() - started
        row["seconds"] = self.progress.seconds
        self.progress.history.append(row)
        return row

    def step(self, chosen: Sequence[int]) -> Tensor:
        """One optimiser step on these items; returns the terms of their loss."""
        mine = self.team.share(chosen)
        device = self.parameters[0].device
        values = torch.zeros(len(self.task.terms), dtype=torch.float64, device=device)
        gradients: Sequence[Tensor | None] = [None] * len(self.parameters)
        if mine:
            terms = self.task.step(mine, chosen)
            values = torch.stack([terms[name].detach().double() for name in self.task.terms])
            gradients = torch.autograd.grad(terms["loss"], self.parameters, allow_unused=True)
        pairs = zip(self.parameters, gradients, strict=True)
        summed = self.team.add([torch.zeros_like(p) if g is None else g for p, g in pairs])
        for parameter, gradient in zip(self.parameters, summed, strict=True):
            parameter.grad = gradient.contiguous()  # fused AdamW reads it as laid out like this
        for parameter, at, _ in self.fixed:
            assert parameter.grad is not None
            parameter.grad[..., at] = 0.0
        if self.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimiser.step()
        for parameter, at, fixed in self.fixed:
            parameter.data[..., at] = fixed
        if self._scheduled():
            self.rate.step()
        if self.average is not None:
            steps = self.optimiser.state[self.parameters[0]]["step"].item()
            decay = min(self.settings.ema, (1 + steps) / (10 + steps))
            torch._foreach_lerp_(self.average, self._values(), 1.0 - decay)
        return self.team.add([values])[0].cpu()

    def validate(self) -> Row:
        """The task's validation, of the averaged weights if there are such."""
        if self.average is None:
            return self.task.validate()
        trained = self._copy()
        self._assign(self.average)
        row = self.task.validate()
        self._assign(trained)
        return row

    def _scheduled(self) -> bool:
        """Whether the rate is that of the step, not what a plateau left."""
        return self.plateau is None or self.rate.last_epoch < self.warmup

    def _rate(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.settings.schedule != "cosine":
            return 1.0
        total = max(self.settings.epochs * self.steps_per_epoch - self.warmup, 1)
        fall = 0.5 * (1 + cos(pi * min((step - self.warmup) / total, 1.0)))
        return FINAL_RATE + (1 - FINAL_RATE) * fall

    def _done(self) -> bool:
        patience, progress = self.settings.patience, self.progress
        return progress.out_of(patience) or progress.epoch >= self.settings.epochs

    def _keep(self, keep: Callable[[Progress], None]) -> None:
        trained = self._copy()
        self._assign(self.best)
        keep(self.progress)
        self._assign(trained)

    def _values(self) -> list[Tensor]:
        return [p.detach() for p in self.parameters]

    def _copy(self) -> list[Tensor]:
        return [p.clone() for p in self._values()]

    def _assign(self, values: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self._values(), list(values))

    def _state(self) -> dict[str, Any]:
        return {
            "weights": self._values(),
            "settled": self.settled,
            "optimiser": self.optimiser.state_dict(),
            "rate": self.rate.state_dict(),
            "plateau": None if self.plateau is None else self.plateau.state_dict(),
            "average": self.average,
            "best": self.best,
            "progress": vars(self.progress),
        }

    def _write_history(self) -> None:
        history = self.progress.history
        write_whole(self.folder / HISTORY, table_text(history[0], history))
