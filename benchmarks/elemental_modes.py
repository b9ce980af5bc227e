"""Formation energies of elpasolites from nothing but four elemental modes a site.

The test by which Herr, Koh, Yao, Parkhill (J. Chem. Phys. 151, 084103 (2019)) judged their modes:
10,590 compounds ABC2D6 of 39 main-group elements, ``$TLPOT_DATA/seeds/elpasolite``, split 80:10:10,
67 meV/atom mean absolute error. Here with our modes (`tlpot.elements.modes`), the published ones,
and one-hot vectors, which know the 39 elements apart and nothing else.

A and B are alike by symmetry (swapping them moves the origin), so the network is symmetric in them,
and a compound and its swapped twin never lie in different parts. The mean of an ensemble predicts;
the validation part chooses the epoch; the test part is judged once. Finished runs are kept under
``runs/elemental_modes`` and not run again.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from common import RESULTS, machine, machine_lines, table, write_results
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from tlpot.elements.modes import element_vectors

RUNS = Path("runs/elemental_modes")
FOLDER = Path("seeds") / "elpasolite"
SITES = ("Z_A", "Z_B", "Z_C2", "Z_D6")
PAPER, GOAL = 67.0, 33.0
"""meV/atom, the paper's error and the half that we aim for."""
MEMBERS, EMBEDDING, EMBEDDER, HEAD = 4, 32, (128, 128, 128), (256, 256)
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 120, 256, 5e-3, 1e-2, 0.1
SEEDS = (0, 1, 2)


