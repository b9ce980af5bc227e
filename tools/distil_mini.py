"""Train `mini`: small networks that repeat ANI-2x's atomic energies and forces for H, C, N, O.

Four small networks learn from two of ANI-2x's eight each, so that their spread stands for the
teacher's. The descriptors and their Jacobians are computed once (`tlpot.engine`); an epoch then
costs matrix products only. Held-out errors are printed and kept in the model's metadata.

    python tools/mini_data.py structures.extxyz
    python tools/distil_mini.py structures.extxyz tlpot/backbones/mini.safetensors
"""

from __future__ import annotations

import argparse
import copy
import datetime
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from ase.io import read
from ase.units import Hartree
from torch import Tensor, nn

from tlpot.backbones.ani import ALPHA, ANI, LAYERS
from tlpot.engine.networks import energy_and_slope
from tlpot.model.load import load_base
from tlpot.model.potential import Potential
from tlpot.model.reference import EnergyReference
from tlpot.structure.frames import Batch, Frame

SYMBOLS = ("H", "C", "N", "O")
WIDTHS = (80, 64, 48)
MEMBERS = 4
LARGEST_FORCE, LARGEST_SPREAD = 20.0, 0.5
"""eV/Å; structures with a larger force, or where the teacher's members differ more (RMS over the
structure of the standard deviation of `Sample.forces`), are left out."""
CHUNK = 64
"""Structures labelled or evaluated together."""


@dataclass
class Sample:
    """Some structures with the teacher's labels, one per student member.

    ``atomic[members, atoms]`` eV and ``forces[members, atoms, 3]`` eV/Å.
    """

    batch: Batch
    atomic: Tensor
    forces: Tensor

    @classmethod
    def join(cls, samples: Sequence[Sample]) -> Sample:
        return cls(
            Batch.join([s.batch for s in samples]),
            torch.cat([s.atomic for s in samples], dim=1),
            torch.cat([s.forces for s in samples], dim=1),
        )


def forces_from(pull: Tensor, batch: Batch) -> Tensor:
    """``[members, atoms, 3]`` eV/Å from ∂E/∂vectors ``[members, pairs, 3]``."""
    forces = pull.new_zeros(len(pull), len(batch.numbers), 3)
    return forces.index_add(1, batch.pairs[0], pull).index_add(1, batch.pairs[1], -pull)


