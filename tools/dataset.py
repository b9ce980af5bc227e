"""Makes the PBE+D3(BJ) datasets of ``datasets``: relax, sample, label, check, describe.

    pip install gpaw dftd3 tblite spglib ase
    python tools/dataset.py relax cuscn           # cuscn/reference.extxyz
    python tools/dataset.py sample cuscn          # cuscn/frames.extxyz, 80 geometries
    OMP_NUM_THREADS=1 python tools/dataset.py label cuscn methylsilane iodoform
    OMP_NUM_THREADS=1 python tools/dataset.py check cuscn      # the figures of its README
    python tools/dataset.py describe cuscn        # the tables of its README

``datasets/NAME/crystal.py`` says what the crystal is and which setting it has. ``label`` is
restartable, works on the named datasets in turns of ``--round`` frames and writes
``NAME/NAME.extxyz`` after each turn.  Any first part of it is a usable dataset.

``check`` displaces every atom of the crystal before its relaxation at random by 0.04 Å a component
and compares the forces of PBE (D3 depends on none of this) between the settings of each series, the
first of which is the reference; then a force, and a stress where there is one, of the dataset's
second frame with the finite difference of its energy.
"""

from __future__ import annotations

import argparse
import runpy
import time
from collections import Counter
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixSymmetry
from ase.io import read, write
from ase.optimize import BFGS
from ase.units import GPa
from dft import DATASETS, d3, label, label_frames, pbe, write_atomic
from sampling import Recipe, draw, hessian, normal_modes

NAMES = sorted(path.parent.name for path in DATASETS.glob("*/crystal.py"))
SEED = 4
"""Of the draws."""


def compound(name: str) -> dict[str, Any]:
    """What ``crystal.py`` defines."""
    return runpy.run_path(str(DATASETS / name / "crystal.py"))


def relax(name: str, fmax: float = 0.05) -> None:
    """The crystal at rest in its cell, by the compound's rough setting."""
    about = compound(name)
    atoms = about["start"]()
    atoms.set_constraint(FixSymmetry(atoms))  # the k-points alone would break it
    atoms.calc = SumCalculator([pbe(about["ROUGH"]), d3()])
    BFGS(atoms).run(fmax=fmax, steps=30)
    atoms.calc, atoms.constraints = None, []
    write(DATASETS / name / "reference.extxyz", atoms)


def sample(name: str) -> None:
    about = compound(name)
    atoms = read(DATASETS / name / "reference.extxyz")
    start = time.process_time()
    modes = normal_modes(hessian(atoms, about["REPEAT"]), atoms.get_masses())
    print(f"{name}: Hessian in {time.process_time() - start:.0f} CPU-s")
    frames = draw(atoms, Recipe(), about["MOLECULES"], modes, SEED)
    write(DATASETS / name / "frames.extxyz", frames)


def label_in_turns(names: list[str], size: int, stop: int) -> None:
    """Turns of `size` frames a dataset, up to `stop` frames each."""
    for end in range(size, stop + 1, size):
        for name in names:
            folder = DATASETS / name
            frames = read(folder / "frames.extxyz", f":{end}")
            done = list(label_frames(frames, compound(name)["SETTING"], folder / "labels"))
            write_atomic(folder / f"{name}.extxyz", done)
            print(f"{name}: {len(done)} frames", flush=True)


def check(name: str) -> None:
    about = compound(name)
    frame = read(DATASETS / name / f"{name}.extxyz", 1)
    finite_differences(frame, about["SETTING"])
    atoms = about["start"]()
    atoms.positions += np.random.default_rng(0).normal(0, 0.04, atoms.positions.shape)
    for series in about["SERIES"]:
        first = None
        for setting in series:
            labels = label(atoms, setting, [pbe(setting)])
            first = first or labels
            change = {key: 1000 * (labels[key] - first[key]) for key in labels}
            forces = change["forces"]
            text = f"{name} {setting.cutoff} eV, {setting}: dE {change['energy']:.1f} meV/cell, "
            text += f"dF max {abs(forces).max():.1f} rms {np.sqrt((forces**2).mean()):.1f} meV/A"
            if "stress" in change:
                text += f", dstress {(change['stress'] / 1000 / GPa).round(3)} GPa"
            print(text, flush=True)


