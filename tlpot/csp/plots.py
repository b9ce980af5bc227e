"""The pictures of a ranking."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlpot.csp.ranking import Ranked
from tlpot.data.crystals.read import stem
from tlpot.evaluation.panels import panels_of, parity_panel, shared_limits, short
from tlpot.evaluation.report import formula
from tlpot.palette import AFTER, BEFORE, FAINT


def landscape(ranked: Ranked) -> Figure:
    """Energy above the lowest against density; error bars of the differences to the lowest."""
    figure, ((axis,),) = panels_of(6.6, 5.4)
    density = np.array([c.density for c in ranked.candidates])
    energy, bars = ranked.relative, np.nan_to_num(ranked.spread[0])
    axis.errorbar(
        density, energy, yerr=bars, fmt="none", ecolor=FAINT, elinewidth=0.7, alpha=0.5, zorder=1
    )
    axis.scatter(density, energy, s=28, color=AFTER, alpha=0.8, lw=0, zorder=2)
    for name, match in ranked.experimental.items():
        if match is None:
            continue
        i = ranked.place(match.candidate)
        _star(axis, name, density[i], energy[i])
    axis.set_xlabel("density (g/cm³)")
    axis.set_ylabel(f"lattice energy above the lowest (kJ/mol of {formula(str(ranked.unit))})")
    kind = "calibrated" if ranked.scale else "raw"
    if bars.any():
        axis.set_title(
            f"bars: {kind} standard deviation of the difference to the lowest",
            fontsize=9,
            color=FAINT,
            loc="right",
        )
    top = float(energy.max(initial=0.0))
    axis.set_ylim(-0.06 * (top or 1.0), 1.06 * (top or 1.0))
    return figure


def reference_parity(ranked: Ranked) -> Figure:
    """Energies against the reference's above its lowest, where known, less the mean difference."""
    labelled = [i for i, c in enumerate(ranked.candidates) if c.reference is not None]
    theirs = np.array([ranked.candidates[i].reference for i in labelled], dtype=float)
    theirs -= theirs.min()
    ours = ranked.energies[labelled]
    ours += theirs.mean() - ours.mean()
    figure, ((axis,),) = panels_of(6.6, 5.4)
    note = (
        f"{len(labelled)} crystals, ρ = {short(ranked.scores['spearman'])}, centred RMSE "
        f"{short(ranked.scores['rmse_centred_kJ_mol'])} kJ/mol"
    )
    limits = shared_limits(theirs, [ours])
    axis.errorbar(
        *(theirs, ours, ranked.doubt[labelled]),
        **{"fmt": "none", "ecolor": FAINT, "elinewidth": 0.7, "alpha": 0.5, "zorder": 1},
    )
    parity_panel(axis, theirs, ours, limits, note)
    for name, match in ranked.experimental.items():
        if match is not None and match.candidate.reference is not None:
            at = labelled.index(ranked.place(match.candidate))
            _star(axis, name, theirs[at], ours[at])
    axis.set_xlabel("reference, above its lowest (kJ/mol)")
    axis.set_ylabel("model, less the mean difference (kJ/mol)")
    return figure


def _star(axis: Axes, name: str, x: float, y: float) -> None:
    """Mark what an experimental structure matches."""
    axis.scatter(x, y, s=170, marker="*", color=BEFORE, lw=0, zorder=3)
    axis.annotate(
        *(stem(name), (x, y), (9, -4)), textcoords="offset points", color=BEFORE, fontsize=10
    )
