"""VASP's OUTCAR, run by run and step by step: which steps are converged DFT, which are not."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms

from tlpot.data.compression import open_binary
from tlpot.data.vasp.output import (
    CUT_SHORT,
    STEP_ERRORS,
    UNFINISHED,
    label_step,
    note_charge,
    note_moment,
    numbers,
    require_labels,
)
from tlpot.data.vasp.tags import Tags, parameters, potcar_element
from tlpot.errors import TlpotError
from tlpot.structure.units import KBAR

NO_POSITIONS = "OUTCAR holds no positions and forces for this step (NWRITE < 2); see vasprun.xml"
RUN_START = re.compile(r" ?vasp\.\d+\.\d")
"""The line that begins a run."""
GLUED = re.compile(r" vasp\.\d+\.\d\S* .*(\(build|complex)")
"""The same behind the last words of a run that was killed within a line."""
LATE = (" INCAR:", " POTCAR:")
"""What begins a run whose first line is gone."""


def read_outcar(path: Path) -> list[Atoms]:
    """All ionic steps of an OUTCAR, also of several runs that follow each other in one file.

    Returns
    -------
    One Atoms an ionic step, labels (`energy`: sigma→0, `free_energy`: TOTEN; eV, eV/Å, eV/Å³) in
    a SinglePointCalculator. ``info`` has `converged` (False also where the electronic steps used up
    NELM: VASP 5 then claims that EDIFF is reached); where it applies `incomplete` (a reason;
    positions may be NaN and there are no labels), `machine_learned` (no labels), `charge`, and
    `magmom` (μB) where the run is spin-polarised; and the level of theory of the step's own run.

    Raises
    ------
    TlpotError
        If species or atom numbers are not in the file, or no ionic step is.
    """
    with open_binary(path) as file:
        lines = _Lines(io.TextIOWrapper(file, encoding="latin-1"))
        steps = list(_outcar_steps(lines, path))
    if not (steps or lines.headers):
        raise TlpotError(f"{path}: is no OUTCAR of VASP: no line of it begins a run.")
    return require_labels(steps, path, f"no finished ionic step in {lines.number} lines")


class _Lines:
    """A text file line by line that knows where it is."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.number = file, 0
        self.pushed = ""
        self.headers = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._next():
            self.headers += bool(RUN_START.match(line)) or line.startswith(LATE)
            yield line

    def _next(self) -> str:
        """The next line; what a header was glued to is a line without an end."""
        line = self.pushed or self.file.readline()
        glued = None if RUN_START.match(line) else GLUED.search(line)
        self.pushed = line[glued.start() :] if glued else ""
        self.number += 0 if glued else 1
        return line[: glued.start()] if glued else line

    def take(self, count: int) -> list[str]:
        lines: list[str] = []
        for _ in range(count):
            line = self._next()
            if RUN_START.match(line):
                self.pushed = line
                self.number -= 1
            if RUN_START.match(line) or not line.endswith("\n"):
                raise _CutError
            lines.append(line)
        return lines


class _CutError(Exception):
    """The file, or its run, ends inside a table."""


def _outcar_steps(lines: _Lines, path: Path) -> Iterator[Atoms]:
    run = _Run(path)
    for line in lines:
        if RUN_START.match(line) or (line.startswith(LATE) and not run.in_header):
            yield from run.rest(CUT_SHORT)
            run = _Run(path)
        yield from run.read(line, lines)
    yield from run.rest(UNFINISHED)


