"""Are the labels labels, in eV and Å? The pretrained potential knows the size they should have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import units

from tlpot.backbones.published import has_weights
from tlpot.config.hints import hint
from tlpot.elements.donors import suggest_donors
from tlpot.errors import TlpotError
from tlpot.model.load import load, load_base
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.structure.units import ENERGY_UNITS, FORCE_UNITS, KBAR, STRESS_UNITS
from tlpot.trust.gate import OnCompared, opinion_of, opinions
from tlpot.trust.scales import VASP_ORDER
from tlpot.trust.suspects import Suspect, find_suspects

Pairs = list[tuple[Frame, Prediction]]

ENOUGH = 8
"""Frames of one file that are judged without those of others."""
SURE = {"forces": 0.8, "energies": 0.9, "stresses": 0.9}
"""Correlation from which labels that are `OFF` times the prediction are in a wrong unit, whatever
it is; of right ones on 20 crystals ANI-2x's are 0.68 to 1.02."""
OFF = (0.55, 1.5)
PLAUSIBLE = 4.0
"""Labels may be this many times larger or smaller than the pretrained prediction, or than that in
another unit; where no unit fits, the prediction is wrong (of a stand-in element, say)."""
CORRELATION = {"forces": 0.5, "energies": 0.8, "stresses": 0.8}
"""Below it, or below 3/√n for n numbers, the prediction is no yardstick and nothing is said: the
energies of a few polymorphs may well come out in the wrong order."""
LIKE_UNITS = 0.25
"""Units whose logarithms differ by less are both named: a prediction cannot tell them apart."""
ZEROS = {
    "forces": (
        0.05,
        "eV/Å",
        "Set {data.relaxed}: true if these are DFT minima, or {data.energy_only}: true if nobody "
        "computed the forces.",
    ),
    "stress": (
        0.05 * units.GPa,
        "eV/Å³",
        "Take it out of the file, or set {training.stress_weight}: 0.",
    ),
}
"""Size of a prediction up to which zeros may be labels (by symmetry, say); what else to do."""

LABEL_UNITS = {
    "forces": ("forces", "eV/Å", {"gradients (the sign is flipped)": -1.0, **FORCE_UNITS}),
    "energies": ("energy", "eV", {"their negative (the sign is flipped)": -1.0, **ENERGY_UNITS}),
    "stresses": (
        "stress",
        "eV/Å³",
        {
            "pressures (the sign is flipped)": -1.0,
            **STRESS_UNITS,
            "GPa with the sign of a pressure": -units.GPa,
            "kbar with the sign of a pressure, as VASP prints them": -KBAR,
        },
    ),
}
"""Key in the config, unit of ours, and what one of other units is in it."""


def check_units(
    frames: Sequence[Frame], predictions: Sequence[Prediction], stress: bool = True
) -> None:
    """Compare labels with a pretrained prediction; refuse a wrong unit or sign, or placeholders.

    Parameters
    ----------
    stress
        Whether it is trained on.

    Raises
    ------
    TlpotError
        With all of `find_doubts`.
    """
    if doubts := find_doubts(frames, predictions, stress):
        raise TlpotError("\n".join(doubts))


def find_doubts(
    frames: Sequence[Frame], predictions: Sequence[Prediction], stress: bool = True
) -> list[str]:
    """What labels have against a pretrained prediction, one sentence each.

    They follow it, but with the factor of another unit or sign; or all forces or stresses of a
    file are zero where the model expects some. Files are judged one by one where they are long
    enough, the others together. Forces are compared directly, but for a minimum's zeros; energies
    per atom and stresses after removing each composition's mean, in which levels of theory differ.
    """
    doubts: list[str] = []
    frames = [replace(frame, stress=None) if frame.of_pressure else frame for frame in frames]
    pairs = list(zip(frames, predictions, strict=True))
    for what in ("forces", "stress") if stress else ("forces",):
        doubts += _placeholders(pairs, what)
    files: dict[str, Pairs] = defaultdict(list)
    for pair in pairs:
        files[pair[0].source].append(pair)
    short = [pair for some in files.values() if len(some) < ENOUGH for pair in some]
    for some in (*(some for some in files.values() if len(some) >= ENOUGH), short):
        for what in LABEL_UNITS if stress else ("forces", "energies"):
            doubts += _compared(what, some)
    return doubts


