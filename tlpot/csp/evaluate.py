"""Structures as they are ranked: relaxed if asked, with the energy by every ensemble member."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
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
from tlpot.files import write_whole
from tlpot.model.potential import Potential
from tlpot.parallel.processes import LOCAL
from tlpot.parallel.shards import SHARD, STRUCTURES, Work, in_shards, loaded
from tlpot.relax.relax import relax
from tlpot.structure.frames import Frame

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
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

    def __call__(self, frames: Sequence[Frame], *, progress: Progress) -> list[Evaluated]:
        """Geometry and energies of each."""

    def vibrations(self, crystals: Sequence[Atoms], *, progress: Progress) -> list[Vibrations]:
        """Phonons of each, as the settings of the ranking say."""


def energies_of(model: Potential, settings: Ranking) -> Energies:
    """The model's, with dispersion if the settings add it; errors as in `dispersion`."""
    if settings.dispersion is None:
        return Energies(model)
    return Energies(model, dispersion(settings.dispersion, model, settings.functional))


def evaluate(
    frames: Sequence[Frame], energies: Energies, settings: Ranking, progress: Progress = silent
) -> list[Evaluated]:
    """In this process."""
    nothing = np.empty(0)
    found = [Evaluated(frame.atoms, nothing) for frame in frames]
    if settings.relaxation is not None:
        with progress("relaxed", len(frames)) as advance:
            minima = relax(frames, energies.model, settings.relaxation, advance, energies.extra)
        found = [Evaluated(one.atoms, nothing, one.reason) for one in minima]
    good = [i for i, one in enumerate(found) if one.reason is None]
    with progress("energies", len(good)) as advance:
        totals = energies.members([found[i].atoms for i in good], advance)
    for i, total in zip(good, totals, strict=True):
        found[i] = Evaluated(found[i].atoms, total)
    return found


@dataclass(frozen=True)
class Here:
    """Evaluates in this process and keeps nothing."""

    energies: Energies
    settings: Ranking

    def __call__(self, frames: Sequence[Frame], *, progress: Progress) -> list[Evaluated]:
        """Energies and geometries of crystals, in their order."""
        return evaluate(frames, self.energies, self.settings, progress)

    def vibrations(self, crystals: Sequence[Atoms], *, progress: Progress) -> list[Vibrations]:
        """Harmonic free energies of crystals, in their order."""
        found = []
        with progress("phonons", len(crystals)) as advance:
            for atoms in crystals:
                found.append(_vibrations(atoms, self.energies, self.settings))
                advance(len(found))
        return found


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

    def __call__(self, frames: Sequence[Frame], *, progress: Progress) -> list[Evaluated]:
        """Energies and geometries of crystals, in their order."""
        how = {"relaxation", "dispersion", "functional"}
        with progress("evaluated", len(frames)) as advance:
            paths = self._paths(evaluate_shard, frames, how, self.shard, advance, STRUCTURES)
        return [one for path in paths for one in _read(path)]

    def vibrations(self, crystals: Sequence[Atoms], *, progress: Progress) -> list[Vibrations]:
        """Harmonic free energies of crystals, in their order."""
        frames = [Frame(atoms) for atoms in crystals]
        how = {"dispersion", "functional", "phonons", "temperature", "supercell"}
        with progress("phonons", len(frames)) as advance:
            paths = self._paths(phonons_shard, frames, how, 1, advance, "phonons")
        return [Vibrations(**json.loads(path.read_text())) for path in paths]

    def _paths(
        self,
        work: Work,
        frames: Sequence[Frame],
        how: set[str],
        shard: int,
        advance: Callable[[int], None],
        what: str,
    ) -> list[Path]:
        return in_shards(
            work,
            frames,
            self.model,
            self.settings.model_dump(include=how),
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
    model: str,
    device: str,
    settings: dict[str, Any],
    frames: list[Frame],
    path: str,
    told: Callable[[int], None] = lambda done: None,
) -> None:
    """Evaluate some structures and write them to one file."""
    how = Ranking(**settings)
    stage = "energies" if how.relaxation is None else "relaxed"

    @contextmanager
    def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
        yield told if what == stage else lambda done: None

    found = evaluate(frames, energies_of(loaded(model, device), how), how, progress)
    write_whole(path, "".join(map(_to_text, found)))


def phonons_shard(
    model: str,
    device: str,
    settings: dict[str, Any],
    frames: list[Frame],
    path: str,
    told: Callable[[int], None] = lambda done: None,
) -> None:
    """Phonons of one crystal, written to one file."""
    how = Ranking(**settings)
    found = _vibrations(frames[0].atoms, energies_of(loaded(model, device), how), how)
    write_whole(path, json.dumps(asdict(found)) + "\n")


def _vibrations(atoms: Atoms, energies: Energies, settings: Ranking) -> Vibrations:
    return vibrations(atoms, energies, settings.temperature, settings.supercell)


def _to_text(one: Evaluated) -> str:
    notes: dict[str, object] = {
        "energies": np.atleast_1d(one.energies),
        "reason": one.reason,
    }
    return to_text(Frame(one.atoms, info=notes))


def _read(path: Path) -> Iterator[Evaluated]:
    for frame in read_frames(path):
        energies, reason = frame.info["energies"], frame.info["reason"]
        yield Evaluated(frame.atoms, energies, reason)  # type: ignore[arg-type]