class _Run:
    """One run while it is being read: its header holds for its own steps only."""

    def __init__(self, path: Path) -> None:
        self.header = _Header(path)
        self.step = _Step()
        self.in_header = True
        self.finished = 0
        self.learned: Atoms | None = None  # held back: DFT of the same step may follow

    def read(self, line: str, lines: _Lines) -> Iterator[Atoms]:
        started = "Iteration" in line or "TOTAL-FORCE" in line
        self.in_header = self.in_header and not started
        try:
            if self.in_header:
                self.header.read_parameters(line)
            else:
                self.header.read_later(line)
            self.step.read(line, lines, self.header)
        except _CutError:
            self.step.begun = True
        except STEP_ERRORS as error:
            self.step.begun = True
            if line.endswith("\n"):
                what = f"line {lines.number} is not what an OUTCAR has there ({error})"
                self.step.broken = f"{what}; the run's vasprun.xml may hold it whole"
        if self.step.energies:
            atoms = self.step.build(self.header, "")
            if self.learned is not None and not _same_place(self.learned, atoms):
                yield self.learned
            self.learned = atoms if "machine_learned" in atoms.info else None
            if self.learned is None:
                yield atoms
            self.step = _Step(self.step.cell)
            self.finished += 1
            self.header.over = False

    def rest(self, reason: str) -> Iterator[Atoms]:
        """What is left when the run is over: a step that has no end, for that `reason`."""
        if self.learned is not None:
            yield self.learned
        responding = self.header.tags.responds and self.finished
        if self.step.begun and not (self.header.over or responding):
            yield self.step.build(self.header, reason)


def _same_place(a: Atoms, b: Atoms) -> bool:
    return np.allclose(a.positions, b.positions, atol=2e-5) and np.allclose(a.cell, b.cell)


class _Header:
    """What an OUTCAR says about one whole run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tags = Tags()
        self.version = ""
        self.titles: list[str] = []
        self.potcars: list[str] = []
        self.valences: list[float] = []
        self.counts: list[int] = []
        self.mesh = ""
        self.dispersed = False
        self.over = False

    def read_parameters(self, line: str) -> None:
        if RUN_START.match(line):
            self.version = line.split()[0].removeprefix("vasp.")
        elif "TITEL" in line:
            self.titles.append(line.split("=")[1])
        elif "POTCAR:" in line:
            self.potcars.append(line.split(":")[1])
        elif re.match(r"\s+ZVAL\s*=", line):
            self.valences = list(numbers(line.split("=")[1]))
        elif "ions per type" in line:
            self.counts = [int(word) for word in line.split("=")[1].split()]
        elif "generate k-points for:" in line:
            self.mesh = "x".join(line.split(":")[1].split()[:3])
        elif "=" in line:
            for name, value in parameters(line).items():
                self.tags.note(name, value)

    def read_later(self, line: str) -> None:
        """What is told only behind the first iteration: dispersion, responses, the end."""
        if re.match(r"\s+IVDW\s*=", line):
            self.tags.note("IVDW", line.split("=")[1])
        elif line.lstrip().startswith("Edisp"):
            self.dispersed = True
        elif line.startswith((" General timing", " Linear response")):
            self.over = True

    @cached_property
    def symbols(self) -> list[str]:
        if not self.counts:
            raise TlpotError(
                f"{self.path}: its header, which names the elements, is missing: the file is cut "
                "at its beginning. Copy it again, or use the run's vasprun.xml."
            )
        species = [self._element(title) for title in self.species]
        atoms = int(self.tags.number("NIONS", 0))
        if atoms != sum(self.counts) or len(species) != len(self.counts):
            raise TlpotError(
                f"{self.path}: the header lists {len(species)} species for {atoms} atoms, but "
                f"'ions per type' places {sum(self.counts)} atoms on {len(self.counts)} species"
                f"{' (VASP cuts that line at ten)' if len(self.counts) == 10 else ''}, so the "
                "element of each atom is unknown. Use the run's vasprun.xml instead."
            )
        return [s for s, count in zip(species, self.counts, strict=True) for _ in range(count)]

    @property
    def species(self) -> list[str]:
        """Titles of the POTCARs, one a species."""
        return self.titles or self.potcars[: len(self.potcars) // 2]

    def _element(self, title: str) -> str:
        symbol = potcar_element(title)
        if symbol is None:
            raise TlpotError(f"{self.path}: no element symbol found in '{title.strip()}'.")
        return symbol

    def charge(self) -> float | None:
        electrons = self.tags.number("NELECT", np.nan)
        if np.isnan(electrons) or len(self.valences) != len(self.counts):
            return None
        return float(np.dot(self.valences, self.counts)) - electrons

    def level(self) -> dict[str, object]:
        """What a frame's ``info`` says of its level."""
        notes: dict[str, object] = {"engine": f"VASP {self.version}".strip()}
        notes |= self.tags.notes(self.species, self.dispersed)
        return notes | ({"kpts": self.mesh} if self.mesh else {})


