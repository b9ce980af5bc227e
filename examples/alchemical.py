"""Two ethanols become two waters, the path of Herr, Koh, Yao, Parkhill 2019.

`python examples/alchemical.py`: a small emodes model learns ethanol, water and their dimers from
`mini`, which ships with tlpot, in some minutes on one core. Then every CH2 turns into the second
hydrogen of a water, sliding in along its C–O bond, while CH3 and the other hydrogens vanish. The
energy is smooth along the path and meets mini's at both ends; between them it stands for no
physical system.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import matplotlib
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot import TLPotCalculator, finetune, load
from tlpot.model.alchemy import AlchemicalPath, alchemical_energies
from tlpot.sampling.geometries import nearest_minimum, sample_modes, take

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FRAMES, TEMPERATURES = 120, (300.0, 900.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/alchemical"))
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    output, mini = arguments.output, TLPotCalculator("mini")
    if not (output / "run" / "report.html").exists():
        output.mkdir(parents=True, exist_ok=True)
        ase.io.write(output / "frames.extxyz", frames(mini))
        finetune(settings(output, arguments.epochs), resume=(output / "run").exists())

    dimer, changes, end = ethanol_to_water(nearest_minimum(dimer_of("CH3CH2OH"), mini))
    lambdas = np.linspace(0.0, 1.0, 51)
    path = alchemical_energies(load(output / "run"), dimer, changes, lambdas, end)
    water = dimer.copy()
    water.positions = end
    water.symbols[[i for i, s in changes.items() if s]] = "H"
    del water[[i for i, s in changes.items() if s is None]]
    expected = [p.energy for p in load("mini").predict([dimer, water])]
    for name, energy, label in zip(
        ("2 ethanol", "2 water"), path.energy[[0, -1]], expected, strict=True
    ):
        print(f"{name}: emodes {energy:.3f} eV, mini {label:.3f} eV")
    print(
        f"integral of dE/dλ: {np.trapezoid(path.slope, lambdas):.3f} eV, "
        f"E(1) − E(0): {path.energy[-1] - path.energy[0]:.3f} eV"
    )
    draw(path, expected, output / "path.png")


def settings(output: Path, epochs: int) -> dict:
    """The run: emodes from scratch."""
    return {
        "data": {"files": str(output / "frames.extxyz"), "split": {"test": 0.1}},
        "model": {"base": "emodes"},
        "training": {"epochs": epochs, "learning_rate": 1e-3, "batch_size": 4, "lambda": 0.1},
        "output": str(output / "run"),
    }


def dimer_of(name: str) -> Atoms:
    """Two molecules, the second one turned and 3 Å above the first."""
    first, second = molecule(name), molecule(name)
    second.rotate(180, "x")
    second.positions += [0.6, 1.2, 3.0]
    return first + second


def frames(mini: TLPotCalculator) -> list[Atoms]:
    """Monomers and dimers along their normal modes, with mini's energies and forces."""
    random, geometries = np.random.default_rng(0), []
    for name in ("H2O", "CH3CH2OH"):
        for start in (molecule(name), dimer_of(name)):
            for temperature in TEMPERATURES:
                proposals = sample_modes(start, mini, temperature, random)
                geometries += take(proposals, FRAMES // len(TEMPERATURES), 0.7)
    for atoms, label in zip(geometries, load("mini").predict(geometries), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces)
    return geometries


def ethanol_to_water(dimer: Atoms) -> tuple[Atoms, dict[int, str | None], np.ndarray]:
    """Two ethanols, what their atoms become, and where the atoms end up."""
    half, end = len(dimer) // 2, dimer.positions.copy()
    changes: dict[int, str | None] = dict.fromkeys(range(len(dimer)))
    for start in (0, half):
        mine = np.arange(start, start + half)
        (oxygen,) = mine[dimer.symbols[mine] == "O"]
        away = np.linalg.norm(dimer.positions[mine] - dimer.positions[oxygen], axis=1)
        hydroxyl, carbon = (
            mine[np.where(dimer.symbols[mine] == s, away, np.inf).argmin()] for s in "HC"
        )
        del changes[oxygen], changes[hydroxyl]
        changes[carbon] = "H"
        bond = dimer.positions[carbon] - dimer.positions[oxygen]
        end[carbon] = dimer.positions[oxygen] + 0.96 * bond / np.linalg.norm(bond)
    return dimer, changes, end


def draw(path: AlchemicalPath, expected: list[float], file: Path) -> None:
    """Energy and dE/dλ along the path, less the straight line between the labels at its ends."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    rise = expected[1] - expected[0]
    energy = path.energy - expected[0] - rise * path.lambdas
    band = (energy - path.energy_std, energy + path.energy_std)
    left.fill_between(path.lambdas, *band, alpha=0.3, lw=0, label="spread of the networks")
    left.plot(path.lambdas, energy, label="emodes")
    left.plot([0, 1], [0, 0], "ko", label="mini, the labels")
    left.set(xlabel="λ", ylabel="E(λ) less the straight line, eV", title="2 ethanol → 2 water")
    left.legend()
    right.plot(path.lambdas, path.slope - rise)
    right.set(xlabel="λ", ylabel="dE/dλ less its mean, eV", title=f"mean: {rise:.1f} eV")
    figure.savefig(file, dpi=120)
    print(f"wrote {file}")


if __name__ == "__main__":
    main()
