"""What a training will take of time and memory, by a few of its own steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tlpot.engine.threads import limited_threads
from tlpot.training.trainer import Trainer

BUDGET = 4.0
"""Seconds to measure for, about."""


@dataclass(frozen=True)
class Cost:
    """Time and memory of a training.

    Attributes
    ----------
    epochs
        How many there will be; fewer where patience ends the run.
    epoch
        Seconds that each takes.
    timed, steps
        Steps that were timed, and those of an epoch.
    threads
        Of torch.
    memory
        Bytes that the process had at most, of a GPU those of the tensors on it.
    """

    epochs: int
    epoch: float
    timed: int
    steps: int
    device: torch.device
    threads: int
    memory: int | None


def measure_cost(trainer: Trainer, largest: Sequence[int], validated: float) -> Cost:
    """Train for a few seconds, and see; the weights are those of these steps afterwards.

    Parameters
    ----------
    trainer
        About to begin.
    largest
        Items of the largest batch that may come, for the memory.
    validated
        How many times the validation of the run is longer than that of the trainer's task.
    """
    task, size, steps = trainer.task, trainer.settings.batch_size, trainer.steps_per_epoch
    order = task.order(torch.Generator().manual_seed(trainer.settings.seed))
    device = trainer.parameters[0].device
    with limited_threads():
        threads = torch.get_num_threads()
        with task.threads():
            for items in (order[:size], largest):  # what is made once is no part of an epoch's time
                trainer.step(items)
            timed, started = 0, time.perf_counter()
            while timed < steps and time.perf_counter() - started < BUDGET:
                trainer.step(order[timed * size : (timed + 1) * size])
                timed += 1
            each = (time.perf_counter() - started) / timed
            started = time.perf_counter()
            trainer.validate()
            epoch = steps * each + validated * (time.perf_counter() - started)
    return Cost(trainer.settings.epochs, epoch, timed, steps, device, threads, _peak(device))


def _peak(device: torch.device) -> int | None:
    """Bytes that there were at most; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
