"""What OUTCAR and vasprun.xml share: how to know and open one, and how a step becomes Atoms.

ASE reads these files too, but drops what does not fit (unfinished steps, machine-learned steps)
or gives up on the whole file, and does not tell whether the electronic steps converged. A run
that is killed or cut, or writes less (NWRITE), leaves good steps beside useless ones; here every
step keeps its place, and one without a label says why in ``atoms.info["incomplete"]``. A header
begins a run: elements, NELM, spin and level of theory hold for the steps of that run.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot.data.compression import plain_name
from tlpot.errors import TlpotError

UNFINISHED = "the file ends inside this ionic step: the run was stopped or the copy is cut"
CUT_SHORT = "the run was stopped inside this ionic step; another run begins behind it"
STEP_ERRORS = (ValueError, LookupError, ArithmeticError, AssertionError)
"""What the numbers of a damaged step may raise."""


def is_outcar(path: Path) -> bool:
    """Whether the name is one that people give an OUTCAR (``6362_OUTCAR``, ``OUTCAR.h2o.xz``)."""
    return re.search(r"(?<![a-z])outcar(?![a-z])", plain_name(path)) is not None


def is_vasprun(path: Path) -> bool:
    """Whether the name is one that people give a vasprun.xml (``vasprun.h2o.xml.gz``)."""
    return re.search(r"(?<![a-z])vasprun.*\.xml([._-]?\d+)?$", plain_name(path)) is not None


def label_step(
    atoms: Atoms,
    energy: float,
    free_energy: float,
    forces: np.ndarray | None,
    stress: np.ndarray | None,
) -> None:
    """Give a structure VASP's labels: eV, eV/Å, eV/Å³ in ASE's sign."""
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy, free_energy=free_energy, forces=forces, stress=stress
    )


def note_charge(atoms: Atoms, charge: float | None) -> None:
    """Note the cell's charge, e, unless it is neutral."""
    if charge is not None and abs(charge) > 1e-3:
        atoms.info["charge"] = round(charge, 3)


def note_moment(atoms: Atoms, moment: float | None) -> None:
    """Note the cell's magnetic moment, μB, of a spin-polarised run."""
    if moment is not None:
        atoms.info["magmom"] = round(moment, 3)


def require_labels(steps: list[Atoms], path: Path, what: str) -> list[Atoms]:
    """The `steps`, if one of them has labels.

    Raises
    ------
    TlpotError
        Saying `what` is not there, and the first step's own reason.
    """
    if any(atoms.calc for atoms in steps):
        return steps
    if any(atoms.info.get("machine_learned") for atoms in steps):
        reason = "VASP predicted its steps with a force field of its own"
    else:
        reason = next(
            (str(atoms.info["incomplete"]) for atoms in steps if "incomplete" in atoms.info),
            "the run was stopped before its first step ended, or the copy is cut",
        )
    raise TlpotError(f"{path}: {what}: {reason}. Leave it out, or repeat the run.")


def numbers(text: str) -> np.ndarray:
    """Floats of a Fortran line; glued numbers are parted, overflows (``****``) become NaN."""
    words = re.sub(r"(\d)-(\d)", r"\1 -\2", text).split()
    return np.array([np.nan if "*" in word else float(word) for word in words])
