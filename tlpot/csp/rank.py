"""Rank crystals by lattice energy, with error bars: `tlpot rank`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units

from tlpot.csp.evaluate import Evaluate, Here, ProgressBar, energies_of, silent
from tlpot.csp.landscape import (
    Candidate,
    centred_spread,
    gas_energy,
    spread_of_differences,
)
from tlpot.csp.match import find_duplicates, find_experimental
from tlpot.csp.ranking import Ranked
from tlpot.csp.scores import read_reference, score
from tlpot.csp.settings import Ranking
from tlpot.csp.thermo import FREQUENCY_NOISE
from tlpot.data.crystals import Refused, origin, read_crystals, require_some
from tlpot.data.read import read_frames
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
    constitution,
    find_molecules,
    find_unit,
    gaseous,
    holds_cation,
    ions_or_radicals,
    looseness,
    wrong_unit,
)
from tlpot.structure.soundness import require_sound
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
        CIF, POSCAR, RES, extended XYZ …, as for `tlpot.data.crystals.read_crystals`.
    settings
        What to look for and how.
    progress
        Shows the stages.
    evaluated
        Who relaxes the crystals and computes their energies; left out: this process.

    Notes
    -----
    Lattice energy is E(crystal)/Z less that of the gas molecules of a formula unit, relaxed
    alone with the same model: kJ/mol of formula units, negative. Under pressure it is the
    enthalpy, with pV/Z. Zero-point energy is in the free energies only.

    Raises
    ------
    TlpotError
        If nothing can be ranked, or the settings ask for what cannot be.
    """
    settings = settings or Ranking()
    settings.require_libraries()
    energies = energies_of(model, settings)
    measured = None
    if settings.pattern is not None:
        measured = read_pattern(settings.pattern, settings.wavelength)
    opinion = None
    if settings.pattern is not None and settings.classifier is not None:
        opinion = classify(settings.pattern, settings.classifier, settings.wavelength)
    forms = {name: _one(name) for name in settings.experimental}
    frames, refused = read_crystals(files, model.elements)
    molecules, unit = _molecules(frames, refused, settings.molecule)
    kept = [frame for frame in frames if frame.name in molecules]
    require_some(kept, refused)
    notes: list[str] = []
    labels = read_reference(kept, settings.reference, notes.append)
    starts = _starts(settings.molecule, [molecules[frame.name] for frame in kept])
    remarks: list[str] = []
    gas, alone = gas_energy(unit, starts, energies, remarks.append)
    if not remarks:
        remarks += _gas_remarks(alone, molecules)
    evaluated = evaluated or Here(energies, settings)
    found = list(zip(kept, evaluated(kept, progress=progress), strict=True))
    refused += [Refused(frame.name, one.reason) for frame, one in found if one.reason]
    found = [(frame, one) for frame, one in found if one.reason is None]
    require_some(found, refused)
    pressure = settings.relaxation.pressure if settings.relaxation else 0.0
    candidates = []
    for frame, one in found:
        z = find_unit(molecules[frame.name])[1]
        work = pressure * units.GPa * one.atoms.get_volume()
        energy = labels.get(frame.name)
        label = None if energy is None else energy / z / KJ_PER_MOL
        lattice = ((one.energies + work) / z - gas) / KJ_PER_MOL
        if not np.isfinite(lattice).all():
            refused.append(Refused(origin(frame), "the model gives it no finite energy"))
            continue
        total = float(one.energies.mean())
        candidates.append(Candidate(origin(frame), one.atoms, z, lattice, label, total=total))
    require_some(candidates, refused)
    candidates.sort(key=lambda c: (c.energy, c.name))
    copies = find_duplicates(candidates) if settings.duplicates else {}
    unique = [c for i, c in enumerate(candidates) if i not in copies]
    if settings.phonons:
        _add_free_energies(unique[: settings.phonons], evaluated, progress)
    if measured is not None:
        _compare_patterns(unique, measured, opinion, settings, progress)
    scale = model.calibration.energy if model.calibration else None
    members, factor = np.array([c.energies for c in unique]), scale.factor if scale else 1.0
    return Ranked(
        candidates=unique,
        unit=unit,
        gas=alone,
        spread=spread_of_differences(members, factor),
        doubt=centred_spread(members, factor),
        scale=scale,
        copies=[(candidates[i], candidates[k].name) for i, k in sorted(copies.items())],
        refused=refused,
        experimental={name: find_experimental(unique, form) for name, form in forms.items()},
        scores=score(
            [c.energy for c in unique],
            [np.nan if c.reference is None else c.reference for c in unique],
        ),
        settings=settings,
        remarks=[*remarks, *notes, *_remarks(unique, settings)],
        opinion=opinion,
    )


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


