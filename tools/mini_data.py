"""Structures for `mini`: distorted molecules, clusters and small crystals of H, C, N, O.

Geometries come from RDKit and are shaken by ANI-2x dynamics; `distil_mini.py` labels them. A tenth
of the molecules, with every cluster and crystal made of them, is set aside as the test split.

    python tools/mini_data.py structures.extxyz
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms, units
from ase.io import write
from ase.spacegroup import crystal
from mini_molecules import ALWAYS_TRAINED, HYDROGEN_BONDED, TEST_SHARE, molecules
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem, Descriptors
from scipy.spatial.transform import Rotation
from vesin import NeighborList

from tlpot.backbones.ani import ANI
from tlpot.model.load import load_base
from tlpot.structure.frames import Batch, Frame

SYMBOLS = ("H", "C", "N", "O")
CHUNK = 1500
"""Atoms moved together."""

RADIUS = {1: 0.95, 6: 1.45, 7: 1.35, 8: 1.3}
"""Contact radii, Å: about 0.85 of van der Waals radii."""
HYDROGEN_BOND = 1.7
"""Å, contact of H with N or O."""
LIMIT = np.full((9, 9), np.nan)
for _a, _ra in RADIUS.items():
    for _b, _rb in RADIUS.items():
        LIMIT[_a, _b] = HYDROGEN_BOND if {_a, _b} in ({1, 7}, {1, 8}) else _ra + _rb

GROWN = 900
"""Molecules that `grown` adds to the listed ones."""

Rng = np.random.Generator


def conformers(smiles: str, count: int, seed: int) -> list[Atoms]:
    """Up to `count` force-field geometries of a molecule."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    ids = list(AllChem.EmbedMultipleConfs(molecule, count, randomSeed=seed))
    if not ids:
        return []
    if AllChem.MMFFHasAllMoleculeParams(molecule):
        AllChem.MMFFOptimizeMoleculeConfs(molecule)
    else:
        AllChem.UFFOptimizeMoleculeConfs(molecule)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return [Atoms(numbers, molecule.GetConformer(i).GetPositions()) for i in ids]


FRAGMENTS = "C CC O N C#N C=O C(N)=O C(=O)O OC NC C=C C#C [N+](=O)[O-] NC=O C(C)=O OC=O CO CN"
"""What `grown` attaches."""
STRANGE = (
    "[O,N]~[O]~[O,N] [N;!a]~[N;!a]~[N;!a] [r3]=* [C]=[C]=[C,N,O] [R]#* [r3,r4]~[#7]~[#7,#8] "
    "[+;!$(*~[-])]"
)
"""SMARTS that `grown` avoids."""


def grown(parents: Sequence[str], count: int, rng: Rng) -> list[str]:
    """New molecules of up to 8 heavy atoms: a parent with an atom replaced or a fragment added."""
    known, fresh = {Chem.CanonSmiles(s) for s in parents}, []
    strange = [Chem.MolFromSmarts(s) for s in STRANGE.split()]
    while len(fresh) < count:
        parent = Chem.MolFromSmiles(str(rng.choice([*parents, *fresh])))
        site = int(rng.integers(parent.GetNumAtoms()))
        if rng.random() < 0.4:
            molecule = Chem.RWMol(parent)
            atom = molecule.GetAtomWithIdx(site)
            atom.SetAtomicNum(int(rng.choice([6, 7, 8])))
            atom.SetNumExplicitHs(0)
        else:
            fragment = Chem.MolFromSmiles(str(rng.choice(FRAGMENTS.split())))
            molecule = Chem.RWMol(Chem.CombineMols(parent, fragment))
            molecule.AddBond(site, parent.GetNumAtoms(), Chem.BondType.SINGLE)
        if molecule.GetNumAtoms() > 8 or Chem.SanitizeMol(molecule, catchErrors=True):
            continue
        smiles = Chem.MolToSmiles(molecule)
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or smiles in known or any(map(molecule.HasSubstructMatch, strange)):
            continue
        if Descriptors.NumRadicalElectrons(molecule):
            continue
        known.add(smiles)
        fresh.append(smiles)
    return fresh


