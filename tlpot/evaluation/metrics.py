"""How far a potential is from its labels: errors in meV, over all frames and group by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlpot.data.fingerprints import SEEN, TrainingSet, overlap
from tlpot.evaluation.calibration import uncertainty
from tlpot.evaluation.errors import (
    center,
    energy_errors,
    force_errors,
    is_known,
    is_made_by_one,
    offsets,
    worst_frames,
)
from tlpot.model.uncertainty import Calibration
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import composition, units_of

if TYPE_CHECKING:
    from tlpot.model.potential import Potential
from tlpot.model.prediction import Prediction

Metrics = dict[str, Any]

PARTS = ("test", "validation", "train")

MADE_OF = {
    "energy_rmse_meV_per_atom": "n_energies",
    "energy_rmse_centered_meV_per_atom": "n_energies",
    "force_rmse_meV_per_A_component": "n_force_frames",
}
"""RMSEs that one frame can make, and what counts the frames that enter."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What two potentials say about the parts of a dataset, and how wrong they are.

    Attributes
    ----------
    frames
        Part name → its labelled frames.
    predictions
        ``"baseline"`` and ``"finetuned"`` → part name → one prediction a frame.
    metrics
        The content of ``metrics.json``: model → part → `metrics`, for the test part with
        `breakdown`, that of the fine-tuned model also with `uncertainty`.
    calibration
        Of the fine-tuned potential's spread.
    """

    frames: dict[str, list[Frame]]
    predictions: dict[str, dict[str, list[Prediction]]]
    metrics: dict[str, dict[str, Metrics]]
    calibration: Calibration | None

    @property
    def shown_part(self) -> str:
        """The part that figures show: test, or without test frames validation, then train."""
        return next((part for part in PARTS if self.frames.get(part)), "test")


def judge(
    base: Potential,
    finetuned: Potential,
    parts: Mapping[str, Sequence[Frame]],
    predictions: Mapping[str, Mapping[str, list[Prediction]]] | None = None,
) -> Judgement:
    """Compare the pretrained and the fine-tuned potential on ``test``, ``validation``, ``train``.

    A part that is missing or empty is reported with ``n_frames`` 0 and undefined errors.

    Parameters
    ----------
    predictions
        As `Judgement.predictions`, those that are there already.
    """
    frames = {part: list(parts.get(part, ())) for part in PARTS}
    there = predictions or {}

    both = {
        model: {
            part: there.get(model, {}).get(part)
            or potential.predict(some, members=model == "finetuned" and part != "train")
            for part, some in frames.items()
        }
        for model, potential in (("baseline", base), ("finetuned", finetuned))
    }
    results = {
        model: {part: metrics(frames[part], guesses) for part, guesses in by_part.items()}
        for model, by_part in both.items()
    }
    for model, by_part in both.items():
        results[model]["test"] |= breakdown(frames["test"], by_part["test"])
    results["finetuned"]["test"]["uncertainty"] = uncertainty(
        frames["test"], both["finetuned"]["test"], finetuned.calibration
    )
    return Judgement(frames, both, results, finetuned.calibration)


def evaluate(potential: Potential, frames: Sequence[Frame]) -> Metrics:
    """Predict `frames`, and what `judged` says of it."""
    return judged(potential, frames, potential.predict(list(frames), members=True))


def judged(
    potential: Potential, frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> Metrics:
    """`metrics`, `breakdown` and (by that name) `uncertainty` of a potential's predictions.

    ``seen`` says how many of them the model was trained on (`tlpot.data.fingerprints.Overlap`);
    where it has seen some, ``by_seen`` holds the `metrics` of each kind, of ``unseen`` ones also
    the `uncertainty`.
    """
    parts = TrainingSet.of(potential.metadata).parts(frames)
    result = {
        "seen": overlap(parts),
        **metrics(frames, predictions),
        **breakdown(frames, predictions),
        "uncertainty": uncertainty(frames, predictions, potential.calibration),
    }
    if any(parts):
        part_of = dict(zip(map(id, frames), parts, strict=True))
        groups = _by(lambda frame: SEEN[part_of[id(frame)]], frames, predictions)
        result["by_seen"] = _metrics_of(
            {name: groups[name] for name in SEEN.values() if name in groups}
        )
        if "unseen" in groups:
            some, predicted = zip(*groups["unseen"], strict=True)
            trust = uncertainty(some, predicted, potential.calibration)
            result["by_seen"]["unseen"]["uncertainty"] = trust
    return result


def metrics(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> Metrics:
    r"""Errors of `predictions` against the labels of `frames`, as plain JSON numbers.

    A label that is missing (None or not finite) is left out, it never counts as zero. An error
    without any label, or of a prediction that is not finite, is None.

    - ``energy_*_meV_per_atom``: ΔE/N, each frame counting once. ``rmse``, ``mae``, ``max``.
    - ``energy_*_centered_meV_per_atom``: the same after one constant per composition, the mean
      of ΔE/N over these frames of equal `composition`, is removed: what is left when structures
      of one composition are ranked (crystals and molecules of a composition share the constant,
      so an error in the lattice energy stays in). For a single system this is the plain
      centring. A frame alone in its composition has nothing to be ranked against and is left
      out.
    - ``force_*_meV_per_A_component``: ΔF over all 3N components (most papers).
    - ``force_*_meV_per_A_vector``: \|ΔF\| over all N atoms; its RMSE is √3 × the component RMSE
      (Parunov 2022).
    - ``stress_*_meV_per_A3``: Δσ over the six Voigt components of the frames periodic in three
      directions that carry the label.
    - ``n_frames``, ``n_atoms``, and how many labels entered: ``n_energies`` (frames),
      ``n_forces`` (atoms) of ``n_force_frames`` frames, ``n_stresses`` (frames).

    Raises
    ------
    ValueError
        If there is not one prediction a frame.
    """
    energy = energy_errors(frames, predictions)
    labelled = np.array([is_known(frame.energy) for frame in frames], dtype=bool)
    names = np.array([composition(frame.atoms) for frame in frames])[labelled]
    _, forces = force_errors(frames, predictions)
    stress = [
        1e3 * (prediction.stress - frame.stress)
        for frame, prediction in zip(frames, predictions, strict=True)
        if prediction.stress is not None and is_known(frame.stress)
    ]
    return {
        "n_frames": len(frames),
        "n_atoms": sum(len(frame) for frame in frames),
        **_spread("energy", "meV_per_atom", energy[labelled]),
        **_spread("energy", "centered_meV_per_atom", center(energy[labelled], names)),
        "n_energies": int(labelled.sum()),
        **_force_metrics(forces),
        "n_force_frames": sum(frame.forces is not None for frame in frames),
        **_spread("stress", "meV_per_A3", np.ravel(stress)),
        "n_stresses": len(stress),
    }


def breakdown(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> Metrics:
    """The same errors group by group.

    Where frames differ in their labels, ``by_labels`` (`Frame.labels`) tells them apart.

    Returns
    -------
    dict
        ``by_kind`` (``"crystal"``, ``"molecule"``), ``by_system`` (formula unit of its molecules,
        or without molecules `composition`, and kind, as in ``"CH4N2O crystal"``, so that
        supercells fall together; with ``atoms_per_molecule``) and ``by_size`` (atoms in the cell)
        hold `metrics` of each group; ``by_element`` holds the force metrics of the atoms of each
        element and their number. ``by_offset``: `offsets` of crystals against molecules.
        ``by_frame``: list of the `worst_frames`; ``by_one_frame``: `made_by_one_frame`.
    """
    units = units_of(frames)
    pairs = zip(frames, units, strict=True)
    names = [f"{unit or composition(frame.atoms)} {frame.kind}" for frame, unit in pairs]
    name_of = dict(zip(map(id, frames), names, strict=True))
    unit_of = dict(zip(names, units, strict=True))
    systems = _by(lambda frame: name_of[id(frame)], frames, predictions)
    sizes = _by(len, frames, predictions)
    labels = _by(lambda frame: frame.labels, frames, predictions)
    return {
        **({"by_labels": _metrics_of(labels)} if len(labels) > 1 else {}),
        "by_kind": _metrics_of(_by(lambda frame: frame.kind, frames, predictions)),
        "by_system": {
            name: entry | {"atoms_per_molecule": unit and unit.atoms_per_molecule}
            for name, entry in _metrics_of(systems).items()
            for unit in [unit_of[name]]
        },
        "by_offset": offsets(frames, predictions, units),
        "by_frame": list(worst_frames(frames, predictions).values()),
        "by_one_frame": made_by_one_frame(frames, predictions, names),
        "by_size": {str(size): entry for size, entry in _metrics_of(sizes).items()},
        "by_element": by_element(frames, predictions),
    }


def made_by_one_frame(
    frames: Sequence[Frame], predictions: Sequence[Prediction], systems: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The RMSEs that one of the worst frames makes: the ``frame``, and the ``rmse`` of the others.

    As `tlpot.evaluation.errors.is_made_by_one` decides. ``only`` names the one of `systems`
    of which it is the only frame, else None: alone, it may stand for the error of all its kind.
    """
    whole = metrics(frames, predictions)
    made: dict[str, dict[str, Any]] = {}
    for i in worst_frames(frames, predictions):
        others = [[*some[:i], *some[i + 1 :]] for some in (frames, predictions)]
        rest = metrics(*others)
        for name, count in MADE_OF.items():
            rmse = rest[name]
            if None in (rmse, whole[name]) or rmse >= made.get(name, {"rmse": np.inf})["rmse"]:
                continue
            if is_made_by_one(whole[name], rmse, whole[count]):
                only = systems[i] if systems.count(systems[i]) == 1 else None
                made[name] = {"frame": frames[i].name, "only": only, "rmse": rmse}
    return made


