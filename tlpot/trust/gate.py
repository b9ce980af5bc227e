"""Suspects before a training: told, left out or refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tlpot.config.hints import hint
from tlpot.data.check import Checked, RefusedFramesError, Rejection
from tlpot.model.potential import Potential, chunks
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame
from tlpot.trust.suspects import Suspect

FRAMES_NAMED = 8
"""Frames of one file and cause that a line names."""
LONG = 64
"""Runs of frames (`tlpot.model.potential.chunks`) that take long enough to be shown."""
OnCompared = Callable[[int, int], None]
"""Told how many frames of how many the base has predicted, where they are many."""


def opinion_of(potential: Potential) -> Callable[[Sequence[Frame]], list[Prediction]]:
    """What a potential predicts, of charged and open shells too: `Potential.predict` refuses them.

    A test of a cause changes elements, and with them the number of electrons.
    """

    def predict(frames: Sequence[Frame]) -> list[Prediction]:
        return potential.predict_batches([potential.batch([frame]) for frame in frames])

    return predict


def opinions(
    predict: Callable[[Sequence[Frame]], list[Prediction]],
    frames: Sequence[Frame],
    on_compared: OnCompared,
) -> list[Prediction]:
    """What `predict` says of all frames, some after the other."""
    groups = list(chunks(frames))
    predictions: list[Prediction] = []
    for group in groups:
        predictions += predict(group)
        if len(groups) > LONG:
            on_compared(len(predictions), len(frames))
    return predictions


def sifted(checked: Checked, suspects: Sequence[Suspect], action: str) -> Checked:
    """The frames to train on.

    Parameters
    ----------
    action
        ``data.suspects``: ``keep`` uses doubtful frames and refuses where one is certainly wrong,
        ``refuse`` refuses where any is doubtful, ``drop`` leaves out all suspects.

    Raises
    ------
    TlpotError
        Naming the frames of each file and cause, and the mend.
    """
    rejected = [
        Rejection(s.frame, "suspect label", f"{s.cause}; {s.evidence}; {s.mend}") for s in suspects
    ]
    refused = [s for s in suspects if s.certain or action == "refuse"]
    if refused and action != "drop":
        lines = [
            *suspect_lines(refused),
            hint("Or set {data.suspects}: drop to leave such frames out."),
        ]
        head = f"the labels of {len(refused)} of {len(checked.frames)} frames are not theirs:"
        raise RefusedFramesError("\n  ".join([head, *lines]), [*checked.rejected, *rejected])
    if action != "drop" or not suspects:
        return checked
    odd = {id(suspect.frame) for suspect in suspects}
    frames = [frame for frame in checked.frames if id(frame) not in odd]
    return replace(checked, frames=frames, rejected=[*checked.rejected, *rejected])


def suspect_lines(suspects: Sequence[Suspect]) -> Iterator[str]:
    """A line for each file and cause: frames, what was seen in the first, mend."""
    for group in grouped(suspects):
        first = group[0]
        mend = f"{first.mend[:1].upper()}{first.mend[1:]}."
        yield f"{named_frames(group)}: {first.cause} ({first.evidence}). {mend}"


def grouped(suspects: Sequence[Suspect]) -> list[list[Suspect]]:
    """Suspects of one file, kind of cause and mend."""
    groups: dict[tuple[object, ...], list[Suspect]] = {}
    for suspect in suspects:
        kind = re.split("[:×,#+-]", suspect.cause)[0]
        key = suspect.frame.source, kind, suspect.mend, suspect.certain
        groups.setdefault(key, []).append(suspect)
    return list(groups.values())


def named_frames(group: Sequence[Suspect]) -> str:
    """The file, and the numbers of the first few frames in it."""
    numbers = [f"#{suspect.frame.index}" for suspect in group[:FRAMES_NAMED]]
    more = f" and {len(group) - FRAMES_NAMED} more" if len(group) > FRAMES_NAMED else ""
    return f"{group[0].frame.source} {' '.join(numbers)}{more}"


def suspect_rows(suspects: Sequence[Suspect]) -> list[dict[str, object]]:
    """Suspects as plain data, for a manifest."""
    return [
        {
            "frame": s.frame.name,
            "cause": s.cause,
            "evidence": s.evidence,
            "mend": s.mend,
            "certain": s.certain,
        }
        for s in suspects
    ]
