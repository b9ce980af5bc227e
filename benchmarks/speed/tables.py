"""The page of `speed.py`, from its results alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, records, table
from benchmarks.lib.study import Results

NAMES = {
    "default": "tlpot, default fine-tuned model",
    "own terms": "tlpot, ANI's own terms",
    "torchani": "torchani 2.9, best list",
    "torchani stacked": "torchani 2.9, best list, its inference networks",
}
EARLIER = {"1 x 128": 76.0, "8 x 16": 77.0}
"""ms of process CPU time of the default recipe's step on 2026-11-28, without compiled kernels."""
GOALS: Sequence[tuple[str, str, float, float]] = (
    ("128", "default", 3.5, 4.5),
    ("128", "own terms", 4.0, 5.5),
    ("1024", "default", 2.8, 4.0),
    ("16", "default", 5.0, 7.0),
)
"""Atoms, model, target and aim of energy and forces against torchani's calculator."""


def page(results: Results) -> str:
    """Markdown."""
    cpu = results["device"] == "cpu"
    return fill(
        str(Path(__file__).with_name("speed.py")),
        kind="CPU" if cpu else "GPU",
        machine=[
            *machine_lines(results["machine"]),
            f"- load average when it ended: {results['load_average_at_the_end']}",
        ],
        targets=["## Targets", "", *targets(results)] if cpu else "",
        calls=compared(results["calls"]),
        call_lists=lists(results["calls"]),
        training=compared(results["training"]),
        training_lists=lists(results["training"]),
        large=records(
            results["large"],
            {
                "atoms": "{atoms}",
                "ms": lambda job: job.get("error") or f"{job['ms']:.1f}",
                "ms an atom": lambda job: f"{job['ms'] / job['atoms']:.3f}" if "ms" in job else "",
                "MB above the loaded model": lambda job: f"{job['MB']:.0f}" if "MB" in job else "",
            },
        ),
        large_clock="process CPU time on one thread" if cpu else "wall time",
        starts=["## Starts", "", *starts(results["starts"])] if "starts" in results else "",
    )


def size(job: Results) -> str:
    return f"{job['frames']} x {job['atoms']}" if "frames" in job else str(job["atoms"])


def way(job: Results) -> str:
    """How it was timed."""
    threads = {1: " on one thread", 2: " on two threads", None: ""}[job["threads"]]
    return f"{job['clock']} time{threads}"


def compared(jobs: Sequence[Results]) -> list[str]:
    """A row for each size, way and contender."""
    rows = []
    for job in jobs:
        if "error" in job:
            rows.append((size(job), way(job), job["error"], *[""] * 6))
            continue
        for name, ms in job["times"].items():
            rows.append(
                (
                    size(job),
                    way(job),
                    NAMES[name],
                    f"{ms['median_ms']:.1f}",
                    f"{ms['min_ms']:.1f} – {ms['max_ms']:.1f}",
                    f"{ms['mean_ms']:.1f}",
                    ms["samples"],
                    factor(job["ratios"][name]),
                    factor(job["ratios_of_means"][name]),
                )
            )
    header = ("atoms", "timed by", "contender", "median, ms", "range", "mean", "samples")
    return table((*header, "× torchani", "by means"), rows)


def lists(jobs: Sequence[Results]) -> list[str]:
    """What each of torchani's neighbour lists did, first way of timing."""
    by_size = {size(job): job["torchani_lists"] for job in reversed(jobs) if "error" not in job}
    rows = [
        (name, *(f"{v:.0f}" if isinstance(v, float) else v for v in by_size[name].values()))
        for name in reversed(by_size)
    ]
    return table(("atoms", *next(iter(by_size.values()), {})), rows)


def targets(results: Results) -> list[str]:
    """Target, aim, measured by both ways, met or not by the first."""
    rows = []
    for atoms, model, target, aim in GOALS:
        what = f"E + F, {atoms} atoms, {NAMES[model].removeprefix('tlpot, ')}, against torchani"
        cpu, wall = measured(results["calls"], atoms, model)
        ratios = factor(cpu), factor(wall), verdict(cpu, target)
        rows.append((what, f"≥ {target} ×", f"{aim} ×", *ratios))
    steps = {
        size(job): job["times"]["default"]["median_ms"]
        for job in results["training"]
        if job["clock"] == "process CPU" and "times" in job
    }
    for name, before in EARLIER.items():
        what = f"training step, {name} atoms, default recipe, against {before:.0f} ms of 2026-11-28"
        ratio = before / steps[name] if name in steps else None
        rows.append((what, "≥ 2.5 ×", "3.5 ×", factor(ratio), "", verdict(ratio, 2.5)))
    kept = memory(results["memory"])
    shown = "–" if kept is None else f"{kept:.1f} kB"
    kept_verdict = verdict(kept and -kept, -40)
    rows.append(("memory kept an atom in training", "≤ 40 kB", "5 kB", shown, "", kept_verdict))
    for what, seconds, limit in start_rows(results.get("starts", {})):
        if limit:
            cpu, wall = seconds["process CPU"], seconds["wall"]
            times = f"{cpu:.2f} s", f"{wall:.2f} s", verdict(-cpu, -limit)
            rows.append((what, f"≤ {limit} s", "", *times))
    header = ("", "target", "aim", "CPU time, one thread", "wall time, two threads", "by CPU time")
    return table(header, rows)


def measured(jobs: Sequence[Results], atoms: str, model: str) -> list[float | None]:
    """Ratio of a model to torchani by CPU and by wall time."""
    ratios = {job["clock"]: job.get("ratios", {}) for job in jobs if size(job) == atoms}
    return [ratios.get(clock, {}).get(model) for clock in ("process CPU", "wall")]


def verdict(value: float | None, target: float) -> str:
    if value is None:
        return "not run"
    return "met" if value >= target else "**not met**"


def memory(jobs: Sequence[Results]) -> float | None:
    """kB that each further atom of the training set takes."""
    if len(jobs) < 2 or any("error" in job for job in jobs):
        return None
    few, many = jobs
    atoms = many["atoms"] * many["frames"] - few["atoms"] * few["frames"]
    return 1e3 * (many["peak_MB"] - few["peak_MB"]) / atoms


def start_rows(seconds: Mapping[str, Mapping[str, float]]) -> Iterator[tuple]:
    """What starts, its seconds by clock, and the most that it may take."""
    if not seconds:
        return
    bare = seconds["python"]
    above = {clock: seconds["import tlpot"][clock] - bare[clock] for clock in bare}
    yield "`python -c pass`", bare, None
    yield "`import tlpot`, above it", above, 0.1
    yield "`tlpot --help`", seconds["tlpot --help"], 1
    yield "`python -c 'import torch'`", seconds["import torch"], None
    yield "first E + F of a process, model file and warm cache", seconds["first E + F"], 2


def starts(seconds: Mapping[str, Mapping[str, float]]) -> list[str]:
    return table(
        ("process", "CPU time, s", "wall time, s"),
        [(what, *(f"{s:.2f}" for s in of.values())) for what, of, _ in start_rows(seconds)],
    )


def factor(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"
