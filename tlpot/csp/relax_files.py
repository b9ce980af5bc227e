"""`tlpot relax`: structures from files, relaxed in shards that outlive an interruption."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from tlpot.csp.relax import Relaxation, Relaxed, relax
from tlpot.csp.structures import Refused, read_each, require_some
from tlpot.data.read import Files, read_frames
from tlpot.data.write import to_text
from tlpot.errors import TlpotError
from tlpot.files import write_whole
from tlpot.frames import Frame
from tlpot.potential import Potential, load, load_onto
from tlpot.scale import LOCAL, as_done

SHARD = 64
"""Structures that are relaxed, written and lost together."""

DENSITY = 1e24 / units.mol
"""u/Å³ in g/cm³."""


@dataclass(frozen=True)
class Outcome:
    """What is in the folder when all is done.

    Attributes
    ----------
    folder
        With ``relaxed.extxyz``, ``quarantine.extxyz``, ``relaxed.csv`` and ``summary.json``.
    relaxed
        How many structures are good.
    quarantine
        ``(name, reason)`` of the others.
    """

    folder: Path
    relaxed: int
    quarantine: list[tuple[str, str]]


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
) -> Outcome:
    """Relax what the files hold and write a folder; call again to go on after an interruption.

    Parameters
    ----------
    files
        As for `tlpot.data.read.read_frames`. A file that cannot be read is set aside by itself.
    model
        As for `tlpot.potential.load`; workers load it themselves.
    output
        New, or left by an interrupted call with the same files, model and settings.
    scheduler, workers
        As for `tlpot.scale.as_done`.
    device
        As for `tlpot.potential.load_onto`.
    shard
        Structures to a piece of work. A process that dies costs the piece that it had.
    on_structure
        Called with the number of structures done and of all.

    Raises
    ------
    TlpotError
        If there is nothing to relax, the folder holds something else, or a shard failed for
        another reason than its structures; what is done is kept.
    """
    settings, folder = settings or Relaxation(), Path(output)
    model = str(Path(model).absolute() if Path(model).exists() else model)
    frames, unread = read_each(files)
    require_some(frames, unread)
    pieces = [frames[i : i + shard] for i in range(0, len(frames), shard)]
    identity = _identity(frames, model, settings, shard)
    _begin(folder, identity)
    paths = [folder / "shards" / f"{i:06d}.extxyz" for i in range(len(pieces))]
    todo = [i for i, path in enumerate(paths) if not path.exists()]
    total, done = len(frames) + len(unread), len(frames) + len(unread)
    done -= sum(len(pieces[i]) for i in todo)
    on_structure(done, total)
    failed: dict[int, str] = {}
    work = [(model, device, settings, pieces[i], str(paths[i])) for i in todo]
    for n, result in as_done(relax_shard, work, scheduler, workers):
        if isinstance(result, TlpotError):
            raise result
        if isinstance(result, BaseException):
            failed[todo[n]] = str(result) or type(result).__name__
        else:
            done += len(pieces[todo[n]])
            on_structure(done, total)
    if failed:
        i, why = next(iter(failed.items()))
        raise TlpotError(
            f"{len(failed)} of {len(pieces)} shards failed, first that of {pieces[i][0].name} and "
            f"the {len(pieces[i]) - 1} after it: {why}. What is done is kept; run the same "
            "command again"
        )
    return _finish(folder, paths, unread, identity)


def relax_shard(
    model: str, device: str, settings: Relaxation, frames: list[Frame], path: str
) -> None:
    """Relax some structures in this process and write them to one file, whole or not at all."""
    found = relax(frames, _loaded(model, device), settings)
    write_whole(path, "".join(to_text(as_frame(one, model)) for one in found))


def as_frame(one: Relaxed, model: str) -> Frame:
    """The last geometry (the input, where that is not finite) with the model's labels."""
    sound = np.isfinite(one.atoms.positions).all() and np.isfinite(one.atoms.cell.array).all()
    notes: dict[str, object] = {
        "name": one.name,
        "reason": one.reason,
        "steps": one.steps,
        "energy_std": one.energy_std,
        "volume_before": _volume(one.start),
        "engine": f"tlpot {version('tlpot')}",
        "settings": f"model {model}",
    }
    atoms = one.atoms if sound else one.start
    return Frame(atoms, one.energy, one.forces, one.stress, info=notes)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> Potential:
    """Of this process: its shards share the model."""
    return load_onto(model, device)


