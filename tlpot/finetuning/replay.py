"""What training gives back with the base's labels, against forgetting: files, or a pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from tlpot.config.bases import untrained
from tlpot.config.run import Config
from tlpot.config.sections import no_effect
from tlpot.config.training import Replay
from tlpot.data.fingerprints import TrainingSet, fingerprints, overlap, teacher_lines, twins
from tlpot.data.read import read_structures
from tlpot.errors import TlpotError
from tlpot.files import require_unshadowed
from tlpot.model.domain import DOUBT, too_close
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame, bare
from tlpot.structure.packing import deformed, facing, squeeze, turned, whole_molecules
from tlpot.structure.soundness import find_flaw, require_sound

EACH = 32
"""Structures of each kind in a pool, before those are left out that the base is not sure of."""
COMPRESSED, STRAINED = (0.6, 0.9), (0.9, 1.3)
"""Volume of the cell over that of the crystal: ranges."""
STRAIN = 0.05
"""Standard deviation of the strain of cells and, by itself, of molecules."""
JOLT = 0.04
"""Å, that of the shift of an atom of a molecule."""
NEARBY = (0.5, 1.0)
"""Closeness (`tlpot.structure.packing`) of the molecules of a pair: its range."""
POOL_WEIGHT = 0.02
"""Of a pool's squared errors: small, since the base is no DFT; repulsion is large all the same."""
REPLAYED = "replayed"
"""Note of a frame of a pool: its kind."""


def replay_frames(
    base: Potential,
    config: Config,
    parts: Mapping[str, Sequence[Frame]],
    base_set: TrainingSet,
) -> tuple[list[Frame], list[str]]:
    """Structures that ``training.replay`` gives back, yet without labels, and remarks on them.

    Raises
    ------
    TlpotError
        If there is none; of files, if one holds an element that the base does not know, has no
        sound geometry, or atoms closer than ``data.min_distance``.
    """
    settings, name = config.training.replay, config.model.base
    if settings is None:
        return [], []
    if name is None or untrained(name):
        raise TlpotError(
            no_effect("training.replay", f"with model.base: {name}, which has nothing to forget")
        )
    if settings.auto:
        require_unshadowed("auto", "the pool that training.replay makes")
        old = set(base.elements) - set(config.model.elements)
        frames, remarks = pool(parts["train"], base, old, config.training.seed)
    else:
        frames, remarks = _from_files(base, settings, config.data.min_distance), []
    return frames, [*remarks, *_about_replay(parts, frames, base_set)]


def replay_labels(base: Potential, frames: Sequence[Frame], settings: Replay) -> list[Frame]:
    """With the forces (eV/Å) that `base` gives them and, of files, the energies (eV).

    The base's energies of a pool would say how cells and molecules compare at its own level.
    """
    weight = settings.weight or (POOL_WEIGHT if settings.auto else 1.0)
    return [
        replace(f, energy=None if settings.auto else p.energy, forces=p.forces, weight=weight)
        for f, p in zip(frames, base.predict(frames), strict=True)
    ]


def pool(
    train: Sequence[Frame], base: Potential, elements: set[str], seed: int
) -> tuple[list[Frame], list[str]]:
    """Structures with repulsive contacts, made of the training crystals and their molecules.

    Compressed and strained cells (molecules stay as they are), pairs of molecules brought close
    along random lines, and stretched and bent molecules. What overlaps, and what the ensemble of
    the base is not sure of, is left out: a spread per √N beyond what its training allows or, of
    a published base, three times its largest on the training frames.

    Parameters
    ----------
    elements
        That the base knows by itself; frames with others are not used.
    seed
        The same seed, frames and base make the same pool.

    Raises
    ------
    TlpotError
        If nothing is left.
    """
    used = [frame for frame in train if set(frame.atoms.symbols) <= elements]
    remarks = []
    if foreign := len(train) - len(used):
        new = sorted({s for f in train for s in f.atoms.symbols} - elements)
        remarks.append(
            f"training.replay: auto makes nothing of {foreign} of {len(train)} training frames: "
            f"the base does not know {', '.join(new)}"
        )
    random = np.random.default_rng(seed)
    made = [
        Frame(atoms, info={REPLAYED: kind})
        for kind, draw in _kinds(used, random).items()
        for atoms in (draw() for _ in range(EACH))
    ]
    domain = base.domain
    apart = [f for f in made if not (find_flaw(f.atoms) or too_close(f.atoms, domain.contacts))]
    largest = max(_spreads(base, used), default=0.0) if domain.spread is None else domain.spread
    sound = [
        frame
        for frame, spread in zip(apart, _spreads(base, apart), strict=True)
        if not largest or spread <= DOUBT * largest
    ]
    if not sound:
        raise TlpotError(
            "training.replay: auto has nothing to replay: "
            + (remarks[0].partition(": ")[2] if foreign else "the base is sure of nothing made")
            + "; name structures with training.replay.files, or drop it"
        )
    counts = Counter(str(frame.info[REPLAYED]) for frame in sound)
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    left = f"; {len(made) - len(sound)} left out, of which the base is not sure"
    return sound, [*remarks, f"training.replay: auto made {told}{left}"]


