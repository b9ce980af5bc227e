"""Geometries of a small crystal for DFT labels: thermal modes, strained cells, rattles.

The frames start from one relaxed crystal and are of five kinds:

* ``reference``     the relaxed crystal;
* ``volume``        isotropic scaling, molecules rigid;
* ``modes``         classical thermal displacements at a temperature along the Gamma-point
                    normal modes of the crystal;
* ``modes-strain``  the same in cells of random volume, axial strain and shear;
* ``rattle``        molecules turned and shifted as rigid bodies and every atom displaced at
                    random, in such cells.

The Hessian behind the modes is that of GFN1-xTB by central differences.  It only proposes
geometries; GFN1 energies and forces are kept nowhere.
"""

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation

SOFTEST = 35.0  # 1/cm; softer or unstable modes are sampled as if this stiff
FIRST = 20  # the volume scan is among that many first frames


@dataclass
class Recipe:
    """What to draw from a crystal.

    ``modes`` holds numbers of frames by temperature (K) in the reference cell, ``strained``
    the same for random cells.  ``volumes`` are per cent of the reference volume; ``stretch``
    bounds the random volume (fractions) and ``strain`` the axial strains and shears.
    Rattles turn by ``turn`` degrees and shift by ``shift`` Angstrom, rms a component.
    """

    volumes: tuple = (-6, -4, -2, 2, 5, 8)
    modes: dict = field(default_factory=lambda: {100: 6, 300: 12, 500: 8})
    strained: dict = field(default_factory=lambda: {300: 15, 500: 12})
    rattles: int = 20
    stretch: tuple = (-0.06, 0.08)
    strain: float = 0.04
    turn: float = 8.0
    shift: float = 0.1


def gather(atoms, molecules):
    """Atoms in the order of ``molecules``, each made whole around its first atom."""
    positions = atoms.positions.copy()
    for mol in molecules:
        vectors = atoms.get_distances(mol[0], mol, mic=True, vector=True)
        positions[mol] = positions[mol[0]] + vectors
    order = np.concatenate(molecules)
    return Atoms(atoms.numbers[order], positions[order], cell=atoms.cell, pbc=True)


def deform(atoms, gradient, molecules):
    """The cell under a deformation gradient (row vectors); molecules stay rigid."""
    new = atoms.copy()
    new.set_cell(atoms.cell @ gradient)
    for mol in molecules:
        centre = atoms.positions[mol].mean(0)
        new.positions[mol] += centre @ gradient - centre
    return new


