"""SchNet on QM9 energies: which molecules are worse off, and do sampling and weights help them?

After the study of Tibau Terma (SchNetPack on QM9), with RI-MP2 total energies of 10,000 molecules
and HF energies to learn from first. `qm9_runs` does the runs, which takes a quarter of an hour
(with ``--times 10`` ten times that); finished ones are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from statistics import fmean, median
from typing import Any

from common import RESULTS, machine, machine_lines, table, write_results
from matplotlib.figure import Figure
from qm9_findings import COMPOSITION, RANGE, Findings, verdict
from qm9_runs import (
    FEW,
    FEWEST,
    HELD_OUT,
    LARGE,
    SEEN,
    SIZES,
    SOME,
    TRAINING,
    WHOLE,
    balanced,
    molecules,
    run_all,
    variants,
)
from scipy.stats import spearmanr

GROUPS = {"≤ 13": (0, 13), "14–17": (14, 17), "18–20": (18, 20), "≥ 21": (21, 99)}
TRANSFER = "HF then MP2, "
NUMBERS = (FEWEST, FEW, SOME, WHOLE)
SAYS = {
    "better": "holds",
    "worse": "the opposite",
    "undecided": "undecided",
    "too few seeds": "open: too few seeds",
}


def alone(number: int) -> str:
    """The run on so many molecules at random, MP2 alone."""
    return "default" if number == SOME else f"MP2, {number}"


def spread(values: Iterable[float], unit: str = "") -> str:
    """Mean and half the range over seeds."""
    values = list(values)
    half = f" ± {(max(values) - min(values)) / 2:.0f}" if len(values) > 1 else ""
    return f"{fmean(values):.0f}{half}{unit}"


def mae(found: Findings, name: str, low: int = 0, high: int = 99) -> str:
    return spread(found.mae(name, low, high).values()) if name in found.errors else "–"


def page(found: Findings, about: dict[str, Any]) -> list[str]:
    wanted = len(variants(found.data, found.pools[0])) * len(found.tests)
    done = sum(len(e) for name, e in found.errors.items() if name != COMPOSITION)
    seen, took = SEEN * found.times, median(s for v in found.seconds.values() for s in v.values())
    lines = [
        "# SchNet on QM9 energies: errors by size and element, sampling and weighting",
        "",
        "- 10,000 molecules of QM9, RI-MP2/def2-TZVP total energies (and HF, to learn from first); "
        f"{HELD_OUT:,} are the test set; seeds {', '.join(map(str, found.tests))} of shuffle and "
        "weights. Errors are MAEs of total energies, meV a molecule, ± half the range over seeds.",
        f"- SchNet: cutoff {SIZES.cutoff:.0f} Å, {SIZES.features} features, {SIZES.interactions} "
        f"interactions, {SIZES.gaussians} Gaussians, one member; MSE of the total energy, AdamW "
        f"{TRAINING['learning_rate']}, batch {TRAINING['batch_size']}, cosine, averaged weights of "
        "the last epoch: no molecule chooses anything.",
        f"- **Reduced**: the original trains on all {WHOLE:,}, to the end; a variant here on "
        f"{SOME:,} of them for {seen // SOME} epochs, {seen:,} molecules seen (as many with fewer, "
        f"twice as many with {WHOLE:,}), {took:.0f} s on one shared core (median of all runs). "
        "What follows is about networks that saw so much, and no more.",
        "- Anchor: SchNet reaches 12 meV on QM9's U0 with 110,000 molecules. Here: "
        f"{mae(found, 'default')} meV with {SOME:,}"
        + (
            f", {mae(found, alone(WHOLE))} with {WHOLE:,}." if alone(WHOLE) in found.errors else "."
        ),
    ]
    if done < wanted:
        lines.append(f"- so far {done} of {wanted} runs; the others have not run")
    lines += [*machine_lines(about), ""]
    for title, part in PARTS.items():
        lines += [f"## {title}", "", *part(found), ""]
    return [*lines, f"![]({title_of(found)}.png)"]


def hypotheses(found: Findings) -> list[str]:
    """What the study asks, and what comes out here."""
    counts, sizes, elements = found.trained_sizes(), found.sizes(), found.elements("default")
    maes = [fmean(found.mae("default", s, s).values()) for s in sizes]
    seen = [counts[s] for s in sizes]
    by_frequency = float(spearmanr(seen, maes).statistic)
    by_size = float(spearmanr(sizes, maes).statistic)
    large = [s for s in sizes if s > LARGE]
    by_large = float(spearmanr(large, maes[-len(large) :]).statistic)
    common = sorted(elements, key=lambda e: -elements[e]["training atoms"])
    errors = [elements[e]["MAE per atom"] for e in common]
    rows = [
        [
            "errors fall with the frequency of a size",
            yes(by_frequency < -0.5),
            f"Spearman {by_frequency:.2f} over {len(sizes)} sizes",
        ],
        [
            "errors grow with size",
            yes(by_size > 0.5),
            f"Spearman {by_size:.2f}; {by_large:.2f} among those of more than {LARGE} atoms",
        ],
        [
            "rarer elements have larger errors",
            yes(errors == sorted(errors)),
            "meV/atom: " + ", ".join(f"{e} {v:.1f}" for e, v in zip(common, errors, strict=True)),
        ],
    ]
    asked = {
        "balanced, 2000": "balancing sizes helps large molecules",
        "size, r = 4": "weights by size, r = 4, help large molecules",
        "size, r = 10": "weights by size, r = 10, help large molecules",
        "size and frequency, r = 4": "weights by size and frequency, r = 4, help large molecules",
        f"only > {LARGE} atoms": "training on large molecules alone helps them",
    }
    for name, question in asked.items():
        rows += difference(found, question, name, "default", 21)
    rows += difference(
        found, "rare elements drawn more often help", "rare elements more often", "default"
    )
    for number in NUMBERS:
        question = f"HF energies first help {number:,} MP2 molecules"
        rows += difference(found, question, f"{TRANSFER}{number}", alone(number))
    return table(["hypothesis", "here", "by"], rows)


def difference(
    found: Findings, question: str, name: str, against: str, low: int = 0
) -> list[list[str]]:
    """One row, if both have run."""
    if not {name, against} <= set(found.errors):
        return []
    changes = found.change(name, against, low)
    which = f" from {low} atoms on" if low else ""
    return [[question, SAYS[verdict(changes)], f"MAE{which} {fmean(changes):+.0f} % "
             f"({', '.join(f'{c:+.0f}' for c in changes)})"]]  # fmt: skip


def yes(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def transfer(found: Findings) -> list[str]:
    rows = []
    for n in NUMBERS:
        names, change = (alone(n), f"{TRANSFER}{n}"), "–"
        if set(names) <= set(found.errors):
            changes = found.change(names[1], names[0])
            change = f"{fmean(changes):+.0f} % ({len(changes)} seeds)"
        rows.append([f"{n:,}", *(mae(found, name) for name in names), change])
    return [
        *table(["MP2 molecules", "MP2 alone", f"HF of {WHOLE:,} first", "change"], rows),
        "",
        f"One energy an element and no network: {mae(found, COMPOSITION)}. HF energies, their MP2 "
        f"molecules' among them, were seen {2 * SEEN * found.times:,} times, the test molecules at "
        f"no level. The HF networks are at {mae(found, 'HF')} on HF energies.",
    ]


def by_size(found: Findings) -> list[str]:
    counts, rows = found.trained_sizes(), []
    for size in found.sizes():
        tests = sum((found.data.sizes[t] == size).sum() for t in found.tests.values())
        per_atom = fmean(found.mae("default", size, size).values()) / size
        row = [size, f"{counts[size]:.0f}", tests, mae(found, "default", size, size)]
        rows.append([*row, f"{per_atom:.0f}"])
    return [
        *table(["atoms", "trained on", "tested on, all seeds", "MAE", "per atom"], rows),
        "",
        "QM9 has at most nine heavy atoms a molecule: many atoms means many hydrogens.",
    ]


def by_element(found: Findings) -> list[str]:
    rows = [
        [
            element,
            f"{row['training atoms']:.0f}",
            f"{row['share']:.0f} %",
            f"{row['MAE']:.0f}",
            f"{row['MAE per atom']:.1f}",
        ]
        for element, row in found.elements("default").items()
    ]
    lines = table(["element", "training atoms", "in molecules", "MAE", "per atom"], rows)
    return [*lines, "", "MAEs of test molecules weighted by their atoms of the element."]


def custom(found: Findings) -> list[str]:
    rows: list[list[object]] = []
    for name, errors in found.errors.items():
        if name in ("HF", COMPOSITION) or "MP2" in name:
            continue
        row: list[object] = [name, len(errors), mae(found, name)]
        for group in GROUPS.values():
            cell = mae(found, name, *group)
            if name != "default":
                changes = found.change(name, "default", *group)
                cell += f" ({fmean(changes):+.0f} %, {verdict(changes)})"
            row.append(cell)
        rows.append(row)
    pool, sizes = found.pools[0], found.data.sizes
    limits = " and ".join(f"{balanced(pool, sizes, n)[1]} for {n:,}" for n in (FEW, SOME))
    return [
        *table(["", "seeds", "all", *(f"{g} atoms" for g in GROUPS)], rows),
        "",
        "In brackets the change against the default: better or worse where three seeds agree, as "
        "they do by chance in one of four.",
        "",
        "- `size`: a molecule of s atoms weighs v = (s − 7)^r/10^(r+1) + 1; with r = 0 all weigh "
        "the same, which is the default.",
        "- `size and frequency`: the first term of v times (mean molecules of a size)/(molecules "
        "of this size). The original's formula was not at hand; this is ours.",
        f"- `balanced`: of each size no more than a threshold ({limits} molecules in all, seed 0). "
        f"{FEW:,} at random: {mae(found, alone(FEW))}.",
        "- `rare elements more often`: `training.weighting: element`.",
        f"- `only > {LARGE} atoms`: {SOME:,} molecules, none smaller.",
    ]


PARTS = {
    "What holds here": hypotheses,
    "HF, then MP2": transfer,
    "The default by number of atoms": by_size,
    "The default by element": by_element,
    "Default against custom": custom,
}


def draw(found: Findings) -> Figure:
    """Errors by size over how many there are to train on, by element, and by training molecules."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    behind = left.twinx()
    behind.bar(RANGE, found.trained_sizes()[RANGE.start : RANGE.stop], color="0.88")
    behind.set(ylabel="training molecules (bars)")
    left.set_zorder(behind.get_zorder() + 1)
    left.patch.set_visible(False)
    for name in ("default", "size, r = 10", "balanced, 2000", f"only > {LARGE} atoms"):
        if len(found.errors.get(name, ())) == len(found.tests):
            y = [fmean(found.mae(name, s, s).values()) for s in found.sizes()]
            left.plot(found.sizes(), y, "o-", ms=3, label=name)
    left.set(xlabel="atoms in the molecule", ylabel="MAE, meV", ylim=(0, None))
    left.legend(fontsize="small")
    for element, row in found.elements("default").items():
        place = (row["training atoms"], row["MAE per atom"])
        middle.plot(*place, "o", color="C0")
        middle.annotate(element, place, (8, 0), textcoords="offset points", va="center")
    middle.margins(0.2)
    middle.set(xlabel="atoms of the element to train on", ylabel="MAE, meV/atom", ylim=(0, None))
    for label, names in {
        "MP2 alone": {n: alone(n) for n in NUMBERS},
        f"HF of {WHOLE:,} first": {n: f"{TRANSFER}{n}" for n in NUMBERS},
    }.items():
        ran = {n: fmean(found.mae(a).values()) for n, a in names.items() if a in found.errors}
        if ran:
            right.plot(list(ran), list(ran.values()), "o-", label=label)
    right.margins(0.2)
    right.set(xlim=(0, 1.05 * WHOLE))
    right.set(xlabel="MP2 molecules to train on", ylabel="MAE, meV", ylim=(0, None))
    right.legend(fontsize="small")
    return figure


def title_of(found: Findings) -> str:
    """Name of the results files."""
    return "qm9_size_element" + (f"_times{found.times}" if found.times > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="variants, by name")
    parser.add_argument("--times", type=int, default=1, help="as many molecules seen; own results")
    parser.add_argument("--have-only", action="store_true", help="run nothing, show what there is")
    given = parser.parse_args()
    about = machine()
    if not given.have_only:
        run_all(given.seeds, given.only, given.times)
    found = Findings(molecules(), given.seeds, given.times)
    kept = {
        "machine": about,
        "sizes": SIZES.model_dump(),
        "training": TRAINING,
        "molecules_seen": SEEN * given.times,
        "seconds": found.seconds,
        "mae_meV": {name: found.mae(name) for name in found.errors},
        "mae_by_size_meV": {n: {s: found.mae(n, s, s) for s in RANGE} for n in found.errors},
        "by_element": {name: found.elements(name) for name in found.errors},
    }
    write_results(title_of(found), kept, "\n".join(page(found, about)))
    draw(found).savefig(RESULTS / f"{title_of(found)}.png", dpi=150)


if __name__ == "__main__":
    main()
