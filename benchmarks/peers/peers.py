"""MACE and PaiNN from scratch against fine-tuning: errors on the same frames for the same time.

Data: ``$TLPOT_DATA/x23/21_urea/train.traj`` (VASP, vdW-DF2), tlpot's split of seed 0, with all
training frames and with 25 of them. The peers (settings: ``peers/mace.yaml``,
``peers/graph_pes.yaml``) live in an environment of their own, which ``peers/requirements.txt``
tells how to make; name it by ``--venv`` or ``TLPOT_PEERS``. A peer that is not installed is a row
that says so. Every training keeps its folder under ``runs/peers``; one that is finished is not run
again, one that was cut short begins anew. What ``--models`` leaves out stays as it was committed.

Time is CPU time (user + system of the training process, one thread, from its start on), which
other jobs on the machine disturb little.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase.io
import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import CENTRED, ENERGY, FORCE, VECTOR, fill, table
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import X23
from tlpot import load
from tlpot.config.run import parse_config
from tlpot.evaluation.metrics import metrics
from tlpot.files import write_whole
from tlpot.finetuning.prepare import PreparedPotential, prepare
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame

HERE = Path(__file__).parent
NAMES = {
    "thesis": "tlpot, thesis preset",
    "default": "tlpot, default",
    "mace": "MACE from scratch",
    "mace-short": "MACE, schedule as short as tlpot's default",
    "graph-pes": "PaiNN (graph-pes) from scratch",
}
COLOURS = {
    "thesis": "#E69F00",
    "default": "#0072B2",
    "mace": "#D55E00",
    "mace-short": "#CC79A7",
    "graph-pes": "#009E73",
}
KEYS = {
    "energy RMSE, meV/atom": ENERGY,
    "centred": CENTRED,
    "force RMSE, meV/Å, per component": FORCE,
    "per vector": VECTOR,
}
LEVELS = {"energy": (2, (5.0, 2.0, 1.0, 0.7)), "force": (3, (100.0, 60.0, 40.0, 30.0))}
"""Column of the curve, and the validation errors whose time is told."""
FRACTIONS = {"few": 0.2, "all": 1.0}
EPOCHS = {
    "mace": {"all": 240, "few": 120},
    "mace-short": {"all": 40, "few": 18},
    "graph-pes": {"all": 80, "few": 200},
}
"""A whole schedule of each peer; `short`: one that costs about what tlpot's default costs."""
MODELS = ("default", "thesis", "graph-pes", "mace", "mace-short")
STAGE_ONE = 0.75
"""Share of MACE's epochs before stage two."""
MACE = re.compile(r"Epoch (\d+): .*RMSE_E_per_atom=\s*([\d.]+) meV, RMSE_F=\s*([\d.]+)")
GRAPH_PES = re.compile(r"^\s+(\d+)\s+[\d.]+\s+([\d.]+)\s+[\d.]+\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s")
TLPOT = """
import sys
from tlpot.finetuning.run import finetune
finetune(sys.argv[1], on_epoch=lambda row: print(
    f"Epoch {row['epoch']}: RMSE_E_per_atom={row['validation_energy_rmse_meV_per_atom']} meV, "
    f"RMSE_F={row['validation_force_rmse_meV_per_A_component']}", flush=True))
"""
PACKAGES = {
    "mace": ("mace-torch", "torch", "e3nn"),
    "graph-pes": ("graph-pes", "torch"),
    "sevennet": ("sevenn", "torch", "e3nn"),
    "pyscf": ("pyscf",),
}


