"""Label geometries with an engine, restartably: `tlpot label`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase import Atoms

from tlpot.config.data import Keys
from tlpot.config.run import Label
from tlpot.data.levels import FACTS, level
from tlpot.data.read import read_file
from tlpot.data.write import LABEL_KEYS, to_text, write_frames
from tlpot.errors import TlpotError, storage
from tlpot.files import append, make_folder
from tlpot.labelling.engines import Engine, EngineLabels
from tlpot.parallel.processes import LOCAL, as_done, require_scheduler
from tlpot.parallel.work import locked
from tlpot.structure.electrons import open_shell
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import find_flaw

STALE = (*FACTS, *LABEL_KEYS, "kpts", "converged", "incomplete", "machine_learned")
"""Notes about earlier labels, which new ones replace."""


@dataclass
class Summary:
    """What came of labelling.

    Attributes
    ----------
    output
        File of labelled frames.
    labelled, kept
        Frames labelled now, and found labelled from an earlier call.
    failed
        ``(frame, reason)`` of the frames that have no labels.
    """

    output: Path
    labelled: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames that are dealt with, labelled or failed."""
        return self.labelled + self.kept + len(self.failed)


class Ledger:
    """A file of labelled frames that grows frame by frame and survives being cut off.

    Parameters
    ----------
    path
        New, or written by an earlier call.
    engine, settings
        Recorded in every frame as ``info["engine"]`` and ``info["settings"]``.

    Raises
    ------
    TlpotError
        If the file holds frames that another engine or other settings labelled.
    """

    def __init__(self, path: str | Path, engine: str, settings: str) -> None:
        self.path = Path(path)
        self.notes = {"engine": engine, "settings": settings}
        self.frames: dict[bytes, Frame] = {}
        if self.path.suffix not in (".extxyz", ".xyz"):
            raise TlpotError(f"{path}: labelled frames are written as .extxyz; name such a file")
        if not self.path.exists():
            make_folder(self.path.parent)
            return
        whole = _whole(self.path)
        with TemporaryDirectory(prefix="tlpot-") as folder:
            source = self.path
            if whole < self.path.stat().st_size:
                source = Path(folder, self.path.name)
                source.write_bytes(self.path.read_bytes()[:whole])
            for frame in read_file(source, slice(None), Keys(), "free_energy") if whole else []:
                self._require_same_level(frame)
                self.frames[_key(frame.atoms)] = frame
        with storage(self.path):
            os.truncate(self.path, whole)

    def _require_same_level(self, frame: Frame) -> None:
        if level(frame.info) != level(self.notes):
            stated = ", ".join(level(frame.info) or ("no engine named",))
            raise TlpotError(
                f"{self.path}#{frame.index} was labelled by other means ({stated}) than "
                f"{', '.join(level(self.notes) or ())}, and levels never mix; name another "
                "--output, or take up the settings it was begun with"
            )

    def __contains__(self, atoms: Atoms) -> bool:
        return _key(atoms) in self.frames

    def add(self, frame: Frame) -> None:
        """Append one labelled frame; it is on disk when this returns."""
        text = to_text(replace(frame, info=frame.info | self.notes))
        append(self.path, text)
        self.frames[_key(frame.atoms)] = replace(frame, info=frame.info | self.notes)

    def sort(self, like: Sequence[Frame]) -> None:
        """Put the frames in the order of `like`; any others, from earlier calls, come first."""
        place = {_key(frame.atoms): i for i, frame in enumerate(like)}
        order = sorted(self.frames, key=lambda key: place.get(key, -1))
        if order != list(self.frames):
            write_frames(self.path, [self.frames[key] for key in order])


