"""How fast is tlpot? Training and inference against torchani, the origin's way and the floor.

Needs ANI-2x's weights where torchani finds them, and for the time-to-error part the data under
``$TLPOT_DATA``. Contenders of one table take turns in one process, so that noise hits all of them
alike. A GPU's results are ``speed-gpu``, a CPU's ``speed-cpu``.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from ase import units
from ase.md.langevin import Langevin

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, FORCE, fill, records, table
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import X23
from benchmarks.speed import floor
from benchmarks.speed.contenders import (
    CALCULATORS,
    SCALING,
    SUPERCELLS,
    TEMPERATURE,
    TIMESTEP,
    Calling,
    OriginTraining,
    TlpotTraining,
    TorchaniTraining,
    ase_calculator,
    best_list,
    labelled,
    thermal,
    trajectory,
    urea,
)
from benchmarks.speed.timing import (
    Sampler,
    alone,
    compared,
    interleave,
    paired_ratio,
    peak_mb,
    profile_steps,
    sampler,
    spread,
)
from tlpot import finetune, load
from tlpot.config.run import Config, parse_config
from tlpot.finetuning.prepare import prepare
from tlpot.structure.frames import Frame
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

NAMES = {
    "tlpot": "tlpot, the same work",
    "tlpot, default recipe": "tlpot, default recipe (every member's own loss, stress, EMA, clip)",
    "torchani": "torchani 2.9, best list",
    "torchani stacked": "torchani 2.9, best list, its inference networks",
    "origin": "the origin's way (torchani 2.9)",
    "its products": "tlpot's matrix products alone",
}
FRAMES = "$TLPOT_DATA/x23/21_urea/train.traj@10:180"
"""The 170 crystals; the ten frames before them are gas-phase molecules."""
BLOCK = 20
"""MD steps between two readings of the clock."""


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    sizes: tuple[int, ...] = (16, 128, 432, 1024)
    rounds: int = 30
    budget: float = 60.0
    scaling: tuple = SCALING


QUICK = Effort((16, 128), 3, 3.0, (SCALING[0], SCALING[2]))


def measure(given: argparse.Namespace) -> Iterator[Results]:
    torch.set_float32_matmul_precision("highest")
    device = torch.device(given.device)
    effort = QUICK if given.quick else Effort()
    given.name = "speed-gpu" if device.type == "cuda" else "speed-cpu"
    base = load("ani2x")
    batches = {str(n): [urea(SUPERCELLS[n])] for n in effort.sizes}
    batches["8 x 16"] = [urea(SUPERCELLS[16], seed) for seed in range(8)]
    if device.type == "cuda":
        batches["16 x 128"] = [urea(SUPERCELLS[128], seed) for seed in range(16)]
    frames = {name: labelled(base, structures) for name, structures in batches.items()}
    results: Results = {"device": device.type, "training": {}, "calculator": {}}
    for name, some in frames.items():
        print(f"training step, {name} atoms …", flush=True)
        results["training"][name] = training(some, device, effort)
    for n in effort.sizes:
        print(f"calculator, {n} atoms …", flush=True)
        results["calculator"][str(n)] = calculator(n, device, effort)
    print("MD, profile, memory, scaling …", flush=True)
    results["dynamics"] = dynamics(results["calculator"]["128"]["torchani_list"], device, effort)
    ours = TlpotTraining(frames["128"], device)
    results["profile"] = profile_steps(ours.epoch, ours.steps, device)
    results["memory"] = [alone(memory, job) for job in memory_jobs(results, effort)]
    job = {"task": "ef", "contender": "tlpot", "device": str(device), "calls": 5}
    results["scaling"] = [alone(memory, job | {"repeat": repeat}) for repeat in effort.scaling]
    results["accuracy"] = {"skipped": "not asked for"}
    if not (given.quick or given.no_accuracy):
        print("time to the thesis preset's error …", flush=True)
        results["accuracy"] = time_to_error(device)
    yield results


def training(frames: Sequence[Frame], device: torch.device, effort: Effort) -> Results:
    """One training step that sees `frames`, optimiser included, and its floor."""
    ours, origin = TlpotTraining(frames, device), OriginTraining(frames, device)
    chosen, lists = training_list(frames, device)
    numbers = torch.cat([torch.tensor(f.atoms.numbers) for f in frames])
    square, square_flops = floor.square_product(device)
    in_a_row = -(-ours.steps // 4)
    plain, stacked = (TorchaniTraining(frames, device, chosen, kind) for kind in (False, True))
    seconds = interleave(
        {
            "tlpot": ours.sample,
            "tlpot, default recipe": TlpotTraining(frames, device, recipe={}).sample,
            "torchani": sampler(plain.step, device, in_a_row),
            "torchani stacked": sampler(stacked.step, device, in_a_row),
            "origin": sampler(lambda: origin.step(range(len(frames))), device, in_a_row),
            "its products": sampler(
                floor.all_products(ours.potential, numbers, device), device, ours.steps
            ),
            "sgemm": sampler(square, device),
        },
        effort.rounds,
        effort.budget,
    )
    needed = floor.flops(ours.potential, numbers)
    floors = [needed * s / square_flops for s in seconds["sgemm"]]
    return compared(seconds) | {
        "frames": len(frames),
        "atoms": len(numbers),
        "kept_kB_per_atom": ours.kept_bytes() / 1e3 / len(numbers),
        "torchani_list": chosen,
        "torchani_lists": lists,
        "floor": {
            "gflop": needed / 1e9,
            "sgemm_gflop_per_s": square_flops / 1e6 / spread(seconds["sgemm"])["median_ms"],
            "floor": spread(floors),
            "tlpot_over_floor": paired_ratio(seconds["tlpot"], floors),
            "tlpot_over_its_products": paired_ratio(seconds["tlpot"], seconds["its products"]),
        },
    }


def training_list(frames: Sequence[Frame], device: torch.device) -> tuple[str, Results]:
    """torchani's best list for training; a skin list cannot help where every frame differs."""
    truth = load("ani2x").to(device).predict(frames)
    expected = torch.cat([torch.from_numpy(t.forces) for t in truth])
    before: dict[Any, torch.Tensor] = {}

    def make(name: str) -> Any:
        if name == "verlet_cell_list":
            raise ValueError("a skin list serves MD only")
        contender = TorchaniTraining(frames, device, name, stacked=False)
        before[contender.step] = contender.predict()[1].detach().cpu()
        return contender.step

    return best_list(make, lambda work: float((before[work] - expected).abs().max()), device)


