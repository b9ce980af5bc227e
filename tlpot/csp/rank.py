"""Rank crystals by lattice energy, with error bars: `tlpot rank`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units

from tlpot.csp.evaluate import Evaluate, Evaluated, Here, ProgressBar, energies_of, silent
from tlpot.csp.gas import gas_energy, gas_remarks, gas_starts, given_molecules
from tlpot.csp.landscape import Candidate
from tlpot.csp.match import find_duplicates, find_experimental
from tlpot.csp.ranking import Ranked
from tlpot.csp.scores import read_reference
from tlpot.csp.settings import Ranking
from tlpot.csp.thermo import FREQUENCY_NOISE
from tlpot.data.crystals.read import Refused, origin, read_crystals, require_some
from tlpot.data.fingerprints import TrainingSet, model_lines, overlap
from tlpot.errors import TlpotError
from tlpot.model.potential import Potential
from tlpot.optional import MissingLibraryError, require
from tlpot.powder.classifier import Opinion
from tlpot.powder.lines import crystal_system
from tlpot.powder.opinion import classify
from tlpot.powder.pattern import Pattern, read_pattern, similarity, simulate
from tlpot.structure.electrons import stated_open_shell
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import (
    LOOSE_VOLUME,
    Unit,
    find_molecules,
    find_unit,
    gaseous,
    ions_or_radicals,
    looseness,
    wrong_unit,
)
from tlpot.structure.symmetry import SYMMETRY_PURPOSE
from tlpot.structure.units import KJ_PER_MOL


def rank(
    files: str | Path | Sequence[str | Path],
    model: Potential,
    settings: Ranking | None = None,
    progress: ProgressBar = silent,
    evaluated: Evaluate | None = None,
) -> Ranked:
    """Order crystals by their lattice energy.

    Parameters
    ----------
    files
        CIF, POSCAR, RES, extended XYZ and other files, as for
        `tlpot.data.crystals.read.read_crystals`.
    settings, progress
        What is computed and how, and what shows how far each stage is.
    evaluated
        What relaxes the crystals and gives their energies; by default this process does.

    Raises
    ------
    TlpotError
        If nothing can be ranked, or if the settings ask for something that cannot be computed.

    Notes
    -----
    The lattice energy (kJ/mol of formula units, negative) is E(crystal)/Z less the energy of the
    gas molecules of a formula unit, relaxed alone with the same model. Under pressure it is an
    enthalpy with pV/Z. Only free energies include the zero-point energy.
    """
    settings = settings or Ranking()
    settings.require_libraries()
    energies = energies_of(model, settings)
    measured, opinion = _measured(settings)
    forms = {name: _only_crystal(name) for name in settings.experimental}
    frames, refused = read_crystals(files, model.elements)
    molecules, unit = _molecules(frames, refused, settings.molecule)
    kept = [frame for frame in frames if frame.name in molecules]
    require_some(kept, refused)
    notes: list[str] = []
    labels = read_reference(kept, settings.reference, notes.append)
    compared = [frame for frame in kept if frame.name in labels]
    seen = overlap(TrainingSet.of(model.metadata).parts(compared))
    notes += model_lines(seen, "crystals with a reference energy")
    remarks: list[str] = []
    starts = gas_starts(settings.molecule, (molecules[frame.name] for frame in kept))
    zero, gas = gas_energy(unit, starts, energies, remarks.append)
    remarks = [*(remarks or gas_remarks(gas, molecules)), *notes]
    evaluated = evaluated or Here(energies, settings)
    ends = _sound_ends(kept, evaluated(kept, progress=progress), refused)
    candidates = _candidates(ends, molecules, labels, zero, settings, refused)
    copies = find_duplicates(candidates) if settings.duplicates else {}
    unique = [c for i, c in enumerate(candidates) if i not in copies]
    if settings.phonons:
        _add_free_energies(unique[: settings.phonons], evaluated, progress)
    if measured is not None:
        _compare_patterns(unique, measured, opinion, settings, progress)
    return Ranked.of(
        unique,
        model.calibration.energy if model.calibration else None,
        unit=unit,
        gas=gas,
        copies=[(candidates[i], candidates[k].name) for i, k in sorted(copies.items())],
        refused=refused,
        experimental={name: find_experimental(unique, form) for name, form in forms.items()},
        settings=settings,
        remarks=[*remarks, *_remarks(unique, settings)],
        opinion=opinion,
    )


def _measured(settings: Ranking) -> tuple[Pattern | None, Opinion | None]:
    """The measured pattern and what the classifier says of it, where the settings name them."""
    if settings.pattern is None:
        return None, None
    pattern = read_pattern(settings.pattern, settings.wavelength)
    if settings.classifier is None:
        return pattern, None
    return pattern, classify(settings.pattern, settings.classifier, settings.wavelength)


def _sound_ends(
    frames: Sequence[Frame], ends: Sequence[Evaluated], refused: list[Refused]
) -> list[tuple[Frame, Evaluated]]:
    """Frames with where they ended; those with a reason against it go to `refused`."""
    pairs = list(zip(frames, ends, strict=True))
    refused += [Refused(frame.name, end.reason) for frame, end in pairs if end.reason]
    sound = [(frame, end) for frame, end in pairs if end.reason is None]
    require_some(sound, refused)
    return sound


def _candidates(
    ends: Sequence[tuple[Frame, Evaluated]],
    molecules: Mapping[str, Sequence[Atoms]],
    labels: Mapping[str, float],
    gas: np.ndarray,
    settings: Ranking,
    refused: list[Refused],
) -> list[Candidate]:
    """Crystals with their lattice energies, the lowest first; `gas` is eV of a formula unit."""
    pressure = settings.relaxation.pressure if settings.relaxation else 0.0
    candidates = []
    for frame, end in ends:
        z = find_unit(molecules[frame.name])[1]
        work = pressure * units.GPa * end.atoms.get_volume()
        energy = labels.get(frame.name)
        label = None if energy is None else energy / z / KJ_PER_MOL
        lattice = ((end.energies + work) / z - gas) / KJ_PER_MOL
        if not np.isfinite(lattice).all():
            refused.append(Refused(origin(frame), "the model gives it no finite energy"))
            continue
        total = float(end.energies.mean())
        candidates.append(Candidate(origin(frame), end.atoms, z, lattice, label, total=total))
    require_some(candidates, refused)
    return sorted(candidates, key=lambda c: (c.energy, c.name))


def _remarks(candidates: Sequence[Candidate], settings: Ranking) -> Iterator[str]:
    """Reasons to trust the ranking less."""
    if settings.phonons and settings.relaxation is None:
        yield (
            "The structures were not relaxed here: their free energies hold only if they are "
            "minima of this very model."
        )
    lowest = [c.notes.get("lowest_phonon_THz", np.inf) for c in candidates]
    if unstable := sum(frequency <= FREQUENCY_NOISE for frequency in lowest):
        yield (
            f"{unstable} of the structures with phonons have modes that are imaginary or below "
            f"{FREQUENCY_NOISE} THz, which their free energies leave out: no minima, or the "
            "supercell is too small."
        )
    if settings.relaxation and (held := sum(bool(c.atoms.constraints) for c in candidates)):
        yield f"{held} of the structures have fixed atoms, which were kept: they are no minima."
    similar = [c.notes.get("pattern_similarity", 0.0) for c in candidates]
    if unseen := int(np.isnan(similar).sum()):
        yield (
            f"{unseen} of the structures have no reflection where the measured pattern is: their "
            "similarity with it is unknown. Are its axis and wavelength right?"
        )
    try:
        require("spglib", "use", SYMMETRY_PURPOSE)
    except MissingLibraryError as error:
        yield f"Space groups and Z′ are not known, and the CIFs have no symmetry: {error}."
    loose = [c for c in candidates if looseness(c.atoms) > LOOSE_VOLUME]
    if loose:
        yield (
            f"{len(loose)} of the structures ({loose[0].name}) have more than {LOOSE_VOLUME:g} "
            "times the volume in which molecules pack: porous, or lacking molecules."
        )
    if candidates[0].energy > 0:
        yield "The lowest lattice energy is positive: this model does not bind the crystals."


def _only_crystal(file: str) -> Atoms:
    frames, _ = read_crystals(file)
    if len(frames) != 1:
        raise TlpotError(f"{file}: holds {len(frames)} structures; name one, as {file}@0")
    return frames[0].atoms


def _molecules(
    frames: Sequence[Frame], refused: list[Refused], given: str | None
) -> tuple[dict[str, list[Atoms]], Unit]:
    """Molecules by frame name, of the frames that are whole numbers of the formula unit.

    The unit is that of the molecule that is given, or else the commonest; the others are refused.
    """
    molecules_of: dict[str, list[Atoms]] = {}
    flaws: dict[str, str | None] = {}
    for frame in frames:
        try:
            molecules = find_molecules(frame.atoms)
        except TlpotError as error:
            refused.append(Refused(frame.name, str(error)))
        else:
            molecules_of[frame.name] = molecules
            stated = stated_open_shell(frame.atoms, frame.info)
            flaws[frame.name] = (
                stated or ions_or_radicals(molecules) or gaseous(frame.atoms, molecules)
            )
    require_some(molecules_of, refused)
    if given is None:
        whole = [name for name, flaw in flaws.items() if flaw is None] or list(molecules_of)
        counts = Counter(find_unit(molecules_of[name])[0] for name in whole)
        unit = min(counts, key=lambda unit: (-counts[unit], unit.parts))
    else:
        unit = find_unit(given_molecules(given))[0]
    for name, flaw in flaws.items():
        if why := wrong_unit(molecules_of[name], unit) or flaw:
            refused.append(Refused(name, why))
            del molecules_of[name]
    return molecules_of, unit


def _add_free_energies(
    lowest: Sequence[Candidate], evaluated: Evaluate, progress: ProgressBar
) -> None:
    vibrations = evaluated.vibrations([candidate.atoms for candidate in lowest], progress=progress)
    for candidate, modes in zip(lowest, vibrations, strict=True):
        candidate.notes["free_energy_kJ_mol"] = (
            candidate.energy + modes.free_energy / candidate.z / KJ_PER_MOL
        )
        candidate.notes["lowest_phonon_THz"] = modes.lowest


def _compare_patterns(
    candidates: Sequence[Candidate],
    measured: Pattern,
    opinion: Opinion | None,
    settings: Ranking,
    progress: ProgressBar,
) -> None:
    with progress("powder patterns", len(candidates)) as advance:
        for i, candidate in enumerate(candidates):
            ours = simulate(candidate.atoms, measured.angles, measured.wavelength)
            candidate.notes["pattern_similarity"] = similarity(ours, measured, settings.shift)
            if opinion is not None and candidate.setting is not None:
                system = crystal_system(candidate.setting.number)
                candidate.notes["pattern_system_probability"] = opinion.probabilities[system]
            advance(i + 1)