def label_frames(
    frames: Sequence[Frame],
    settings: Label,
    output: str | Path,
    workers: int = 1,
    on_frame: Callable[[Summary], None] = lambda summary: None,
    scheduler: str = LOCAL,
) -> Summary:
    """Compute labels of geometries, and write each frame as soon as it is done.

    Called again with the same output, it continues: labelled frames are kept, and frames that
    failed are tried again. A frame that fails or crashes the engine does not disturb the others.

    Parameters
    ----------
    frames
        Geometries; their labels are not used. Equal geometries are labelled once.
    settings
        The config's section ``label``.
    output
        An ``.extxyz`` file. The ``info`` of each frame keeps its notes and gains ``engine`` (with
        its version), ``settings`` and ``geometry`` (file and place that it came from).
    workers, scheduler
        As for `tlpot.parallel.processes.as_done`; local processes have one thread each unless
        ``OMP_NUM_THREADS`` says otherwise.
    on_frame
        Called after each frame.

    Raises
    ------
    TlpotError
        If the engine is not installed or refuses its settings, if `output` holds frames of another
        level of theory, if another process is at work on it, or if a frame has a note that no file
        can keep.
    """
    require_scheduler(scheduler)
    engine = Engine(settings)
    engine.check()
    with _alone(Path(output)):
        return _label(frames, engine, output, workers, on_frame, scheduler)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from a file, which is there meanwhile."""
    make_folder(path.parent)
    with storage(path):
        path.touch()
    with locked(path):
        try:
            yield
        finally:
            with suppress(OSError):
                if path.is_file() and not path.stat().st_size:
                    path.unlink()


def _label(
    frames: Sequence[Frame],
    engine: Engine,
    output: str | Path,
    workers: int,
    on_frame: Callable[[Summary], None],
    scheduler: str,
) -> Summary:
    ledger = Ledger(output, engine.name, engine.description)
    summary = Summary(ledger.path)
    todo: dict[bytes, Frame] = {}
    for frame in frames:
        if frame.atoms in ledger:
            summary.kept += 1
        elif reason := _unfit(frame):
            summary.failed.append((frame.name, reason))
        else:
            to_text(frame)  # complains now, not when it is labelled
            todo.setdefault(_key(frame.atoms), frame)
    on_frame(summary)
    waiting = list(todo.values())
    pieces = [(engine, frame.atoms) for frame in waiting]
    threads = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else 1
    for i, labels in as_done(label_one, pieces, scheduler, workers, attempts=1, threads=threads):
        if isinstance(labels, BaseException):
            reason = f"{type(labels).__name__}: {' '.join(str(labels).split())}"[:500]
            summary.failed.append((waiting[i].name, reason))
        else:
            ledger.add(labelled(waiting[i], labels.energy, labels.forces, labels.stress))
            summary.labelled += 1
        on_frame(summary)
    ledger.sort(frames)
    return summary


def label_one(engine: Engine, atoms: Atoms) -> EngineLabels:
    """What the engine says of one structure, in this process."""
    return engine.label(atoms)


def labelled(frame: Frame, energy: float, forces: np.ndarray, stress: np.ndarray | None) -> Frame:
    """The frame with new labels; notes about old ones go, its origin is noted."""
    info = {k: v for k, v in frame.info.items() if k not in STALE} | {"geometry": frame.name}
    return Frame(frame.atoms, energy, forces, stress, frame.source, frame.index, info)


def _unfit(frame: Frame) -> str | None:
    """Why no engine should be asked."""
    if flaw := find_flaw(frame.atoms, shortest=0.0):
        return str(flaw)
    if shell := open_shell(frame):
        return f"{shell}: tlpot labels neutral closed-shell structures"
    return None


def _key(atoms: Atoms) -> bytes:
    """What makes a geometry the same, with all its digits or the eight that older files have."""
    places = np.char.mod("%.8f", np.vstack([atoms.positions, atoms.cell.array]))
    return atoms.numbers.tobytes() + atoms.pbc.tobytes() + "".join(places.ravel()).encode()


def _whole(path: Path) -> int:
    """Bytes up to which frames are whole: all, but for a last one of ours that was cut off."""
    with path.open("rb") as file:
        whole = 0
        while (first := file.readline()).strip().isdigit():
            lines = [file.readline() for _ in range(int(first) + 1)]
            if not lines[-1].endswith(b"\n"):
                ours = b"engine=" in lines[0] or not lines[0].endswith(b"\n")
                return whole if ours else path.stat().st_size
            whole = file.tell()
    return path.stat().st_size