def inspect_labels(
    frames: Sequence[Frame],
    model: str | None,
    device: str = "auto",
    on_compared: OnCompared = lambda done, total: None,
) -> tuple[list[str], list[Suspect]]:
    """What a pretrained model has against labels: their units, and each frame's.

    Elements that it does not know are stood in for by what `tlpot elements` suggests.

    Parameters
    ----------
    model
        As for `tlpot.model.load.load`; None: ANI-2x if its weights are on this machine, else mini.
    device
        Where it computes.
    on_compared
        As `tlpot.finetuning.run.finetune`'s.

    Returns
    -------
    Sentences, and the frames that are suspect.
    """
    name = model or ("ani2x" if has_weights("ani2x") else "mini")
    lines = []
    if model is None and name == "mini":
        lines.append(
            "the weights of ani2x are not on this machine: mini, which is rougher, judges units"
        )
    try:
        potential = load(name, device)
    except TlpotError as error:
        return [*lines, f"units are not checked: {error}"], []
    elements = potential.elements
    new = {s for frame in frames for s in frame.atoms.symbols} - set(elements)
    if new and potential.takes_donors:
        donors = {element: suggest_donors(element, elements)[0] for element in sorted(new)}
        potential = load_base(name, donors).to(potential.device)
        stand_ins = ", ".join(f"{donor} for {element}" for element, donor in donors.items())
        lines.append(f"{name} lacks {', '.join(donors)}: its opinion there is weak ({stand_ins})")
    frames = [f for f in frames if set(f.atoms.symbols) <= set(potential.elements)]
    predict = opinion_of(potential)
    predictions = opinions(predict, frames, on_compared)
    suspects = find_suspects(frames, predictions, predict, new)
    odd = {id(suspect.frame) for suspect in suspects}
    pairs = [
        (frame, guess)
        for frame, guess in zip(frames, predictions, strict=True)
        if id(frame) not in odd and set(frame.atoms.symbols) <= set(elements)
    ]
    if frames and not any(set(frame.atoms.symbols) <= set(elements) for frame in frames):
        lines.append(
            f"units are not checked: each structure has an element that {name} does not know"
        )
    elif pairs:
        doubts = find_doubts([frame for frame, _ in pairs], [guess for _, guess in pairs])
        clean = "" if doubts else ": no sign of another unit or sign"
        lines += doubts
        lines.append(f"units: {len(pairs)} of {len(frames)} frames compared with {name}{clean}")
    return lines, suspects


def _placeholders(pairs: Pairs, what: str) -> Iterator[str]:
    files: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for frame, prediction in pairs:
        label, expected = getattr(frame, what), getattr(prediction, what)
        if frame.labels == "full" and label is not None and expected is not None:
            files.setdefault(frame.source, []).append((label, expected))
    least, unit, mend = ZEROS[what]
    for file, both in files.items():
        size = max(float(np.sqrt(np.mean(np.square(expected)))) for _, expected in both)
        if size > least and not any(label.any() for label, _ in both):
            yield (
                f"{file}: the {what} of every frame used is exactly zero, where the pretrained "
                f"model expects up to {size:.2g} {unit} (RMS). "
                f"That looks like a placeholder, not a label. {hint(mend)}"
            )