class Dynamics:
    """ANI-2x's first member moving many structures at once."""

    def __init__(self, ani: ANI) -> None:
        self.ani = ani
        for layer in (layer for net in ani.networks.values() for layer in net.values()):
            layer.weight.data, layer.bias.data = layer.weight.data[:1], layer.bias.data[:1]
        ani.members = 1
        ani.requires_grad_(False)

    def forces(self, structures: Sequence[Atoms]) -> np.ndarray:
        """``(atoms, 3)`` eV/Å of all structures, one after another."""
        batch = Batch.join([Batch.of_frame(Frame(a), self.ani.cutoff) for a in structures])
        vectors = batch.vectors.requires_grad_()
        (slope,) = torch.autograd.grad(self.ani.atomic_energies(batch).sum(), vectors)
        forces = torch.zeros(len(batch.numbers), 3, dtype=slope.dtype)
        forces.index_add_(0, batch.pairs[0], slope).index_add_(0, batch.pairs[1], -slope)
        return forces.numpy()

    def run(
        self,
        structures: Sequence[Atoms],
        kelvin: np.ndarray,
        rng: Rng,
        settle: int,
        snapshots: Sequence[int],
    ) -> list[Atoms]:
        """`settle` steps downhill, then Langevin steps of 1 fs; copies at the steps `snapshots`."""
        kept: list[Atoms] = []
        chunk: list[int] = []
        for index in range(len(structures)):
            chunk.append(index)
            if index + 1 == len(structures) or sum(len(structures[k]) for k in chunk) > CHUNK:
                kept += self._run(
                    [structures[k] for k in chunk], kelvin[chunk], rng, settle, snapshots
                )
                chunk = []
        return kept

    def _run(
        self,
        structures: Sequence[Atoms],
        kelvin: np.ndarray,
        rng: Rng,
        settle: int,
        snapshots: Sequence[int],
    ) -> list[Atoms]:
        moving = [a.copy() for a in structures]
        sizes = [len(a) for a in moving]
        cuts = np.cumsum(sizes)[:-1]
        x = np.concatenate([a.positions for a in moving])

        def forces() -> np.ndarray:
            for atoms, positions in zip(moving, np.split(x, cuts), strict=True):
                atoms.positions = positions
            return self.forces(moving)

        for _ in range(settle):
            step = 0.012 * forces()
            x += step * np.minimum(1.0, 0.08 / (np.linalg.norm(step, axis=1, keepdims=True) + 1e-9))
        mass = np.maximum(np.concatenate([a.get_masses() for a in moving]), 2.0)[:, None]
        spread = np.sqrt(units.kB * np.repeat(kelvin, sizes)[:, None] / mass)
        v = rng.normal(size=x.shape) * spread * np.sqrt(2)
        dt, keep = units.fs, np.exp(-0.03)
        f, kept = forces(), []
        for step in range(1, max(snapshots) + 1):
            v += 0.5 * dt * np.clip(f, -30, 30) / mass
            x += 0.5 * dt * v
            v = keep * v + np.sqrt(1 - keep**2) * spread * rng.normal(size=x.shape)
            x += 0.5 * dt * v
            f = forces()
            v += 0.5 * dt * np.clip(f, -30, 30) / mass
            if step in snapshots:
                kept += [a.copy() for a in moving]
        return kept


def turned(atoms: Atoms, rng: Rng) -> Atoms:
    """A copy in a random orientation about its centroid, centred at the origin."""
    copy = atoms.copy()
    x = copy.positions - copy.positions.mean(0)
    copy.positions = x @ Rotation.random(random_state=rng).as_matrix().T
    return copy


def tightness(one: Atoms, two: Atoms, shift: np.ndarray | float = 0.0) -> float:
    """Smallest distance between two molecules over its contact limit."""
    distance = np.linalg.norm(one.positions[:, None] - (two.positions + shift)[None], axis=2)
    return float((distance / LIMIT[one.numbers[:, None], two.numbers[None]]).min())


def touching(one: Atoms, two: Atoms, rng: Rng) -> Atoms:
    """`two` beside `one` in a random direction, from 0.8 to 1.7 contact distances."""
    two = turned(two, rng)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    start = one.positions[rng.integers(len(one))]
    wanted = rng.triangular(0.8, 1.05, 1.7)
    for reach in np.arange(14.0, 0.0, -0.1):
        if tightness(one, two, start + axis * reach) < wanted:
            break
    two.positions += start + axis * reach
    return one + two


def hydrogen_bonded(one: Atoms, two: Atoms, rng: Rng) -> Atoms | None:
    """`two` accepting a hydrogen bond from `one`, or None where that cannot be built."""
    polar = np.isin(one.numbers, [7, 8])
    distance = one.get_all_distances()
    bonds = [(h, d) for h in np.flatnonzero(one.numbers == 1) for d in np.flatnonzero(polar)
             if distance[h, d] < 1.25]  # fmt: skip
    acceptors = np.flatnonzero(np.isin(two.numbers, [7, 8]))
    if not bonds or not len(acceptors):
        return None
    for _ in range(20):
        h, d = bonds[rng.integers(len(bonds))]
        acceptor = rng.choice(acceptors)
        axis = one.positions[h] - one.positions[d]
        axis = axis / np.linalg.norm(axis) + 0.3 * rng.normal(size=3)
        target = one.positions[h] + axis / np.linalg.norm(axis) * rng.uniform(1.55, 2.4)
        guest = turned(two, rng)
        guest.positions += target - guest.positions[acceptor]
        if tightness(one, guest) > 0.88:
            return one + guest
    return None


