"""Proposing new geometries around those there are, with a potential or at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ase import Atoms

from tlpot.config.sections import parse_section
from tlpot.errors import TlpotError
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.potential import Potential
from tlpot.sampling.geometries import sample_md, sample_modes, sample_rattle, take
from tlpot.sampling.settings import Method, Proposal
from tlpot.structure.electrons import require_closed_shell
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import SHORTEST, require_sound


def propose(
    frames: Sequence[Frame],
    method: Method,
    number: int,
    model: Potential | None,
    *,
    temperature: float = 300.0,
    strain: float = 0.02,
    rattle: float = 0.05,
    min_distance: float = SHORTEST,
    seed: int = 0,
    on_structure: Callable[[int], None] = lambda done: None,
) -> list[Frame]:
    """Generate geometries around given structures, in equal numbers around each.

    Parameters
    ----------
    frames
        Structures to start from; their labels are not used.
    method
        ``modes`` relaxes and then displaces along normal modes at `temperature`; ``md`` takes
        snapshots of Langevin dynamics; ``rattle`` strains and shifts at random and needs no `model`
        (see `tlpot.sampling.geometries`).
    number
        Number of geometries in all.
    temperature, strain, rattle, min_distance
        Temperature (K), standard deviations of the strain and of the shifts (Å), and the shortest
        distance between atoms that is allowed (Å).
    seed
        Makes the geometries reproducible; those around one structure do not depend on the others.
    on_structure
        Called with the number of structures that are done.

    Returns
    -------
    list of Frame
        Without labels; ``info`` holds the method, its settings and the structure it started from.

    Raises
    ------
    TlpotError
        Naming the structure that cannot be sampled and what to do, or the setting that is out of
        range or has no effect with the method.
    """
    settings = {
        **{"method": method, "number": number, "temperature": temperature, "strain": strain},
        **{"rattle": rattle, "min_distance": min_distance, "seed": seed},
    }
    proposal = parse_section(Proposal, settings, "cannot sample like this")
    if method != "rattle" and model is None:
        raise TlpotError(f"sampling by {method} needs a model")
    calculator = None if model is None else TLPotCalculator(model)
    require_sound(frames)
    for frame in frames if model is not None else ():
        require_closed_shell(frame.atoms, frame.info, frame.name)
    deformation = {"strain": strain, "rattle": rattle}
    deformation = deformation if method == "rattle" else {"temperature": temperature}
    proposed: list[Frame] = []
    for i, frame in enumerate(frames):
        share = (number * (i + 1)) // len(frames) - (number * i) // len(frames)
        proposals = _proposals(frame.atoms, proposal, calculator, i)
        notes = {k: v for k, v in frame.info.items() if k in ("charge", "spin")}
        notes |= {"sampled": method, **deformation, "start": frame.name}
        try:
            taken = take(proposals, share, min_distance)
        except TlpotError as error:
            raise TlpotError(f"{frame.name}: {error}") from None
        proposed += [Frame(atoms, info=dict(notes)) for atoms in taken]
        on_structure(i + 1)
    return proposed


def _proposals(
    atoms: Atoms, settings: Proposal, calculator: TLPotCalculator | None, number: int
) -> Iterator[Atoms]:
    """Geometries around one structure, without end; `number` tells it from others."""
    random = np.random.default_rng([settings.seed, number])
    if calculator is None or settings.method == "rattle":
        return sample_rattle(atoms, settings.strain, settings.rattle, random)
    sampler = sample_modes if settings.method == "modes" else sample_md
    return sampler(atoms, calculator, settings.temperature, random)