def calculator(atoms: int, device: torch.device, effort: Effort) -> Results:
    """Energy and forces through the ASE calculator, position by position of an MD."""
    structure = urea(SUPERCELLS[atoms])
    visited = trajectory(load("ani2x"), structure, effort.rounds + 4)

    def calling(name: str, neighborlist: str) -> Calling:
        return Calling(ase_calculator(name, neighborlist, device), structure, visited)

    reference = calling("tlpot", "all_pairs")

    def off(work: Calling) -> float:
        reference.calls = work.calls - 1
        reference()
        return float(abs(work.forces - reference.forces).max())

    chosen, lists = best_list(lambda name: calling("torchani", name), off, device)
    calls = {name: sampler(calling(name, chosen), device) for name in CALCULATORS}
    result = compared(interleave(calls, effort.rounds, effort.budget))
    return result | {"atoms": atoms, "torchani_list": chosen, "torchani_lists": lists}


def dynamics(chosen: str, device: torch.device, effort: Effort, atoms: int = 128) -> Results:
    """Langevin MD through ASE: seconds of a step, everything included."""

    def running(contender: str) -> Sampler:
        structure = thermal(urea(SUPERCELLS[atoms]))
        structure.calc = ase_calculator(contender, chosen, device)
        md = Langevin(
            structure,
            TIMESTEP * units.fs,
            temperature_K=TEMPERATURE,
            friction=0.01 / units.fs,
            fixcm=False,
        )
        whole = sampler(lambda: md.run(BLOCK), device)
        return lambda: whole() / BLOCK

    contenders = {name: running(name) for name in CALCULATORS}
    seconds = interleave(contenders, min(effort.rounds, 10), effort.budget, warmup=1)
    return compared(seconds) | {"atoms": atoms, "torchani_list": chosen}


