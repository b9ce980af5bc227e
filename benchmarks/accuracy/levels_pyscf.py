"""Forces of molecules at several levels of theory, by PySCF: ``levels.py`` runs this in its place.

    python levels_pyscf.py dimers.xyz answers.json '[["PBE", "def2-TZVP"], …]'

Answers, eV/Å by structure and level, are written after each structure; those that are there are
not computed again.
"""

import json
import sys
from pathlib import Path

from ase import Atoms
from ase.io import read
from ase.units import Bohr, Hartree
from pyscf import dft, gto


def forces(atoms: Atoms, functional: str, basis: str) -> list[list[float]]:
    """``[N][3]`` eV/Å of a closed shell; Pople's sets with Cartesian d functions, as Gaussian's."""
    places = list(zip(atoms.symbols, atoms.positions.tolist(), strict=True))
    molecule = gto.M(atom=places, basis=basis, cart=basis.startswith("6-31"), verbose=0)
    field = dft.RKS(molecule, xc=functional).density_fit()
    field.kernel()
    if not field.converged:
        raise SystemExit(f"{atoms.symbols}: {functional} did not converge")
    return (-field.nuc_grad_method().kernel() * Hartree / Bohr).tolist()


if __name__ == "__main__":
    structures, kept, levels = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    answers = json.loads(kept.read_text()) if kept.exists() else []
    for atoms in read(structures, ":")[len(answers) :]:
        answers.append([forces(atoms, *level) for level in levels])
        kept.write_text(json.dumps(answers))
        print(atoms.symbols, flush=True)
