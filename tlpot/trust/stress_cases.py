"""What a potential is put through in a stress test: structures as no training set has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
from ase import Atoms

from tlpot.structure.frames import Frame, bare
from tlpot.structure.molecules import VOLUMES, find_unit
from tlpot.structure.neighbours import heights
from tlpot.structure.packing import deformed, facing, packing, squeeze, turned, whole_molecules
from tlpot.trust.settings import Stress

PACKED = 4
"""Molecules in a random packing, at least."""
LOOSEST = 1.2
"""Times the volume that the molecules have in the crystal: the largest a packing begins with."""
PRESSED = (0.6, 0.95)
"""Volume of a compressed cell over that of the crystal: its range."""
SHEAR = 0.04
"""Standard deviation of the strain that comes on top."""
APART = np.arange(1.2, 0.475, -0.05)
"""Closeness (`tlpot.structure.packing`) of two molecules at the points of a scan, far to near."""
RAMP = "temperature ramp"
SCAN = "dimer scan"
ROOM, MOST_HEATED = 8.0, 200
"""Å of each height of the cell that is heated, at least, unless it then has more atoms."""
ATOM_VOLUME = 15.0
"""Å³ of an element that is not in `VOLUMES`."""


def stress_cases(structure: Atoms, settings: Stress) -> list[Frame]:
    """The structures of a test, made of one; the same seed makes the same.

    Parameters
    ----------
    structure
        A crystal or a molecule. Where bonds run on for ever it has no molecules: then there are
        compressed cells and the ramp alone.

    Returns
    -------
    Frames whose `info` says ``kind``, of relaxations ``pressure`` (GPa) too; a dimer, whose
    molecules are one behind the other and about the origin, is to be drawn together along
    ``line``, the second molecule beginning with atom ``second``.
    """
    random = np.random.default_rng(settings.seed)
    atoms, molecules = bare(structure), whole_molecules(structure)
    crystal = Frame(atoms).kind == "crystal" and atoms.pbc.all()
    starts: list[tuple[str, Atoms]] = []
    packed = settings.count // 2 if crystal else settings.count
    for _ in range(packed if molecules else 0):
        starts.append(("random packing", _packing(atoms, molecules, crystal, random)))
    for _ in range(settings.count - packed if crystal and molecules else settings.count * crystal):
        starts.append(("compressed cell", compressed(atoms, len(molecules), random)))
    cases = [
        Frame(start, info={"kind": kind, "pressure": pressure})
        for pressure in (0.0, settings.pressure)
        for kind, start in starts
    ]
    cases += [_scan(molecules, random) for _ in range(settings.scans if molecules else 0)]
    if settings.ramp:
        cases.append(Frame(_roomy(atoms) if crystal else atoms, info={"kind": RAMP}))
    return [Frame(f.atoms, index=i, info=f.info, source="case") for i, f in enumerate(cases)]


def compressed(atoms: Atoms, molecules: int, random: np.random.Generator) -> Atoms:
    """A crystal pressed together at random, no further than its `molecules` stay that many."""
    least, most = PRESSED
    while True:
        pressed = deformed(atoms, squeeze((least, most), SHEAR, random))
        if len(whole_molecules(pressed)) == molecules or most - least < 1e-3:
            return pressed
        least += 0.2 * (most - least)


def points_of(scan: Frame) -> Iterator[Atoms]:
    """The two molecules of a scan at each of `APART`."""
    second = int(str(scan.info["second"]))
    first, other = scan.atoms[:second], scan.atoms[second:]
    for closeness in APART:
        yield facing(first, other, np.array(scan.info["line"]), float(closeness))


def _scan(molecules: Sequence[Atoms], random: np.random.Generator) -> Frame:
    picked = (molecules[int(random.integers(len(molecules)))] for _ in range(2))
    first, other = (turned(molecule, random) for molecule in picked)
    line = random.normal(size=3)
    notes = {"kind": SCAN, "line": line / np.linalg.norm(line), "second": len(first)}
    return Frame(first + other, info=notes)


def _packing(
    atoms: Atoms, molecules: Sequence[Atoms], crystal: bool, random: np.random.Generator
) -> Atoms:
    """So many formula units that there are `PACKED` molecules, about as dense as the crystal."""
    unit, _ = find_unit(molecules)
    units = ceil(PACKED / sum(n for _, n in unit.parts))
    chosen: list[Atoms] = []
    for formula, n in unit.parts:
        alike = [m for m in molecules if m.get_chemical_formula(mode="hill") == formula]
        chosen += [alike[int(random.integers(len(alike)))] for _ in range(n * units)]
    if crystal:
        each = atoms.get_volume() / len(atoms)
    else:
        each = sum(VOLUMES.get(s, ATOM_VOLUME) for s in atoms.symbols) / len(atoms)
    volume = each * sum(map(len, chosen)) * random.uniform(1.0, LOOSEST)
    return packing(chosen, volume, random)


def _roomy(atoms: Atoms) -> Atoms:
    """The cell repeated until each height is `ROOM`, as far as `MOST_HEATED` atoms go."""
    repeats = [1, 1, 1]
    high = heights(atoms.cell.array)
    while (short := int((high * repeats).argmin())) in range(3) and (high * repeats)[short] < ROOM:
        more = [n + (i == short) for i, n in enumerate(repeats)]
        if len(atoms) * np.prod(more) > MOST_HEATED:
            break
        repeats = more
    return atoms.repeat(repeats)
