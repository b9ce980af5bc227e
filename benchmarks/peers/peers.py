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

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from benchmarks.lib.machine import RESULTS, machine, write_results
from benchmarks.peers.report import page, picture
from tlpot.config import parse_config
from tlpot.evaluation.metrics import metrics
from tlpot.files import write_whole
from tlpot.frames import Frame
from tlpot.potential import load
from tlpot.prediction import Prediction
from tlpot.run import Prepared, prepare

HERE = Path(__file__).parent
RUNS = Path("runs/peers")
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
from tlpot.run import finetune
finetune(sys.argv[1], on_epoch=lambda row: print(
    f"Epoch {row['epoch']}: RMSE_E_per_atom={row['validation_energy_rmse_meV_per_atom']} meV, "
    f"RMSE_F={row['validation_force_rmse_meV_per_A_component']}", flush=True))
"""
PACKAGES = {"mace": ("mace-torch", "torch", "e3nn"), "graph-pes": ("graph-pes", "torch")}


def config(crystal: str, frames: str, preset: str, seed: int, output: Path) -> dict[str, Any]:
    file = Path(os.environ["TLPOT_DATA"]) / "x23" / crystal / "train.traj"
    return {
        "data": {
            "files": [str(file)],
            "split": {"test": 0.2, "seed": seed},
            "train_fraction": FRACTIONS[frames],
        },
        "training": {"preset": preset, "seed": seed},
        "output": str(output),
    }


def train(prepared: Prepared, name: str, frames: str, venv: Path, seed: int) -> dict[str, Any]:
    """Test errors and learning curve of a model, from its folder if it was trained before."""
    folder = Path(prepared.config.output)
    if "curve" in (before := finished(folder)):
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


def finished(folder: Path) -> dict[str, Any]:
    """What an earlier training found; nothing if there was none."""
    done = folder / "part.json"
    return json.loads(done.read_text()) if done.exists() else {}


def follow(command: Sequence[str], folder: Path, pattern: re.Pattern[str]) -> list[list[float]]:
    """Run to the end; per epoch: its number, CPU s so far, energy and force error as printed.

    Raises
    ------
    SystemExit
        If the training fails; its output is in ``log.txt``.
    """
    one = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUNBUFFERED")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | one,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    curve, unit = [], 1e3 if pattern is GRAPH_PES else 1.0
    assert process.stdout is not None
    with process, (folder / "log.txt").open("w") as log:
        for line in process.stdout:
            log.write(line)
            if found := pattern.search(line):
                epoch, energy, force = map(float, found.groups())
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
    nothing = {"stress": None, "energy_std": 0.0, "energies": np.empty(0)}
    answers = json.loads((folder / "test.json").read_text())
    return [Prediction(x["energy"], np.array(x["forces"]), **nothing) for x in answers]


def tlpot_predict(prepared: Prepared, folder: Path) -> list[Prediction]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystal", default="21_urea")
    parser.add_argument("--frames", nargs="+", default=FRACTIONS, choices=FRACTIONS)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seed", type=int, default=0, help="of split and training")
    parser.add_argument("--venv", default=os.environ.get("TLPOT_PEERS", ".venv-peers"))
    arguments = parser.parse_args()
    venv, seed, crystal = Path(arguments.venv).absolute(), arguments.seed, arguments.crystal
    results: dict[str, Any] = {"machine": machine(), "crystal": crystal, "seed": seed}
    folders = {
        frames: {name: RUNS / f"{crystal}-{seed}-{frames}-{name}" for name in MODELS}
        for frames in FRACTIONS
    }
    page_before = RESULTS / "peers.json"
    committed = json.loads(page_before.read_text())["frames"] if page_before.exists() else {}
    results["frames"] = {
        frames: {
            name: committed.get(frames, {}).get(name, {}) | finished(folder)
            for name, folder in of.items()
        }
        for frames, of in folders.items()
    }
    for frames in arguments.frames:
        for name in arguments.models:
            preset = "thesis" if name == "thesis" else "default"
            settings = config(crystal, frames, preset, seed, folders[frames][name])
            prepared = prepare(parse_config(settings))
            results["frames"][frames][name] = train(prepared, name, frames, venv, seed)
            write_results("peers", results, page(results))
            picture(results)


if __name__ == "__main__":
    main()
