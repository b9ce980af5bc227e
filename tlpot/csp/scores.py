"""How well one order of crystals agrees with another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau, spearmanr

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
    known = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[known], theirs[known]
    found = {"n": float(len(ours))} | dict.fromkeys(SCORES, float("nan"))
    if len(ours) < 2:
        return found
    if np.ptp(ours) > 0 and np.ptp(theirs) > 0:
        found["spearman"] = float(spearmanr(ours, theirs).statistic)
        found["kendall"] = float(kendalltau(ours, theirs).statistic)
    errors = ours - theirs
    found["rmse_centred_kJ_mol"] = float(np.std(errors))
    rank = float(1 + np.count_nonzero(ours < ours[theirs.argmin()]))
    found |= {"hit_rank": rank, "top_1": float(rank <= 1)}
    if len(ours) > 5:
        found["top_5"] = float(rank <= 5)
    return found
