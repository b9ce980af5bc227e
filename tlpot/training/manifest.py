"""What the manifest of every training holds: split, versions, inputs, hardware."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tlpot import __version__
from tlpot.config.data import Split
from tlpot.config.sections import Section
from tlpot.data.groups import IN_MEMORY
from tlpot.data.split import Splits
from tlpot.engine.threads import cores
from tlpot.files import sha256
from tlpot.model.file import located
from tlpot.structure.frames import Frame
from tlpot.training.freeze import LayerState

PACKAGES = ("torch", "torchani", "ase", "numpy", "vesin", "safetensors", "pydantic")


def common_part(
    split: Split,
    splits: Splits,
    layers: Sequence[LayerState],
    device: torch.device,
    processes: int,
    base: str | None,
) -> dict[str, Any]:
    """What every manifest holds, whatever is trained; times are filled in after training.

    ``inputs`` are the files that decide a run besides its data: the base's, if it is one.
    """
    files = [located(base)] if base is not None else []
    return {
        "inputs": {"base": [about_file(file) for file in files if file.is_file()]},
        "versions": versions(),
        "split": {"seed": split.seed, **vars(splits)},
        "hardware": hardware(device, processes),
        "seconds": None,
        "best_epoch": None,
        "trainable_parameters": {
            "total": sum(layer.parameters for layer in layers),
            "trainable": sum(layer.trained for layer in layers),
            "layers": [asdict(layer) for layer in layers],
        },
    }


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of Python, tlpot and those of the packages that are installed."""
    installed = {"python": platform.python_version(), "tlpot": __version__}
    for package in packages:
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def about_file(path: str | Path) -> dict[str, Any]:
    """A file's path and what identifies its content."""
    return {"path": str(path), "sha256": sha256(path)}


PLACES = ("files", "train", "validation", "test")
"""Fields of a config that list where something is."""
LISTED = 50
"""Files that a model file names at most."""


def recipe(config: Section) -> dict[str, Any]:
    """What a model file keeps of a config: nothing that says where files are."""

    def kept(value: Any) -> Any:
        if isinstance(value, list):
            return [kept(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        places = {k for k in PLACES if isinstance(value.get(k), list)} | {"table", "output"}
        return {k: kept(v) for k, v in value.items() if k not in places}

    values: dict[str, Any] = kept(config.model_dump(by_alias=True, mode="json"))
    if (base := values["model"]["base"]) is not None:
        values["model"]["base"] = located(base).name
    return values


def without_folders(about: Any) -> Any:
    """Of `about_file`, the name alone; of lists and mappings, in each."""
    if isinstance(about, Mapping):
        named = {"name": Path(about["path"]).name} if "path" in about else {}
        return named | {k: without_folders(v) for k, v in about.items() if k != "path"}
    return [without_folders(item) for item in about] if isinstance(about, list) else about


def about_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a model file keeps of a manifest's ``data``: no folders, nothing that was left out.

    Of many files their number alone; ``sha256`` is that of the hashes of all.
    """
    left_out = ("checked", "rejected", "refused")
    files = data["files"]
    hashes = "".join(sorted(file["sha256"] for file in files))
    about: dict[str, Any] = without_folders({k: v for k, v in data.items() if k not in left_out})
    about["files"] = about["files"] if len(files) <= LISTED else len(files)
    return about | {"sha256": hashlib.sha256(hashes.encode()).hexdigest()}


def about_frames(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """As `about_file`, of frames in memory: what identifies structures, labels and weights."""
    content = hashlib.sha256()
    for frame in frames:
        atoms, labels = frame.atoms, (frame.energy, frame.forces, frame.stress)
        arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        for value in (*arrays, *labels, frame.weight):
            content.update(b"-" if value is None else np.ascontiguousarray(value).tobytes())
        content.update(f"{frame.labels}{frame.part or ''}".encode())
    return [{"path": IN_MEMORY, "sha256": content.hexdigest(), "frames": len(frames)}]


def hardware(device: torch.device, processes: int) -> dict[str, Any]:
    """What a run ran on; nothing personal."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "processes": processes,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
