"""How fast is tlpot? Training and inference against torchani, the origin's way and the floor.

``make bench-speed``, or ``python benchmarks/speed.py [--device cuda] [--quick]``; needs ANI-2x's
weights where torchani finds them, and for the time-to-error part the data under ``$TLPOT_DATA``.
Contenders of one table take turns in one process, so that noise hits all of them alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCHANI_NO_WARN_EXTENSIONS", "1")

import torch
from ase import units
from ase.md.langevin import Langevin

import benchmarks.speed.floor as floor
from benchmarks.lib.machine import (
    RESULTS,
    Sampler,
    interleave,
    machine,
    paired_ratio,
    sampler,
    spread,
    write_results,
)
from benchmarks.speed.accuracy import time_to_error
from benchmarks.speed.attribution import profile_steps
from benchmarks.speed.contenders import (
    Calling,
    TlpotTraining,
    TorchaniTraining,
    best_list,
    tlpot_calculator,
    torchani_calculator,
)
from benchmarks.speed.memory import as_lists, measure
from benchmarks.speed.origin import OriginProcess, OriginTraining
from benchmarks.speed.report import report
from benchmarks.speed.systems import (
    SCALING,
    SUPERCELLS,
    TEMPERATURE,
    TIMESTEP,
    labelled,
    thermal,
    trajectory,
    urea,
)
from tlpot.frames import Frame
from tlpot.potential import load


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    sizes: tuple[int, ...] = (16, 128, 432, 1024)
    rounds: int = 30
    budget: float = 60.0
    scaling: tuple = SCALING
    accuracy: bool = True

    @classmethod
    def quick(cls) -> Effort:
        return cls((16, 128), 3, 3.0, (SCALING[0], SCALING[2]), accuracy=False)


def training(
    frames: Sequence[Frame], device: torch.device, effort: Effort, venv: Path | None
) -> dict[str, Any]:
    """(a) One training step that sees `frames`, optimiser included, and its floor."""
    ours = TlpotTraining(frames, device)
    truth = load("ani2x").to(device).predict(frames)
    chosen, lists = _training_list(frames, [t.forces for t in truth], device)
    origin = OriginTraining([as_lists(f) for f in frames], str(device))
    everything = range(len(frames))
    numbers = torch.cat([torch.tensor(f.atoms.numbers) for f in frames])
    square, square_flops = floor.square_product(device)
    products = floor.all_products(ours.potential, numbers, device)
    plain = TorchaniTraining(frames, device, chosen, stacked=False)
    stacked = TorchaniTraining(frames, device, chosen, stacked=True)
    in_a_row = -(-ours.steps // 4)
    samplers: dict[str, Sampler] = {
        "tlpot": ours.sample,
        "tlpot, default recipe": TlpotTraining(frames, device, recipe={}).sample,
        "torchani": sampler(plain.step, device, in_a_row),
        "torchani stacked": sampler(stacked.step, device, in_a_row),
        "origin": sampler(lambda: origin.step(everything), device, in_a_row),
        "its products": sampler(products, device, ours.steps),
        "sgemm": sampler(square, device),
    }
    other = _origin_process(frames, device, venv)
    if other is not None:
        samplers["origin 2.2.4"] = partial(other.step, everything)
    seconds = interleave(samplers, effort.rounds, effort.budget)
    if other is not None:
        other.close()
    result = _compared(seconds)
    needed = floor.flops(ours.potential, numbers)
    rates = [square_flops / s for s in seconds["sgemm"]]
    floors = [needed / rate for rate in rates]
    return result | {
        "frames": len(frames),
        "atoms": len(numbers),
        "kept_kB_per_atom": ours.kept_bytes() / 1e3 / len(numbers),
        "torchani_list": chosen,
        "torchani_lists": lists,
        "origin_versions": None if other is None else other.versions,
        "floor": {
            "gflop": needed / 1e9,
            "sgemm_gflop_per_s": square_flops / 1e9 / (spread(seconds["sgemm"])["median_ms"] / 1e3),
            "floor": spread(floors),
            "tlpot_over_floor": paired_ratio(seconds["tlpot"], floors),
            "tlpot_over_its_products": paired_ratio(seconds["tlpot"], seconds["its products"]),
        },
    }


def calculator(atoms: int, device: torch.device, effort: Effort) -> dict[str, Any]:
    """(b) Energy and forces through the ASE calculator, position by position of an MD."""
    structure = urea(SUPERCELLS[atoms])
    visited = trajectory(load("ani2x"), structure, effort.rounds + 4)
    reference = Calling(tlpot_calculator(device), structure, visited)

    def make(name: str) -> Calling:
        return Calling(torchani_calculator(name, False, device), structure, visited)

    def off(work: Calling) -> float:
        reference.calls = work.calls - 1
        reference()
        return float(abs(work.forces - reference.forces).max())

    chosen, lists = best_list(make, off, device)
    contenders = {
        "tlpot": tlpot_calculator(device),
        "torchani": torchani_calculator(chosen, False, device),
        "torchani stacked": torchani_calculator(chosen, True, device),
    }
    calls = {
        name: sampler(Calling(contender, structure, visited), device)
        for name, contender in contenders.items()
    }
    result = _compared(interleave(calls, effort.rounds, effort.budget))
    return result | {"atoms": atoms, "torchani_list": chosen, "torchani_lists": lists}


def dynamics(atoms: int, chosen: str, device: torch.device, effort: Effort) -> dict[str, Any]:
    """(e) Langevin MD through ASE: seconds of a step, everything included."""
    block = 20

    def running(contender: Any) -> Sampler:
        structure = thermal(urea(SUPERCELLS[atoms]))
        structure.calc = contender
        md = Langevin(
            structure,
            TIMESTEP * units.fs,
            temperature_K=TEMPERATURE,
            friction=0.01 / units.fs,
            fixcm=False,
        )
        whole = sampler(lambda: md.run(block), device)
        return lambda: whole() / block

    contenders = {
        "tlpot": running(tlpot_calculator(device)),
        "torchani": running(torchani_calculator(chosen, False, device)),
        "torchani stacked": running(torchani_calculator(chosen, True, device)),
    }
    seconds = interleave(contenders, min(effort.rounds, 10), effort.budget, warmup=1)
    return _compared(seconds) | {"atoms": atoms, "torchani_list": chosen}


def memory(
    results: Mapping[str, Any], device: torch.device, effort: Effort
) -> list[dict[str, Any]]:
    """(d) Peak memory, every contender in a process of its own."""
    jobs = []
    for atoms in effort.sizes[1:]:
        for task, part in (("train", "training"), ("ef", "calculator")):
            names = ["tlpot", "torchani"] + ["origin"] * (task == "train")
            chosen = results[part][str(atoms)]["torchani_list"]
            repeat, where = SUPERCELLS[atoms], str(device)
            jobs += [
                dict(task=task, contender=c, repeat=repeat, device=where, list=chosen)
                for c in names
            ]
    return [measure(job) for job in jobs]


def scaling(device: torch.device, effort: Effort) -> list[dict[str, Any]]:
    """tlpot's energy and forces from 100 to 5,000 atoms, each size in a process of its own."""
    job = {"task": "ef", "contender": "tlpot", "device": str(device), "calls": 5}
    return [measure(job | {"repeat": repeat}) for repeat in effort.scaling]


