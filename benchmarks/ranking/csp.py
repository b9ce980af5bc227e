"""Does fine-tuning on a part of a landscape put the rest in the right order?

Three landscapes of generated crystals (``$TLPOT_DATA/csp_genarris``: aspirin, Target I,
2,4-dinitroimidazole; Genarris 3.0, doi 10.1021/acs.jctc.5c01080), relaxed with PBE+MBD, of which
only geometries and energies are known. Zero forces are labels (``data.relaxed``). ANI-2x is
fine-tuned on 5 to 50 % of each; the order of the structures that it did not see is compared with
that of PBE+MBD, at the PBE+MBD geometries (single points). Three draws: in each, one half of a
landscape is never trained on; training structures come from the other half, *random* in the order
of the draw, or *doubt* (10 % at random, then those that this model doubts most near the top of its
ranking, as ``tlpot sample choose --by doubt``). What is finished is not run again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.study import Results, Study
from benchmarks.lib.x23 import DATA
from tlpot import finetune, load
from tlpot.config.run import Training
from tlpot.csp.dispersion import dispersion
from tlpot.csp.landscape import centred_spread, spread_of_differences
from tlpot.csp.scores import SCORES, score
from tlpot.data.crystals.read import read_crystals
from tlpot.model.potential import Potential
from tlpot.sampling.choose import WINDOW
from tlpot.sampling.scores import doubt_near_top, worst
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import find_molecules, find_unit
from tlpot.structure.units import KJ_PER_MOL

SYSTEMS = {
    "aspirin": ("C9H8O4", 0.95),
    "Target_I": ("C6H6O", 0.93),
    "DNI": ("C3H2N4O4", 0.90),
}
"""Landscape, its molecule, and the Spearman correlation that is asked for at 30 %."""
LEFT_OUT = [
    "30eade37b6fe7ea",
    "f68cd0b8948f8fc",
    "79dc55e1dcdfef4",
    "d24f6fbaa11de29",
    "3c05cb69009e0f5",
]
"""Files whose rounded symmetry other readers expand wrongly; the data's README says leave out."""
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
DRAWS = (0, 1, 2)
START, GOAL = 0.1, 0.3
"""Shares between which *doubt* picks."""
TRAINING = {**Training.by_data, "device": "cpu"}
"""What `tlpot finetune` takes by itself for such labels (`tlpot.finetuning.recipe`)."""
COLOURS = {"aspirin": "#0072B2", "Target_I": "#D55E00", "DNI": "#009E73"}


class Landscape:
    """Structures with PBE+MBD energies, and MACE-OFF23(L)'s; energies are kJ/mol of molecules."""

    def __init__(self, name: str) -> None:
        folder = DATA / "csp_genarris" / name
        with open(folder / f"{name}.csv", newline="") as file:
            labels = {row[0]: (float(row[1]), float(row[2])) for row in list(csv.reader(file))[1:]}
        self.frames: list[Frame] = []
        self.excluded: list[str] = []
        peer, scale = [], []
        for frame in read_crystals(folder / "PBE_MBD")[0]:
            ident = Path(frame.source).stem
            if ident in LEFT_OUT:
                continue
            unit, z = find_unit(find_molecules(frame.atoms))
            if str(unit) != SYSTEMS[name][0]:
                self.excluded.append(f"{ident} ({unit})")
                continue
            forces = np.zeros((len(frame), 3))
            energy, other = labels[ident]
            self.frames.append(replace(frame, energy=energy, forces=forces, labels="relaxed"))
            peer.append(other)
            scale.append(z * KJ_PER_MOL)
        self.scale = np.array(scale)
        self.peer = np.array(peer) / self.scale
        self.reference = np.array([frame.energy for frame in self.frames]) / self.scale

    def __len__(self) -> int:
        return len(self.frames)

    def members(self, model: Potential) -> np.ndarray:
        """``(n, members)``, from any zero."""
        totals = [p.energy_members for p in model.predict(self.frames)]
        return np.array(totals) / self.scale[:, None]

    def finetuned(self, chosen: Sequence[int], seed: int) -> Potential:
        """ANI-2x fine-tuned on the chosen structures, none of them held out."""
        with TemporaryDirectory() as folder:
            config = {
                "data": {"split": {"test": 0.0, "validation": 0.0}},
                "model": {"base": "ani2x"},
                "training": {"seed": seed, "device": "cpu"},
                "output": f"{folder}/run",
            }
            return finetune(config, frames=[self.frames[i] for i in chosen]).potential