def _compared(what: str, pairs: Pairs) -> Iterator[str]:
    """At most one doubt about the labels of some frames."""
    if what == "forces":
        both = [
            (f.forces.ravel(), p.forces.ravel())
            for f, p in pairs
            if f.forces is not None and f.forces.any()
        ]
    elif what == "energies":
        both = _centred(
            [
                (f.formula, f.energy / len(f), p.energy / len(f))
                for f, p in pairs
                if f.energy is not None
            ]
        )
    else:
        both = _centred(
            [
                (f.formula, f.stress, p.stress)
                for f, p in pairs
                if f.stress is not None and f.stress.any() and p.stress is not None
            ]
        )
    if both:
        labels, predicted = map(np.concatenate, zip(*both, strict=True))
        atoms = float(np.mean([len(frame) for frame, _ in pairs]))
        yield from _doubt(what, labels, predicted, {f.source for f, _ in pairs}, atoms)
        if what == "stresses":
            yield from _order_doubt(
                labels.reshape(-1, 6), predicted.reshape(-1, 6), {f.source for f, _ in pairs}
            )


def _order_doubt(
    labels: np.ndarray, predicted: np.ndarray, files: Collection[str]
) -> Iterator[str]:
    """Off-diagonal stresses, by themselves, in the order in which VASP prints them."""
    shear = predicted[:, 3:].ravel()

    def correlation(values: np.ndarray) -> float:
        size = float(np.linalg.norm(values) * np.linalg.norm(shear))
        return float(values.ravel() @ shear) / size if size else 0.0

    as_vasp = correlation(labels[:, VASP_ORDER][:, 3:])
    if len(labels) > ENOUGH and as_vasp > SURE["stresses"] - 0.2 > correlation(labels[:, 3:]) + 0.3:
        yield (
            f"{', '.join(sorted(files)[:3])}: the stresses are in the order xx yy zz xy yz zx, as "
            "VASP prints them. Write them as xx yy zz yz xz xy, or as a 3×3 matrix."
        )


def _centred(labelled: Sequence[tuple[str, Any, Any]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Less the means of each composition that has more than two frames; the others left out."""
    groups: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    for formula, label, predicted in labelled:
        groups[formula].append((label, predicted))
    centred = [np.array(g) - np.mean(g, axis=0) for g in groups.values() if len(g) > 2]
    return [(c[:, 0].ravel(), c[:, 1].ravel()) for c in centred]


def _doubt(
    what: str,
    labels: np.ndarray,
    predicted: np.ndarray,
    files: Collection[str],
    atoms: float,
) -> Iterator[str]:
    key, ours, unit_factors = LABEL_UNITS[what]
    if what == "energies":
        unit_factors = unit_factors | {"energies per atom": atoms}
    scale = float(np.sqrt(np.square(labels).sum() * np.square(predicted).sum()))
    if scale == 0.0:
        return
    correlation = float(labels @ predicted) / scale
    factor = correlation * float(np.linalg.norm(labels) / np.linalg.norm(predicted))
    distances = {unit: _distance(factor, unit_factors[unit]) for unit in unit_factors}
    far = min(distances.values())
    guesses = sorted(
        (u for u in distances if distances[u] < far + LIKE_UNITS), key=distances.__getitem__
    )
    sure = correlation > SURE[what] and len(labels) > 3 * ENOUGH
    if what == "energies":  # a stand-in's may follow the labels far too strongly
        sure = sure and 1 / PLAUSIBLE < factor < PLAUSIBLE
    looks = f"they look like {' or '.join(guesses)}"
    if sure and not OFF[0] < factor < OFF[1]:
        looks = looks if far < np.log(2.0) else "they are in another unit"
    else:
        yardstick = abs(correlation) >= max(CORRELATION[what], 3 / len(labels) ** 0.5)
        if not yardstick or 1 / PLAUSIBLE < factor < PLAUSIBLE or far > np.log(PLAUSIBLE):
            return
    yield (
        f"{', '.join(sorted(files)[:3])}: the {what} are {factor:.3g} times what the pretrained "
        f"model expects in {ours}; {looks}. "
        + hint(f"Convert them, or name the right key with {{data.keys.{key}}}.", "Convert them.")
    )


def _distance(factor: float, unit: float) -> float:
    """How far labels of `factor` times their size are from being in a `unit`, as a logarithm."""
    return float(abs(np.log(factor * unit))) if factor * unit > 0 else float("inf")