def _compared(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "times": {name: spread(s) for name, s in seconds.items()},
        "ratios": {
            name: paired_ratio(s, seconds["tlpot"])
            for name, s in seconds.items()
            if name != "tlpot"
        },
        "ratios_of_means": {
            name: sum(s) / sum(seconds["tlpot"]) for name, s in seconds.items() if name != "tlpot"
        },
    }


def _training_list(frames: Sequence[Frame], truth: Sequence, device: torch.device) -> Any:
    """torchani's best list for training; a skin list cannot help where every frame differs."""
    expected = torch.cat([torch.from_numpy(forces) for forces in truth])
    made: dict[Any, TorchaniTraining] = {}

    def make(name: str) -> Any:
        if name == "verlet_cell_list":
            raise ValueError("a skin list serves MD only")
        contender = TorchaniTraining(frames, device, name, stacked=False)
        before = contender.predict()[1].detach().cpu()
        made[contender.step] = before
        return contender.step

    def off(work: Any) -> float:
        return float((made[work] - expected).abs().max())

    return best_list(make, off, device)


def _origin_process(
    frames: Sequence[Frame], device: torch.device, venv: Path | None
) -> OriginProcess | None:
    if venv is None:
        return None
    architecture = load("ani2x").backbone.architecture.to_dict()
    job = {"frames": [as_lists(f) for f in frames], "architecture": architecture}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        return OriginProcess(venv / "bin" / "python", Path(file.name), str(device))


def measure_all(device: torch.device, effort: Effort, venv: Path | None) -> dict[str, Any]:
    """Everything, as ``speed-<device>.json`` holds it."""
    results: dict[str, Any] = {"machine": machine(), "device": device.type}
    base = load("ani2x")
    batches = {str(n): [urea(SUPERCELLS[n])] for n in effort.sizes}
    batches["8 x 16"] = [urea(SUPERCELLS[16], seed) for seed in range(8)]
    if device.type == "cuda":
        batches["16 x 128"] = [urea(SUPERCELLS[128], seed) for seed in range(16)]
    results["training"] = {}
    for name, structures in batches.items():
        _say(f"training step, {name} atoms")
        frames = labelled(base, structures)
        results["training"][name] = training(frames, device, effort, venv)
    results["calculator"] = {}
    for n in effort.sizes:
        _say(f"calculator, {n} atoms")
        results["calculator"][str(n)] = calculator(n, device, effort)
    _say("MD, profile, memory, scaling")
    results["dynamics"] = dynamics(
        128, results["calculator"]["128"]["torchani_list"], device, effort
    )
    ours = TlpotTraining(labelled(base, batches["128"]), device)
    results["profile"] = profile_steps(ours.epoch, ours.steps, device)
    results["memory"] = memory(results, device, effort)
    results["scaling"] = scaling(device, effort)
    if effort.accuracy:
        _say("time to the thesis preset's error")
        results["accuracy"] = time_to_error(device)
    else:
        results["accuracy"] = {"skipped": "not asked for"}
    return results


def _say(what: str) -> None:
    print(what, "…", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="two minutes, for trying it out")
    parser.add_argument("--no-accuracy", action="store_true", help="leave out the time to error")
    parser.add_argument("--origin-venv", type=Path, help="venv with torchani 2.2.4")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    device = torch.device(options.device)
    effort = Effort.quick() if options.quick else Effort(accuracy=not options.no_accuracy)
    results = measure_all(device, effort, options.origin_venv)
    kind = "gpu" if device.type == "cuda" else "cpu"
    text = report(results)
    write_results(f"speed-{kind}", results, text, options.output)
    print(text)


if __name__ == "__main__":
    main()
