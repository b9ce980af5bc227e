"""VASP on the user's own cluster: write one folder a frame, read the results back."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import kpts2sizeandoffsets
from ase.io.vasp import read_vasp, write_vasp
from ase.io.vasp_parsers.incar_writer import generate_incar_lines

from tlpot.config.data import Keys
from tlpot.config.run import Label
from tlpot.data.compression import open_binary, plain_name
from tlpot.data.read import read_file
from tlpot.errors import MachineError, TlpotError
from tlpot.files import make_folder, write_whole
from tlpot.labelling.engines import describe
from tlpot.labelling.label import Ledger, Summary, labelled
from tlpot.parallel.work import at_work, begin_work, end_work
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import require_sound

INCAR: dict[str, Any] = {
    "GGA": "PE",
    "IVDW": 12,
    "PREC": "Accurate",
    "ENCUT": 520,
    "EDIFF": 1e-6,
    "NELM": 200,
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "LREAL": ".FALSE.",
    "NSW": 0,
    "IBRION": -1,
    "ISIF": 2,
    "LWAVE": ".FALSE.",
    "LCHARG": ".FALSE.",
}
"""PBE + D3(BJ), one point a folder; a tag in ``label.parameters`` takes the place of its own."""

KPTS = {"density": 2.0, "gamma": True}
"""k-points per Å⁻¹; as ``kpts`` in ``label.parameters``, which may also be a mesh [2, 2, 2]."""

VASP_VACUUM = 6.0
"""Å around a molecule without a cell."""

JOB_NOTE = "tlpot.json"
VASP_RESULTS = ("vasprun.xml", "outcar")
"""Plain names, packed or not; the first that is there is read."""
MOVED = 1e-3
"""Å by which VASP's geometry may differ from the POSCAR (OUTCAR rounds)."""

README = """\
One folder a frame: INCAR, KPOINTS, POSCAR. Add your POTCAR, its elements in the order of the
POSCAR's sixth line, run VASP in each folder, and bring vasprun.xml (or OUTCAR) back here. Then:

    tlpot label {folder} --collect --output labelled.extxyz
"""


def write_jobs(frames: Sequence[Frame], settings: Label, folder: str | Path) -> list[Path]:
    """Write ``<folder>/0000`` and so on, one for each frame; POTCAR is the user's.

    Raises
    ------
    TlpotError
        If the folder holds anything but these jobs, cut off, or a setting means nothing to VASP.
    """
    require_sound(frames)
    folder = Path(folder)
    jobs = [folder / f"{i:04d}" for i in range(len(frames))]
    names = [frame.name for frame in frames]
    with at_work(folder):
        begin_work(folder, {"jobs": {"frames": names, "settings": settings.model_dump()}})
        for job, frame in zip(jobs, frames, strict=True):
            make_folder(job)
            _write_job(job, frame, settings)
        write_whole(folder / "README.txt", README.format(folder=folder))
        end_work(folder)
    return jobs


def _write_job(job: Path, frame: Frame, settings: Label) -> None:
    tags, kpts = _parameters(settings)
    atoms = frame.atoms.copy()
    if atoms.cell.rank < 3:
        atoms.center(vacuum=VASP_VACUUM, axis=np.flatnonzero(~atoms.cell.any(1)))
    order = np.argsort(atoms.numbers, kind="stable")
    poscar = io.StringIO()
    write_vasp(poscar, atoms[order], direct=True)
    size, _ = kpts2sizeandoffsets(**kpts, atoms=frame.atoms)
    mesh = "Gamma" if kpts.get("gamma") else "Monkhorst-Pack"
    numbers = " ".join(map(str, size))
    info = {k: v for k, v in frame.info.items() if isinstance(v, str | int | float | bool)}
    note = {
        "geometry": frame.name,
        "info": info,
        "order": order.tolist(),
        "settings": describe({**tags, "kpts": settings.parameters.get("kpts", KPTS)}),
    }
    contents = {
        "POSCAR": poscar.getvalue(),
        "INCAR": f"{frame.name} (tlpot label)\n{generate_incar_lines(tags)}",
        "KPOINTS": f"{frame.name}\n0\n{mesh}\n{numbers}\n0 0 0\n",
        JOB_NOTE: json.dumps(note, indent=1) + "\n",
    }
    for name, content in contents.items():
        write_whole(job / name, content)