def _gas_remarks(gas: Sequence[Atoms], crystals: Mapping[str, Sequence[Atoms]]) -> Iterator[str]:
    """Where lattice energies are against another species than the crystals hold, or an ion."""
    rest = "Energies above the lowest do not depend on the gas molecule."
    for alone in gas:
        formula, bonded = alone.get_chemical_formula(mode="hill"), constitution(alone)
        unlike = [
            name
            for name, molecules in crystals.items()
            for molecule in molecules
            if molecule.get_chemical_formula(mode="hill") == formula
            if constitution(molecule) != bonded
        ]
        if names := list(dict.fromkeys(unlike)):
            yield (
                f"{len(names)} of {len(crystals)} crystals ({names[0]}) hold {formula} with other "
                "bonds than the gas molecule: a zwitterion, tautomer or isomer of it, and lattice "
                f"energies count the difference. {rest}"
            )
        elif holds_cation(alone):
            yield (
                f"The gas molecule {formula} has a nitrogen with four bonds: an ion, or a "
                "zwitterion that stays one with this model, where a real one would be neutral. "
                "Lattice energies are not those of sublimation; give the neutral molecule with "
                f"--molecule. {rest}"
            )


def _one(file: str) -> Atoms:
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
    found: dict[str, list[Atoms]] = {}
    flaws: dict[str, str | None] = {}
    for frame in frames:
        try:
            molecules = find_molecules(frame.atoms)
        except TlpotError as error:
            refused.append(Refused(frame.name, str(error)))
        else:
            found[frame.name] = molecules
            stated = stated_open_shell(frame.atoms, frame.info)
            flaws[frame.name] = (
                stated or ions_or_radicals(molecules) or gaseous(frame.atoms, molecules)
            )
    require_some(found, refused)
    if given is None:
        whole = [name for name, flaw in flaws.items() if flaw is None] or list(found)
        counts = Counter(find_unit(found[name])[0] for name in whole)
        unit = min(counts, key=lambda unit: (-counts[unit], unit.parts))
    else:
        unit = find_unit(_given_molecules(given))[0]
    for name, flaw in flaws.items():
        if why := wrong_unit(found[name], unit) or flaw:
            refused.append(Refused(name, why))
            del found[name]
    return found, unit


def _given_molecules(file: str) -> list[Atoms]:
    frames = read_frames(file)
    require_sound(frames)
    atoms = frames[0].atoms
    atoms.pbc = False
    return find_molecules(atoms)


def _starts(given: str | None, crystals: Sequence[Sequence[Atoms]]) -> Mapping[str, list[Atoms]]:
    """Gas molecules to start from, by formula: those given, or the first of each crystal."""
    starts: dict[str, list[Atoms]] = defaultdict(list)
    for molecules in crystals if given is None else [_given_molecules(given)]:
        first = {m.get_chemical_formula(mode="hill"): m for m in reversed(molecules)}
        for formula, molecule in first.items():
            starts[formula].append(molecule)
    return starts


def _add_free_energies(
    lowest: Sequence[Candidate], evaluated: Evaluate, progress: ProgressBar
) -> None:
    found = evaluated.vibrations([one.atoms for one in lowest], progress=progress)
    for one, modes in zip(lowest, found, strict=True):
        one.notes["free_energy_kJ_mol"] = one.energy + modes.free_energy / one.z / KJ_PER_MOL
        one.notes["lowest_phonon_THz"] = modes.lowest


def _compare_patterns(
    candidates: Sequence[Candidate],
    measured: Pattern,
    opinion: Opinion | None,
    settings: Ranking,
    progress: ProgressBar,
) -> None:
    with progress("powder patterns", len(candidates)) as advance:
        for i, one in enumerate(candidates):
            ours = simulate(one.atoms, measured.angles, measured.wavelength)
            one.notes["pattern_similarity"] = similarity(ours, measured, settings.shift)
            if opinion is not None and one.setting is not None:
                system = crystal_system(one.setting.number)
                one.notes["pattern_system_probability"] = opinion.probabilities[system]
            advance(i + 1)
