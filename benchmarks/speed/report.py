"""The results of `speed` as Markdown: targets first, then every table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.lib.machine import machine_lines, table

Results = Mapping[str, Any]

NAMES = {
    "tlpot": "tlpot, the same work",
    "tlpot, default recipe": "tlpot, default recipe (every member's own loss, stress, EMA, clip)",
    "torchani": "torchani 2.9, best list",
    "torchani stacked": "torchani 2.9, best list, its inference networks",
    "origin": "the origin's way (torchani 2.9)",
    "origin 2.2.4": "the origin's way (its own torchani)",
    "its products": "tlpot's matrix products alone",
}


def report(results: Results) -> str:
    """The whole page."""
    lines = [f"# Speed on {'a GPU' if results['device'] == 'cuda' else 'a CPU'}", ""]
    lines += machine_lines(results["machine"])
    for title, part in (
        ("Targets", targets(results)),
        ("Training step", _training(results)),
        ("Floor of a training step", _floor(results)),
        ("Where a training step's time goes (128 atoms)", _profile(results)),
        ("Energy and forces through the ASE calculator", _calculator(results)),
        ("Molecular dynamics", _dynamics(results)),
        ("Time to the thesis preset's error on urea", _accuracy(results["accuracy"])),
        ("Peak memory", _memory(results)),
        ("Linear scaling of energy and forces", _scaling(results)),
        ("How it was measured", METHOD),
    ):
        lines += ["", f"## {title}", "", *part]
    return "\n".join(lines)


def targets(results: Results) -> list[str]:
    """Target, measured, met or not."""
    training, calls = results["training"], results["calculator"]
    step = training["128"]["ratios"]
    rows = [
        ("training step, 128 atoms, against the origin's way", 6, step["origin"]),
        ("training step, 128 atoms, against torchani 2.9", 5, step["torchani"]),
        ("E + F, 128 atoms, against torchani's calculator", 2.5, _worst(calls, "128")),
        ("E + F, 1024 atoms, against torchani's calculator", 3, _worst(calls, "1024")),
        (
            "time to the thesis preset's error, against the origin's way",
            15,
            results["accuracy"].get("ratio"),
        ),
    ]
    if results["device"] == "cuda":
        many = training["16 x 128"]["ratios"]["torchani"]
        rows.append(("GPU: training step, 16 frames of 128 atoms, against torchani", 8, many))
    lines = [
        (what, f"≥ {goal} ×", _times(value), _met(None if value is None else value >= goal))
        for what, goal, value in rows
    ]
    over = training["128"]["floor"]["tlpot_over_floor"]
    what = "training step, 128 atoms, against the floor"
    lines.insert(2, (what, "≤ 2 ×", _times(over), _met(over <= 2)))
    return table(("", "target", "measured", ""), lines)


def _worst(calls: Results, atoms: str) -> float | None:
    """The less flattering of the ratio of medians of pairs and the ratio of means."""
    if atoms not in calls:
        return None
    return min(calls[atoms][kind]["torchani"] for kind in ("ratios", "ratios_of_means"))


def _training(results: Results) -> list[str]:
    lines = _times_table(results["training"], "its products", "sgemm")
    own = results["training"]["128"]["origin_versions"]
    if own is None:
        lines += ["", "The origin's own torchani 2.2.4 was not run (`--origin-venv`)."]
    else:
        versions = ", ".join(f"{name} {value}" for name, value in own.items())
        lines += ["", f"The origin's own torchani: {versions}."]
    return lines + _lists(results["training"])


def _floor(results: Results) -> list[str]:
    rows = []
    for name, part in results["training"].items():
        floor, own = part["floor"], part["times"]["its products"]
        rows.append(
            (
                name,
                f"{floor['gflop']:.2f}",
                f"{floor['sgemm_gflop_per_s']:.0f}",
                _ms(floor["floor"]),
                _ms(own),
                _ms(part["times"]["tlpot"]),
                _times(floor["tlpot_over_floor"]),
                _times(floor["tlpot_over_its_products"]),
            )
        )
    header = (
        "atoms",
        "GFLOP",
        "sgemm, GFLOP/s",
        "floor, ms",
        "its products in torch, ms",
        "tlpot's step, ms",
        "over floor",
        "over products",
    )
    return [
        "Floor: floating-point operations of the step's matrix products (first layers 5, others 6 "
        "products each; active columns only) at the rate of a big square product. Beside it, the "
        "products in their own shapes, as torch does them.",
        "",
        *table(header, rows),
    ]


def _profile(results: Results) -> list[str]:
    profile = results["profile"]
    total = profile["profiled_step_ms"]
    rows = [(n, f"{ms:.2f}", f"{ms / total:.0%}") for n, ms in profile["rows_ms"].items()]
    return [
        f"A step takes {profile['step_ms']:.1f} ms, with the profiler watching {total:.1f} ms.",
        "",
        *table(("what", "ms", "share"), rows),
    ]


def _calculator(results: Results) -> list[str]:
    return [
        *_times_table(results["calculator"]),
        "",
        "Means hold the neighbour lists that are rebuilt on the way; targets are judged by the "
        "smaller of the two ratios.",
        *_lists(results["calculator"]),
    ]


def _dynamics(results: Results) -> list[str]:
    part = results["dynamics"]
    rows = [
        (
            NAMES[name],
            f"{1e3 / t['mean_ms']:.1f}",
            f"{t['mean_ms']:.1f}",
            _times(part["ratios_of_means"].get(name, 1.0)),
        )
        for name, t in part["times"].items()
    ]
    header = ("128 atoms, Langevin, 0.5 fs, 300 K", "steps/s", "ms a step", "tlpot is faster by")
    return table(header, rows)


def _accuracy(part: Results) -> list[str]:
    if "skipped" in part:
        return [f"Not run: {part['skipped']}."]
    origin, default = part["origin"], part["default"]
    energy, force = part["target"].values()
    state = "first reached both" if default["reached"] else "**did not reach both**; its last"
    lines = [
        f"- The thesis preset (in tlpot, {part['thesis_preset_in_tlpot_s']:.0f} s with report; "
        f"best epoch {part['thesis_best_epoch']}) ends at {energy:.2f} meV/atom and {force:.1f} "
        "meV/Å (component) on the test frames.",
        f"- tlpot's default {state} after {default['seconds']:.1f} s (epoch {default['epoch']}), "
        f"reading, checking and keeping the data included: "
        + ", ".join(f"{v:.2f}" for v in default["errors"].values())
        + ".",
        f"- The origin's way takes {origin['seconds_per_epoch']:.1f} s an epoch "
        f"({origin['frames']} frames, batch {origin['batch_size']}); {origin['epochs']} epochs are "
        f"{origin['extrapolated_s']:.0f} s, **extrapolated** from {origin['measured_epochs']} "
        "epoch without validation.",
    ]
    if default["reached"]:
        lines.append(
            f"- Ratio: {_times(part['ratio'])}; counted only to the epoch whose weights the thesis "
            f"preset keeps: {_times(part['ratio_to_best_epoch'])}."
        )
    return lines


def _memory(results: Results) -> list[str]:
    rows = []
    for job in results["memory"]:
        task = "training step" if job["task"] == "train" else "E + F"
        if "error" in job:
            found = [job["error"], ""]
        else:
            found = [f"{job['peak_MB']:.0f}", f"{job['peak_MB'] - job['before_MB']:.0f}"]
        rows.append((math.prod(job["repeat"]) * 16, task, NAMES[job["contender"]], *found))
    kept = results["training"]["128"]["kept_kB_per_atom"]
    return [
        *table(("atoms", "task", "contender", "peak, MB", "above the loaded model, MB"), rows),
        "",
        f"In training, tlpot keeps {kept:.0f} kB for every atom of the training set besides "
        "(128 atoms a frame; up to `training.keep_gb`).",
    ]


def _scaling(results: Results) -> list[str]:
    jobs = [job for job in results["scaling"] if "error" not in job]
    rows = [
        (
            job["atoms"],
            f"{job['ms']:.1f}",
            f"{job['ms'] / job['atoms']:.3f}",
            f"{(job['peak_MB'] - job['before_MB']) / job['atoms'] * 1e3:.0f}",
        )
        for job in jobs
    ]
    rows += [
        (math.prod(j["repeat"]) * 16, j["error"], "", "")
        for j in results["scaling"]
        if "error" in j
    ]
    lines = table(("atoms", "ms", "ms an atom", "kB an atom above the loaded model"), rows)
    if len(jobs) > 1:
        first, last = jobs[0], jobs[-1]
        power = math.log(last["ms"] / first["ms"]) / math.log(last["atoms"] / first["atoms"])
        lines += ["", f"Time grows as atoms^{power:.2f} from the first row to the last."]
    return lines


def _times_table(parts: Results, *left_out: str) -> list[str]:
    rows = []
    for name, part in parts.items():
        for contender, times in part["times"].items():
            if contender in left_out:
                continue
            ratio, mean = (part[k].get(contender) for k in ("ratios", "ratios_of_means"))
            rows.append(
                (
                    name,
                    NAMES[contender],
                    f"{times['median_ms']:.1f}",
                    f"{times['min_ms']:.1f} – {times['max_ms']:.1f}",
                    f"{times['mean_ms']:.1f}",
                    times["samples"],
                    _times(ratio),
                    _times(mean),
                )
            )
    header = (
        "atoms",
        "contender",
        "median, ms",
        "range",
        "mean",
        "samples",
        "tlpot is faster by",
        "by means",
    )
    return table(header, rows)


def _lists(parts: Results) -> list[str]:
    """What each of torchani's neighbour lists did."""
    lines = ["", "torchani's neighbour lists (ms, or why out; the fastest right one competes):", ""]
    names = next(iter(parts.values()))["torchani_lists"]
    rows = []
    for size, part in parts.items():
        found = part["torchani_lists"]
        cells = [f"{v:.0f}" if isinstance(v, float) else v for v in found.values()]
        rows.append((size, *cells))
    return lines + table(("atoms", *names), rows)


