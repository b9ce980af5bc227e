"""Makes the PBE+D3(BJ) datasets of this folder: relax, sample, label.

    pip install gpaw dftd3 tblite spglib ase
    python make.py relax cuscn          # cuscn/reference.extxyz
    python make.py sample cuscn         # cuscn/frames.extxyz, 80 geometries
    OMP_NUM_THREADS=1 python make.py label cuscn methylsilane iodoform

``label`` is restartable, works on the named datasets in turns of ``--round`` frames and
writes ``NAME/NAME.extxyz`` after each turn.  Any first part of it is a usable dataset.
"""

import argparse
import time

from ase.calculators.mixing import SumCalculator
from ase.constraints import FixSymmetry
from ase.io import read, write
from ase.optimize import BFGS
from crystals import COMPOUNDS, HERE
from label import d3, label_frames, pbe, write_atomic
from sample import draw, hessian, normal_modes


def relax(name, fmax=0.05):
    """The crystal at rest in its cell, by the compound's rough setting."""
    compound = COMPOUNDS[name]
    atoms = compound.start()
    atoms.set_constraint(FixSymmetry(atoms))  # the k-points alone would break it
    atoms.calc = SumCalculator([pbe(compound.rough), d3()])
    BFGS(atoms).run(fmax=fmax, steps=30)
    atoms.calc, atoms.constraints = None, []
    write(HERE / name / "reference.extxyz", atoms)


def sample(name):
    compound = COMPOUNDS[name]
    atoms = read(HERE / name / "reference.extxyz")
    start = time.process_time()
    modes = normal_modes(hessian(atoms, compound.repeat), atoms.get_masses())
    print(f"{name}: Hessian in {time.process_time() - start:.0f} CPU-s")
    frames = draw(atoms, compound.recipe, compound.molecules, modes, compound.seed)
    write(HERE / name / "frames.extxyz", frames)


def label(names, size, stop):
    """Turns of ``size`` frames a dataset, up to ``stop`` frames each."""
    for end in range(size, stop + 1, size):
        for name in names:
            folder, compound = HERE / name, COMPOUNDS[name]
            frames = read(folder / "frames.extxyz", f":{end}")
            done = list(label_frames(frames, compound.setting, folder / "labels"))
            write_atomic(folder / f"{name}.extxyz", done)
            print(f"{name}: {len(done)} frames", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("relax", "sample", "label"))
    parser.add_argument("names", nargs="+", choices=COMPOUNDS)
    parser.add_argument("--round", type=int, default=20)
    parser.add_argument("--stop", type=int, default=80)
    args = parser.parse_args()
    if args.verb == "label":
        label(args.names, args.round, args.stop)
    else:
        for name in args.names:
            {"relax": relax, "sample": sample}[args.verb](name)


if __name__ == "__main__":
    main()
