"""SchNets trained on QM9's HF and RI-MP2 energies, for `qm9_size_element`.

10,000 molecules of QM9 from ``$TLPOT_DATA/seeds/qm9_mp2_10k.npz``; of each seed's shuffle the last
fifth is the test set, and training sets are taken from the front. No molecule steers a training:
the recipe is fixed and its last weights count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.units import Hartree
from rich.console import Console

from tlpot.config import SchNetSizes, Training
from tlpot.data.reference import fit_reference
from tlpot.frames import Batch, Frame
from tlpot.potential import Potential, load, load_base
from tlpot.run_folder import fit
from tlpot.training.parallel import Team
from tlpot.training.potential import PotentialTask

RUNS = Path("runs/qm9")
ELEMENTS = ("H", "C", "N", "O")
SIZES = SchNetSizes(cutoff=5.0, features=32, interactions=3, gaussians=25, members=1)
TRAINING = {
    "lambda": 0.0,
    "fit": "mean",
    "stress_weight": 0.0,
    "size_exponent": 0.0,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "warmup_epochs": 1,
    "device": "cpu",
}
"""MSE of the total energy, eV², as SchNetPack trains on QM9."""
SEEN = 20_000
"""Molecules that a training sees, each time counted; with all 8,000 it sees twice as many."""
HELD_OUT, WHOLE, SOME, FEW, FEWEST, LARGE = 2000, 8000, 2000, 1000, 500, 17


@dataclass(frozen=True)
class Molecules:
    """All molecules.

    Attributes
    ----------
    structures
        Without labels.
    energies
        eV, by level of theory.
    sizes
        Atoms of each.
    """

    structures: list[Atoms]
    energies: dict[str, np.ndarray]
    sizes: np.ndarray

    @cached_property
    def batches(self) -> list[Batch]:
        return [Batch.of_frame(Frame(atoms), SIZES.cutoff) for atoms in self.structures]

    @cached_property
    def counts(self) -> np.ndarray:
        """``(molecules, elements)`` atoms of each of `ELEMENTS`."""
        return np.array([[a.symbols.count(e) for e in ELEMENTS] for a in self.structures])

    def frames(self, chosen: Sequence[int], level: str) -> list[Frame]:
        return [Frame(self.structures[i], float(self.energies[level][i])) for i in chosen]


def molecules() -> Molecules:
    data = np.load(Path(os.environ["TLPOT_DATA"]) / "seeds" / "qm9_mp2_10k.npz")
    ends = np.cumsum(data["n_atoms"])[:-1]
    parts = zip(np.split(data["Z"], ends), np.split(data["R"], ends), strict=True)
    return Molecules(
        [Atoms(numbers, positions) for numbers, positions in parts],
        {level: data[f"E_{level}_Ha"] * Hartree for level in ("HF", "MP2")},
        data["n_atoms"].astype(int),
    )


def split(seed: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Molecules to train on, in random order, and the test molecules."""
    order = np.random.default_rng(seed).permutation(total)
    return order[:-HELD_OUT], order[-HELD_OUT:]


# --- what a run trains on ------------------------------------------------------------------------


def size_weight(r: float) -> Callable[[np.ndarray], np.ndarray]:
    """v = (s − 7)^r / 10^(r+1) + 1 for molecules of s atoms."""
    return lambda sizes: (sizes - 7.0) ** r / 10.0 ** (r + 1) + 1.0


def frequency_weight(r: float) -> Callable[[np.ndarray], np.ndarray]:
    """The same, its first term times (mean molecules of a size)/(molecules of this size)."""

    def weight(sizes: np.ndarray) -> np.ndarray:
        seen = np.bincount(sizes)
        rarity = seen[seen > 0].mean() / seen[sizes]
        return (sizes - 7.0) ** r / 10.0 ** (r + 1) * rarity + 1.0

    return weight


def balanced(pool: np.ndarray, sizes: np.ndarray, number: int) -> tuple[np.ndarray, int]:
    """The first `number` of `pool`, no more of a size than a threshold, and that threshold."""
    place = np.array([int((sizes[pool[:k]] == sizes[i]).sum()) for k, i in enumerate(pool)])
    threshold = next(t for t in range(1, len(pool)) if (place < t).sum() >= number)
    return pool[place < threshold][:number], threshold


