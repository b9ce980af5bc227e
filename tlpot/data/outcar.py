"""VASP's OUTCAR, step by step: which ionic steps are converged DFT, and which are not."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from tlpot.data.compression import DAMAGE, damaged, open_binary
from tlpot.data.vasp import KBAR, UNFINISHED, label_step, note_charge, numbers
from tlpot.errors import TlpotError

NO_POSITIONS = "OUTCAR holds no positions and forces for this step (NWRITE < 2); see vasprun.xml"


def read_outcar(path: Path) -> list[Atoms]:
    """All ionic steps of an OUTCAR.

    Returns
    -------
    One Atoms an ionic step, labels (`energy`: sigma→0, `free_energy`: TOTEN; eV, eV/Å, eV/Å³) in
    a SinglePointCalculator. ``info`` has `converged` (False also where the electronic steps used up
    NELM: VASP 5 then claims that EDIFF is reached); where it applies `incomplete` (a reason;
    positions may be NaN and there are no labels), `machine_learned` (no labels), and `charge`.

    Raises
    ------
    TlpotError
        If species or atom numbers are not in the file, or no ionic step is.
    """
    with open_binary(path) as file:
        lines = _Lines(io.TextIOWrapper(file, encoding="latin-1"))
        try:
            steps = list(_outcar_steps(lines, path))
        except TlpotError:
            raise
        except DAMAGE as error:
            raise TlpotError(damaged(path, error)) from None
        except (ValueError, IndexError) as error:
            raise TlpotError(
                f"{path}: line {lines.number} is not what an OUTCAR has there ({error}). "
                "Copy the file again, or leave it out of data.files."
            ) from None
    if not any(atoms.calc for atoms in steps):
        raise TlpotError(
            f"{path}: no finished ionic step in {lines.number} lines; the run was stopped early, "
            "failed, or the file is cut. Copy it again, or leave it out of data.files."
        )
    return steps


class _Lines:
    """A text file line by line that knows where it is."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.number = file, 0

    def __iter__(self) -> Iterator[str]:
        for line in self.file:
            self.number += 1
            yield line

    def take(self, count: int) -> list[str]:
        lines = [self.file.readline() for _ in range(count)]
        self.number += count
        if not all(line.endswith("\n") for line in lines):
            raise _CutError
        return lines


class _CutError(Exception):
    """The file ends inside a table."""


def _outcar_steps(lines: _Lines, path: Path) -> Iterator[Atoms]:
    header, step = _Header(path), _Step()
    in_header = True
    learned: Atoms | None = None  # an ML prediction, held back: DFT of the same step may follow
    try:
        for line in lines:
            in_header = in_header and "Iteration" not in line and "TOTAL-FORCE" not in line
            if in_header:
                header.read(line)
            step.read(line, lines, header)
            if step.energies:
                atoms = step.build(header)
                if learned is not None and not _same_place(learned, atoms):
                    yield learned
                learned = atoms if "machine_learned" in atoms.info else None
                if learned is None:
                    yield atoms
                step = _Step(step.cell)
    except _CutError:
        step.scf_steps += 1
    if learned is not None:
        yield learned
    if step.scf_steps:
        yield step.build(header)


def _same_place(one: Atoms, two: Atoms) -> bool:
    return np.allclose(one.positions, two.positions, atol=2e-5) and np.allclose(one.cell, two.cell)


