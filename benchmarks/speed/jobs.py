"""What a fresh process measures: calls, training steps, memory. Each takes a job, gives results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.lib.study import Results
from benchmarks.speed.contenders import (
    SAME_WORK,
    SUPERCELLS,
    Calling,
    TlpotTraining,
    default_model,
    labelled,
    trajectory,
    urea,
)
from benchmarks.speed.peer import TorchaniTraining, best_list, torchani_calculator
from benchmarks.speed.timing import (
    CLOCKS,
    Clock,
    compared,
    forget_peak,
    interleave,
    peak_mb,
    sampler,
)
from tlpot import TLPotCalculator, load
from tlpot.structure.frames import Frame


def calls(job: Results) -> Results:
    """Energy and forces through the ASE calculator, position by position of an MD."""
    device, clock = _settings(job)
    structure = urea(SUPERCELLS[job["atoms"]])
    base = load("ani2x")
    visited = trajectory(base, structure, job["rounds"] + 4)

    def calling(calculator: Any) -> Calling:
        return Calling(calculator, structure, visited)

    own = calling(TLPotCalculator(base.to(device)))
    reference = calling(TLPotCalculator(base))

    def off(work: Calling) -> float:
        reference.calls = work.calls - 1
        reference()
        return float(abs(work.forces - reference.forces).max())

    def peer(name: str, stacked: bool = False) -> Calling:
        return calling(torchani_calculator(name, stacked, device))

    chosen, lists = best_list(peer, off, device, clock)
    default = calling(TLPotCalculator(default_model([structure]).to(device)))
    works = {"default": default, "own terms": own, "torchani": peer(chosen)}
    works["torchani stacked"] = peer(chosen, stacked=True)
    in_a_row = max(1, min(8, 1024 // job["atoms"]))
    seconds = interleave(
        {name: sampler(work, device, clock, in_a_row) for name, work in works.items()},
        job["rounds"],
        job["budget"],
    )
    return compared(seconds) | {"torchani_list": chosen, "torchani_lists": lists}


def steps(job: Results) -> Results:
    """One training step that sees ``job["frames"]`` frames, optimiser included."""
    device, clock = _settings(job)
    structures = [urea(SUPERCELLS[job["atoms"]], seed) for seed in range(job["frames"])]
    frames = labelled(load("ani2x"), structures)
    chosen, lists = _training_list(frames, device, clock)
    default = TlpotTraining(frames, device, clock, {})
    own = TlpotTraining(frames, device, clock, SAME_WORK)
    plain, stacked = (TorchaniTraining(frames, device, chosen, kind) for kind in (False, True))
    in_a_row = -(-own.steps // 4)
    seconds = interleave(
        {
            "default": default.sample,
            "own terms": own.sample,
            "torchani": sampler(plain.step, device, clock, in_a_row),
            "torchani stacked": sampler(stacked.step, device, clock, in_a_row),
        },
        job["rounds"],
        job["budget"],
    )
    return compared(seconds) | {"torchani_list": chosen, "torchani_lists": lists}


def _training_list(
    frames: Sequence[Frame], device: torch.device, clock: Clock
) -> tuple[str, Results]:
    """torchani's best list for training; a skin list cannot help where every frame differs."""
    truth = load("ani2x").predict(frames)
    expected = torch.cat([torch.from_numpy(t.forces) for t in truth])
    before: dict[Callable[[], None], torch.Tensor] = {}

    def make(name: str) -> Callable[[], None]:
        if name == "verlet_cell_list":
            raise ValueError("a skin list serves MD only")
        contender = TorchaniTraining(frames, device, name, stacked=False)
        before[contender.step] = contender.predict()[1].detach().cpu()
        return contender.step

    return best_list(make, lambda work: float((before[work] - expected).abs().max()), device, clock)


def large(job: Results) -> Results:
    """Median ms of a call by the default model, and the peak memory above the loaded model."""
    device, clock = _settings(job)
    structure = urea(SUPERCELLS[job["atoms"]])
    calculator = TLPotCalculator(default_model([urea(SUPERCELLS[16])]).to(device))
    Calling(calculator, urea(SUPERCELLS[16]), [urea(SUPERCELLS[16]).positions])()
    forget_peak(device)
    loaded = peak_mb(device)
    visited = [urea(SUPERCELLS[job["atoms"]], seed).positions for seed in range(1, 7)]
    sample = sampler(Calling(calculator, structure, visited), device, clock)
    sample()
    ms = statistics.median(1e3 * sample() for _ in range(5))
    return {"ms": ms, "MB": peak_mb(device) - loaded}


def training_memory(job: Results) -> Results:
    """Peak memory of a process that trains by the default recipe on ``job["frames"]`` frames."""
    device, clock = _settings(job)
    frames = []
    for seed in range(job["frames"]):
        atoms = urea(SUPERCELLS[job["atoms"]], seed)
        frames.append(Frame(atoms, -1.0, 0.0 * atoms.positions))
    training = TlpotTraining(frames, device, clock, {}, batch_size=2)
    forget_peak(device)  # that of loading the model
    training.sample()
    return {"peak_MB": peak_mb(device)}


def _settings(job: Results) -> tuple[torch.device, Clock]:
    torch.set_float32_matmul_precision("highest")
    return torch.device(job["device"]), CLOCKS[job["clock"]]
