"""Are large frames and rare elements worse off, and does weighting help them (training.weighting)?

Mixed sets under ``$TLPOT_DATA``: ``si_i_molecules`` (neutral, closed-shell molecules of 4 to 40
atoms with H C N O F S Cl, Si in place of C and I of Cl), and every eighth frame of all 15 crystals
of ``x23`` (3 to 112 atoms). There is no smaller question that the repository's own data could
answer: each of its sets has a level of theory of its own, and one composition. Reduced: the
molecules alone, two members of ANI-2x.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
from common import table
from crystals import crystals
from matplotlib.figure import Figure
from models import parts_of
from scipy.stats import spearmanr
from sweeps import study, x23

from tlpot.ablation.sweep import Outcome

EVERY = 8
BINS = 5
FORCE = "force_rmse_meV_per_A_component"
ENERGY = "energy_rmse_meV_per_atom"
MOLECULES = {
    "data.files": f"{os.environ.get('TLPOT_DATA', '')}/si_i_molecules/aimnet2_configs.xyz",
    "data.keys": {"energy": "REF_energy", "forces": "REF_forces"},
    "data.bad_frames": "drop",
    "model.elements": {"Si": "C", "I": "Cl"},
}
CRYSTALS = {"data.files": [f"{x23(name)}@::{EVERY}" for name in crystals()]}
WEIGHTING = {"training.weighting": ["none", "size", "composition", "element"]}
BASE = {"data": {}, "model": {"base": "ani2x"}, "training": {}}

Groups = dict[str, list[Outcome]]


def breakdowns(outcomes: Sequence[Outcome]) -> list[str]:
    """Errors by element and by size, each beside how much of it there is to train on."""
    lines: list[str] = []
    for name, by_weighting in data_sets(outcomes).items():
        atoms, sizes = trained(outcomes, name)
        labels = [f"{w}, meV/Å" for w in by_weighting]
        rows = []
        for element, count in atoms.most_common():
            errors = [mean_of(group, by_element(element)) for group in by_weighting.values()]
            rows.append([element, count, *(f"{e:.1f}" for e in errors)])
        lines += ["", f"## {name}: forces by element", ""]
        lines += table(["element", "training atoms", *labels], rows)
        lines += ["", *correlations("element", atoms, by_weighting, by_element), ""]
        edges = np.quantile(list(sizes.elements()), np.linspace(0, 1, BINS + 1)).astype(int)
        rows = []
        for below, high in pairwise([edges[0] - 1, *np.unique(edges[1:])]):
            low = below + 1
            frames = sum(n for size, n in sizes.items() if low <= size <= high)
            row: list[object] = [f"{low}–{high}", frames]
            for key in (ENERGY, FORCE):
                row += [
                    f"{mean_of(group, by_size(key, low, high)):.2f}"
                    for group in by_weighting.values()
                ]
            rows.append(row)
        header = [f"{w}, {unit}" for unit in ("meV/atom", "meV/Å") for w in by_weighting]
        lines += [f"## {name}: by number of atoms", ""]
        lines += table(["atoms", "training frames", *header], rows)
    return [*lines, "", "Forces per component; means over seeds."]


def correlations(
    what: str, counts: Counter[Any], by_weighting: Groups, error: Callable[[Any], Any]
) -> list[str]:
    """Rank correlation of error and abundance."""
    found = []
    for weighting, group in by_weighting.items():
        errors = [mean_of(group, error(one)) for one in counts]
        found.append(f"{weighting} {spearmanr(list(counts.values()), errors).statistic:.2f}")
    return [f"Spearman correlation of error and training atoms of an {what}: {', '.join(found)}."]


def by_element(element: str) -> Callable[[Outcome], float]:
    def error(outcome: Outcome) -> float:
        assert outcome.metrics is not None
        found = outcome.metrics["finetuned"]["test"]["by_element"].get(element, {}).get(FORCE)
        return np.nan if found is None else found

    return error


def by_size(key: str, low: float, high: float) -> Callable[[Outcome], float]:
    """RMSE over the test frames of a range of sizes."""

    def error(outcome: Outcome) -> float:
        assert outcome.metrics is not None
        sizes = outcome.metrics["finetuned"]["test"]["by_size"]
        chosen = [m for size, m in sizes.items() if low <= int(size) <= high]
        if not chosen:
            return np.nan
        weights = [m["n_energies" if key == ENERGY else "n_forces"] for m in chosen]
        return float(np.sqrt(np.average([m[key] ** 2 for m in chosen], weights=weights)))

    return error


def data_sets(outcomes: Sequence[Outcome]) -> dict[str, Groups]:
    """Data set → weighting → finished runs."""
    found: dict[str, Groups] = {}
    for o in outcomes:
        if o.metrics is not None:
            groups = found.setdefault(o.point.labels["data"], {})
            groups.setdefault(o.point.labels["training.weighting"], []).append(o)
    return found


def trained(outcomes: Sequence[Outcome], name: str) -> tuple[Counter[str], Counter[int]]:
    """Atoms of each element and frames of each size in the training frames of the first seed."""
    config = next(o.point.config for o in outcomes if o.point.labels["data"] == name)
    frames = parts_of(config)["train"]
    return Counter(s for f in frames for s in f.atoms.symbols), Counter(map(len, frames))


def mean_of(group: Sequence[Outcome], error: Callable[[Outcome], float]) -> float:
    return fmean(error(outcome) for outcome in group)


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Force error of an element against its atoms to train on, a panel a data set."""
    sets = data_sets(outcomes)
    figure = Figure(figsize=(5 * len(sets), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sets)))
    for panel, (name, by_weighting) in zip(panels, sets.items(), strict=True):
        atoms, _ = trained(outcomes, name)
        top = dict.fromkeys(atoms, 0.0)
        for weighting, group in by_weighting.items():
            errors = {element: mean_of(group, by_element(element)) for element in atoms}
            panel.plot(list(atoms.values()), list(errors.values()), "o", label=weighting, alpha=0.7)
            top = {element: max(top[element], error) for element, error in errors.items()}
        for element, count in atoms.items():
            place = (count, top[element])
            panel.annotate(element, place, (0, 6), textcoords="offset points", ha="center")
        panel.margins(y=0.1)
        panel.set(xscale="log", xlabel="atoms of the element to train on", title=name)
        panel.set(ylabel="force RMSE, meV/Å per component", ylim=(0, None))
        panel.legend(title="weighting", fontsize="small")
    return figure


if __name__ == "__main__":
    study(
        "size_and_element",
        str(__doc__).splitlines()[0],
        reduced={"base": BASE, "axes": WEIGHTING | {"data": {"molecules": MOLECULES}}},
        full={
            "base": BASE,
            "axes": WEIGHTING | {"data": {"molecules": MOLECULES, "15 crystals": CRYSTALS}},
        },
        says=breakdowns,
        picture=draw,
        adopts=False,
    )