def _spreads(base: Potential, frames: Sequence[Frame]) -> list[float]:
    """eV per √N of the ensemble."""
    predictions = base.predict(frames)
    return [p.energy_std / len(f) ** 0.5 for f, p in zip(frames, predictions, strict=True)]


def _kinds(frames: Sequence[Frame], random: np.random.Generator) -> dict[str, Callable[[], Atoms]]:
    """What can be made of the frames: kind, and what draws one."""
    crystals = [f.atoms for f in frames if f.kind == "crystal" and f.atoms.pbc.all()]
    molecules = [m for f in frames for m in whole_molecules(f.atoms) if len(m) > 1]

    def one_of(choices: Sequence[Atoms]) -> Atoms:
        return bare(choices[int(random.integers(len(choices)))])

    def cell(volume: tuple[float, float]) -> Atoms:
        return deformed(one_of(crystals), squeeze(volume, STRAIN, random))

    def pair() -> Atoms:
        line = random.normal(size=3)
        first, second = (turned(one_of(molecules), random) for _ in range(2))
        return facing(first, second, line / np.linalg.norm(line), random.uniform(*NEARBY))

    def bent() -> Atoms:
        molecule = one_of(molecules)
        strain = np.eye(3) + STRAIN * random.normal(size=(3, 3))
        shifts = JOLT * random.normal(size=molecule.positions.shape)
        return Atoms(molecule.numbers, molecule.positions @ strain + shifts)

    cells = {
        "compressed cells": lambda: cell(COMPRESSED),
        "strained cells": lambda: cell(STRAINED),
    }
    alone = {"close pairs of molecules": pair, "stretched and bent molecules": bent}
    return (cells if crystals else {}) | (alone if molecules else {})


def _from_files(base: Potential, settings: Replay, shortest: float) -> list[Frame]:
    frames = read_structures(settings.files)
    try:
        require_sound(frames, shortest)
        present = {s for frame in frames for s in frame.atoms.symbols}
        base.require_elements(present, f"{len(frames)} structures")
    except TlpotError as error:
        raise TlpotError(f"training.replay.files: {error}") from None
    return frames


def _about_replay(
    parts: Mapping[str, Sequence[Frame]], replay: Sequence[Frame], base_set: TrainingSet
) -> Iterator[str]:
    """What to say where structures to replay have labels already, or the base was given theirs."""
    counts = overlap(base_set.parts(replay))
    yield from teacher_lines(counts, "structures that it labels for training.replay", "the base")
    marks = fingerprints([frame.atoms for frame in replay])
    for part, trouble in (
        ("train", "one structure with two labels"),
        ("validation", "their errors say little of others"),
        ("test", "their errors say little of others"),
    ):
        frames = parts[part]
        if not frames:
            continue
        both = sum(map(bool, twins(frames, fingerprints([f.atoms for f in frames]), marks)))
        if both:
            yield (
                f"{both} of the {len(frames)} {part} frames are structures that training.replay "
                f"gives back with the base's labels: {trouble}. Leave them out of "
                "training.replay.files"
            )
