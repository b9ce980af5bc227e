"""Choosing the structures most worth a label: by a committee, by likeness, or of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.model.potential import Potential, chunks
from tlpot.sampling.scores import disagreement, doubt_near_top, farthest, worst
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import require_sound

WINDOW = 7.0
"""kJ/mol of formula units: nearly all known polymorphs lie within it of each other
(Nyman and Day, CrystEngComm 2015, 17, 5154)."""
RANKING_NOTES = ("relative_kJ_mol", "relative_std_kJ_mol", "centred_std_kJ_mol")
"""What a ranking says of a structure: energy above the lowest, its spread, its own doubt."""
Pick = Literal["committee", "farthest", "random"]


def choose(
    frames: Sequence[Frame],
    by: Pick,
    number: int,
    model: Potential | None,
    seed: int = 0,
    existing: Sequence[Frame] = (),
) -> list[Frame]:
    """Choose the frames that are most worth labelling or training on.

    Parameters
    ----------
    frames
        Frames to choose from.
    by
        ``committee`` takes the frames of the largest spread of the ensemble per √N, and notes it in
        ``info["committee_eV"]``; ``farthest`` takes those most unlike each other and unlike
        `existing` in descriptor space; ``random`` draws them with `seed`.
    number
        Number of frames to choose.
    model
        The potential; not needed for ``random``.
    seed
        Of ``random``.
    existing
        Frames that are labelled already.

    Returns
    -------
    list of Frame
        The chosen frames, the first choice first.

    Raises
    ------
    TlpotError
        If there are too few frames, or if the model is a single network.
    """
    if number > len(frames):
        raise TlpotError(f"{number} frames are asked for, but the files hold {len(frames)}")
    if by == "random":
        picks = np.random.default_rng(seed).choice(len(frames), number, replace=False).tolist()
        return [frames[i] for i in picks]
    if model is None:
        raise TlpotError(f"picking by {by} needs a model")
    require_sound((*existing, *frames))
    if by == "farthest":
        everything = [*existing, *frames]
        picks = farthest(frame_features(model, everything), number, range(len(existing)))
        return [everything[i] for i in picks]
    scores = committee(model, frames)
    return [
        replace(frames[i], info=frames[i].info | {"committee_eV": round(float(scores[i]), 6)})
        for i in worst(scores, number)
    ]


def choose_from_ranking(folder: str | Path, number: int, window: float = WINDOW) -> list[Frame]:
    """Choose the ranked structures whose DFT energies would tell most about the top of the ranking.

    Parameters
    ----------
    folder
        A folder that `tlpot rank` wrote.
    number
        Number of structures to choose, at most all.
    window
        Energy above the lowest, in kJ/mol of formula units, up to which a structure counts as the
        top (`tlpot.sampling.scores.doubt_near_top`).

    Returns
    -------
    list of Frame
        Without the ranking's energies, the first choice first; ``info["doubt_near_top_kJ_mol"]``
        holds the score.

    Raises
    ------
    TlpotError
        If the folder holds no ranking, if a model without a spread made it, or if it has too few
        structures.
    """
    file = Path(folder) / "structures.extxyz"
    if not file.is_file():
        raise TlpotError(
            f"{folder}: holds no structures.extxyz; name a folder that tlpot rank wrote"
        )
    frames = read_frames(file)
    try:
        notes = [[float(str(f.info[name])) for name in RANKING_NOTES] for f in frames]
    except (KeyError, ValueError):
        raise TlpotError(
            f"{file}: says no {', '.join(RANKING_NOTES)}; run tlpot rank again"
        ) from None
    above, above_std, doubt = np.array(notes).T
    scores = doubt_near_top(above, above_std, doubt, window)
    if not np.isfinite(scores).all():
        raise TlpotError(f"{file}: ranked by a single network, which has no spread to choose by")
    if number > len(frames):
        raise TlpotError(f"{number} structures are asked for, but {file} holds {len(frames)}")
    return [
        replace(
            frames[i],
            energy=None,
            info=frames[i].info | {"doubt_near_top_kJ_mol": round(float(scores[i]), 4)},
        )
        for i in worst(scores, number)
    ]


def committee(model: Potential, frames: Sequence[Frame]) -> np.ndarray:
    """``(frames,)`` spread of the ensemble's energies per √N, eV (`tlpot.sampling.scores`).

    Raises
    ------
    TlpotError
        If the model is a single network.
    """
    if model.backbone.members < 2:
        raise TlpotError("the model is a single network: a committee needs several")
    spread = np.array([p.energy_std for p in model.predict(frames)])
    return disagreement(spread, np.array([len(frame) for frame in frames]))


@torch.no_grad()
def frame_features(model: Potential, frames: Sequence[Frame]) -> np.ndarray:
    """Atomic environment vectors averaged over each frame, one block a network.

    Returns
    -------
    ``(frames, networks · features)``; a network (of an element) has the sum over its atoms divided
    by all atoms of the frame: zero where the element does not occur.
    """
    symbols = {s for frame in frames for s in frame.atoms.symbols}
    model = model.for_elements(symbols)
    backbone = model.backbone
    networks = len(backbone.networks_of(symbols))
    rows = []
    for chunk in chunks(frames):
        batch = model.batch(chunk)
        values, network = backbone.features(batch)
        blocks = values.new_zeros(batch.n_frames * networks, values.shape[1])
        blocks.index_add_(0, batch.frame * networks + network, values)
        rows.append(blocks.view(batch.n_frames, -1) / batch.n_atoms[:, None])
    return torch.cat(rows).double().cpu().numpy()