def measure(given: argparse.Namespace) -> Iterator[Results]:
    venv, results = Path(given.venv).absolute(), {"crystal": given.crystal, "seed": given.seed}
    committed = STUDY.committed(given).get("frames", {})
    runs = given.runs / "peers"
    folders = {
        frames: {name: runs / f"{given.crystal}-{given.seed}-{frames}-{name}" for name in MODELS}
        for frames in FRACTIONS
    }
    results["frames"] = {
        frames: {name: committed.get(frames, {}).get(name, {}) | done(f) for name, f in of.items()}
        for frames, of in folders.items()
    }
    for frames in given.frames:
        for name in given.models:
            preset = "thesis" if name == "thesis" else "default"
            config = {
                "data": {
                    "files": [str(X23 / given.crystal / "train.traj")],
                    "split": {"test": 0.2, "seed": given.seed},
                    "train_fraction": FRACTIONS[frames],
                },
                "training": {"preset": preset, "seed": given.seed},
                "output": str(folders[frames][name]),
            }
            prepared = prepare(parse_config(config))
            results["frames"][frames][name] = train(prepared, name, frames, venv, given.seed)
            yield results


def done(folder: Path) -> Results:
    """What an earlier training found; nothing if there was none."""
    part = folder / "part.json"
    return json.loads(part.read_text()) if part.exists() else {}


def train(prepared: PreparedPotential, name: str, frames: str, venv: Path, seed: int) -> Results:
    """Test errors and learning curve of a model, from its folder if it was trained before."""
    folder = Path(prepared.config.output)
    if "curve" in (before := done(folder)):
        return before
    peer = name.removesuffix("-short")
    if peer in PACKAGES:
        versions = installed(peer, venv)
        if versions is None:
            return {"skipped": f"not installed in {venv}: see benchmarks/peers/requirements.txt"}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if peer in PACKAGES:
        for part, chosen in prepared.parts.items():
            write_labelled(folder / f"{part}.xyz", chosen)
        command = peer_command(peer, venv, EPOCHS[name][frames], seed)
    else:
        versions = None
        settings = prepared.config.model_copy(update={"output": "run"})
        (folder / "tlpot.yaml").write_text(settings.dump())
        command = [sys.executable, "-c", TLPOT, "tlpot.yaml"]
    print("training", folder, flush=True)
    began = time.perf_counter()
    curve = follow(command, folder, GRAPH_PES if peer == "graph-pes" else MACE)
    wall = time.perf_counter() - began
    test = prepared.parts["test"]
    predictions = predict(peer, venv, folder) if versions else tlpot_predict(prepared, folder)
    crystals = [i for i, frame in enumerate(test) if frame.kind == "crystal"]
    result = {
        "train_frames": len(prepared.parts["train"]),
        "epochs": len(curve),
        "cpu_seconds": curve[-1][1],
        "wall_seconds": wall,
        "test": metrics([test[i] for i in crystals], [predictions[i] for i in crystals]),
        "curve": curve,
        "versions": versions,
        "load_average": round(os.getloadavg()[0], 2),
    }
    write_whole(folder / "part.json", json.dumps(result))
    return result