class _Header:
    """What the top of an OUTCAR says about the whole run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.titles: list[str] = []
        self.potcars: list[str] = []
        self.valences: list[float] = []
        self.counts: list[int] = []
        self.atoms = 0
        self.nelm = 0
        self.isif = 2
        self.electrons: float | None = None

    def read(self, line: str) -> None:
        if "TITEL" in line:
            self.titles.append(line.split("=")[1])
        elif "POTCAR:" in line:
            self.potcars.append(line.split(":")[1])
        elif re.match(r"\s+ZVAL\s*=", line):
            self.valences = list(numbers(line.split("=")[1]))
        elif "ions per type" in line:
            self.counts = [int(word) for word in line.split("=")[1].split()]
        elif "NIONS" in line:
            self.atoms = self.atoms or int(line.split()[-1])
        elif match := re.match(r"\s+(NELM|ISIF)\s*=\s*(\d+)", line):
            setattr(self, match[1].lower(), int(match[2]))
        elif match := re.match(r"\s+NELECT\s*=\s*([\d.]+)", line):
            self.electrons = float(match[1])

    @cached_property
    def symbols(self) -> list[str]:
        titles = self.titles or self.potcars[: len(self.potcars) // 2]
        species = [_element(title, self.path) for title in titles]
        if self.atoms != sum(self.counts) or len(species) != len(self.counts):
            raise TlpotError(
                f"{self.path}: the header lists {len(species)} species for {self.atoms} atoms, but "
                f"'ions per type' places {sum(self.counts)} atoms on {len(self.counts)} species"
                f"{' (VASP cuts that line at ten)' if len(self.counts) == 10 else ''}, so the "
                "element of each atom is unknown. Use the run's vasprun.xml instead."
            )
        return [s for s, count in zip(species, self.counts, strict=True) for _ in range(count)]

    def charge(self) -> float | None:
        if self.electrons is None or len(self.valences) != len(self.counts):
            return None
        return float(np.dot(self.valences, self.counts)) - self.electrons


def _element(title: str, path: Path) -> str:
    words = title.split()
    symbol = re.split(r"[^A-Za-z]", words[1] if len(words) > 1 else "")[0]
    if symbol not in atomic_numbers:
        raise TlpotError(f"{path}: no element symbol found in '{title.strip()}'.")
    return symbol


class _Step:
    """One ionic step while it is being read."""

    def __init__(self, cell: np.ndarray | None = None) -> None:
        self.scf_steps = 0
        self.aborted = False
        self.learned = False
        self.cell = cell
        self.positions: np.ndarray | None = None
        self.forces: np.ndarray | None = None
        self.stress: np.ndarray | None = None
        self.energies = ""

    def read(self, line: str, lines: _Lines, header: _Header) -> None:
        if "Iteration " in line:
            self.scf_steps += 1
        elif "EDIFF was not reached" in line or "hard stop was set" in line:
            self.aborted = True
        elif "direct lattice vectors" in line and "position" not in line:
            self.cell = _table(lines.take(3))
        elif line.startswith("  in kB") and header.isif >= 2:
            self.stress = -KBAR * numbers(line.split("kB")[1])[[0, 1, 2, 4, 5, 3]]
        elif "POSITION" in line and "TOTAL-FORCE" in line:
            lines.take(1)
            block = _table(lines.take(len(header.symbols)), columns=6)
            self.positions, self.forces = block[:, :3], block[:, 3:]
        elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            self.learned = "ML FREE" in line
            self.energies = "".join(lines.take(4))

    def build(self, header: _Header) -> Atoms:
        n_atoms = len(header.symbols)
        missing = np.full((n_atoms, 3), np.nan)
        positions = missing if self.positions is None else self.positions
        atoms = Atoms(header.symbols, positions, cell=self.cell, pbc=True)
        atoms.info["converged"] = None
        note_charge(atoms, header.charge())
        if not self.energies:
            atoms.info["incomplete"] = UNFINISHED
        elif self.learned:
            atoms.info["machine_learned"] = True
        elif self.positions is None:
            atoms.info["incomplete"] = NO_POSITIONS
        else:
            atoms.info["converged"] = not self.aborted and self.scf_steps < header.nelm
            free = _search(r"TOTEN\s*=\s*(\S+)", self.energies)
            extrapolated = _search(r"energy\(sigma->0\)\s*=\s*(\S+)", self.energies)
            label_step(atoms, extrapolated, free, self.forces, self.stress)
        return atoms


def _search(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"no {pattern.split(chr(92))[0]} after FREE ENERGIE")
    return float(numbers(match[1])[0])


def _table(lines: list[str], columns: int = 3) -> np.ndarray:
    return np.array([numbers(line)[:columns] for line in lines])
