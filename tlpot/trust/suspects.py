"""Frames whose labels do not belong to them, with the likely cause."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from ase import units

from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.causes import explain_forces
from tlpot.trust.copies import copies, of_copies
from tlpot.trust.expectation import FEWEST_LIKE, blocks, displacements
from tlpot.trust.geometry import (
    BOHR_MEND,
    EXCHANGE_MEND,
    STRETCHED,
    Predict,
    exchanged,
    explain_geometry,
    spacing,
)
from tlpot.trust.odd import Finding, find_odd
from tlpot.trust.pairs import PairTerms, learned
from tlpot.trust.scales import magnitude
from tlpot.trust.unlike import unlike_energies
from tlpot.trust.whole import explain_block, placeholders

ODD_BASE = 1.8
"""Times the usual error of the base from which a cause is looked for."""
USUAL_BASE = 1.5
"""Times that error which the cause may leave."""
LEFT_BY_BASE = 0.4
"""Share of the error that it may leave."""
SURE_BASE = 3.0
"""Times the usual error of the base from which a cause is certain."""
AT_REST = 0.05
"""eV/Å (RMS) below which forces tell nothing."""
SAME_SITES = 0.5
"""Å (RMS) up to which two frames have the same sites."""
MOLECULAR = frozenset(("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I"))
"""Elements whose atoms all have a bond in molecules and molecular crystals."""
LOOK = "look at this calculation"


@dataclass(frozen=True)
class Suspect:
    """A frame whose labels do not fit it.

    Attributes
    ----------
    frame
        Itself.
    cause
        What likely happened.
    evidence
        What was seen, in numbers.
    mend
        What a user can do about it.
    certain
        Whether the cause was tried, and leaves nothing odd.
    """

    frame: Frame
    cause: str
    evidence: str
    mend: str
    certain: bool


def find_suspects(
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    predict: Predict,
    foreign: Collection[str] = (),
    stress: bool = True,
) -> list[Suspect]:
    """Frames with labels that neither the base nor the file's other frames let one expect.

    First all frames of a file with atoms in one order are compared with the base, and their
    energies with the work of their forces; then each of them with all the others: it is expected
    to have the base's labels, and where that errs, to err as they do (`tlpot.trust.expectation`).
    Where there are too few like frames the base alone is asked, and only those are named that a
    cause explains.

    Parameters
    ----------
    predictions
        Of the base.
    predict
        Asks the base about changed geometries.
    foreign
        Elements for which others stand in: what the base says of them is weak.
    stress
        Whether stresses are looked at.

    Returns
    -------
    At most one suspect a frame, in the order of the frames.
    """
    named = {
        i: Suspect(frames[i], cause.text, f"expected {cause.error:.2g} eV/Å", cause.mend, True)
        for i, cause in placeholders(frames, predictions)
    }
    named |= dict(_stretched(frames))
    if not foreign:
        named |= dict(_exchanged(frames, predictions, predict))
    groups = copies(frames)
    copied = {i for group in groups for i in group}
    apart = copied | named.keys()
    weak = {i for i, f in enumerate(frames) if not set(f.atoms.symbols).isdisjoint(foreign)}
    for block in blocks(frames):
        block = [i for i in block if i not in apart]
        own, guesses = [frames[i] for i in block], [predictions[i] for i in block]
        if own and (common := explain_block(own, guesses, predict, block[0] in weak)):
            cause, evidence, certain = common
            named |= {
                i: Suspect(frames[i], cause.text, evidence, cause.mend, certain) for i in block
            }
    apart |= named.keys()
    corrected = list(predictions)
    for file in _files(frames):
        rest = [i for i in file if i not in apart]
        own, guesses = [frames[i] for i in rest], [predictions[i] for i in rest]
        better, terms = learned(own, guesses)
        if terms:
            for i in copied.intersection(file):
                corrected[i] = terms.added(frames[i], predictions[i])
        doubtful = [i in weak for i in rest]
        judged = _by_others(own, guesses, better, terms, doubtful, predict, stress)
        named |= {rest[k]: suspect for k, suspect in judged}
    for group in groups:
        own = [frames[i] for i in group]
        for i, cause, seen in of_copies(own, [corrected[i] for i in group]):
            named.setdefault(group[i], Suspect(own[i], cause.text, seen, cause.mend, True))
    return [named[i] for i in sorted(named)]


def _by_others(
    frames: Sequence[Frame],
    guesses: Sequence[Prediction],
    corrected: Sequence[Prediction],
    terms: PairTerms | None,
    weak: Sequence[bool],
    predict: Predict,
    stress: bool,
) -> Iterator[tuple[int, Suspect]]:
    """Frames of a file that are unlike its others; those with few like them, unlike the base."""
    few: list[int] = []
    for block in blocks(frames):
        if len(block) < FEWEST_LIKE:
            few += block
            continue
        own = [frames[k] for k in block]
        base, better = ([each[k] for k in block] for each in (guesses, corrected))
        for k, finding in find_odd(own, base, better, stress).items():
            yield block[k], _of_finding(own[k], finding, weak[block[k]])
    few.sort()
    own, base = [frames[k] for k in few], [guesses[k] for k in few]
    for k, finding in unlike_energies(own, base, [weak[k] for k in few]):
        yield few[k], _of_finding(own[k], finding, weak[few[k]])
    few = [k for k in few if frames[k].forces is not None and (terms or not weak[k])]
    for k, suspect in _by_base(frames, corrected, few, _with(terms, predict)):
        yield k, replace(suspect, certain=suspect.certain and not weak[k])


def _with(terms: PairTerms | None, predict: Predict) -> Predict:
    """Asks the base, and what it misses."""
    if terms is None:
        return predict
    return lambda frames: [
        terms.added(frame, guess) for frame, guess in zip(frames, predict(frames), strict=True)
    ]


def _files(frames: Sequence[Frame]) -> list[list[int]]:
    """Frames, by number, of each file, and of those with too few together."""
    files: dict[str, list[int]] = {}
    for i, frame in enumerate(frames):
        files.setdefault(frame.source, []).append(i)
    small = [i for file in files.values() if len(file) < FEWEST_LIKE for i in file]
    large = [file for file in files.values() if len(file) >= FEWEST_LIKE]
    return [*large, sorted(small)] if small else large


def _of_finding(frame: Frame, finding: Finding, weak: bool) -> Suspect:
    cause, mend = f"{finding.what} unlike the others', no cause known", LOOK
    if finding.cause:
        cause, mend = finding.cause.text, finding.cause.mend
    return Suspect(frame, cause, finding.evidence, mend, finding.certain and not weak)


def _stretched(frames: Sequence[Frame]) -> Iterator[tuple[int, Suspect]]:
    """Frames whose atoms are as far apart as in Bohr, where others' with their elements are not.

    Nor are those of any molecule, if all frames are alike.
    """
    apart = np.array([spacing(frame.atoms) for frame in frames])
    kinds = [frozenset(frame.atoms.symbols) for frame in frames]
    for i in np.flatnonzero(apart > STRETCHED).tolist():
        alike = float(
            np.median([a for a, kind in zip(apart, kinds, strict=True) if kind == kinds[i]])
        )
        if alike > STRETCHED and kinds[i] <= MOLECULAR and len(frames[i]) > 2:
            alike = 1.0
        ratio = apart[i] / alike
        if abs(ratio * units.Bohr - 1) < 0.15:
            seen = f"nearest atoms are {ratio:.2f} times as far apart as in the other frames"
            if alike == 1.0:
                seen = f"nearest atoms are {ratio:.2f} times as far apart as bonds are long"
            yield i, Suspect(frames[i], "positions in Bohr", seen, BOHR_MEND, True)


def _exchanged(
    frames: Sequence[Frame], predictions: Sequence[Prediction], predict: Predict
) -> Iterator[tuple[int, Suspect]]:
    """Frames that have the geometry of others of their file, but for two elements exchanged."""
    groups = [[frames[i] for i in block] for block in blocks(frames)]
    models = {(g[0].source, g[0].atoms.numbers.tobytes()): g for g in groups}
    place = {id(frame): i for i, frame in enumerate(frames)}
    for group in groups:
        symbols = sorted(set(group[0].atoms.symbols))
        for first, second in combinations(symbols, 2):
            back = exchanged(group[0], first, second)
            model = models.get((back.source, back.atoms.numbers.tobytes()))
            if model is None or len(model) <= len(group) or model is group:
                continue
            for frame in (frame for frame in group if frame.forces is not None):
                changed = exchanged(frame, first, second)
                moves = displacements([model[0], changed])[1]
                error, guess = (
                    magnitude(np.asarray(frame.forces) - guess.forces)
                    for guess in (predictions[place[id(frame)]], *predict([changed]))
                )
                if magnitude(moves) < SAME_SITES and guess < error:
                    seen = f"the geometry of {model[0].name}; the base errs {guess:.2g} instead of "
                    text = f"elements {first} and {second} exchanged"
                    yield (
                        place[id(frame)],
                        Suspect(frame, text, f"{seen}{error:.2g} eV/Å", EXCHANGE_MEND, True),
                    )


def _by_base(
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    few: Sequence[int],
    predict: Predict,
) -> Iterator[tuple[int, Suspect]]:
    """Frames without enough like them, whose forces fit the base once a cause is undone."""
    usual, share, factor = _usual(frames, predictions)
    for i in few:
        frame = frames[i]
        labels, base = np.asarray(frame.forces), predictions[i].forces
        error = magnitude(labels - factor * base)
        level = float(np.hypot(usual, share * min(magnitude(labels), magnitude(base))))
        if error < ODD_BASE * level or magnitude(labels) < AT_REST:
            continue
        cause = explain_geometry([frame], factor, error, predict)
        if cause is None and magnitude(base) > usual:
            cause = explain_forces(labels[None], factor * base[None], frame.atoms.symbols)
        if cause is not None and cause.error < min(USUAL_BASE * level, LEFT_BY_BASE * error):
            finding = Finding("forces", cause, error, level)
            sure = not cause.guess and error > SURE_BASE * level
            yield i, Suspect(frame, cause.text, finding.evidence, cause.mend, sure)


def _usual(
    frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> tuple[float, float, float]:
    """Median error of the base's forces (eV/Å), its share of them, and their factor."""
    pairs = [
        (np.asarray(frame.forces), guess.forces)
        for frame, guess in zip(frames, predictions, strict=True)
        if frame.forces is not None and magnitude(frame.forces) > AT_REST
    ]
    if not pairs:
        return np.inf, 1.0, 1.0
    factor = float(np.median([(a * b).sum() / max((b * b).sum(), 1e-12) for a, b in pairs]))
    factor = float(np.clip(factor, 0.5, 1.5))
    errors = np.array([magnitude(a - factor * b) for a, b in pairs])
    sizes = np.array([magnitude(a) for a, _ in pairs])
    return float(np.median(errors)), float(np.median(errors / sizes)), factor