def finite_differences(frame: Atoms, setting: Any, atom: int = 0, axis: int = 2) -> None:
    """Force and stress against the energy's, the latter at constant cutoff."""

    def slope(image: Any, step: float) -> float:
        ends = [label(image(sign * step), setting)["energy"] for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    def moved(by: float) -> Atoms:
        image = frame.copy()
        image.positions[atom, axis] += by
        return image

    print(
        f"force on atom {atom}, axis {axis}: {frame.get_forces()[atom, axis]:.4f} analytic, "
        f"{-slope(moved, 0.004):.4f} eV/A finite difference",
        flush=True,
    )
    for name, voigt, (i, j) in (("zz", 2, (2, 2)), ("xz", 4, (0, 2))) if setting.stress else ():

        def strained(by: float, i: int = i, j: int = j) -> Atoms:
            strain = np.zeros((3, 3))
            strain[i, j] += by / 2
            strain[j, i] += by / 2
            image = frame.copy()
            image.set_cell(frame.cell @ (np.eye(3) + strain), scale_atoms=True)
            return image

        numeric = slope(strained, 0.005) / frame.get_volume()
        print(
            f"stress {name}: {frame.get_stress()[voigt] / GPa:.3f} analytic, "
            f"{numeric / GPa:.3f} GPa finite difference at constant cutoff",
            flush=True,
        )


def describe(name: str) -> None:
    """Frames by kind, ranges."""
    frames = read(DATASETS / name / f"{name}.extxyz", ":")
    print(f"{name}: {len(frames)} frames, {frames[0].symbols}\n")
    for kind, n in Counter(atoms.info["kind"] for atoms in frames).items():
        print(f"| `{kind}` | {n} |")
    print("\n| | range |\n|---|---|")
    for what, text in ranges(frames).items():
        print(f"| {what} | {text.replace('-', '−')} |")


def ranges(frames: list[Atoms]) -> dict[str, str]:
    volumes = np.array([atoms.get_volume() for atoms in frames])
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    forces = np.array([atoms.get_forces() for atoms in frames])
    size, change = np.linalg.norm(forces, axis=2), 100 * (volumes / volumes[0] - 1)
    spread = 1000 * energies.std() / len(frames[0])
    return {
        "volume, Å³": f"{volumes.min():.1f} to {volumes.max():.1f} "
        f"({change.min():+.1f} to {change.max():+.1f} % of the reference {volumes[0]:.2f})",
        "energy, eV/cell": f"{energies.min():.3f} to {energies.max():.3f} "
        f"(spread {spread:.0f} meV/atom rms)",
        r"\|F\|, eV/Å": f"largest {size.max():.2f}; largest of a frame "
        f"{np.median(size.max(1)):.2f} in the median; component rms "
        f"{np.sqrt((forces**2).mean()):.2f}",
        "net force, eV/Å": f"at most {abs(forces.sum(1)).max():.4f} a component",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = {"relax": relax, "sample": sample, "check": check, "describe": describe}
    parser.add_argument("verb", choices=(*verbs, "label"))
    parser.add_argument("names", nargs="+", choices=NAMES)
    parser.add_argument("--round", type=int, default=20)
    parser.add_argument("--stop", type=int, default=80)
    given = parser.parse_args()
    if given.verb == "label":
        label_in_turns(given.names, given.round, given.stop)
        return
    for name in given.names:
        if given.verb in ("relax", "sample") and "REPEAT" not in compound(name):
            parser.error(f"{name} has a sample.py of its own")
        verbs[given.verb](name)


if __name__ == "__main__":
    main()
