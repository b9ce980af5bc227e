"""Energies (eV) and forces (eV/Å) of a trained peer, in the peers' environment.

``python predict.py {mace,graph-pes} MODEL FRAMES.xyz OUT.json``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ase.io


def calculator(peer: str, model: str) -> Any:
    """The peer's own ASE calculator."""
    if peer == "mace":
        from mace.calculators import MACECalculator

        return MACECalculator(model_paths=model, device="cpu")
    from graph_pes.models import load_model

    return load_model(model).ase_calculator()


def main() -> None:
    peer, model, frames, out = sys.argv[1:]
    predict = calculator(peer, model)
    answers = []
    for atoms in ase.io.read(frames, ":"):
        atoms.calc = predict
        forces = atoms.get_forces().tolist()
        answers.append({"energy": float(atoms.get_potential_energy()), "forces": forces})
    Path(out).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
