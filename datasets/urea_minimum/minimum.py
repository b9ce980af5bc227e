"""The DFT minimum of the crystal, cell and positions, with a fine-tuned model as a guide.

Each round asks DFT for energy, forces and stress once (``tools/dft.py``, in its own Python),
adds what the model lacks there (constant forces and stress) to the model, and relaxes that. Where
the rounds come to rest DFT itself has neither forces nor stress.

    python minimum.py --model runs/urea_ani2x --python PYTHON_WITH_GPAW [--rounds 3]
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.optimize import BFGS
from ase.units import GPa

from tlpot import TLPotCalculator

HERE = Path(__file__).parent
UREA = HERE.parent / "urea"
TOOLS = HERE.parents[1] / "tools"


class Corrected(Calculator):
    """A calculator with constant forces (eV/Å) and stress (eV/Å³) added, not their energy."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, model, forces, stress):
        super().__init__()
        self.model, self.added = model, (forces, stress)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        image = atoms.copy()
        image.calc = self.model
        forces, stress = self.added
        self.results = {
            "energy": image.get_potential_energy(),
            "forces": image.get_forces() + forces,
            "stress": image.get_stress() + stress,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="runs/urea_ani2x")
    parser.add_argument("--python", required=True, help="one that has gpaw and dftd3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/urea_minimum"))
    parser.add_argument("--out", type=Path, default=HERE / "minimum.extxyz")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = TLPotCalculator(args.model)
    atoms = read(UREA / "urea.extxyz", 0)
    added = np.zeros((len(atoms), 3)), np.zeros(6)
    for number in range(args.rounds + 1):
        geometry, labelled = (args.work / f"{number}{kind}.extxyz" for kind in ("", "_dft"))
        if not labelled.exists():
            atoms.calc = Corrected(model, *added)
            BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=500)
            atoms.info = {"kind": "minimum"}
            write(geometry, atoms, write_results=False)
            command = [args.python, TOOLS / "dft.py", "urea", geometry, labelled]
            subprocess.run([*command, "--labels", args.work / f"labels{number}"], check=True)
        dft = read(labelled)
        atoms = dft.copy()
        atoms.calc = model
        forces, stress = dft.get_forces(), dft.get_stress()
        added = forces - atoms.get_forces(), stress - atoms.get_stress()
        print(
            f"round {number}: {dft.get_potential_energy():.4f} eV, largest force "
            f"{np.abs(forces).max():.3f} eV/Å, stress {np.abs(stress).max() / GPa:.3f} GPa, cell "
            f"{np.round(dft.cell.cellpar(), 4)}",
            flush=True,
        )
    write(args.out, dft)


if __name__ == "__main__":
    main()