@cache
def landscape(name: str) -> Landscape:
    return Landscape(name)


def scores_on(energies: np.ndarray, land: Landscape, places: Sequence[int]) -> dict[str, float]:
    """Agreement with PBE+MBD on some structures; undefined is None."""
    scores = score(energies[list(places)], land.reference[list(places)])
    return {k: (v if np.isfinite(v) else None) for k, v in scores.items()}


def untrained(name: str) -> Results:
    """ANI-2x as it is and with D3(BJ), and MACE-OFF23(L) as the data set gives it."""
    land = landscape(name)
    base = load("ani2x")
    plain, extra = land.members(base).mean(axis=1), dispersion("d3", base)
    d3 = np.array([extra.get_potential_energy(f.atoms) for f in land.frames]) / land.scale
    everything = range(len(land))
    return {
        "structures": len(land),
        "atoms": sorted({len(frame) for frame in land.frames}),
        "excluded": land.excluded,
        "ANI-2x": scores_on(plain, land, everything),
        "ANI-2x + D3(BJ)": scores_on(plain + d3, land, everything),
        "MACE-OFF23(L)": scores_on(land.peer, land, everything),
    }


def fit(name: str, draw: int, share: float, strategy: str) -> Results:
    """One fine-tuning: what it was trained on, and how the others come out."""
    land = landscape(name)
    order = np.random.default_rng(draw).permutation(len(land)).tolist()
    half = order[len(land) // 2 + 1 :]
    chosen = order[: round(share * len(land))]
    started = time.process_time()
    if strategy == "doubt":
        chosen = order[: round(START * len(land))]
        model = land.finetuned(chosen, draw)
        left = [i for i in order if i not in chosen and i not in half]
        energies = land.members(model)
        lowest = int(energies.mean(axis=1).argmin())
        above = (energies.mean(axis=1) - energies.mean(axis=1)[lowest])[left]
        above_std = spread_of_differences(energies, 1.0)[lowest, left]
        doubt = doubt_near_top(above, above_std, centred_spread(energies, 1.0)[left], WINDOW)
        chosen = chosen + [left[i] for i in worst(doubt, round(share * len(land)) - len(chosen))]
    model = land.finetuned(chosen, draw)
    seconds = time.process_time() - started
    energies = land.members(model).mean(axis=1)
    rest = [i for i in range(len(land)) if i not in chosen]
    low = sorted(half, key=lambda i: land.reference[i])[: max(len(half) // 3, 2)]
    return {
        "trained_on": len(chosen),
        "cpu_s": round(seconds, 1),
        "rest": scores_on(energies, land, rest),
        "half": scores_on(energies, land, half),
        "lowest third of the half": scores_on(energies, land, low),
    }


def plan() -> list[tuple[str, int, float, str]]:
    """All fits, those that answer the question first."""
    kinds = [(GOAL, "random"), (START, "random"), (GOAL, "doubt")]
    kinds += [(share, "random") for share in SHARES if share not in (START, GOAL)]
    return [(name, draw, *kind) for kind in kinds for draw in DRAWS for name in SYSTEMS]


def measure(given: argparse.Namespace) -> Iterator[Results]:
    results = STUDY.committed(given)
    if results.get("training") != TRAINING:
        results = {"training": TRAINING, "untrained": results.get("untrained", {}), "fits": {}}
    started = time.monotonic()
    for piece in plan():
        key, name = "/".join(map(str, piece)), piece[0]
        if key in results["fits"]:
            continue
        if time.monotonic() - started > 60 * given.minutes:
            break
        if name not in results["untrained"]:
            results["untrained"][name] = untrained(name)
        results["fits"][key] = fit(*piece)
        print(key, results["fits"][key]["rest"], flush=True)
        yield results
    yield results


def values(
    results: Results, name: str, share: float, kind: str, where: str, key: str
) -> np.ndarray:
    """``(draws,)`` of those that are done and defined."""
    fits = [results["fits"].get(f"{name}/{draw}/{share}/{kind}") for draw in DRAWS]
    numbers = [entry[where][key] for entry in fits if entry]
    return np.array([n for n in numbers if n is not None], dtype=float)


def cell(numbers: np.ndarray, digits: int = 3) -> str:
    """Mean and range."""
    if not len(numbers):
        return "–"
    text = f"{numbers.mean():.{digits}f}"
    if len(numbers) > 1:
        text += f" ({numbers.min():.{digits}f}–{numbers.max():.{digits}f})"
    return text


def _done(rows: Iterable[list[str]]) -> list[list[str]]:
    """Those with a figure."""
    return [row for row in rows if set(row[-len(SYSTEMS) :]) != {"–"}]


def page(results: Results) -> str:
    def scores(key: str, share: float = GOAL, kind: str = "random", where: str = "rest") -> list:
        return [cell(values(results, name, share, kind, where, key)) for name in SYSTEMS]

    header, untouched, training = ["", *SYSTEMS], results["untrained"], results["training"]
    rows = []
    for model in ("ANI-2x", "ANI-2x + D3(BJ)", "MACE-OFF23(L)"):
        scores_of = {name: entry[model]["spearman"] for name, entry in untouched.items()}
        rows.append([model, *(f"{scores_of[n]:.3f}" if n in scores_of else "–" for n in SYSTEMS)])
    rows += _done([f"fine-tuned on {share:.0%}", *scores("spearman", share)] for share in SHARES)
    verdicts = []
    for name, (_, target) in SYSTEMS.items():
        reached = values(results, name, GOAL, "random", "rest", "spearman")
        if len(reached):
            gap = reached.mean() - target
            verdict = "reached" if gap >= 0 else f"missed by {-gap:.3f}"
            draws = f"{reached.mean():.3f}, {len(reached)} draws"
            verdicts.append(f"- {name}: {draws}; asked for {target}: {verdict}")
    judged = (
        ("half", "spearman"),
        ("half", "rmse_centred_kJ_mol"),
        ("lowest third of the half", "rmse_centred_kJ_mol"),
    )
    doubt = [
        [f"{key}, {where}", kind, *scores(key, GOAL, kind, where)]
        for where, key in judged
        for kind in ("random", "doubt")
    ]
    sizes = []
    for name, e in untouched.items():
        sizes.append(
            f"- {name}: {e['structures']} structures of {'/'.join(map(str, e['atoms']))} atoms"
        )
        if e["excluded"]:
            sizes[-1] += f", left out as no {SYSTEMS[name][0]}: {', '.join(e['excluded'])}"
    return fill(
        __file__,
        intro=str(__doc__).partition("\n\n")[2],
        spearman=table(header, rows),
        verdicts=verdicts,
        scores=table(header, [[key, *scores(key)] for key in SCORES]),
        doubt=table(["", "chosen", *SYSTEMS], _done(doubt)),
        sizes=sizes,
        left_out=", ".join(LEFT_OUT),
        training=training,
        fits=len(results["fits"]),
        planned=len(plan()),
        minutes=sum(entry["cpu_s"] for entry in results["fits"].values()) / 60,
        machine=machine_lines(results["machine"]),
    )


def draw(results: Results) -> Figure:
    """Spearman on the rest against the share trained on, a point a draw."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    for name, (_, target) in SYSTEMS.items():
        if name not in results["untrained"]:
            continue
        colour, before = COLOURS[name], results["untrained"][name]
        shares, means = [0.0], [before["ANI-2x"]["spearman"]]
        for share in SHARES:
            draws = values(results, name, share, "random", "rest", "spearman")
            if len(draws):
                shares.append(share)
                means.append(draws.mean())
                axis.plot([100 * share] * len(draws), draws, ".", color=colour, alpha=0.5)
        axis.plot(100 * np.array(shares), means, "-", color=colour, label=name)
        axis.plot(-3, before["MACE-OFF23(L)"]["spearman"], ">", color=colour, ms=7)
        axis.plot(100 * GOAL, target, "_", color=colour, ms=16, mew=2)
    axis.set_xlabel("structures trained on (%)")
    axis.set_ylabel("Spearman correlation with PBE+MBD, on the rest")
    legend = "▸ MACE-OFF23(L)   — asked for at 30 %"
    axis.set_title(legend, fontsize=9, color="#59636e", loc="left")
    axis.legend(frameon=False, loc="lower right")
    return figure


STUDY = Study(__file__, __doc__, page, draw, runs=False)
STUDY.options.add_argument("--minutes", type=float, default=1e9, help="begin no fit after these")

if __name__ == "__main__":
    STUDY.main(measure)
