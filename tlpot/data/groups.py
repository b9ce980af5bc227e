"""All frames of a config: those given in memory, or of ``data.files`` and ``data.groups``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase.units import GPa

from tlpot.config.data import NAMED, Data, Group, Keys, Labelled
from tlpot.data.read import read_frames
from tlpot.data.tables.tabulated import read_tabulated, require_one_zero
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame, Part

IN_MEMORY = "in memory"
"""Stands for the file of frames that came from none."""
_READING: dict[str, Any] = {
    "groups": [],
    **{part: [] for part in NAMED},
    "keys": Keys(),
    "relaxed": False,
    "pressure": 0.0,
    "energy_only": False,
}


def read_data(
    settings: Data,
    given: Sequence[Frame] | None = None,
    on_remark: Callable[[str], None] = lambda remark: None,
) -> list[Frame]:
    """Read ``data.files``, each of ``data.groups``, and what is named for each part.

    Or take the frames that are `given`.

    `on_remark` is told what to know of tables (`tlpot.data.tables.tabulated.read_tabulated`).

    Raises
    ------
    TlpotError
        As `tlpot.data.read.read_frames` and `tlpot.data.tables.tabulated.read_tabulated`; if
        relative energies contradict total ones; or if frames are given with settings that say how
        files are to be read, which each frame says itself (`Frame.labels`, `Frame.weight`).
    """
    if given is not None:
        for name, default in _READING.items():
            if getattr(settings, name) != default:
                raise TlpotError(
                    f"data.{name}: says how files are read, but these frames are in memory; leave "
                    "it out and set labels and weight of each Frame"
                )
        return [
            frame if frame.source else replace(frame, source=IN_MEMORY, index=i)
            for i, frame in enumerate(given)
        ]
    frames = [
        marked(frame, settings)
        for frame in read_frames(settings.files, settings.keys, settings.energy)
    ]
    for group in settings.groups:
        if group.table is not None:
            some = read_tabulated(group, on_remark)
        else:
            some = read_frames(group.files, group.keys or settings.keys, settings.energy)
        frames += [marked(frame, group) for frame in some]
    part: Part
    for part in NAMED:
        some = read_frames(getattr(settings, part), settings.keys, settings.energy)
        frames += [replace(marked(frame, settings), part=part) for frame in some]
    require_one_zero(frames)
    return frames


def marked(frame: Frame, section: Labelled) -> Frame:
    """The frame as its section says: weighted; of a minimum, the labels that its file lacks.

    These are forces of zero and, where the cell was relaxed too, the stress at that pressure.
    """
    if isinstance(section, Group):
        frame = replace(frame, weight=frame.weight * section.weight)
    if section.relaxed:
        forces = np.zeros((len(frame), 3)) if frame.forces is None else frame.forces
        stress = frame.stress
        if section.relaxed == "cell" and stress is None and frame.kind == "crystal":
            stress = np.repeat([-section.pressure * GPa, 0.0], 3)
        return replace(frame, labels="relaxed", forces=forces, stress=stress)
    if section.energy_only and frame.forces is None:
        return replace(frame, labels="energy")
    return frame


def without_files(settings: Data) -> Data:
    """The settings for frames that were read by `settings`, and are in memory now."""
    return settings.model_copy(update=_READING | {"files": settings.files or [IN_MEMORY]})
