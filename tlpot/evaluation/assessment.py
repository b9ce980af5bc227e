"""`tlpot evaluate`: what a potential says of labelled frames, where its energy zero lies, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tlpot import __version__
from tlpot.data.write import to_text
from tlpot.evaluation import plots
from tlpot.evaluation.errors import is_known
from tlpot.evaluation.metrics import Metrics, judged, metrics
from tlpot.model.potential import Potential
from tlpot.model.prediction import Prediction
from tlpot.model.reference import compositions, moved, refitted
from tlpot.structure.frames import Frame

OTHER_ZERO = 0.1
"""eV/atom of RMSE from which the labels count their energies from another zero than the model."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """A potential against labels.

    Attributes
    ----------
    frames
        With their labels.
    predictions
        One a frame, with the spread of the forces and `Prediction.outside`.
    metrics
        As of `tlpot.evaluation.metrics.evaluate`, and ``energy_zero``: ``model`` (the potential's
        own), ``fitted`` (to these very frames) or ``unknown`` (energy errors are None);
        ``outside``: ``file``, ``index`` and ``reason`` of the frames outside the model's training,
        None where it does not say.
    remark
        What to know of the energy zero before an energy error is read; empty: nothing.
    """

    frames: list[Frame]
    predictions: list[Prediction]
    metrics: Metrics
    remark: str = ""


def assess(potential: Potential, frames: Sequence[Frame]) -> Assessment:
    """Predict labelled frames, on an energy zero that their labels can be compared with.

    A pretrained base that was never tuned has the zero of its own method (atomic energies of
    hundreds of eV), and so says nothing of total energies of another: its reference is fitted to
    these frames as training would fit it. A tuned potential is taken as it is.
    """
    frames = list(frames)
    predictions = potential.predict(frames, members=True, domain=True)
    if _rmse(frames, predictions) < OTHER_ZERO:
        return Assessment(frames, predictions, _metrics(potential, frames, predictions, "model"))
    labelled = [i for i, frame in enumerate(frames) if is_known(frame.energy)]
    some, guesses = [frames[i] for i in labelled], [predictions[i] for i in labelled]
    reference = refitted(potential.reference, some, guesses)
    shifted = moved(predictions, frames, potential.reference, reference)
    apart = f"{_rmse(frames, predictions):.4g} eV/atom (RMSE) from these labels"
    free = len(some) > compositions(some)
    if potential.reference.kind != "self-energies":
        errors = _metrics(potential, frames, predictions, "model")
        left = f"{1e3 * _rmse(frames, shifted):.3g} meV/atom would be left" if free else ""
        remark = (
            f"The model's energies are {apart}. Labels of another code, of other pseudopotentials "
            "or of another functional count energy from another zero"
            + (f": with one fitted to these frames {left}" if left else "")
            + ". The errors are without such a fit; the centred ones do not depend on it."
        )
        return Assessment(frames, predictions, errors, remark)
    why = (
        f"{potential.metadata.get('base', 'The base')} was never tuned to such labels: its "
        f"energies count from its own zero, {apart}."
    )
    if not free:
        unlabelled = [replace(frame, energy=None) for frame in frames]
        errors = _metrics(potential, unlabelled, predictions, "unknown")
        remark = (
            f"{why} To fit the zero, and judge energies too, needs more frames than there are "
            "independent compositions: energy errors are left out."
        )
        return Assessment(frames, predictions, errors, remark)
    remark = (
        f"{why} The zero was fitted to these {len(some)} frames, as fine-tuning does "
        f"({reference.kind}: {reference.why}): energy errors are what that leaves."
    )
    return Assessment(frames, shifted, _metrics(potential, frames, shifted, "fitted"), remark)


def predictions_text(assessment: Assessment, model: str) -> str:
    """The frames with their labels, and beside them what the model says, as extended XYZ.

    Labels stay what they were (``energy``, ``forces``, ``stress``). Predictions stand under
    names that no reader takes for labels: ``energy_predicted`` and ``energy_predicted_std`` (eV),
    ``stress_predicted`` (Voigt, eV/Å³), columns ``forces_predicted`` and ``forces_predicted_std``
    (eV/Å); ``predicted_by`` says by whom, and on which energy zero; ``outside`` and ``reason``,
    whether and why a frame lies outside the model's training.
    """
    by = f"tlpot {__version__}, model {model}, energy zero: {assessment.metrics['energy_zero']}"
    pairs = zip(assessment.frames, assessment.predictions, strict=True)
    return "".join(to_text(_beside(frame, guess, by)) for frame, guess in pairs)


def parity_figure(assessment: Assessment, model: str) -> Figure:
    """Draw the model against the labels, forces and energies, in the look of the report."""
    frames = assessment.frames
    if assessment.metrics["energy_zero"] == "unknown":
        frames = [replace(frame, energy=None) for frame in frames]
    zero = " · energy zero fitted to these frames"
    title = f"{len(frames)} frames" + zero * (assessment.metrics["energy_zero"] == "fitted")
    return plots.parity_of(frames, {Path(model).name: assessment.predictions}, title)


def _beside(frame: Frame, guess: Prediction, by: str) -> Frame:
    atoms = frame.atoms.copy()
    atoms.set_array("forces_predicted", guess.forces)
    if guess.forces_std is not None:
        atoms.set_array("forces_predicted_std", guess.forces_std)
    notes: dict[str, Any] = {
        "energy_predicted": guess.energy,
        "energy_predicted_std": guess.energy_std,
        "predicted_by": by,
    }
    if guess.outside is not None:
        notes |= {"outside": guess.outside, "reason": guess.reason or ""}
    if guess.stress is not None and frame.kind == "crystal":
        notes["stress_predicted"] = guess.stress
    return replace(frame, atoms=atoms, info=frame.info | notes)


def _metrics(
    potential: Potential, frames: Sequence[Frame], predictions: Sequence[Prediction], zero: str
) -> Metrics:
    outside = [
        {"file": frame.source, "index": frame.index, "reason": guess.reason}
        for frame, guess in zip(frames, predictions, strict=True)
        if guess.outside
    ]
    return {
        "energy_zero": zero,
        **judged(potential, frames, predictions),
        "outside": outside if potential.domain.stated or outside else None,
    }


def _rmse(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> float:
    """eV/atom; 0 without a label."""
    return 1e-3 * (metrics(frames, predictions)["energy_rmse_meV_per_atom"] or 0.0)