def _identity(
    frames: Sequence[Frame],
    model: str,
    settings: Relaxation,
    shard: int,
) -> dict[str, Any]:
    """What makes two calls the same."""
    geometry = hashlib.sha256()
    for frame in frames:
        for array in (frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array):
            geometry.update(np.ascontiguousarray(array).tobytes())
    load(model)  # complains now, not in every worker
    file = Path(model) / "model.safetensors" if Path(model).is_dir() else Path(model)
    weights = file.read_bytes() if file.is_file() else model.encode()
    return {
        "structures": len(frames),
        "geometry": geometry.hexdigest(),
        "model": hashlib.sha256(weights).hexdigest(),
        "settings": settings.model_dump(),
        "shard": shard,
    }


def _begin(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder, or make sure that it is one to go on with."""
    note = folder / "summary.json"
    if note.exists():
        there = json.loads(note.read_text())
        if there.get("finished"):
            raise TlpotError(f"{folder} holds a finished relaxation; name another folder")
        differs = [k for k in identity if there.get(k) != identity[k]]
        if differs:
            raise TlpotError(
                f"{folder} was begun with other {', '.join(differs)}; name another folder, or "
                "run the command that began it"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TlpotError(f"{folder} exists already and is no interrupted relaxation; name another")
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    write_whole(note, json.dumps(identity | {"finished": False}, indent=2) + "\n")


def _finish(
    folder: Path, paths: list[Path], unread: list[Refused], identity: dict[str, Any]
) -> Outcome:
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
    table = io.StringIO()
    writer = csv.DictWriter(table, list(COLUMNS), restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "relaxed.csv", table.getvalue())
    summary = identity | {"finished": True, "relaxed": len(good), "set_aside": len(aside)}
    write_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    shutil.rmtree(folder / "shards")
    return Outcome(folder, len(good), aside)


COLUMNS = (
    *("name", "status", "reason", "formula", "atoms", "energy_eV", "energy_eV_per_atom"),
    *("energy_std_eV", "volume_A3", "volume_change", "density_g_cm3", "max_force_eV_per_A"),
    *("max_stress_GPa", "steps"),
)


def _row(frame: Frame) -> dict[str, object]:
    atoms, info, reason = frame.atoms, frame.info, frame.info.get("reason")
    row: dict[str, object] = {
        "name": info["name"],
        "status": "set aside" if reason else "relaxed",
        "reason": reason,
        "formula": frame.formula,
        "atoms": len(atoms),
        "steps": info.get("steps"),
        "energy_std_eV": info.get("energy_std"),
    }
    if frame.energy is not None and frame.forces is not None:
        row["energy_eV"] = frame.energy
        row["energy_eV_per_atom"] = frame.energy / len(atoms)
        row["max_force_eV_per_A"] = np.linalg.norm(frame.forces, axis=1).max()
    if frame.stress is not None:
        row["max_stress_GPa"] = np.abs(frame.stress).max() / units.GPa
    if (volume := _volume(atoms)) is not None:
        row["volume_A3"], row["density_g_cm3"] = volume, atoms.get_masses().sum() / volume * DENSITY
        row["volume_change"] = volume / float(str(info["volume_before"])) - 1
    return row


def _volume(atoms: Atoms) -> float | None:
    return float(atoms.get_volume()) if atoms.pbc.all() and atoms.cell.rank == 3 else None