def cluster(parts: Sequence[Atoms], rng: Rng) -> Atoms:
    """Molecules joined one by one, half of them by hydrogen bonds where possible."""
    whole = parts[0].copy()
    for part in parts[1:]:
        bonded = hydrogen_bonded(whole, part, rng) if rng.random() < 0.6 else None
        whole = bonded if bonded is not None else touching(whole, part, rng)
    return whole


class Packing:
    """Rigid molecules pressed into a random cell until they touch (at 0.87 to 1 times `LIMIT`)."""

    def __init__(self, parts: Sequence[Atoms], rng: Rng) -> None:
        self.rng = rng
        self.parts = [turned(p, rng) for p in parts]
        self.numbers = np.concatenate([p.numbers for p in parts])
        self.owner = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        self.shapes = [p.positions for p in self.parts]
        lengths, angles = rng.uniform(0.7, 1.4, 3), rng.uniform(75, 105, 3)
        cell = Atoms(cell=[*lengths, *angles]).cell.array
        volume = 40.0 * sum(2 + (p.numbers > 1).sum() for p in parts)
        self.cell = cell * (volume / abs(np.linalg.det(cell))) ** (1 / 3)
        self.centres = rng.random((len(parts), 3))
        self.finder = NeighborList(cutoff=2.9, full_list=False)
        self.goal = rng.uniform(0.87, 1.0)

    def positions(self) -> np.ndarray:
        centres = self.centres @ self.cell
        return np.concatenate([s + c for s, c in zip(self.shapes, centres, strict=True)])

    def tightness(self) -> float:
        i, j, d, s = self.finder.compute(self.positions(), self.cell, True, "ijdS")
        i, j = i.astype(int), j.astype(int)
        apart = (self.owner[i] != self.owner[j]) | s.any(axis=1)
        i, j, d = i[apart], j[apart], d[apart]
        return float((d / LIMIT[self.numbers[i], self.numbers[j]]).min(initial=2.0))

    def improve(self, tries: int) -> float:
        """Random moves of single molecules, kept where the tightest contact relaxes."""
        best = self.tightness()
        for _ in range(tries):
            if best >= self.goal:
                break
            k = self.rng.integers(len(self.shapes))
            shape, centre = self.shapes[k], self.centres[k].copy()
            turn = Rotation.from_rotvec(self.rng.normal(size=3) * 0.25).as_matrix()
            self.shapes[k] = shape @ turn.T
            moved = self.rng.normal(size=3) * 0.25
            self.centres[k] = centre + moved @ np.linalg.inv(self.cell)
            new = self.tightness()
            if new > best:
                best = new
            else:
                self.shapes[k], self.centres[k] = shape, centre
        return best

    def crystal(self) -> Atoms | None:
        """The packed crystal, its volume finally changed by −8 to +12 %."""
        while self.improve(25) < self.goal:
            self.cell *= 1.08
            if abs(np.linalg.det(self.cell)) > 2e4:
                return None
        failures = 0
        while failures < 6:
            before = self.cell, list(self.shapes), self.centres.copy()
            self.cell = self.cell * (1 + self.rng.uniform(-0.03, 0.01, 3))[:, None]
            if self.improve(20) < self.goal:
                self.cell, self.shapes, self.centres = before
                failures += 1
        self.cell = self.cell * self.rng.uniform(0.92, 1.12) ** (1 / 3)
        return Atoms(self.numbers, self.positions(), cell=self.cell, pbc=True)


def known_crystals(count: int, rng: Rng) -> list[Atoms]:
    """Urea (P-42_1m) and carbon dioxide (Pa-3) at textbook coordinates, strained and shaken."""
    urea = crystal(
        "CONHH",
        [(0, 0.5, 0.326), (0, 0.5, 0.5953), (0.1459, 0.6459, 0.1766), (0.2575, 0.7575, 0.2827),
         (0.1441, 0.6441, -0.038)],
        spacegroup=113, cellpar=[5.565, 5.565, 4.684, 90, 90, 90],
    )  # fmt: skip
    dioxide = crystal(
        "CO", [(0, 0, 0), (0.1185, 0.1185, 0.1185)], spacegroup=205, cellpar=[5.6] * 3 + [90] * 3
    )
    frames = []
    for k in range(count):
        base = dioxide if k % 6 == 0 else urea
        atoms = Atoms(base.numbers, base.positions, cell=base.cell, pbc=True)
        strain = np.eye(3) * rng.uniform(0.96, 1.05) + rng.normal(size=(3, 3)) * 0.015
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.02
        frames.append(atoms)
    return frames


