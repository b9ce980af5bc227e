"""Structures as they are ranked: relaxed if asked, with the energy by every ensemble member."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from tlpot.csp.dispersion import dispersion
from tlpot.csp.landscape import Energies
from tlpot.csp.ranking import Ranking
from tlpot.csp.relax import relax
from tlpot.csp.shards import SHARD, in_shards, loaded
from tlpot.data.read import read_frames
from tlpot.data.write import to_text
from tlpot.files import write_whole
from tlpot.frames import Frame
from tlpot.potential import Potential

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

    def __call__(self, frames: Sequence[Frame], *, progress: Progress) -> list[Evaluated]: ...


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


def sharded(
    model: str | Path,
    settings: Ranking,
    folder: Path,
    scheduler: str,
    workers: int,
    device: str = "auto",
    shard: int = SHARD,
) -> Evaluate:
    """In shards over processes, Dask or Slurm, kept in `folder` (`tlpot.csp.shards.in_shards`)."""
    how = settings.model_dump(include={"relaxation", "dispersion", "functional"})

    def run(frames: Sequence[Frame], *, progress: Progress) -> list[Evaluated]:
        with progress("evaluated", len(frames)) as advance:
            place = (folder, scheduler, workers, device, shard)
            paths = in_shards(evaluate_shard, frames, model, how, *place, on_structure=advance)
        return [one for path in paths for one in _read(path)]

    return run


def evaluate_shard(
    model: str, device: str, settings: dict[str, Any], frames: list[Frame], path: str
) -> None:
    """Evaluate some structures in this process and write them to one file."""
    how = Ranking(**settings)
    found = evaluate(frames, energies_of(loaded(model, device), how), how)
    write_whole(path, "".join(map(_to_text, found)))


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
