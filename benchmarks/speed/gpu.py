"""Does tlpot work on this machine's GPU, and how fast? Ten minutes at most.

Tests, the speed table, a default fine-tuning of urea, runs that go on on another device, and a
batch relaxation; each in processes of its own with a time limit, so that one that fails costs
itself alone. Needs ANI-2x's weights where torchani finds them; the fine-tuning reads
``$TLPOT_DATA`` if it is set, else ``datasets/urea``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import ase.io
import torch
import yaml

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, FORCE, fill, records
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import X23
from benchmarks.speed import tables
from benchmarks.speed.contenders import UREA, urea
from tlpot.training.checkpoint import NAME as CHECKPOINT
from tlpot.training.trainer import HISTORY

ROOT = Path(__file__).parents[2]
TLPOT = [sys.executable, "-m", "tlpot"]
CRYSTALS = 32
"""To relax, of 16 and 32 atoms."""


class Failed(Exception):  # noqa: N818
    """What a part's process ended with."""


class Part:
    """The processes of one part, which share its time.

    Parameters
    ----------
    limit
        Seconds.
    """

    def __init__(self, given: argparse.Namespace, folder: Path, limit: float) -> None:
        self.device, self.quick, self.folder = given.device, given.quick, folder
        self.ends = time.monotonic() + limit

    def run(self, command: Sequence[str]) -> str:
        """Standard output of a process that succeeds.

        Raises
        ------
        Failed
            With the last line that it said; or if the part's time is over.
        """
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as running:
            try:
                output, messages = running.communicate(timeout=self.ends - time.monotonic())
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)  # its children too
                raise Failed("its time was over") from None
        if running.returncode:
            lines = [*output.splitlines(), *messages.splitlines()]
            raise Failed(f"exit code {running.returncode}: {(lines or ['nothing said'])[-1][:200]}")
        return output

    def finetune(self, config: Path, output: Path, *words: str) -> list[str]:
        """The command of a default fine-tuning, by `mini` if it must be quick."""
        base = ["model.base=mini"] if self.quick else []
        return [*TLPOT, "finetune", str(config), f"output={output}", *base, *words]


def tests(part: Part) -> Results:
    """The tests that need a GPU, or, to try the flow without one, those of devices."""
    chosen = ["-m", "gpu", "tests"] if part.device != "cpu" else ["-m", "gpu", "tests/training"]
    output = part.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen])
    return {"summary": output.splitlines()[-1].strip("= ")}


def speed(part: Part) -> Results:
    """The speed study there."""
    script = str(ROOT / "benchmarks/speed/speed.py")
    quick = ["--quick"] * part.quick
    command = [sys.executable, script, "--device", part.device, "--results", str(part.folder)]
    note: Results = {}
    try:
        part.run([*command, *quick])
    except Failed as error:
        if not any(part.folder.glob("speed-*.json")):
            raise
        note = {"passed": False, "summary": f"{error}; what there was by then is below"}
    (results,) = part.folder.glob("speed-*.json")
    return note | {"speed": json.loads(results.read_text())}


def finetuning(part: Part) -> Results:
    """A default fine-tuning of urea, as long as its time allows."""
    crystal = X23 / "21_urea/train.traj"
    files = str(crystal) if "TLPOT_DATA" in os.environ and crystal.is_file() else str(UREA)
    run, config = part.folder / "urea", part.folder / "urea.yaml"
    config.write_text(yaml.safe_dump({"data": {"files": [files]}, "model": {"base": "ani2x"}}))
    words = [f"training.device={part.device}", *["training.epochs=2"] * part.quick]
    started = time.perf_counter()
    try:
        part.run(part.finetune(config, run, *words))
    except Failed as error:
        if not (run / HISTORY).exists():
            raise
        done = epochs(run)
        return {"passed": False, "summary": f"{error}, after {done} epochs", "epochs": done}
    seconds = time.perf_counter() - started
    metrics = json.loads((run / "metrics.json").read_text())["finetuned"]["test"]
    return {
        "data": "/".join(Path(files).parts[-2:]),
        "seconds": seconds,
        "epochs": epochs(run),
        "energy_meV_per_atom": metrics[ENERGY],
        "force_meV_per_A": metrics[FORCE],
        "summary": f"{epochs(run)} epochs and report in {seconds:.0f} s; test errors "
        f"{metrics[ENERGY]:.2f} meV/atom, {metrics[FORCE]:.1f} meV/Å (component)",
    }


def epochs(run: Path) -> int:
    with (run / HISTORY).open() as history:
        return len(list(csv.DictReader(history)))