def follow(command: Sequence[str], folder: Path, pattern: re.Pattern[str]) -> list[list[float]]:
    """Run to the end; per epoch: its number, CPU s so far, energy and force error as printed.

    Raises
    ------
    SystemExit
        If the training fails; its output is in ``log.txt``.
    """
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUNBUFFERED")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    curve, unit = [], 1e3 if pattern is GRAPH_PES else 1.0
    assert process.stdout is not None
    with process, (folder / "log.txt").open("w") as log:
        for line in process.stdout:
            log.write(line)
            if match := pattern.search(line):
                epoch, energy, force = map(float, match.groups())
                curve.append([epoch, cpu_seconds(process.pid), unit * energy, unit * force])
    if process.returncode or not curve:
        raise SystemExit(f"{folder}: training failed, see {folder / 'log.txt'}")
    return curve


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its ended children (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")


def peer_command(peer: str, venv: Path, epochs: int, seed: int) -> list[str]:
    """A training by the peer's own command line; paths are those in the part's folder."""
    files = ("train.xyz", "validation.xyz")
    if peer == "mace":
        options = {
            "config": HERE / "mace.yaml",
            "name": "mace",
            "train_file": files[0],
            "valid_file": files[1],
            "max_num_epochs": epochs,
            "start_stage_two": round(STAGE_ONE * epochs),
            "seed": seed,
        }
        words = [f"--{key}={value}" for key, value in options.items()]
        return [str(venv / "bin/mace_run_train"), *words]
    labels = "{REF_energy: energy, REF_forces: forces}"
    data = [
        f"data/{part}={{path: {file}, property_map: {labels}}}"
        for part, file in zip(("train", "valid"), files, strict=True)
    ]
    return [
        *(str(venv / "bin/graph-pes-train"), str(HERE / "graph_pes.yaml"), *data),
        *(f"fitting/trainer_kwargs/max_epochs={epochs}", f"general/seed={seed}"),
        *("general/root_dir=.", "general/run_id=graph-pes"),
    ]


def predict(peer: str, venv: Path, folder: Path) -> list[Prediction]:
    """The trained peer's word on the test frames."""
    model = {"mace": "mace_stagetwo.model", "graph-pes": "graph-pes/model.pt"}[peer]
    command = [venv / "bin/python", HERE / "predict.py", peer, model, "test.xyz", "test.json"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return answered(folder / "test.json")


def answered(path: Path) -> list[Prediction]:
    """A peer's energies and forces, from its file."""
    nothing = {"stress": None, "energy_std": 0.0, "energies": np.empty(0)}
    answers = json.loads(path.read_text())
    return [Prediction(x["energy"], np.array(x["forces"]), **nothing) for x in answers]


def tlpot_predict(prepared: PreparedPotential, folder: Path) -> list[Prediction]:
    """The fine-tuned potential's word on the test frames, of which it saw none."""
    split = json.loads((folder / "run" / "manifest.json").read_text())["split"]
    assert {part: split[part] for part in prepared.parts} == vars(prepared.splits)
    return load(folder / "run").predict(prepared.parts["test"])


def write_labelled(path: Path, frames: Sequence[Frame]) -> None:
    """Extended XYZ with the labels that tlpot uses, under keys that no reader interprets."""
    written = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.pbc = frame.kind == "crystal"
        atoms.info = {"REF_energy": frame.energy}
        if frame.stress is not None:
            atoms.info["REF_stress"] = frame.stress
        atoms.arrays["REF_forces"] = frame.forces
        written.append(atoms)
    ase.io.write(path, written, format="extxyz")


def installed(peer: str, venv: Path) -> dict[str, str] | None:
    """Versions of a peer's packages, None if it is not there."""
    code = f"import importlib.metadata as m; print(*map(m.version, {PACKAGES[peer]}))"
    python = venv / "bin/python"
    if not python.exists():
        return None
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return dict(zip(PACKAGES[peer], done.stdout.split(), strict=True))


def page(results: Results) -> str:
    parts = [part for entry in results["frames"].values() for part in entry.values()]
    versions = {k: v for part in parts for k, v in (part.get("versions") or {}).items()}
    return fill(
        __file__,
        results=results,
        sections=[line for name, of in results["frames"].items() for line in section(name, of)],
        versions=", ".join(f"{k} {v}" for k, v in versions.items()),
        machine=machine_lines(results["machine"]),
    )


def section(name: str, entry: Results) -> list[str]:
    done = {name: part for name, part in entry.items() if "curve" in part}
    if not done:
        return [f"## {name.capitalize()} training frames", "", "Not run.", ""]
    lines = [f"## {next(iter(done.values()))['train_frames']} training frames", ""]
    lines += [*test_errors(entry), "", *verdicts(done), ""]
    lines += ["CPU seconds until the *validation* error first falls below a level:", ""]
    return [*lines, *times(done), ""]


def test_errors(entry: Results) -> list[str]:
    header = ["model", "epochs", "CPU, s", *KEYS]
    rows = []
    for name, part in sorted(entry.items(), key=lambda item: [*NAMES].index(item[0])):
        if "curve" not in part:
            rows.append([NAMES[name], part.get("skipped", "not run"), *["–"] * (1 + len(KEYS))])
            continue
        errors = [f"{part['test'][key]:.2f}" for key in KEYS.values()]
        rows.append([NAMES[name], part["epochs"], f"{part['cpu_seconds']:.0f}", *errors])
    return table(header, rows)


def verdicts(done: Results) -> list[str]:
    """Each model's test errors and time against the default's."""
    if "default" not in done:
        return []
    default, lines = done["default"], []
    for name in (n for n in NAMES if n in done and n != "default"):
        part = done[name]
        energy, force = (part["test"][key] / default["test"][key] - 1 for key in (ENERGY, FORCE))
        time = part["cpu_seconds"] / default["cpu_seconds"]
        lines.append(
            f"- {NAMES[name]}, against tlpot's default: energy RMSE {100 * energy:+.0f} %, "
            f"force RMSE {100 * force:+.0f} %, {time:.1f} × the CPU time."
        )
    return lines


def times(done: Results) -> list[str]:
    levels = [
        (f"{kind} {level:g}", at, level) for kind, (at, all_) in LEVELS.items() for level in all_
    ]
    rows = []
    for name in (n for n in NAMES if n in done):
        curve = done[name]["curve"]
        first = [
            next((row[1] for row in curve if row[at] <= level), None) for _, at, level in levels
        ]
        rows.append([NAMES[name], *("–" if s is None else f"{s:.0f}" for s in first)])
    units = {"energy": "meV/atom", "force": "meV/Å"}
    header = [f"{label} {units[label.split()[0]]}" for label, _, _ in levels]
    return table(["model", *header], rows)


def draw(results: Results) -> Figure | None:
    """Validation error against CPU time, a star for the test error of the chosen model."""
    entries = [e for e in results["frames"].values() if any("curve" in p for p in e.values())]
    if not entries:
        return None
    figure = Figure(figsize=(5.2 * len(entries), 7), layout="constrained")
    axes = figure.subplots(2, len(entries), squeeze=False, sharex="col", sharey="row")
    for column, entry in enumerate(entries):
        done = {name: entry[name] for name in NAMES if "curve" in entry.get(name, {})}
        axes[0, column].set_title(f"{next(iter(done.values()))['train_frames']} training frames")
        for row, (key, at) in enumerate(((ENERGY, 2), (FORCE, 3))):
            axis = axes[row, column]
            for name, part in done.items():
                _, seconds, *_ = zip(*part["curve"], strict=True)
                errors, colour = [epoch[at] for epoch in part["curve"]], COLOURS[name]
                axis.plot(seconds, errors, color=colour, lw=1.3, label=NAMES[name])
                end = (part["cpu_seconds"], part["test"][key])
                axis.plot(*end, "*", ms=11, color=colour, mec="white", zorder=5)
            axis.set(xscale="log", yscale="log")
            axis.grid(alpha=0.3, which="both", lw=0.5)
        axes[1, column].set_xlabel("CPU time of training, s")
    axes[0, 0].set_ylabel("energy RMSE, meV/atom")
    axes[1, 0].set_ylabel("force RMSE, meV/Å per component")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    what = {"title": "lines: validation; stars: test", "title_fontsize": 8, "fontsize": 8}
    figure.legend(handles, labels, loc="outside lower center", ncols=2, **what)
    return figure


STUDY = Study(__file__, __doc__, page, draw, dpi=130)
add = STUDY.options.add_argument
add("--crystal", default="21_urea", help="of X23")
add("--frames", nargs="+", default=list(FRACTIONS), choices=list(FRACTIONS))
add("--models", nargs="+", default=list(MODELS), choices=MODELS)
add("--seed", type=int, default=0, help="of split and training")
add("--venv", default=os.environ.get("TLPOT_PEERS", ".venv-peers"), help="of the peers")

if __name__ == "__main__":
    STUDY.main(measure)
