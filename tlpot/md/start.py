"""The structure that a run begins from."""

from __future__ import annotations

import re

from ase import Atoms

from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.structure.electrons import require_closed_shell
from tlpot.structure.soundness import require_sound


def read_start(file: str, supercell: str = "1x1x1") -> Atoms:
    """The one structure of a file, so many times along each cell vector.

    Raises
    ------
    TlpotError
        If there are several structures, or `supercell` is not like ``2x2x3``.
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2}", supercell):
        raise TlpotError(f"supercell '{supercell}' must read like 2x2x3")
    frames = read_frames(file)
    require_sound(frames)
    for frame in frames:
        require_closed_shell(frame.atoms, frame.info, frame.name)
    if len(frames) > 1:
        raise TlpotError(f"{file} holds {len(frames)} structures; pick one, e.g. {file}@0")
    repeats = tuple(map(int, supercell.split("x")))
    if repeats != (1, 1, 1) and not frames[0].atoms.pbc.all():
        raise TlpotError(f"{file} is not periodic: no supercell can be made of it")
    return frames[0].atoms.repeat(repeats)
