"""All frames of a config: those of ``data.files`` and of ``data.groups``, each with its labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tlpot.config import Data, Group, Labelled
from tlpot.data.read import read_frames
from tlpot.frames import Frame


def read_data(settings: Data) -> list[Frame]:
    """Read ``data.files``, then each of ``data.groups``.

    Raises
    ------
    TlpotError
        As `tlpot.data.read.read_frames`.
    """
    frames = [
        marked(frame, settings)
        for frame in read_frames(settings.files, settings.keys, settings.energy)
    ]
    for group in settings.groups:
        some = read_frames(group.files, group.keys or settings.keys, settings.energy)
        frames += [marked(frame, group) for frame in some]
    return frames


def marked(frame: Frame, section: Labelled) -> Frame:
    """The frame as its section says: a minimum, with zero forces if the file has none; weighted."""
    frame = replace(frame, weight=section.weight if isinstance(section, Group) else 1.0)
    if section.relaxed:
        forces = np.zeros((len(frame), 3)) if frame.forces is None else frame.forces
        return replace(frame, labels="relaxed", forces=forces)
    if section.energy_only and frame.forces is None:
        return replace(frame, labels="energy")
    return frame