def label(teacher: ANI, batch: Batch) -> Sample:
    """Teacher's atomic energies and forces, averaged over two of its members a student."""
    atomic, slope = teacher.energy_and_slope(batch, members=True)
    forces = forces_from(slope, batch)
    two = (MEMBERS, teacher.members // MEMBERS)
    return Sample(batch, atomic.unflatten(0, two).mean(1), forces.unflatten(0, two).mean(1))


def load_samples(path: str, teacher: ANI) -> tuple[list[Sample], list[str], list[str]]:
    """Every structure of a file as a labelled sample, with its kind and its split."""
    samples: list[Sample] = []
    kinds, splits = [], []
    structures = read(path, index=":")
    for start in range(0, len(structures), CHUNK):
        chunk = structures[start : start + CHUNK]
        batches = [teacher.keep(Batch.of_frame(Frame(a), teacher.cutoff)) for a in chunk]
        labelled = label(teacher, Batch.join(batches))
        sizes = [len(a) for a in chunk]
        parts = zip(
            batches,
            labelled.atomic.split(sizes, dim=1),
            labelled.forces.split(sizes, dim=1),
            chunk,
            strict=True,
        )
        for batch, atomic, forces, atoms in parts:
            spread = forces.var(dim=0).mean().sqrt()
            if forces.norm(dim=2).max() < LARGEST_FORCE and spread < LARGEST_SPREAD:
                samples.append(Sample(batch, atomic.clone(), forces.clone()))
                kinds.append(atoms.info["kind"])
                splits.append(atoms.info["split"])
    return samples, kinds, splits


class Student(nn.Module):
    """The small networks, on standardised descriptors, in eV; `fill` writes them into an `ANI`.

    Parameters
    ----------
    mean, scale
        ``Tensor[elements, features]`` of the descriptors of the training atoms.
    level
        ``Tensor[elements]`` eV, mean atomic energy, the start of the output bias.
    """

    def __init__(
        self, mean: Tensor, scale: Tensor, level: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale
        sizes = (mean.shape[1], *WIDTHS, 1)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise(sizes):
            shape = (len(SYMBOLS), MEMBERS, n_out, n_in)
            self.weights.append(torch.randn(shape, generator=generator) * math.sqrt(1.5 / n_in))
            self.biases.append(torch.zeros(shape[:3]))
        self.biases[-1].data += level[:, None, None]

    def forward(self, species: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Atomic energies ``[members, atoms]`` and their slopes ``[members, atoms, features]``."""
        energies = features.new_zeros(MEMBERS, len(species))
        slopes = features.new_zeros(MEMBERS, *features.shape)
        for k in range(len(SYMBOLS)):
            atoms = (species == k).nonzero().squeeze(1)
            if len(atoms):
                x = (features[atoms] - self.mean[k]) / self.scale[k]
                weights = [self._weights(k)]
                energy, slope = energy_and_slope(x, [len(x)], weights, ALPHA, members=True)
                energies = energies.index_copy(1, atoms, energy)
                slopes = slopes.index_copy(1, atoms, slope / self.scale[k])
        return energies, slopes

    def _weights(self, k: int) -> list[Tensor]:
        """Weight and bias of each layer of one element in turn."""
        return [p[k] for pair in zip(self.weights, self.biases, strict=True) for p in pair]

    @torch.no_grad()
    def fill(self, ani: ANI) -> None:
        """Write the networks into `ani` (Hartree, plain descriptors)."""
        for k, symbol in enumerate(SYMBOLS):
            for n, name in enumerate(LAYERS):
                weight, bias = self.weights[n][k].double(), self.biases[n][k].double()
                if name == "input":
                    weight = weight / self.scale[k]
                    bias = bias - weight @ self.mean[k].double()
                unit = Hartree if name == "output" else 1.0
                ani.networks[symbol][name].weight.copy_(weight / unit)
                ani.networks[symbol][name].bias.copy_(bias / unit)


def statistics(samples: Sequence[Sample], species: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and scale of the descriptors, and mean atomic energy, of each element."""
    index = torch.cat([species[s.batch.numbers] for s in samples])
    values = torch.cat([s.batch.kept.values for s in samples])
    atomic = torch.cat([s.atomic.mean(dim=0) for s in samples])
    means, scales, levels = [], [], []
    for k in range(len(SYMBOLS)):
        own = values[index == k]
        spread = own.std(dim=0)
        means.append(own.mean(dim=0))
        scales.append(spread + 0.3 * spread.mean() + 1e-3)
        levels.append(atomic[index == k].mean())
    return torch.stack(means), torch.stack(scales), torch.stack(levels)


def batches(samples: Sequence[Sample], size: int, rng: np.random.Generator) -> Iterator[Sample]:
    """The samples in random order, `size` at a time."""
    order = rng.permutation(len(samples))
    for start in range(0, len(order) - size + 1, size):
        yield Sample.join([samples[k] for k in order[start : start + size]])


def loss_of(student: Student, species: Tensor, sample: Sample) -> Tensor:
    """20 (ΔE)²/N + 3 (Δε)² + |ΔF|² / (1 + |F|²/9), means over structures, atoms and members.

    eV and Å; ε are atomic energies. Large forces count by their relative error.
    """
    batch = sample.batch
    energies, slopes = student(species[batch.numbers], batch.kept.values)
    wrong = energies - sample.atomic
    force = (forces_from(batch.kept.slope(slopes), batch) - sample.forces).square().sum(-1)
    force = force / (1 + sample.forces.square().sum(-1) / 9.0)
    total = batch.sum_frames(wrong).square() / batch.n_atoms
    return 20 * total.mean() + 3 * wrong.square().mean() + force.mean()


def train(
    student: Student, samples: Sequence[Sample], species: Tensor, options: argparse.Namespace
) -> Student:
    """Adam with a cosine decay; the result is an exponential average of the weights."""
    rng = np.random.default_rng(options.seed)
    steps = options.epochs * (len(samples) // options.batch_size)
    adam = torch.optim.AdamW(
        student.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=0.02
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda n: min(1.0, n / 100) * (0.5 + 0.5 * math.cos(math.pi * n / steps)) + 1e-4
    )
    average, count, began = copy.deepcopy(student), 0, time.perf_counter()
    for epoch in range(options.epochs):
        total, seen = 0.0, 0
        for sample in batches(samples, options.batch_size, rng):
            loss = loss_of(student, species, sample)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 10.0)
            adam.step()
            schedule.step()
            total, seen, count = total + loss.item(), seen + 1, count + 1
            keep = min(0.998, count / (count + 10))
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(average.parameters()), list(student.parameters()), 1 - keep
                )
        seconds = time.perf_counter() - began
        print(f"epoch {epoch + 1:3d}  loss {total / seen:.4f}  {seconds:6.0f} s", flush=True)
    return average


@torch.no_grad()
def errors(student: Student, samples: Sequence[Sample], species: Tensor) -> dict[str, float]:
    """RMSE of the ensemble mean against the mean of all the teacher's members."""
    energy, force, spread, teacher_spread = [], [], [], []
    for start in range(0, len(samples), CHUNK):
        sample = Sample.join(samples[start : start + CHUNK])
        batch = sample.batch
        atomic, slopes = student(species[batch.numbers], batch.kept.values)
        forces = forces_from(batch.kept.slope(slopes), batch)
        wrong = batch.sum_frames(atomic.mean(0) - sample.atomic.mean(0)) / batch.n_atoms
        energy.append(wrong)
        force.append((forces.mean(0) - sample.forces.mean(0)).flatten())
        spread.append(forces.std(0).flatten())
        teacher_spread.append(sample.forces.std(0).flatten())
    e, f = torch.cat(energy).double(), torch.cat(force).double()
    return {
        "n_frames": len(e),
        "n_atoms": len(f) // 3,
        "energy_rmse_meV_per_atom": round(1e3 * e.square().mean().sqrt().item(), 2),
        "energy_mae_meV_per_atom": round(1e3 * e.abs().mean().item(), 2),
        "force_rmse_meV_per_A_component": round(1e3 * f.square().mean().sqrt().item(), 1),
        "force_mae_meV_per_A_component": round(1e3 * f.abs().mean().item(), 1),
        "force_spread_meV_per_A": round(1e3 * torch.cat(spread).square().mean().sqrt().item(), 1),
        "teacher_spread_meV_per_A": round(
            1e3 * torch.cat(teacher_spread).square().mean().sqrt().item(), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("structures", help="extended XYZ from mini_data.py")
    parser.add_argument("output", help="model file to write (mini.safetensors)")
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()

    base = load_base("ani2x")
    teacher = base.backbone.with_elements(SYMBOLS).requires_grad_(False)
    samples, kinds, splits = load_samples(options.structures, teacher)
    training = [s for s, split in zip(samples, splits, strict=True) if split == "train"]
    print(f"{len(samples)} structures, {len(training)} for training", flush=True)
    print(f"labelled: {time.process_time() - began:.0f} CPU-s", flush=True)

    species = teacher.species
    generator = torch.Generator().manual_seed(options.seed)
    student = Student(*statistics(training, species), generator)
    student = train(student, training, species, options)

    table = {}
    for split in ("train", "test"):
        for kind in ("molecule", "cluster", "crystal", "all"):
            chosen = [
                s
                for s, k, own in zip(samples, kinds, splits, strict=True)
                if own == split and kind in (k, "all")
            ]
            table[f"{split} {kind}"] = errors(student, chosen, species)
            print(f"{split:6s}{kind:10s}{table[f'{split} {kind}']}", flush=True)

    sizes = (WIDTHS,) * len(SYMBOLS)
    architecture = replace(teacher.architecture, widths=sizes, members=MEMBERS)
    mini = ANI(architecture)
    student.fill(mini)
    energies = {symbol: base.reference.values[symbol] for symbol in SYMBOLS}
    reference = EnergyReference(energies, "self-energies", "self-energies of ani2x as published")
    metadata = {
        "name": "mini",
        "trained": "tools/mini_data.py, tools/distil_mini.py: atomic energies and forces of ANI-2x "
        "(torchani), two of its eight members for each of these four",
        "errors_against_ani2x": table,
        "training_frames": len(training),
        "epochs": options.epochs,
        "seed": options.seed,
        "date": datetime.date.today().isoformat(),
        "cpu_seconds": round(time.process_time() - began),
        "torch": torch.__version__,
    }
    path = Potential(mini.requires_grad_(False), reference, metadata).save(options.output)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {time.process_time() - began:.0f} CPU-s")


if __name__ == "__main__":
    main()
