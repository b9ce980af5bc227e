"""Writes examples/vasp/vasprun.xml.gz: the DFT frames of datasets/urea as VASP would hand them out.

The labels are GPAW's (PBE+D3(BJ), 1100 eV, 2×2×3 k-points) and the file's generator says so; its
layout is VASP's, so that the first tutorial begins as its readers will.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units

ROOT = Path(__file__).parents[1]
VALENCE = {"H": 1, "C": 4, "N": 5, "O": 6}
HEAD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<generator>
<i name="program" type="string">GPAW, in VASP's layout</i>
</generator>
<incar>
<i name="GGA" type="string">PE</i>
<i type="int" name="IVDW">12</i>
<i name="ENCUT">1100.0</i>
<i type="int" name="ISIF">3</i>
</incar>
<kpoints>
<generation param="Monkhorst-Pack">
<v type="int" name="divisions">2 2 3</v>
</generation>
</kpoints>
<parameters>
<i type="int" name="NELM">60</i>
<i type="int" name="ISPIN">1</i>
<i name="EDIFF">1E-6</i>
<i name="NELECT">{electrons:.1f}</i>
</parameters>
"""


def main() -> None:
    frames = ase.io.read(ROOT / "datasets/urea/urea.extxyz", ":")
    order = np.argsort(frames[0].numbers, kind="stable")
    frames = [sorted_like(frame, order) for frame in frames]
    electrons = sum(VALENCE[s] for s in frames[0].symbols)
    text = HEAD.format(electrons=electrons) + atominfo(frames[0])
    text += "".join(map(calculation, frames)) + "</modeling>\n"
    path = ROOT / "examples/vasp/vasprun.xml.gz"
    path.write_bytes(gzip.compress(text.encode("latin-1"), mtime=0))


def sorted_like(frame: Atoms, order: np.ndarray) -> Atoms:
    """The frame with its atoms by element, and its labels with them."""
    atoms = frame[order]
    labels = frame.calc.results
    atoms.info |= {"energy": labels["energy"], "stress": labels["stress"]}
    atoms.arrays["labels"] = labels["forces"][order]
    return atoms


def atominfo(atoms: Atoms) -> str:
    symbols = list(dict.fromkeys(atoms.symbols))
    types = "".join(
        f"<rc><c>{list(atoms.symbols).count(s)}</c><c>{s}</c><c>0.0</c><c>{VALENCE[s]}</c>"
        f"<c> PAW_PBE {s} </c></rc>\n"
        for s in symbols
    )
    rows = "".join(f"<rc><c>{s}</c><c>{symbols.index(s) + 1}</c></rc>\n" for s in atoms.symbols)
    return (
        f'<atominfo>\n<array name="atoms">\n<set>\n{rows}</set>\n</array>\n'
        f'<array name="atomtypes">\n<set>\n{types}</set>\n</array>\n</atominfo>\n'
    )


def calculation(atoms: Atoms) -> str:
    energy = "".join(
        f'<i name="{name}">{atoms.info["energy"]:.8f}</i>\n'
        for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    )
    kbar = -atoms.info["stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) / (0.1 * units.GPa)
    return (
        f"<calculation>\n<scstep>\n<energy>\n{energy}</energy>\n</scstep>\n<structure>\n<crystal>\n"
        + rows("basis", atoms.cell.array)
        + "</crystal>\n"
        + rows("positions", atoms.get_scaled_positions(wrap=False))
        + "</structure>\n"
        + rows("forces", atoms.arrays["labels"])
        + rows("stress", kbar)
        + f"<energy>\n{energy}</energy>\n</calculation>\n"
    )


def rows(name: str, values: np.ndarray) -> str:
    lines = "".join("<v>" + " ".join(f"{x:.8f}" for x in row) + "</v>\n" for row in values)
    return f'<varray name="{name}">\n{lines}</varray>\n'


if __name__ == "__main__":
    main()