def by_element(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> dict[str, Metrics]:
    """Force metrics of the atoms of each element, and their number ``n_atoms``."""
    atoms = Counter(symbol for frame in frames for symbol in frame.atoms.symbols)
    symbols, errors = force_errors(frames, predictions)
    return {
        element: {"n_atoms": atoms[element], **_force_metrics(errors[symbols == element])}
        for element in sorted(atoms)
    }


def _by(
    key: Callable[[Frame], Any], frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> dict[Any, list[tuple[Frame, Prediction]]]:
    groups: dict[Any, list[tuple[Frame, Prediction]]] = {}
    for frame, prediction in zip(frames, predictions, strict=True):
        groups.setdefault(key(frame), []).append((frame, prediction))
    return dict(sorted(groups.items()))


def _metrics_of(groups: dict[Any, list[tuple[Frame, Prediction]]]) -> dict[Any, Metrics]:
    return {name: metrics(*zip(*pairs, strict=True)) for name, pairs in groups.items()}


def _force_metrics(errors: np.ndarray) -> Metrics:
    return {
        **_spread("force", "meV_per_A_component", errors.ravel()),
        **_spread("force", "meV_per_A_vector", np.linalg.norm(errors, axis=1)),
        "n_forces": len(errors),
    }


def _spread(quantity: str, unit: str, errors: np.ndarray) -> Metrics:
    sizes = np.abs(errors)
    if not len(errors) or not np.isfinite(sizes).all():
        return {f"{quantity}_{name}_{unit}": None for name in ("rmse", "mae", "max")}
    return {
        f"{quantity}_rmse_{unit}": float(np.sqrt(np.mean(sizes**2))),
        f"{quantity}_mae_{unit}": float(sizes.mean()),
        f"{quantity}_max_{unit}": float(sizes.max()),
    }
