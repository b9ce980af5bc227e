"""Several processes train one model: each takes its share of every batch.

``torchrun --nproc-per-node=N -m tlpot finetune config.yaml`` starts them; torch.distributed (NCCL
on GPUs, gloo on CPUs) adds their gradients up. The result is that of one process with the same
batches, up to the order of floating-point sums.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

T = TypeVar("T")


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class Team:
    """The processes of one run; alone if torchrun did not start this one."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not dist.is_initialized():
            gpu = torch.cuda.is_available()
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
            atexit.register(_leave)  # gloo's threads must not outlive Python

    @property
    def writer(self) -> bool:
        """Whether this process writes files and shows progress; one does."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """One GPU a process where there are any."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def share(self, batch: Sequence[T]) -> Sequence[T]:
        """Part of a batch that is this process's."""
        return batch[self.rank :: self.size]

    def add(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sums over all processes."""
        if self.size == 1:
            return list(tensors)
        flat = _flatten_dense_tensors(tensors)
        dist.all_reduce(flat)
        return list(_unflatten_dense_tensors(flat, tensors))

    def agreed(self, value: float | None) -> float | None:
        """The writer's number: on a GPU, sums in another order differ in their last digits."""
        if self.size == 1 or value is None:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return shared.item()

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()