def random_cell(atoms, recipe, molecules, rng):
    """Random volume, volume-free axial strains and shears; no rotation."""
    axial = rng.uniform(-recipe.strain, recipe.strain, 3)
    axial -= axial.mean()
    gradient = np.diag(np.exp(axial) * (1 + rng.uniform(*recipe.stretch)) ** (1 / 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        gradient[i, j] = gradient[j, i] = rng.uniform(-recipe.strain, recipe.strain)
    return deform(atoms, gradient, molecules)


class FoldedXTB(Calculator):
    """GFN1-xTB of a crystal.  tblite knows the Gamma point only, so the cell is repeated."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, repeat):
        super().__init__()
        from tblite.ase import TBLite

        self.repeat, self.xtb = repeat, TBLite(method="GFN1-xTB", verbosity=0)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        crystal = self.atoms.repeat(self.repeat)
        crystal.calc = self.xtb
        self.results = {
            "energy": crystal.get_potential_energy() / np.prod(self.repeat),
            "forces": crystal.get_forces()[: len(self.atoms)],
            "stress": crystal.get_stress(),
        }


def hessian(atoms, repeat, step=0.01):
    """Second derivatives by GFN1-xTB, eV/Angstrom^2, shape ``(3 * atoms, 3 * atoms)``."""
    moved, rest = atoms.copy(), atoms.positions
    moved.calc = FoldedXTB(repeat)
    h = np.zeros((3 * len(atoms), 3 * len(atoms)))
    for row in range(len(h)):
        for sign in (1, -1):
            moved.positions = rest
            moved.positions[row // 3, row % 3] += sign * step
            h[row] -= sign * moved.get_forces().ravel() / (2 * step)
    return (h + h.T) / 2


def normal_modes(h, masses):
    """Angular frequencies and displacements, in ASE units, without the translations.

    Shapes ``(modes,)`` and ``(modes, atoms, 3)``; a displacement is that of one unit of
    mass-weighted amplitude.
    """
    root = np.repeat(np.sqrt(masses), 3)
    squared, vectors = np.linalg.eigh(h / np.outer(root, root))
    translations = np.tile(np.eye(3), len(masses)) * root / np.sqrt(masses.sum())
    inner = np.argsort(((translations @ vectors) ** 2).sum(0))[: len(h) - 3]
    softest = 2 * np.pi * units._c * 100 * SOFTEST / units.s
    omega = np.sqrt(np.maximum(squared[inner], softest**2))
    return omega, (vectors[:, inner] / root[:, None]).T.reshape(len(inner), -1, 3)


def thermal(atoms, modes, kelvin, molecules, rng):
    """Classical thermal displacements; what turns a molecule turns it rigidly.

    Amplitudes are normal with variance ``kT / omega^2``.  Each molecule's displacement is
    split into a shift, a small rotation, applied as a finite one, and the rest: along
    straight lines a libration would stretch the bonds.
    """
    omega, vectors = modes
    amplitudes = rng.normal(size=len(omega)) * np.sqrt(units.kB * kelvin) / omega
    moves, new = np.tensordot(amplitudes, vectors, 1), atoms.copy()
    for mol in molecules:
        m = atoms.get_masses()[mol][:, None]
        centre = (m * atoms.positions[mol]).sum(0) / m.sum()
        shift = (m * moves[mol]).sum(0) / m.sum()
        r, u = atoms.positions[mol] - centre, moves[mol] - shift
        inertia = (m * r**2).sum() * np.eye(3) - (m * r).T @ r
        angle = np.linalg.pinv(inertia, rcond=1e-6) @ (m * np.cross(r, u)).sum(0)
        body = r + u - np.cross(angle, r)
        new.positions[mol] = Rotation.from_rotvec(angle).apply(body) + centre + shift
    return new


def rattle(atoms, recipe, molecules, rng):
    new = atoms.copy()
    for mol in molecules:
        turn = Rotation.from_rotvec(rng.normal(0, np.radians(recipe.turn), 3))
        centre = atoms.positions[mol].mean(0)
        new.positions[mol] = centre + turn.apply(atoms.positions[mol] - centre)
        new.positions[mol] += rng.normal(0, recipe.shift, 3)
    new.positions += rng.normal(0, rng.uniform(0.01, 0.04), new.positions.shape)
    return new


def shortest(atoms, molecules, cutoff=5.0):
    """The shortest distance between molecules (images included) by pair of elements."""
    of = np.concatenate([np.full(len(mol), n) for n, mol in enumerate(molecules)])
    of = of[np.argsort(np.concatenate(molecules))]
    i, j, d, image = neighbor_list("ijdS", atoms, cutoff)
    outer = (of[i] != of[j]) | image.any(1)
    low = {}
    for x, y, r in zip(atoms.numbers[i[outer]], atoms.numbers[j[outer]], d[outer], strict=True):
        low[x, y] = min(r, low.get((x, y), r))
    return low


def sensible(atoms, reference, molecules, bonds=0.2, contacts=0.8):
    """Molecules whole (distances within ``bonds``), contacts not below ``contacts``.

    Both are relative to the reference, contacts by pair of elements.
    """
    for mol in molecules:
        i, j = np.triu_indices(len(mol), 1)
        now, then = (
            np.linalg.norm(a.positions[mol][i] - a.positions[mol][j], axis=1)
            for a in (atoms, reference)
        )
        if (abs(now / then - 1) > bonds).any():
            return False
    low = shortest(reference, molecules)
    found = shortest(atoms, molecules)
    return all(r >= contacts * low.get(pair, r) for pair, r in found.items())


def draw(reference, recipe, molecules, modes, seed):
    """The frames, in random order after the reference; the volume scan comes early."""
    rng = np.random.default_rng(seed)
    scan, rest = [], []

    def keep(frames, kind, propose, kelvin=None):
        while not sensible(atoms := propose(), reference, molecules):
            pass
        atoms.positions = atoms.positions.round(6)
        atoms.info = {"kind": kind} | ({"temperature": kelvin} if kelvin else {})
        frames.append(atoms)

    def cell():
        return random_cell(reference, recipe, molecules, rng)

    for percent in recipe.volumes:
        scale = np.eye(3) * (1 + percent / 100) ** (1 / 3)
        keep(scan, "volume", lambda s=scale: deform(reference, s, molecules))
    for kind, numbers, start in (
        ("modes", recipe.modes, lambda: reference),
        ("modes-strain", recipe.strained, cell),
    ):
        for kelvin, n in numbers.items():
            for _ in range(n):
                keep(
                    rest,
                    kind,
                    lambda s=start, k=kelvin: thermal(s(), modes, k, molecules, rng),
                    kelvin,
                )
    for _ in range(recipe.rattles):
        keep(rest, "rattle", lambda: rattle(cell(), recipe, molecules, rng))

    rest = [rest[i] for i in rng.permutation(len(rest))]
    n = FIRST - 1 - len(scan)
    early = scan + rest[:n]
    early = [early[i] for i in rng.permutation(len(early))]
    first = reference.copy()
    first.info = {"kind": "reference"}
    return [first, *early, *rest[n:]]