def _ms(times: Results) -> str:
    return f"{times['median_ms']:.1f}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


def _met(met: bool | None) -> str:
    return "not run" if met is None else ("met" if met else "**not met**")


METHOD = [
    "- Urea supercells, 16 to 1024 atoms, float32, ANI-2x with its eight members. `a x b` atoms: a "
    "frames of b atoms in one step; the others are one frame.",
    "- The contenders of a size take turns in one process; ratios are medians over rounds of the "
    "two times of the same round. A training sample is several steps in a row, for all of them.",
    "- tlpot's step is its trainer's, by the trainer's own clock: joining the kept frames, loss, "
    "gradient, clipping, AdamW, schedule, EMA and the epoch's copy of the best weights. "
    "Descriptors are computed once before (`keep`) and not in the time. The others compute "
    "theirs in every step, and have neither clipping nor EMA.",
    "- torchani: frames of a step joined into one network pass, fused AdamW, its neighbour list "
    "made anew in every training step. Its stacked networks (`to_infer_model`) are meant for "
    "inference and fail on a torch without CUDA, which we mend here; they are shown, but targets "
    "are judged against its networks as they are.",
    "- The origin's way is written by us after its description: torchani's default neighbour list, "
    "one frame at a time, torch's default AdamW on all weights.",
    "- Calculators see the positions of an MD at 300 K, 0.5 fs a step, and are asked once for "
    "energy and forces together; tlpot's also returns stress and the ensemble's spread.",
    "- Memory and scaling: one process for each row; the scaling rows rebuild no neighbour list.",
]