class Factory:
    """All structures of one split, from its own molecules."""

    def __init__(self, pool: dict[str, list[Atoms]], weights: np.ndarray, rng: Rng) -> None:
        self.names, self.pool, self.weights, self.rng = list(pool), pool, weights, rng

    def draw(self, largest: int) -> Atoms:
        """A random distorted molecule among those of at most `largest` atoms."""
        fits = np.array([len(frames[0]) <= largest for frames in self.pool.values()])
        weights = self.weights * fits
        name = self.names[self.rng.choice(len(self.names), p=weights / weights.sum())]
        return self.pool[name][self.rng.integers(len(self.pool[name]))]

    def clusters(self, count: int) -> list[Atoms]:
        sizes = self.rng.choice([2, 3, 4], size=count, p=[0.75, 0.17, 0.08])
        largest = {2: 16, 3: 11, 4: 8}
        return [cluster([self.draw(largest[n]) for _ in range(n)], self.rng) for n in sizes]

    def crystals(self, count: int) -> list[Atoms]:
        found: list[Atoms] = []
        while len(found) < count:
            n = self.rng.choice([1, 2, 3, 4], p=[0.15, 0.4, 0.2, 0.25])
            first = self.draw(40 // n)
            parts = [first] * n
            if self.rng.random() < 0.3:
                parts = [first, *(self.draw(40 // n) for _ in range(n - 1))]
            packed = Packing(parts, self.rng).crystal()
            if packed is not None:
                found.append(packed)
        return found


def label(structures: Sequence[Atoms], kind: str, split: str) -> list[Atoms]:
    """The same structures with their kind and split noted."""
    for atoms in structures:
        atoms.info = {"kind": kind, "split": split}
    return list(structures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", help="extended XYZ to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full data set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RDLogger.DisableLog("rdApp.*")
    rng = np.random.default_rng(options.seed)
    dynamics = Dynamics(load_base("ani2x").backbone.with_elements(SYMBOLS))
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:7.0f} s  {text}", flush=True)

    listed = molecules()
    by_hand = len(listed)
    listed += [("grown", s) for s in grown([s for _, s in listed], GROWN, rng)]
    optional = [k for k, (_, smiles) in enumerate(listed) if smiles not in ALWAYS_TRAINED]
    held = set(rng.choice(optional, int(TEST_SHARE * len(listed)), replace=False).tolist())
    starts: list[Atoms] = []
    for k, (_, smiles) in enumerate(listed):
        split = "test" if k in held else "train"
        for atoms in conformers(smiles, 2 if k < by_hand else 1, options.seed + k):
            atoms.info = {"kind": "molecule", "split": split, "smiles": smiles}
            starts.append(atoms)
    say(f"{len(listed)} molecules ({len(held)} held out), {len(starts)} conformers")
    starts = sorted(starts[:: round(1 / options.scale)], key=len)
    frames = dynamics.run(starts, rng.uniform(200, 1000, len(starts)), rng, 5, (30, 70))
    pools: dict[str, dict[str, list[Atoms]]] = {"train": {}, "test": {}}
    for atoms in frames:
        pools[atoms.info["split"]].setdefault(atoms.info["smiles"], []).append(atoms)
    say(f"{len(frames)} distorted molecules")

    families = {smiles: family for family, smiles in listed}
    for split, share in (("train", 1.0), ("test", TEST_SHARE)):
        pool = pools[split]
        weights = np.array([2.0 if families[s] in HYDROGEN_BONDED else 1.0 for s in pool])
        factory = Factory(pool, weights, rng)
        n = share * options.scale
        clusters = factory.clusters(round(2600 * n))
        some = clusters[::2]
        relaxed = dynamics.run(some, rng.uniform(100, 500, len(some)), rng, 5, (25,))
        frames += label(clusters + relaxed, "cluster", split)
        say(f"{split}: {len(clusters)} clusters")
        packed = factory.crystals(round(1000 * n))
        say(f"{split}: {len(packed)} crystals packed")
        if split == "train":
            packed += known_crystals(round(120 * n), rng)
        kelvin = rng.uniform(50, 500, len(packed))
        frames += label(dynamics.run(packed, kelvin, rng, 12, (10, 28)), "crystal", split)
        say(f"{split}: crystals done")
    write(options.output, frames, format="extxyz")
    say(f"{len(frames)} structures, {sum(map(len, frames))} atoms in {options.output}")


if __name__ == "__main__":
    main()
