"""Where the time of a training step goes, operation by operation."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "linear"}
HERE = str(Path(__file__).parent)


class Attribution(TorchDispatchMode):
    """Seconds of every operation that torch runs, by what asked for it.

    An operation belongs to the innermost frame on the Python stack that is tlpot's, torch's
    optimiser's or the clipping's. What the autograd engine runs between those is a row of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        took = time.perf_counter() - started
        name = func.overloadpacket.__name__
        self.seconds[_purpose(name, sys._getframe(1))] += took
        return result


def _purpose(operation: str, frame: FrameType | None) -> str:
    if "lerp" in operation:
        return "EMA"
    where, functions = "", set()
    while frame is not None:
        path, functions = frame.f_code.co_filename, functions | {frame.f_code.co_name}
        if not where:
            where = _place(path)
        frame = frame.f_back
    if "join" in functions:
        return "joining the frames of a step"
    if where.startswith("engine/networks"):
        product = operation in PRODUCTS
        return "networks: matrix products" if product else "networks: activations, sums, copies"
    if where.startswith("engine/descriptors"):
        return "kept Jacobian: forces and their gradient"
    if where.startswith("engine/"):
        return f"engine: {where[7:]}"
    if where.startswith("backbones/"):
        return "backbone: gather and scatter by element"
    if where == "potential":
        return "energies, forces and virial from slopes"
    if where.startswith("training/"):
        return "trainer: " + ("loss" if where.endswith("loss") else "weights, gradients, schedule")
    return where or "autograd's own operations"


def _place(path: str) -> str:
    """Module of a frame, as ``engine/networks``; empty if it says nothing about purpose."""
    if "torch/optim" in path:
        return "optimiser (AdamW)"
    if path.endswith("clip_grad.py"):
        return "gradient clipping"
    if "/tlpot/" in path and not path.startswith(HERE):
        return path.rpartition("/tlpot/")[2].removesuffix(".py")
    return ""


def profile_steps(epoch: Callable[[], float], steps: int, device: torch.device) -> dict[str, Any]:
    """ms a step by purpose (CPU, one thread) or by kernel (CUDA), the slowest first.

    Parameters
    ----------
    epoch
        Runs `steps` training steps and returns their seconds.
    """
    epoch()
    if device.type == "cuda":
        return _kernels(epoch, steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # attribution sees no other thread
    plain = min(epoch() for _ in range(2))
    with Attribution() as attribution:
        timed = epoch()
    torch.set_num_threads(threads)
    seconds = dict(attribution.seconds)
    seconds["Python, autograd engine, and this timer"] = timed - sum(seconds.values())
    rows = sorted(seconds.items(), key=lambda row: -row[1])
    return {
        "step_ms": 1e3 * plain / steps,
        "profiled_step_ms": 1e3 * timed / steps,
        "rows_ms": {name: 1e3 * s / steps for name, s in rows},
    }


def _kernels(epoch: Callable[[], float], steps: int) -> dict[str, Any]:
    plain = min(epoch() for _ in range(2))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        timed = epoch()
    events = [e for e in recorded.key_averages() if e.self_device_time_total > 0]
    events = [e for e in events if e.device_type != torch.autograd.DeviceType.CPU]
    kernels = sorted(events, key=lambda e: -e.self_device_time_total)
    rows = {e.key[:70]: e.self_device_time_total / 1e3 / steps for e in kernels[:14]}
    rows["other kernels"] = sum(e.self_device_time_total for e in kernels[14:]) / 1e3 / steps
    rows["GPU idle (launches, host)"] = max(0.0, 1e3 * plain / steps - sum(rows.values()))
    return {
        "step_ms": 1e3 * plain / steps,
        "profiled_step_ms": 1e3 * timed / steps,
        "rows_ms": rows,
    }
