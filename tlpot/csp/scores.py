"""Reference energies, and how well an order of crystals agrees with theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import kendalltau, spearmanr

from tlpot.data.crystals.read import origin
from tlpot.data.tables.identity import shown
from tlpot.data.tables.tabulated import matched_rows
from tlpot.errors import TlpotError
from tlpot.files import require_unshadowed
from tlpot.structure.frames import Frame

FILE_LABELS = "labels"
"""Stands for the energies that the structure files hold."""
SCORES = ("spearman", "kendall", "rmse_centred_kJ_mol", "top_1", "top_5", "hit_rank")


def score(energies: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Agreement of `energies` with those of a reference method, both in kJ/mol.

    Returns
    -------
    dict
        - ``n``: structures with both.
        - ``spearman``, ``kendall`` (τ_b): rank correlations.
        - ``rmse_centred_kJ_mol``: RMS difference after the mean difference is taken away.
        - ``hit_rank``: rank of the reference's lowest structure; of equal ones the first.
        - ``top_1``, ``top_5``: 1.0 if that is among the lowest one, or five, otherwise 0.0.

        What is undefined is NaN: everything for fewer than two structures, correlations where one
        side is constant, ``top_5`` for five structures or fewer, which could not fail.
    """
    ours, theirs = (np.asarray(values, dtype=float) for values in (energies, reference))
    labelled = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[labelled], theirs[labelled]
    scores = {"n": float(len(ours))} | dict.fromkeys(SCORES, float("nan"))
    if len(ours) < 2:
        return scores
    if np.ptp(ours) > 0 and np.ptp(theirs) > 0:
        scores["spearman"] = float(spearmanr(ours, theirs).statistic)
        scores["kendall"] = float(kendalltau(ours, theirs).statistic)
    errors = ours - theirs
    scores["rmse_centred_kJ_mol"] = float(np.std(errors))
    rank = float(1 + np.count_nonzero(ours < ours[theirs.argmin()]))
    scores |= {"hit_rank": rank, "top_1": float(rank <= 1)}
    if len(ours) > 5:
        scores["top_5"] = float(rank <= 5)
    return scores


def read_reference(
    frames: Sequence[Frame],
    file: str | None,
    on_remark: Callable[[str], None] = lambda remark: None,
) -> dict[str, float]:
    """Reference energies, eV per cell, by frame name.

    Parameters
    ----------
    file
        A CSV whose first column is a structure's file name, with so much of its path as tells it
        from others and with or without ending, and whose second is its energy; or `FILE_LABELS`,
        the energies of the frames themselves.
    on_remark
        Told of structures without an energy and of ids without a structure.

    Raises
    ------
    TlpotError
        If there are no energies for these frames, or it is not clear which is whose.
    """
    if file is None:
        return {}
    if file == FILE_LABELS:
        require_unshadowed(FILE_LABELS, "the energies of the files themselves")
        labels = {frame.name: frame.energy for frame in frames if frame.energy is not None}
        if not labels:
            raise TlpotError(f"--reference {FILE_LABELS}: no file has energies; name a CSV")
    else:
        labels = _table_energies(frames, file, on_remark)
    if without := [origin(frame) for frame in frames if frame.name not in labels]:
        on_remark(f"No reference energy is known of {len(without)} structures: {shown(without)}.")
    return labels


def _table_energies(
    frames: Sequence[Frame], file: str, on_remark: Callable[[str], None]
) -> dict[str, float]:
    names = [origin(frame) for frame in frames]
    _, rows, unknown = matched_rows(names, file, "reference energies")
    energies = {name: row.number(1) for name, row in rows.items()}
    if unknown:
        on_remark(f"{file}: {len(unknown)} ids are of no structure here: {shown(unknown)}.")
    own = {frame.name: energies.get(origin(frame), np.nan) for frame in frames}
    return {name: energy for name, energy in own.items() if np.isfinite(energy)}