def memory_jobs(results: Results, effort: Effort) -> Iterator[Results]:
    for atoms in effort.sizes[1:]:
        for task, part in (("train", "training"), ("ef", "calculator")):
            for contender in ["tlpot", "torchani"] + ["origin"] * (task == "train"):
                yield {
                    "task": task,
                    "contender": contender,
                    "repeat": SUPERCELLS[atoms],
                    "device": results["device"],
                    "list": results[part][str(atoms)]["torchani_list"],
                }


def memory(job: Results) -> Results:
    """Peak memory before and after a training step or a call, MB, and the median ms of it."""
    device, atoms = torch.device(job["device"]), urea(job["repeat"])
    chosen = job.get("list", "all_pairs")
    ase_calculator("tlpot", chosen, device)  # torch, torchani and the weights count for all
    before = peak_mb(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    frame = Frame(atoms, -1.0, atoms.positions * 0.0)
    calls = job.get("calls", 1)
    if job["task"] == "ef":
        visited = []
        for seed in range(calls + 1):
            moved = atoms.copy()
            moved.rattle(0.01, seed=seed)
            visited.append(moved.positions)
        calculator = ase_calculator(job["contender"], chosen, device)
        sample = sampler(Calling(calculator, atoms, visited), device)
    elif job["contender"] == "tlpot":
        sample = TlpotTraining([frame], device, steps=1).sample
    elif job["contender"] == "origin":
        origin = OriginTraining([frame], device)
        sample = sampler(lambda: origin.step([0]), device)
    else:
        sample = sampler(TorchaniTraining([frame], device, chosen, stacked=False).step, device)
    sample()
    ms = [1e3 * sample() for _ in range(calls)]
    peaks = {"before_MB": before, "peak_MB": peak_mb(device)}
    return {"atoms": len(atoms), **peaks, "ms": statistics.median(ms)}


class Reached(Exception):  # noqa: N818
    """The target error; ends the run."""


def time_to_error(device: torch.device) -> Results:
    """Wall time to the thesis preset's final test errors: tlpot's default, and the origin's way.

    The final errors come from tlpot's own `thesis` preset (the same recipe and loss). The origin's
    time is extrapolated: seconds of one epoch of its steps, validation left out, times the 100
    epochs of its recipe. tlpot's default is judged on the test frames after every epoch; its time
    counts from reading the data and includes that judging.
    """
    if not X23.is_dir():
        return {"skipped": "TLPOT_DATA does not name the data"}

    def config(preset: str) -> Config:
        training = {"preset": preset, "device": str(device)}
        output = f"{folder}/{preset}"
        return parse_config({"data": {"files": [FRAMES]}, "training": training, "output": output})

    with tempfile.TemporaryDirectory() as folder:
        recipe = config("thesis")
        train = prepare(recipe).parts["train"]
        started = time.perf_counter()
        thesis = finetune(recipe)
        thesis_seconds = time.perf_counter() - started
        target = {key: thesis.metrics["finetuned"]["test"][key] for key in (ENERGY, FORCE)}
        default = until(target, config("default"), device)
    size, epochs = recipe.training.batch_size, recipe.training.epochs
    origin = OriginTraining(train, device)
    steps = [range(start, min(start + size, len(train))) for start in range(0, len(train), size)]
    origin.step(steps[0])
    epoch = sampler(lambda: [origin.step(step) for step in steps], device)()
    result = {
        "target": target,
        "thesis_preset_in_tlpot_s": thesis_seconds,
        "thesis_best_epoch": thesis.manifest["best_epoch"],
        "default": default,
        "origin": {
            "seconds_per_epoch": epoch,
            "measured_epochs": 1,
            "frames": len(train),
            "batch_size": size,
            "epochs": epochs,
            "extrapolated_s": epoch * epochs,
        },
    }
    if default["reached"]:
        result["ratio"] = epoch * epochs / default["seconds"]
        result["ratio_to_best_epoch"] = epoch * result["thesis_best_epoch"] / default["seconds"]
    return result


def until(target: dict[str, float], config: Config, device: torch.device) -> Results:
    """Train until both errors on the test frames are at most `target`."""
    started = time.perf_counter()
    prepared = prepare(config)
    present = {s for part in prepared.parts.values() for f in part for s in f.atoms.symbols}
    compact = prepared.potential.for_elements(present).to(device)
    train, test = ([compact.batch([f]) for f in prepared.parts[part]] for part in ("train", "test"))
    folder = Path(config.output)
    folder.mkdir(parents=True)
    trainer = Trainer(PotentialTask(compact, train, test, config.training), config.training, folder)
    seen: Results = {"reached": False}

    def judge(row: Any) -> None:
        errors = {name: row[f"validation_{name}"] for name in target}
        seen.update(epoch=row["epoch"], seconds=time.perf_counter() - started, errors=errors)
        if all(errors[name] <= target[name] for name in target):
            seen["reached"] = True
            raise Reached

    with contextlib.suppress(Reached):
        trainer.fit(judge)
    return seen


def page(results: Results) -> str:
    training, calls, profile = results["training"], results["calculator"], results["profile"]
    shown = [part | part["floor"] | {"name": name} for name, part in training.items()]
    total = profile["profiled_step_ms"]
    measured = [job for job in results["scaling"] if "error" not in job]
    return fill(
        __file__,
        kind="GPU" if results["device"] == "cuda" else "CPU",
        machine=machine_lines(results["machine"]),
        targets=targets(results),
        training=times_table(training, "its products", "sgemm"),
        training_lists=list_table(training),
        floor=records(
            shown,
            {
                "atoms": "{name}",
                "GFLOP": "{gflop:.2f}",
                "sgemm, GFLOP/s": "{sgemm_gflop_per_s:.0f}",
                "floor, ms": "{floor[median_ms]:.1f}",
                "its products in torch, ms": "{times[its products][median_ms]:.1f}",
                "tlpot's step, ms": "{times[tlpot][median_ms]:.1f}",
                "over floor": "{tlpot_over_floor:.2f} ×",
                "over products": "{tlpot_over_its_products:.2f} ×",
            },
        ),
        profile=profile,
        operations=table(
            ("what", "ms", "share"),
            [(n, f"{ms:.2f}", f"{ms / total:.0%}") for n, ms in profile["rows_ms"].items()],
        ),
        calculator=times_table(calls),
        calculator_lists=list_table(calls),
        dynamics=records(
            times(results["dynamics"]),
            {
                "128 atoms, Langevin, 0.5 fs, 300 K": "{contender}",
                "steps/s": lambda row: f"{1e3 / row['mean_ms']:.1f}",
                "ms a step": "{mean_ms:.1f}",
                "tlpot is faster by": lambda row: factor(row["by_means"] or 1.0),
            },
        ),
        accuracy=accuracy(results["accuracy"]),
        memory=records(
            results["memory"],
            {
                "atoms": atoms_of,
                "task": lambda job: "training step" if job["task"] == "train" else "E + F",
                "contender": lambda job: NAMES[job["contender"]],
                "peak, MB": lambda job: job.get("error") or f"{job['peak_MB']:.0f}",
                "above the loaded model, MB": lambda job: above(job, 1.0),
            },
        ),
        kept=training["128"]["kept_kB_per_atom"],
        scaling=records(
            sorted(results["scaling"], key=lambda job: "error" in job),
            {
                "atoms": atoms_of,
                "ms": lambda job: job.get("error") or f"{job['ms']:.1f}",
                "ms an atom": lambda job: f"{job['ms'] / job['atoms']:.3f}" if "ms" in job else "",
                "kB an atom above the loaded model": lambda job: above(job, 1e3 / atoms_of(job)),
            },
        ),
        power=power(measured[0], measured[-1]) if len(measured) > 1 else "",
    )


def targets(results: Results) -> list[str]:
    """Target, measured, met or not."""
    step, calls = results["training"]["128"], results["calculator"]
    ratios = step["ratios"]

    def slower(atoms: str) -> float | None:
        """The less flattering of the ratio of medians of pairs and the ratio of means."""
        if atoms not in calls:
            return None
        return min(calls[atoms][kind]["torchani"] for kind in ("ratios", "ratios_of_means"))

    goals = [
        ("training step, 128 atoms, against the origin's way", 6, ratios["origin"]),
        ("training step, 128 atoms, against torchani 2.9", 5, ratios["torchani"]),
        ("training step, 128 atoms, against the floor", -2, step["floor"]["tlpot_over_floor"]),
        ("E + F, 128 atoms, against torchani's calculator", 2.5, slower("128")),
        ("E + F, 1024 atoms, against torchani's calculator", 3, slower("1024")),
        (
            "time to the thesis preset's error, against the origin's way",
            15,
            results["accuracy"].get("ratio"),
        ),
    ]
    if results["device"] == "cuda":
        many = results["training"]["16 x 128"]["ratios"]["torchani"]
        goals.append(("GPU: training step, 16 frames of 128 atoms, against torchani", 8, many))
    rows = []
    for what, goal, value in goals:
        verdict = "not run"
        if value is not None:
            verdict = "met" if (value >= goal if goal > 0 else value <= -goal) else "**not met**"
        rows.append((what, f"{'≥' if goal > 0 else '≤'} {abs(goal)} ×", factor(value), verdict))
    return table(("", "target", "measured", ""), rows)


def times(part: Results) -> list[Results]:
    """A row a contender."""
    return [
        {
            "contender": NAMES.get(name, name),
            **ms,
            "ratio": part["ratios"].get(name),
            "by_means": part["ratios_of_means"].get(name),
        }
        for name, ms in part["times"].items()
    ]


def times_table(parts: Results, *left_out: str) -> list[str]:
    names = {NAMES.get(name, name) for name in left_out}
    rows = [{"atoms": size, **row} for size, part in parts.items() for row in times(part)]
    return records(
        [row for row in rows if row["contender"] not in names],
        {
            "atoms": "{atoms}",
            "contender": "{contender}",
            "median, ms": "{median_ms:.1f}",
            "range": "{min_ms:.1f} – {max_ms:.1f}",
            "mean": "{mean_ms:.1f}",
            "samples": "{samples}",
            "tlpot is faster by": lambda row: factor(row["ratio"]),
            "by means": lambda row: factor(row["by_means"]),
        },
    )


def list_table(parts: Results) -> list[str]:
    """What each of torchani's neighbour lists did."""
    lists = {size: part["torchani_lists"] for size, part in parts.items()}
    rows = [
        (size, *(f"{v:.0f}" if isinstance(v, float) else v for v in of.values()))
        for size, of in lists.items()
    ]
    return table(("atoms", *next(iter(lists.values()))), rows)


def accuracy(part: Results) -> list[str]:
    if "skipped" in part:
        return [f"Not run: {part['skipped']}."]
    origin, default = part["origin"], part["default"]
    energy, force = part["target"].values()
    state = "first reached both" if default["reached"] else "**did not reach both**; its last"
    errors = ", ".join(f"{v:.2f}" for v in default["errors"].values())
    lines = [
        f"- The thesis preset (in tlpot, {part['thesis_preset_in_tlpot_s']:.0f} s with report; "
        f"best epoch {part['thesis_best_epoch']}) ends at {energy:.2f} meV/atom and {force:.1f} "
        "meV/Å (component) on the test frames.",
        f"- tlpot's default {state} after {default['seconds']:.1f} s (epoch {default['epoch']}), "
        f"reading, checking and keeping the data included: {errors}.",
        f"- The origin's way takes {origin['seconds_per_epoch']:.1f} s an epoch "
        f"({origin['frames']} frames, batch {origin['batch_size']}); {origin['epochs']} epochs are "
        f"{origin['extrapolated_s']:.0f} s, **extrapolated** from {origin['measured_epochs']} "
        "epoch without validation.",
    ]
    if default["reached"]:
        lines.append(
            f"- Ratio: {factor(part['ratio'])}; counted only to the epoch whose weights the thesis "
            f"preset keeps: {factor(part['ratio_to_best_epoch'])}."
        )
    return lines


def power(first: Mapping[str, float], last: Mapping[str, float]) -> str:
    exponent = math.log(last["ms"] / first["ms"]) / math.log(last["atoms"] / first["atoms"])
    return f"Time grows as atoms^{exponent:.2f} from the first row to the last."


def atoms_of(job: Results) -> int:
    return math.prod(job["repeat"]) * 16


def above(job: Results, scale: float) -> str:
    """Memory above the loaded model."""
    return "" if "error" in job else f"{scale * (job['peak_MB'] - job['before_MB']):.0f}"


def factor(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


STUDY = Study(__file__, __doc__, page, names=("speed-cpu", "speed-gpu"), runs=False)
add = STUDY.options.add_argument
add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
add("--quick", action="store_true", help="two minutes, for trying it out")
add("--no-accuracy", action="store_true", help="leave out the time to error")

if __name__ == "__main__":
    STUDY.main(measure)
