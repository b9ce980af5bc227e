"""Prints the tables of a dataset's README: frames by kind, ranges.

python describe.py cuscn
"""

import sys
from collections import Counter

import numpy as np
from ase.io import read
from crystals import HERE


def rows(frames):
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


def main():
    for name in sys.argv[1:]:
        frames = read(HERE / name / f"{name}.extxyz", ":")
        print(f"{name}: {len(frames)} frames, {frames[0].symbols}\n")
        for kind, n in Counter(atoms.info["kind"] for atoms in frames).items():
            print(f"| `{kind}` | {n} |")
        print("\n| | range |\n|---|---|")
        for what, text in rows(frames).items():
            print(f"| {what} | {text.replace('-', '−')} |")


if __name__ == "__main__":
    main()
