"""Forces of molecules at several levels of theory, by PySCF, in an environment without tlpot.

``levels.py`` runs this. Answers (eV/Å, by structure and level) are written after each level;
those that are there are not computed again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ase import Atoms
from ase.io import read
from ase.units import Bohr, Hartree


def forces(atoms: Atoms, functional: str, basis: str) -> list[list[float]]:
    """``[N][3]`` eV/Å of a closed shell; Pople's sets with Cartesian d functions, as Gaussian's."""
    from pyscf import dft, gto

    places = list(zip(atoms.symbols, atoms.positions.tolist(), strict=True))
    molecule = gto.M(atom=places, basis=basis, cart=basis.startswith("6-31"), verbose=0)
    field = dft.RKS(molecule, xc=functional).density_fit()
    field.kernel()
    if not field.converged:
        raise SystemExit(f"{atoms.symbols}: {functional} did not converge")
    return (-field.nuc_grad_method().kernel() * Hartree / Bohr).tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("structures", type=Path)
    parser.add_argument("answers", type=Path, help="JSON")
    parser.add_argument("levels", type=json.loads, help='[["PBE", "def2-TZVP"], …]')
    given = parser.parse_args()
    answers = json.loads(given.answers.read_text()) if given.answers.exists() else []
    for i, atoms in enumerate(read(given.structures, ":")):
        answers[i:] = answers[i:] or [{}]
        for level in given.levels:
            if (name := "/".join(level)) not in answers[i]:
                answers[i][name] = forces(atoms, *level)
                given.answers.write_text(json.dumps(answers))
        print(atoms.symbols, flush=True)
