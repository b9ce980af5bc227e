"""`tlpot relax`: structures from files, relaxed in shards that outlive an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from tlpot import __version__
from tlpot.data.constraints import fixed_components
from tlpot.data.crystals.read import Refused, read_each, require_some
from tlpot.data.find import Files
from tlpot.data.read import read_frames
from tlpot.data.tables.cells import table_text
from tlpot.data.write import to_text
from tlpot.errors import short_of_memory
from tlpot.files import write_whole
from tlpot.parallel.processes import LOCAL
from tlpot.parallel.shards import SHARD, in_shards, loaded
from tlpot.parallel.work import at_work, end_work
from tlpot.relax.relax import Relaxed, relax_each, require_crystals
from tlpot.relax.settings import Relaxation
from tlpot.run_log import log
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import density
from tlpot.structure.soundness import is_finite

RELAXED_SUMMARY = "summary.json"


@dataclass(frozen=True)
class RelaxedFolder:
    """What `relax_files` leaves when all structures are done.

    Attributes
    ----------
    folder
        The folder with ``relaxed.extxyz``, ``quarantine.extxyz``, ``relaxed.csv`` and
        ``summary.json``.
    relaxed
        Number of relaxed structures.
    quarantine
        Name and reason of each structure that was set aside.
    held
        Number of relaxed structures that have fixed atoms.
    """

    folder: Path
    relaxed: int
    quarantine: list[tuple[str, str]]
    held: int = 0


def relax_files(
    files: Files,
    model: str | Path,
    output: str | Path,
    settings: Relaxation | None = None,
    scheduler: str = LOCAL,
    workers: int = 1,
    device: str = "auto",
    shard: int = SHARD,
    on_structure: Callable[[int, int], None] = lambda done, total: None,
) -> RelaxedFolder:
    """Relax the structures in files and write a folder; a second call continues what was stopped.

    Parameters
    ----------
    files
        As for `tlpot.data.read.read_frames`. A file that cannot be read is set aside by itself.
    model
        As for `tlpot.model.load.load`. Each worker loads it.
    output
        A new folder, or one that an interrupted call with the same files, model and settings left.
    settings
        How to relax; by default positions and cell at zero pressure.
    scheduler, workers
        As for `tlpot.parallel.processes.as_done`.
    device
        As for `tlpot.model.load.load_onto`.
    shard
        Number of structures in a piece of work, which is what a worker that dies loses.
    on_structure
        Called as ``on_structure(done, total)``, in structures.

    Raises
    ------
    TlpotError
        If there is nothing to relax, if the folder holds something else, or if a piece of work
        failed for another reason than its structures; what is done is kept.
    """
    settings, folder = settings or Relaxation(), Path(output)
    settings.require_libraries()
    frames, unread = read_each(files)
    require_some(frames, unread)
    require_crystals(frames, settings)
    total = len(frames) + len(unread)
    with at_work(folder, RELAXED_SUMMARY):
        log.info("%d structures, model %s, device %s: %s", total, model, device, settings)
        paths = in_shards(
            *(relax_shard, frames, model, settings.model_dump(), folder),
            *(scheduler, workers, device, shard),
            on_structure=lambda done: on_structure(done + len(unread), total),
        )
        outcome = _finish(folder, paths, unread, model, settings)
        for name, reason in outcome.quarantine:
            log.info("set aside %s: %s", name, reason)
        log.info("%d structures relaxed", outcome.relaxed)
        return outcome


def relax_shard(
    model: str, device: str, settings: dict[str, Any], frames: list[Frame]
) -> Iterator[dict[int, str]]:
    """Relax some structures; the number and the text of each that ends."""
    with short_of_memory("lower --batch-atoms, take fewer workers, or another --device"):
        for ended in relax_each(frames, loaded(model, device), Relaxation(**settings)):
            yield {i: to_text(as_frame(relaxed, model)) for i, relaxed in ended.items()}


def as_frame(end: Relaxed, model: str) -> Frame:
    """The last geometry (the input, where that is not finite) with the model's labels."""
    notes: dict[str, object] = {
        "name": end.name,
        "reason": end.reason,
        "steps": end.steps,
        "energy_std": end.energy_std,
        "volume_before": _volume(end.start),
        "engine": f"tlpot {__version__}",
        "settings": f"model {model}",
    }
    atoms = end.atoms if is_finite(end.atoms) else end.start
    stated = {name: note for name, note in notes.items() if note is not None}
    return Frame(atoms, end.energy, end.forces, end.stress, info=stated)


def _finish(
    folder: Path,
    paths: list[Path],
    unread: list[Refused],
    model: str | Path,
    settings: Relaxation,
) -> RelaxedFolder:
    """One table and two files of structures out of all shards."""
    good: list[str] = []
    bad: list[str] = []
    rows: list[dict[str, object]] = []
    for path in paths:
        for frame in read_frames(path):
            reason = frame.info.get("reason")
            (bad if reason else good).append(to_text(frame))
            rows.append(_row(frame))
    rows += [{"name": x.name, "status": "set aside", "reason": x.reason} for x in unread]
    aside = [(str(r["name"]), str(r["reason"])) for r in rows if r["status"] != "relaxed"]
    write_whole(folder / "relaxed.extxyz", "".join(good))
    write_whole(folder / "quarantine.extxyz", "".join(bad))
    write_whole(folder / "relaxed.csv", table_text(RELAXED_COLUMNS, rows))
    summary = {
        "model": str(model),
        "settings": settings.model_dump(),
        "relaxed": len(good),
        "set_aside": len(aside),
    }
    write_whole(folder / RELAXED_SUMMARY, json.dumps(summary, indent=2) + "\n")
    end_work(folder)
    held = sum(bool(row.get("fixed_atoms")) and row["status"] == "relaxed" for row in rows)
    return RelaxedFolder(folder, len(good), aside, held)


RELAXED_COLUMNS = (
    *("name", "status", "reason", "formula", "atoms", "energy_eV", "energy_eV_per_atom"),
    *("energy_std_eV", "volume_A3", "volume_change", "density_g_cm3", "max_force_eV_per_A"),
    *("max_stress_GPa", "steps", "fixed_atoms"),
)
"""Of ``relaxed.csv``; the largest force is that on what is free."""


def _row(frame: Frame) -> dict[str, object]:
    atoms, info, reason = frame.atoms, frame.info, frame.info.get("reason")
    fixed = fixed_components(atoms)
    free = np.ones((len(atoms), 3)) if fixed is None else ~fixed
    row: dict[str, object] = {
        "name": info["name"],
        "status": "set aside" if reason else "relaxed",
        "reason": reason,
        "formula": frame.formula,
        "atoms": len(atoms),
        "steps": info.get("steps"),
        "energy_std_eV": info.get("energy_std"),
        "fixed_atoms": int((free == 0).any(axis=1).sum()),
    }
    if frame.energy is not None and frame.forces is not None:
        row["energy_eV"] = frame.energy
        row["energy_eV_per_atom"] = frame.energy / len(atoms)
        row["max_force_eV_per_A"] = np.linalg.norm(frame.forces * free, axis=1).max()
    if frame.stress is not None:
        row["max_stress_GPa"] = np.abs(frame.stress).max() / units.GPa
    if (volume := _volume(atoms)) is not None:
        row["volume_A3"] = volume
        row["density_g_cm3"] = density(atoms)
        row["volume_change"] = volume / float(str(info["volume_before"])) - 1
    return row


def _volume(atoms: Atoms) -> float | None:
    return float(atoms.get_volume()) if atoms.pbc.all() and atoms.cell.rank == 3 else None
