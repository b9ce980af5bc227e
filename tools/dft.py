"""PBE+D3(BJ) energies, forces and stresses with GPAW, one setting a dataset.

    OMP_NUM_THREADS=1 python tools/dft.py urea FRAMES.extxyz OUT.extxyz

labels any frames at the setting of a dataset. Restartable: every finished frame is written at once
(atomic rename), frames already there are skipped. Needs gpaw, dftd3 and ase.
"""

from __future__ import annotations

import argparse
import os
import runpy
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

DATASETS = Path(__file__).parents[1] / "datasets"
DIGITS = {"energy": 6, "forces": 6, "stress": 8}
D3 = {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407, "s9": 0.0}
"""D3(BJ) of PBE, two-body terms only (no Axilrod-Teller-Muto)."""


@dataclass(frozen=True)
class Setting:
    """Plane-wave cutoff in eV, number of (full) bands, k-points, thresholds of the SCF.

    Either ``mesh``, a Monkhorst-Pack mesh (even divisions skip the Gamma point), or ``supercell``,
    which names the k-points by the Born-von-Karman cell they stand for (rows in lattice vectors):
    all Bloch waves that change sign along each of its edges, hence none at Gamma.  A compact,
    sheared supercell needs far fewer than a diagonal one (Moreno and Soler, Phys. Rev. B 45, 13891,
    1992; Wisesa et al., Phys. Rev. B 93, 155109, 2016).

    No smearing and no empty bands: all crystals here are insulators with paired electrons,
    so energy and free energy are the same.
    """

    cutoff: float
    bands: int
    supercell: tuple | None = None
    mesh: tuple | None = None
    stress: bool = False
    thresholds: Mapping[str, float] = field(
        default_factory=lambda: {"energy": 1e-5, "density": 1e-4, "eigenstates": 1e-6}
    )
    mixer: Mapping[str, Any] | None = None

    def kpoints(self) -> Any:
        """As GPAW takes them; of a supercell fractional ones, shape ``(cells, 3)``."""
        if self.mesh is not None:
            return {"size": self.mesh, "gamma": False}
        inverse, reach = np.linalg.inv(self.supercell), range(-8, 9)
        waves = (np.array(list(product(reach, repeat=3))) + 0.5) @ inverse.T
        waves -= np.ceil(np.round(waves, 9) - 0.5)  # into (-1/2, 1/2]
        return np.unique(np.round(waves, 9) + 0.0, axis=0)

    def __str__(self) -> str:
        if self.mesh is not None:
            return "x".join(map(str, self.mesh)) + " MP"
        return " / ".join(" ".join(map(str, row)) for row in self.supercell) + " off Gamma"


def sheared(cutoff: float, *supercell: tuple, bands: int) -> Setting:
    """K-points of a supercell, and the density mixed cautiously."""
    mixer = {"backend": "pulay", "beta": 0.35, "nmaxold": 7, "weight": 50.0}
    return Setting(cutoff, bands, supercell, mixer=mixer)


def pbe(setting: Setting) -> Calculator:
    """GPAW.  All frames use the same k-points, whatever their symmetry."""
    from gpaw import GPAW, PW

    return GPAW(
        mode=PW(setting.cutoff),
        xc="PBE",
        kpts=setting.kpoints(),
        nbands=setting.bands,
        occupations={"name": "fermi-dirac", "width": 0.0},
        symmetry={"point_group": False},
        convergence=dict(setting.thresholds),
        txt=None,
        **({"mixer": dict(setting.mixer)} if setting.mixer else {}),
    )


def d3() -> Calculator:
    from dftd3.ase import DFTD3

    return DFTD3(damping="d3bj", params_tweaks=D3)


def label(
    atoms: Atoms, setting: Setting, calculators: Iterable[Calculator] | None = None
) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å) and, if the setting has it, stress (eV/Å³, as ASE has it)."""
    total: dict[str, Any] = {}
    for calculator in calculators or (pbe(setting), d3()):
        part = atoms.copy()
        part.calc = calculator
        found = {"energy": part.get_potential_energy(), "forces": part.get_forces()}
        if setting.stress:
            found["stress"] = part.get_stress()
        total = {key: total.get(key, 0.0) + value for key, value in found.items()}
    return total


def write_atomic(path: Path, frames: Atoms | list[Atoms]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    write(new, frames, format="extxyz")
    os.replace(new, path)


def label_frames(frames: list[Atoms], setting: Setting, folder: Path) -> Iterator[Atoms]:
    """Label what is not yet in `folder`; yields the labelled frames in order."""
    import gpaw

    for n, atoms in enumerate(frames):
        path = folder / f"{n:04d}.extxyz"
        if not path.exists():
            start = time.process_time()
            labels = label(atoms, setting)
            atoms.info.update(
                engine=f"GPAW {gpaw.__version__}",
                xc="PBE+D3(BJ)",
                cutoff=setting.cutoff,
                kpts=str(setting),
            )
            rounded = {key: np.round(value, DIGITS[key]) for key, value in labels.items()}
            atoms.calc = SinglePointCalculator(atoms, **rounded)
            write_atomic(path, atoms)
            seconds = time.process_time() - start
            top = np.linalg.norm(labels["forces"], axis=1).max()
            print(
                f"{n + 1}/{len(frames)} {atoms.info['kind']:12s} {labels['energy']:.4f} eV, "
                f"max |F| {top:.2f} eV/A, {seconds:.0f} CPU-s",
                flush=True,
            )
        yield read(path)


def setting_of(name: str) -> Setting:
    """The labels' setting of a dataset."""
    return runpy.run_path(str(DATASETS / name / "crystal.py"))["SETTING"]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("dataset", help="whose setting to use")
    parser.add_argument("frames")
    parser.add_argument("output", type=Path)
    parser.add_argument("--labels", type=Path, default=Path("labels"), help="finished frames")
    given = parser.parse_args()
    frames = read(given.frames, ":")
    write_atomic(given.output, list(label_frames(frames, setting_of(given.dataset), given.labels)))


if __name__ == "__main__":
    main()