class Ensemble(nn.Module):
    """`MEMBERS` networks side by side, each an embedding of the elements and a head.

    Sites A and B share an embedding, C and D have their own. The head sees A+B, C, D, and the
    products A·B, (A+B)·D, C·D of the embeddings; its hidden layers are dropped out in training.

    Parameters
    ----------
    elements
        ``[39, inputs]``, the vector of each element, the only input.
    """

    def __init__(self, elements: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.elements = elements
        sizes = (elements.shape[1], *EMBEDDER, EMBEDDING)
        self.embedders = nn.ModuleList(_layers(sizes, generator) for _ in range(3))
        self.head = _layers((6 * EMBEDDING, *HEAD, 1), generator)

    def forward(self, sites: Tensor) -> Tensor:
        """``[compounds, 4]`` indices of elements to ``[members, compounds]`` scaled energies."""
        first = self.elements.expand(MEMBERS, -1, -1)
        ab, c, d = (_apply(layers, first) for layers in self.embedders)
        a, b, c, d = (x[:, sites[:, k]] for k, x in enumerate((ab, ab, c, d)))
        features = torch.cat([a + b, c, d, a * b, (a + b) * d, c * d], dim=2)
        return _apply(self.head, features, DROPOUT * self.training)[..., 0]


def _layers(sizes: tuple[int, ...], generator: torch.Generator) -> nn.ParameterList:
    layers = nn.ParameterList()
    for n_in, n_out in pairwise(sizes):
        layers.append(torch.randn(MEMBERS, n_in, n_out, generator=generator) * n_in**-0.5)
        layers.append(torch.zeros(MEMBERS, 1, n_out))
    return layers


def _apply(layers: nn.ParameterList, x: Tensor, drop: float = 0.0) -> Tensor:
    for k in range(0, len(layers), 2):
        x = dropout(silu(x), drop, drop > 0) if k else x
        x = torch.baddbmm(layers[k + 1], x, layers[k])
    return x


def load(folder: Path) -> tuple[list[str], Tensor, Tensor, np.ndarray]:
    """Symbols of the elements, sites as their indices, eV/atom, and the compound of each row.

    Rows that differ only by swapping A and B are one compound.
    """
    with (folder / "elpasolite_abc2d6.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = np.array([[int(row[site]) for site in SITES] for row in rows])
    energies = torch.tensor([float(row["formation_energy_eV_per_atom"]) for row in rows])
    elements, sites = np.unique(numbers, return_inverse=True)
    unordered = np.column_stack([np.sort(numbers[:, :2], axis=1), numbers[:, 2:]])
    compounds = np.unique(unordered, axis=0, return_inverse=True)[1].reshape(-1)
    symbols = [chemical_symbols[z] for z in elements]
    return symbols, torch.from_numpy(sites.reshape(numbers.shape)), energies, compounds


def published(folder: Path, symbols: list[str]) -> np.ndarray:
    """The paper's modes."""
    with (folder / "element_modes_published.csv").open(newline="") as file:
        rows = {
            row["symbol"]: [float(row[f"m{k}"]) for k in (1, 2, 3, 4)]
            for row in csv.DictReader(file)
        }
    return np.array([rows[s] for s in symbols])


def split(compounds: np.ndarray, seed: int) -> dict[str, Tensor]:
    """Rows of each part, 80:10:10 by compound."""
    count = compounds.max() + 1
    order = np.random.default_rng(seed).permutation(count)
    place = np.empty(count, dtype=int)
    place[order] = np.arange(count)
    part = np.digitize(place[compounds] / count, [0.8, 0.9])
    names = ("train", "validation", "test")
    return {name: torch.from_numpy(np.flatnonzero(part == k)) for k, name in enumerate(names)}


def fit(
    elements: Tensor, sites: Tensor, energies: Tensor, parts: dict[str, Tensor], seed: int
) -> dict[str, Any]:
    """Train on one part, choose the epoch on another, judge the third once."""
    generator = torch.manual_seed(seed)
    train, validation, test = parts.values()
    middle, scale = energies[train].mean(), energies[train].std()
    target = (energies - middle) / scale
    model = Ensemble(elements, generator)
    average, best = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    steps = EPOCHS * (len(train) // BATCH)
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda n: min(1.0, n / 200) * (0.5 + 0.5 * math.cos(math.pi * n / steps)) + 1e-3
    )

    @torch.no_grad()
    def predict(network: Ensemble, rows: Tensor) -> Tensor:
        return network(sites[rows]) * scale + middle

    began, count, lowest, chosen = time.process_time(), 0, math.inf, 0
    for epoch in range(1, EPOCHS + 1):
        order = train[torch.randperm(len(train), generator=generator)]
        for rows in order.split(BATCH)[: len(train) // BATCH]:
            loss = (model(sites[rows]) - target[rows]).abs().mean(dim=1).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            count += 1
            keep = min(0.998, count / (count + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        error = mae(predict(average, validation).mean(0), energies[validation])
        if error < lowest:
            lowest, chosen = error, epoch
            best.load_state_dict(average.state_dict())
    members = predict(best, test)
    mean = members.mean(0)
    return {
        "seed": seed,
        "epoch": chosen,
        "train_mae_meV_per_atom": mae(predict(best, train).mean(0), energies[train]),
        "validation_mae_meV_per_atom": lowest,
        "test_mae_meV_per_atom": mae(mean, energies[test]),
        "test_rmse_meV_per_atom": 1e3 * (mean - energies[test]).square().mean().sqrt().item(),
        "one_member_test_mae_meV_per_atom": mae(members, energies[test]),
        "frames": {name: len(rows) for name, rows in parts.items()},
        "cpu_seconds": round(time.process_time() - began),
        "parity": [energies[test].tolist(), mean.tolist()],
    }


def mae(predicted: Tensor, energies: Tensor) -> float:
    return 1e3 * (predicted - energies).abs().mean().item()


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for name, runs in results["inputs"].items():
        errors = np.array([run["test_mae_meV_per_atom"] for run in runs])
        others = [
            f"{np.mean([run[key] for run in runs]):.1f}"
            for key in (
                "test_rmse_meV_per_atom",
                "one_member_test_mae_meV_per_atom",
                "validation_mae_meV_per_atom",
                "train_mae_meV_per_atom",
            )
        ]
        each = ", ".join(f"{e:.1f}" for e in errors)
        rows.append([name, f"**{errors.mean():.1f}** ± {errors.std(ddof=1):.1f} ({each})", *others])
    ours = np.mean([run["test_mae_meV_per_atom"] for run in results["inputs"]["our modes"]])
    first = next(iter(results["inputs"].values()))
    sizes = ", ".join(f"{n} {name}" for name, n in first[0]["frames"].items())
    every = [run for runs in results["inputs"].values() for run in runs]
    minutes = sum(run["cpu_seconds"] for run in every) / 60
    return "\n".join(
        [
            "# Elemental modes: formation energies of elpasolites",
            "",
            "10,590 compounds ABC2D6; the only input is one vector for the element on each site. "
            f"80:10:10 ({sizes}), three seeds of split and network ({', '.join(map(str, SEEDS))}), "
            f"mean of {MEMBERS} networks. The settings were chosen on the validation part of seed "
            "0 with our modes; the validation part of each seed chose the epoch; the test part was "
            "judged once.",
            "",
            *table(
                [
                    "input",
                    "test MAE, meV/atom (each seed)",
                    "test RMSE",
                    "one network, test MAE",
                    "validation MAE",
                    "training MAE",
                ],
                rows,
            ),
            "",
            f"The paper's figure is {PAPER:.0f} meV/atom, with its own network and modes: "
            f"{verdict(ours, PAPER)}. We aimed for half of it, {GOAL:.0f}: {verdict(ours, GOAL)}. "
            "The published modes gain nearly as much with our network: most is due to it.",
            "",
            "![parity](elemental_modes.png)",
            "",
            f"- {minutes:.0f} CPU-minutes for all {len(every)} runs",
            *machine_lines(results["machine"]),
        ]
    )


def verdict(error: float, target: float) -> str:
    if error <= target:
        return f"our modes are {target - error:.0f} below it"
    return f"our modes miss it by {error - target:.0f}"


def draw(parity: dict[str, list[list[float]]], results: dict[str, Any]) -> Figure:
    """DFT against network on the test part of the first seed."""
    figure = Figure(figsize=(4 * len(parity), 4.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(parity), sharex=True, sharey=True)
    for axes, (name, (energies, predicted)) in zip(panels, parity.items(), strict=True):
        axes.axline((0, 0), slope=1, color="#8c959f", linewidth=1, zorder=0)
        axes.scatter(energies, predicted, s=6, color="#0072B2", alpha=0.4, linewidths=0)
        run = results["inputs"][name][0]
        axes.set_title(f"{name}: MAE {run['test_mae_meV_per_atom']:.0f} meV/atom", loc="left")
        axes.set_xlabel("DFT formation energy (eV/atom)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("network (eV/atom)")
    return figure


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ["TLPOT_DATA"]) / FOLDER
    symbols, sites, energies, compounds = load(folder)
    inputs: dict[str, Callable[[], np.ndarray]] = {
        "our modes": lambda: element_vectors(symbols),
        "published modes": lambda: published(folder, symbols),
        "one-hot": lambda: np.eye(len(symbols)),
    }
    RUNS.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "inputs": {}}
    parity = {}
    for name, vectors in inputs.items():
        values = vectors()
        if name != "one-hot":
            values = (values - values.mean(axis=0)) / values.std(axis=0)
        elements = torch.from_numpy(values).float()
        results["inputs"][name] = []
        for seed in SEEDS:
            kept = RUNS / f"{name.replace(' ', '_')}-{seed}.json"
            if not kept.exists():
                run = fit(elements, sites, energies, split(compounds, seed), seed)
                kept.write_text(json.dumps(run))
            run = json.loads(kept.read_text())
            shown = run.pop("parity")
            parity.setdefault(name, shown)
            results["inputs"][name].append(run)
            print(name, json.dumps(run), flush=True)
    draw(parity, results).savefig(RESULTS / "elemental_modes.png")
    write_results("elemental_modes", results, page(results))


if __name__ == "__main__":
    main()
