"""Energies (eV) and forces (eV/Å) of a trained peer, in the peers' environment."""

from __future__ import annotations

import argparse
import json
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("mace", "graph-pes"))
    for name in ("model", "frames", "output"):
        parser.add_argument(name)
    given = parser.parse_args()
    predict = calculator(given.peer, given.model)
    answers = []
    for atoms in ase.io.read(given.frames, ":"):
        atoms.calc = predict
        forces = atoms.get_forces().tolist()
        answers.append({"energy": float(atoms.get_potential_energy()), "forces": forces})
    Path(given.output).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