class _Step:
    """One ionic step while it is being read."""

    def __init__(self, cell: np.ndarray | None = None) -> None:
        self.begun = False
        self.scf_steps = 0
        self.loop = ""
        self.aborted = False
        self.learned = False
        self.broken = ""
        self.cell = cell
        self.positions: np.ndarray | None = None
        self.forces: np.ndarray | None = None
        self.stress: np.ndarray | None = None
        self.moment: float | None = None
        self.energies = ""

    def read(self, line: str, lines: _Lines, header: _Header) -> None:
        if "Iteration " in line:
            self._count(line)
        elif "EDIFF was not reached" in line or "hard stop was set" in line:
            self.aborted = True
        elif line.startswith(" number of electron "):
            self.moment = _moment(line)
        elif "direct lattice vectors" in line and "position" not in line:
            self.cell = _table(lines.take(3))
        elif line.startswith("  in kB") and header.tags.number("ISIF", 2) >= 2:
            self.stress = -KBAR * numbers(line.split("kB")[1])[[0, 1, 2, 4, 5, 3]]
        elif "POSITION" in line and "TOTAL-FORCE" in line:
            lines.take(1)
            block = _table(lines.take(len(header.symbols)), columns=6)
            self.positions, self.forces = block[:, :3], block[:, 3:]
        elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            self.learned = "ML FREE" in line
            self.energies = "".join(lines.take(4))

    def _count(self, line: str) -> None:
        """Another electronic step; those of an earlier loop (a linear response) do not count."""
        loop = line.partition("Iteration")[2].partition("(")[0].strip()
        if loop != self.loop:
            if self.positions is not None:
                self.broken = "lines are missing: this step has forces and no energy"
            self.loop, self.scf_steps, self.aborted = loop, 0, False
        self.begun = True
        self.scf_steps += 1

    def build(self, header: _Header, ended: str) -> Atoms:
        """The step; `ended` says why where it has no end."""
        n_atoms = len(header.symbols)
        missing = np.full((n_atoms, 3), np.nan)
        positions = missing if self.positions is None else self.positions
        atoms = Atoms(header.symbols, positions, cell=self.cell, pbc=True)
        atoms.info["converged"] = None
        note_charge(atoms, header.charge())
        note_moment(atoms, self.moment)
        if self.broken or not self.energies:
            atoms.info["incomplete"] = self.broken or ended
        elif self.learned:
            atoms.info["machine_learned"] = True
        elif self.positions is None:
            atoms.info["incomplete"] = NO_POSITIONS
        else:
            limit = header.tags.number("NELM", np.inf)
            atoms.info["converged"] = not self.aborted and self.scf_steps < limit
            free = _search(r"TOTEN\s*=\s*(\S+)", self.energies)
            extrapolated = _search(r"energy\(sigma->0\)\s*=\s*(\S+)", self.energies)
            label_step(atoms, extrapolated, free, self.forces, self.stress)
            atoms.info.update(header.level())
        return atoms


def _moment(line: str) -> float | None:
    """Size of the magnetic moment in ``number of electron 8.0 magnetization 2.0``, μB."""
    words = numbers(line.partition("magnetization")[2])
    return float(np.linalg.norm(words)) if len(words) else None


def _search(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    return float(numbers(match[1])[0]) if match else float("nan")


def _table(lines: list[str], columns: int = 3) -> np.ndarray:
    return np.array([numbers(line)[:columns] for line in lines])