def variants(data: Molecules, pool: np.ndarray) -> dict[str, dict[str, Any]]:
    """Every run of a seed, by name, what is asked first first."""
    some, large = pool[:SOME], pool[data.sizes[pool] > LARGE][:SOME]
    return {
        "default": {"train": some},
        f"only > {LARGE} atoms": {"train": large},
        "size, r = 10": {"train": some, "weight": size_weight(10)},
        "size and frequency, r = 4": {"train": some, "weight": frequency_weight(4)},
        "balanced, 2000": {"train": balanced(pool, data.sizes, SOME)[0]},
        "HF": {"level": "HF", "train": pool[:WHOLE]},
        "HF then MP2, 2000": {"train": some, "base": "HF"},
        "size, r = 4": {"train": some, "weight": size_weight(4)},
        "MP2, 8000": {"train": pool[:WHOLE]},
        "HF then MP2, 500": {"train": pool[:FEWEST], "base": "HF"},
        "MP2, 500": {"train": pool[:FEWEST]},
        "rare elements more often": {"train": some, "weighting": "element"},
        "size, r = 1": {"train": some, "weight": size_weight(1)},
        "size, r = 2": {"train": some, "weight": size_weight(2)},
        "size and frequency, r = 0": {"train": some, "weight": frequency_weight(0)},
        "balanced, 1000": {"train": balanced(pool, data.sizes, FEW)[0]},
        "MP2, 1000": {"train": pool[:FEW]},
        "HF then MP2, 8000": {"train": pool[:WHOLE], "base": "HF"},
    }


# --- running -------------------------------------------------------------------------------------


def folder_of(seed: int, name: str, times: int = 1) -> Path:
    """Of a run that sees `times` as many molecules as `SEEN` says."""
    longer = RUNS / f"times{times}" if times > 1 else RUNS
    return longer / f"seed{seed}" / name.replace(",", "").replace(" ", "_").replace(">", "over")


def run(
    data: Molecules, seed: int, name: str, about: Mapping[str, Any], times: int, say: Console
) -> None:
    """Train one variant and keep its test errors; a finished one is not run again."""
    folder = folder_of(seed, name, times)
    if (folder / "test.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    chosen, level = about["train"], about.get("level", "MP2")
    if "base" in about:
        base = load(folder_of(seed, about["base"], times))
    else:
        base = load_base("schnet", sizes=SIZES).for_elements(ELEMENTS)
        base.backbone.requires_grad_(True)
        base.backbone.init_gaussian(0.1, seed)
    base.backbone.requires_grad_(True)
    network = predict(base, data, chosen) - own_reference(base, data, chosen)
    reference = fit_reference(data.frames(chosen, level), network, base.reference.values)
    potential = Potential(base.backbone, reference)
    seen = (2 if len(chosen) == WHOLE else 1) * SEEN * times
    training = {"epochs": seen // len(chosen), "weighting": about.get("weighting", "none")}
    settings = Training.model_validate(TRAINING | training | {"seed": seed})
    weight = about.get("weight", lambda sizes: np.ones(len(sizes)))(data.sizes[chosen])
    train = [
        replace(
            data.batches[i],
            energy=torch.tensor([data.energies[level][i]]),
            weight=torch.tensor([v], dtype=torch.float64),
        )
        for i, v in zip(chosen, weight, strict=True)
    ]
    task = PotentialTask(potential, train, [], settings)
    progress = fit(task, settings, folder, Team(), resume=True, on_epoch=lambda row: None)
    potential.save(folder / "model.safetensors")
    _, test = split(seed, len(data.sizes))
    np.savez(
        folder / "test.npz",
        molecules=test,
        error=predict(potential, data, test) - data.energies[level][test],
        train=chosen,
        seconds=progress.seconds,
    )
    error = 1e3 * np.abs(np.load(folder / "test.npz")["error"]).mean()
    say.print(f"seed {seed}, {name}: MAE {error:.1f} meV, {progress.seconds:.0f} s")


def own_reference(potential: Potential, data: Molecules, chosen: Sequence[int]) -> np.ndarray:
    values = [potential.reference.values[element] for element in ELEMENTS]
    return data.counts[chosen] @ np.array(values)


def predict(potential: Potential, data: Molecules, chosen: Sequence[int]) -> np.ndarray:
    """eV."""
    found = []
    for start in range(0, len(chosen), 100):
        batch = Batch.join([data.batches[i] for i in chosen[start : start + 100]])
        found.append(potential.evaluate(batch, slope=False).energy.mean(dim=0))
    return torch.cat(found).numpy()


def run_all(seeds: Sequence[int], only: Sequence[str] = (), times: int = 1) -> None:
    """Every variant, or those named, with every seed; what is asked first runs first."""
    data, say = molecules(), Console(stderr=True)
    plans = {seed: variants(data, split(seed, len(data.sizes))[0]) for seed in seeds}
    for name in only or next(iter(plans.values())):
        for seed, plan in plans.items():
            run(data, seed, name, plan[name], times, say)