def resuming(part: Part) -> Results:
    """Runs of `mini` that are begun on one device, stopped, and finished on the other."""
    config = part.folder / "resume.yaml"
    settings = {"data": {"files": [str(UREA)]}, "model": {"base": "mini"}}
    config.write_text(yaml.safe_dump(settings | {"training": {"epochs": 12}}))
    lines = []
    for first, then in ((part.device, "cpu"), ("cpu", part.device)):
        run = part.folder / f"from-{first}-to-{then}-{len(lines)}"
        begun = [*TLPOT, "finetune", str(config), f"output={run}", f"training.device={first}"]
        stop_after_an_epoch(part, begun, run)
        done = epochs(run)
        part.run([*begun[:-1], f"training.device={then}", "--resume"])
        if epochs(run) != 12 or not (run / "metrics.json").exists():
            raise Failed(f"{first} to {then}: {epochs(run)} of 12 epochs, or no metrics.json")
        lines.append(f"{first} to {then} after {done} of 12 epochs")
    return {"summary": "; ".join(lines)}


def stop_after_an_epoch(part: Part, command: Sequence[str], run: Path) -> None:
    """End it, as a queue would, as soon as there is a checkpoint."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            while not (run / CHECKPOINT).exists() and running.poll() is None:
                if time.monotonic() > part.ends:
                    raise Failed("its time was over before the first epoch")
                time.sleep(0.05)
            running.terminate()
            running.wait(max(part.ends - time.monotonic(), 1.0))
        except (Failed, subprocess.TimeoutExpired):
            running.kill()
            raise Failed("it could not be stopped in its time") from None
    if not (run / CHECKPOINT).exists():
        raise Failed(f"the run to be stopped left no checkpoint (exit code {running.returncode})")


def relaxing(part: Part) -> Results:
    """`tlpot relax` of a folder of strained crystals, in batches."""
    crystals = part.folder / "crystals"
    crystals.mkdir()
    count = 4 if part.quick else CRYSTALS
    for seed in range(count):
        atoms = urea((1, 1, 1 + seed % 2), seed)
        atoms.set_cell(atoms.cell * (1.0 + 0.04 * seed / count), scale_atoms=True)
        ase.io.write(crystals / f"urea_{seed}.cif", atoms)
    model = "mini" if part.quick else "ani2x"
    output = part.folder / "relaxed"
    words = ["--model", model, "--device", part.device, "--output", str(output)]
    started = time.perf_counter()
    part.run([*TLPOT, "relax", str(crystals), *words, "--steps", "300"])
    seconds = time.perf_counter() - started
    relaxed = len(ase.io.read(output / "relaxed.extxyz", ":"))
    return {
        "crystals": count,
        "relaxed": relaxed,
        "seconds": seconds,
        "summary": f"{relaxed} of {count} crystals relaxed by {model} in {seconds:.0f} s, "
        "reading and writing included",
    }


PARTS: dict[str, tuple[Callable[[Part], Results], float]] = {
    "tests": (tests, 90.0),
    "resuming on another device": (resuming, 60.0),
    "batch relaxation": (relaxing, 60.0),
    "speed": (speed, 220.0),
    "default fine-tuning of urea": (finetuning, 160.0),
}
"""Each part's work and the seconds it may take: 590 in all."""


def measure(given: argparse.Namespace) -> Iterator[Results]:
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "no CUDA device here, so there is nothing to measure; start this on a machine that has "
            "one, or try the flow with --device cpu --quick --results FOLDER",
            file=sys.stderr,
        )
        raise SystemExit(2)
    results: Results = {"device": given.device, "parts": {}}
    for name, (work, limit) in PARTS.items():
        print(f"{name} …", flush=True)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = {"passed": True} | work(Part(given, Path(folder), given.slack * limit))
            except Exception as error:  # whatever it is, the other parts are measured
                outcome = {"passed": False, "summary": f"{type(error).__name__}: {error}"}
        outcome["wall_s"] = time.perf_counter() - started
        results["parts"][name] = outcome
        yield results


def page(results: Results) -> str:
    parts = results["parts"]
    measured = parts.get("speed", {}).get("speed")
    text = tables.page(measured | {"machine": results["machine"]}) if measured else ""
    return fill(
        __file__,
        device=results["device"],
        machine=machine_lines(results["machine"]),
        parts=records(
            [{"name": name, **part} for name, part in parts.items()],
            {
                "part": "{name}",
                "": lambda part: "passed" if part["passed"] else "**failed**",
                "s": "{wall_s:.0f}",
                "what it said": lambda part: part.get("summary", "below"),
            },
        ),
        speed=text[text.index("## ") :] if text else "",
    )


STUDY = Study(__file__, __doc__, page, names=("speed-gpu",), runs=False)
add = STUDY.options.add_argument
add("--device", default="cuda", help="cuda; or cpu, which tries the flow")
add("--quick", action="store_true", help="small models and few rounds, for trying it out")
add("--slack", type=float, default=1.0, help="times each part's time limit, on a slow machine")

if __name__ == "__main__":
    STUDY.main(measure)