def _parameters(settings: Label) -> tuple[dict[str, Any], dict[str, Any]]:
    """INCAR tags, and k-points as ASE takes them."""
    given = dict(settings.parameters)
    kpts = given.pop("kpts", KPTS)
    kpts = kpts if isinstance(kpts, dict) else {"size": kpts}
    tags = INCAR | {key.upper(): _tag(value) for key, value in given.items()}
    return tags, kpts


def _tag(value: Any) -> Any:
    return f".{str(value).upper()}." if isinstance(value, bool) else value


def collect_jobs(folders: Sequence[str | Path], output: str | Path) -> Summary:
    """Labelled frames out of the folders of `write_jobs` in which VASP has run.

    Jobs that have not run, did not converge or belong to another geometry are reported as failed.
    Called again with the same output, it adds what is new.

    Raises
    ------
    TlpotError
        If a folder holds no jobs, or jobs (or `output`) are of different levels.
    """
    jobs = [job for folder in folders for job in _jobs(Path(folder))]
    notes = {job: json.loads((job / JOB_NOTE).read_text()) for job in jobs}
    levels = {note["settings"]: job for job, note in notes.items()}
    if len(levels) > 1:
        first, second = list(levels.values())[:2]
        raise TlpotError(
            f"{first} and {second} were written with different settings, and levels never mix; "
            "collect them into different files"
        )
    files = {job: _result(job) for job in jobs}
    run = next((file for file in files.values() if file), None)
    ledger = Ledger(output, "VASP" if run is None else _version(run), next(iter(levels)))
    summary = Summary(ledger.path)
    for job, file in files.items():
        note = notes[job]
        atoms = read_vasp(job / "POSCAR")[np.argsort(note["order"])]
        if atoms in ledger:
            summary.kept += 1
            continue
        result = "no vasprun.xml or OUTCAR yet" if file is None else _read(file, atoms, note)
        if isinstance(result, str):
            summary.failed.append((str(job), result))
        else:
            ledger.add(result)
            summary.labelled += 1
    return summary


def _jobs(folder: Path) -> list[Path]:
    folders = sorted(note.parent for note in folder.glob(f"**/{JOB_NOTE}"))
    if not folders:
        raise TlpotError(f"{folder}: holds no folders that `tlpot label --engine vasp` wrote")
    return folders


def _result(job: Path) -> Path | None:
    files = {plain_name(file): file for file in sorted(job.iterdir())}
    return next((files[name] for name in VASP_RESULTS if name in files), None)


def _version(file: Path) -> str:
    with open_binary(file) as opened:
        head = opened.read(4000).decode(errors="replace")
    number = re.search(r'(?:vasp\.|name="version"[^>]*>\s*)(\d[\w.]*)', head)
    return f"VASP {number[1].rstrip('.')}" if number else "VASP"


def _read(file: Path, atoms: Atoms, note: dict[str, Any]) -> Frame | str:
    """The labelled frame in its original order, or why there is none."""
    try:
        frame = read_file(file, slice(0, 1), Keys(), "free_energy")[0]
    except MachineError:
        raise
    except TlpotError as error:
        return str(error)
    if frame.energy is None or frame.forces is None:
        return str(frame.info.get("incomplete", "no energy and forces"))
    if frame.info.get("converged") is False:
        return "the electronic steps did not converge"
    back = np.argsort(note["order"])
    theirs = frame.atoms[back]
    if list(theirs.symbols) != list(atoms.symbols) or _apart(theirs, atoms) > MOVED:
        return f"{file.name} shows another geometry than the POSCAR beside it"
    source, _, index = note["geometry"].rpartition("#")
    bare = Frame(atoms, source=source, index=int(index), info=note["info"])
    return labelled(bare, frame.energy, frame.forces[back], frame.stress)


def _apart(first: Atoms, second: Atoms) -> float:
    """Largest difference of cells and of positions, images aside, Å."""
    shift = first.get_scaled_positions(wrap=False) - second.get_scaled_positions(wrap=False)
    moved = (shift - shift.round()) @ second.cell.array
    return float(max(np.abs(moved).max(), np.abs(first.cell.array - second.cell.array).max()))
