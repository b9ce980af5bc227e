"""Geometries of crystalline urea for the DFT labels in ``urea.extxyz``.

Starts from the neutron structure at 12 K (P-42_1m, Z = 2; CSD UREAXX12) and writes 80
frames, shuffled after the first, to ``frames.extxyz``:

* ``experiment``  the unperturbed crystal;
* ``volume``      isotropic scaling with rigid molecules, V/V0 = -6 to +8 %;
* ``md``          snapshots of Langevin MD with ANI-2x in the experimental cell;
* ``md-strain``   the same in cells with random volume, anisotropic strain and shear;
* ``rattle``      rigid rotations and shifts of the molecules plus random displacements
                  of the atoms, in random cells.

ANI-2x only proposes the geometries; its energies are not kept.  The frame is 16 atoms, so
the MD is that of the small periodic cell; torchani's default all-pairs neighbour list
repeats the cell as often as its cutoff needs, hence is right here.

Needs torchani (weights are downloaded at the first use) and ase:

    python datasets/urea/sample.py --out datasets/urea/frames.extxyz

The seed fixes the draws; MD snapshots may still differ between machines (rounding).
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from ase import units
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from crystal import MOLECULES, start
from sampling import Recipe, deform, random_cell

RANDOM = Recipe()  # volume -6 to +8 %, axial strains and shears up to about 4 %
# Numbers of frames; of MD snapshots by temperature in K, the strained ones one a cell.
N_MD = {100: 6, 300: 12, 500: 8}
N_STRAINED = {300: 17, 500: 8}
N_RATTLE = 22
VOLUMES = (-6, -4, -2, 2, 5, 8)  # per cent
EQUILIBRATION, SPACING = 1000, 500  # MD steps of 0.5 fs
MAX_FORCE = 7.0  # eV/Angstrom, of ANI-2x; harsher proposals are drawn again


def rotation(rng, sigma):
    """Rotation about a random axis by a normal angle (radians)."""
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis) * rng.normal(0, sigma)
    angle = np.sqrt(x * x + y * y + z * z)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) / angle * k + (1 - np.cos(angle)) / angle**2 * k @ k


def rattle(atoms, rng):
    new = random_cell(atoms, RANDOM, MOLECULES, rng)
    for mol in MOLECULES:
        centre = new.positions[mol].mean(0)
        turned = (new.positions[mol] - centre) @ rotation(rng, np.radians(8)).T
        new.positions[mol] = centre + turned + rng.normal(0, 0.1, 3)
    new.positions += rng.normal(0, rng.uniform(0.01, 0.04), new.positions.shape)
    return new


class MD:
    """Langevin MD; ``next`` equilibrates a start geometry or goes on with the last one."""

    def __init__(self, calc, rng):
        self.calc, self.rng = calc, rng

    def next(self, kelvin, start=None):
        if start is not None:
            self.atoms = start.copy()
            self.atoms.calc = self.calc
            MaxwellBoltzmannDistribution(self.atoms, temperature_K=kelvin, rng=self.rng)
            Stationary(self.atoms)
        dyn = Langevin(
            self.atoms,
            0.5 * units.fs,
            temperature_K=kelvin,
            friction=0.02 / units.fs,
            rng=self.rng,
        )
        dyn.run(EQUILIBRATION if start is not None else SPACING)
        return self.atoms.copy()


def intact(atoms, reference):
    """No bond broken or formed: the same pairs closer than 1.25 times a bond."""

    def bonds(a):
        heavy = (a.numbers > 1).astype(int)
        limit = np.array([[0.9, 1.3], [1.3, 1.75]])[np.ix_(heavy, heavy)]
        d = a.get_all_distances(mic=True)
        return np.argwhere((d < limit) & (d > 0)).tolist()

    return bonds(atoms) == bonds(reference)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="frames.extxyz")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()

    warnings.filterwarnings("ignore")
    import torchani

    calc = torchani.models.ANI2x(model_index=0).double().ase()
    rng = np.random.default_rng(args.seed)
    ref, frames = start(), []

    def keep(atoms, kind, kelvin=None):
        """Append the frame unless a molecule came apart or a force is very large."""
        probe = atoms.copy()
        probe.calc = calc
        top = np.linalg.norm(probe.get_forces(), axis=1).max()
        if top > MAX_FORCE or not intact(atoms, ref):
            return False
        new = ref.copy()
        new.set_cell(atoms.cell)
        new.positions = atoms.positions.round(6)
        new.info["kind"] = kind
        if kelvin is not None:
            new.info["temperature"] = kelvin
        frames.append(new)
        volume = 100 * (new.get_volume() / ref.get_volume() - 1)
        print(f"{len(frames):3d} {kind:10s} T {kelvin} dV {volume:5.1f} %  ANI |F| {top:.2f}")
        return True

    keep(ref, "experiment")
    for percent in VOLUMES:
        keep(deform(ref, np.eye(3) * (1 + percent / 100) ** (1 / 3), MOLECULES), "volume")
    md = MD(calc, rng)
    for kelvin, n in N_MD.items():
        begin = ref
        while n:
            n -= keep(md.next(kelvin, begin), "md", kelvin)
            begin = None
    for kelvin, n in N_STRAINED.items():
        while n:
            cell = random_cell(ref, RANDOM, MOLECULES, rng)
            n -= keep(md.next(kelvin, cell), "md-strain", kelvin)
    n = N_RATTLE
    while n:
        n -= keep(rattle(ref, rng), "rattle")

    order = [0, *(1 + rng.permutation(len(frames) - 1))]
    write(args.out, [frames[i] for i in order])


if __name__ == "__main__":
    main()
