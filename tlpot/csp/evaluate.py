"""Structures as they are ranked: relaxed if asked, with the energy by every ensemble member."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from tlpot.csp.dispersion import dispersion
from tlpot.csp.landscape import Energies
from tlpot.csp.settings import Ranking
from tlpot.csp.thermo import Vibrations, vibrations
from tlpot.data.read import read_frames
from tlpot.data.write import to_text
from tlpot.model.potential import Potential, chunks
from tlpot.parallel.processes import LOCAL
from tlpot.parallel.shards import SHARD, STRUCTURES, Work, in_shards, loaded
from tlpot.relax.relax import Relaxed, relax_each
from tlpot.structure.frames import Frame

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with what is done and how many there are; yields what is to be told how many are done."""


@contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress that nobody sees."""
    yield lambda done: None


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One structure.

    Attributes
    ----------
    atoms
        The geometry that is ranked.
    energies
        ``(members,)`` eV; empty where there is a reason.
    reason
        Why it cannot be ranked; None: it can.
    """

    atoms: Atoms
    energies: np.ndarray
    reason: str | None = None


class Evaluate(Protocol):
    """Evaluates crystals, in order."""

    def __call__(self, frames: Sequence[Frame], *, progress: ProgressBar) -> list[Evaluated]:
        """Geometry and energies of each."""

    def vibrations(self, crystals: Sequence[Atoms], *, progress: ProgressBar) -> list[Vibrations]:
        """Phonons of each, as the settings of the ranking say."""


def energies_of(model: Potential, settings: Ranking) -> Energies:
    """The model's, with dispersion if the settings add it; errors as in `dispersion`."""
    if settings.dispersion is None:
        return Energies(model)
    return Energies(model, dispersion(settings.dispersion, model, settings.functional))


def evaluate_each(
    frames: Sequence[Frame], energies: Energies, settings: Ranking
) -> Iterator[dict[int, Evaluated]]:
    """Evaluate in this process; yields number and outcome of those that are done together."""
    if settings.relaxation is None:
        groups = _unrelaxed(frames)
    else:
        groups = relax_each(frames, energies.model, settings.relaxation, energies.extra)
    for group in groups:
        good = [i for i, end in group.items() if end.reason is None]
        totals = energies.members([group[i].atoms for i in good])
        outcomes = {i: Evaluated(end.atoms, np.empty(0), end.reason) for i, end in group.items()}
        yield outcomes | {
            i: Evaluated(group[i].atoms, total) for i, total in zip(good, totals, strict=True)
        }


def _unrelaxed(frames: Sequence[Frame]) -> Iterator[dict[int, Relaxed]]:
    """Structures as they are, some at a time."""
    number = count()
    for group in chunks(frames):
        pairs = zip(group, number, strict=False)
        yield {i: Relaxed(frame.name, frame.atoms, frame.atoms) for frame, i in pairs}


@dataclass(frozen=True)
class Here:
    """Evaluates in this process and keeps nothing."""

    energies: Energies
    settings: Ranking

    def __call__(self, frames: Sequence[Frame], *, progress: ProgressBar) -> list[Evaluated]:
        """Energies and geometries of crystals, in their order."""
        ends: dict[int, Evaluated] = {}
        with progress("evaluated", len(frames)) as advance:
            for ended in evaluate_each(frames, self.energies, self.settings):
                ends |= ended
                advance(len(ends))
        return [ends[i] for i in range(len(frames))]

    def vibrations(self, crystals: Sequence[Atoms], *, progress: ProgressBar) -> list[Vibrations]:
        """Harmonic free energies of crystals, in their order."""
        modes = []
        with progress("phonons", len(crystals)) as advance:
            for atoms in crystals:
                modes.append(_vibrations(atoms, self.energies, self.settings))
                advance(len(modes))
        return modes


@dataclass(frozen=True)
class Sharded:
    """Evaluates in shards that are kept in `folder` (`tlpot.parallel.shards.in_shards`).

    One local worker is this process, more are others; or Dask or Slurm.
    """

    model: str | Path
    settings: Ranking
    folder: Path
    scheduler: str
    workers: int
    device: str = "auto"
    shard: int = SHARD

    def __call__(self, frames: Sequence[Frame], *, progress: ProgressBar) -> list[Evaluated]:
        """Energies and geometries of crystals, in their order."""
        needed = {"relaxation", "dispersion", "functional"}
        with progress("evaluated", len(frames)) as advance:
            paths = self._paths(evaluate_shard, frames, needed, self.shard, advance, STRUCTURES)
        return [crystal for path in paths for crystal in _read(path)]

    def vibrations(self, crystals: Sequence[Atoms], *, progress: ProgressBar) -> list[Vibrations]:
        """Harmonic free energies of crystals, in their order."""
        frames = [Frame(atoms) for atoms in crystals]
        needed = {"dispersion", "functional", "phonons", "temperature", "supercell"}
        with progress("phonons", len(frames)) as advance:
            paths = self._paths(phonons_shard, frames, needed, 1, advance, "phonons")
        return [Vibrations(**json.loads(path.read_text())) for path in paths]

    def _paths(
        self,
        work: Work,
        frames: Sequence[Frame],
        needed: set[str],
        shard: int,
        advance: Callable[[int], None],
        what: str,
    ) -> list[Path]:
        return in_shards(
            work,
            frames,
            self.model,
            self.settings.model_dump(include=needed),
            self.folder,
            self.scheduler,
            self.workers,
            self.device,
            shard,
            advance,
            what,
            here=self.scheduler == LOCAL and self.workers == 1,
        )


def evaluate_shard(
    model: str, device: str, settings: dict[str, Any], frames: list[Frame]
) -> Iterator[dict[int, str]]:
    """Evaluate some structures; the number and the text of each that is done."""
    ranking = Ranking(**settings)
    for ended in evaluate_each(frames, energies_of(loaded(model, device), ranking), ranking):
        yield {i: _to_text(crystal) for i, crystal in ended.items()}


def phonons_shard(
    model: str, device: str, settings: dict[str, Any], frames: list[Frame]
) -> Iterator[dict[int, str]]:
    """Phonons of one crystal."""
    ranking = Ranking(**settings)
    energies = energies_of(loaded(model, device), ranking)
    for i, frame in enumerate(frames):
        yield {i: json.dumps(asdict(_vibrations(frame.atoms, energies, ranking))) + "\n"}


def _vibrations(atoms: Atoms, energies: Energies, settings: Ranking) -> Vibrations:
    return vibrations(atoms, energies, settings.temperature, settings.supercell)


def _to_text(crystal: Evaluated) -> str:
    notes: dict[str, object] = {
        "energies": np.atleast_1d(crystal.energies),
        "reason": crystal.reason,
    }
    return to_text(Frame(crystal.atoms, info=notes))


def _read(path: Path) -> Iterator[Evaluated]:
    for frame in read_frames(path):
        energies, reason = frame.info["energies"], frame.info["reason"]
        yield Evaluated(frame.atoms, energies, reason)  # type: ignore[arg-type]
