"""VASP's vasprun.xml, section by section: what is broken in one leaves the others readable."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape, unescape

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

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
from tlpot.data.vasp.tags import Tags, potcar_element
from tlpot.errors import TlpotError
from tlpot.structure.units import KBAR

SECTIONS = "generator|incar|kpoints|parameters|atominfo|calculation"
MARK = re.compile(rf"<(/?)({SECTIONS}|modeling)\b[^<>/]*>")
LEAF = re.compile(r"(<(i|v|c|field|atoms|types)\b[^<>]*>)(.*?)(</\2\s*>)")
"""One value of VASP's, on one line."""
LONGEST_TAG = 200
"""Characters within which a section's tag ends."""
VALUE = re.compile(r'<[iv]\b[^<>]*\bname="([^"]*)"[^<>]*>([^<]*)')
"""A tag's name and value."""

READ_BYTES = 1 << 20
EDIFF = 1e-4
"""eV, VASP's own default."""
DISPERSED = 1e-3
"""eV/atom between a step's energy and its last electronic step's that tell of dispersion."""


def read_vasprun(path: Path) -> list[Atoms]:
    """All ionic steps of a vasprun.xml, also of several runs that follow each other in one file.

    Returns and raises as `tlpot.data.vasp.outcar.read_outcar`. A step whose XML is broken is
    `incomplete`; those behind it are read.
    """
    steps: list[Atoms] = []
    run = _Run(path)
    with open_binary(path) as file:
        for section in _sections(file):
            if section.name == "modeling":
                steps += run.finish()
                run = _Run(path)
            else:
                run.read(section)
    steps += run.finish()
    if not (steps or run.sections):
        raise TlpotError(f"{path}: is no vasprun.xml of VASP: it has none of its sections.")
    return require_labels(steps, path, "no finished ionic step")


@dataclass(frozen=True)
class _Section:
    """One of `SECTIONS` as text from `line` on; `ended` says why where it has no end."""

    name: str
    text: str
    line: int
    ended: str = ""

    def parse(self) -> ET.Element:
        """The section as XML; what a value should have escaped is escaped.

        Raises
        ------
        ValueError
            Saying why it has no end, or where it is broken.
        """
        if self.ended:
            raise ValueError(self.ended)
        for text in (self.text, LEAF.sub(lambda m: m[1] + _escaped(m[3]) + m[4], self.text)):
            try:
                return ET.fromstring(text)
            except ET.ParseError as error:
                what = str(error).partition(":")[0]
                broken = f"the XML is broken at line {self.line + error.position[0] - 1} ({what})"
        raise ValueError(broken)


def _escaped(text: str) -> str:
    """A value with ``&``, ``<``, ``>`` as XML wants them, less what XML cannot hold."""
    return escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", unescape(text)))


def _sections(file: BinaryIO) -> Iterator[_Section]:
    """Cut a file at the tags of its sections, wherever these stand, however broken they are.

    A section that begins before the last one ended, or ends without having begun, goes from one
    tag to the other, for `_Section.parse` to complain of.
    """
    text, name, start, seen, line = "", "", 0, 0, 1
    while chunk := file.read(READ_BYTES).decode("latin-1"):
        text += chunk
        for mark in MARK.finditer(text, seen):
            seen = mark.end()
            closes, tag = bool(mark[1]), mark[2]
            nested = name and (closes or tag == "kpoints") and tag not in (name, "modeling")
            if nested or (closes and tag == "modeling" and not name):
                continue
            here = mark.end() if closes and tag != "modeling" else mark.start()
            if name or closes:
                stopped = CUT_SHORT if tag == "modeling" and not closes else ""
                yield _Section(name or tag, text[start:here], line, stopped)
            line += text.count("\n", start, here)
            start, name = here, "" if closes else tag
            if name == "modeling":
                yield _Section(name, "", line)
                name = ""
        seen = max(seen, len(text) - LONGEST_TAG) - start
        text, start = text[start:], 0
    if name:
        yield _Section(name, text, line, UNFINISHED)


class _Run:
    """What a vasprun.xml says about one whole run, and its steps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tags = Tags()
        self.version = ""
        self.sections = 0
        self.symbols: list[str] = []
        self.titles: list[str] = []
        self.valence = 0.0
        self.mesh = ""
        self.weights = np.empty(0)
        self.steps: list[Atoms] = []
        self.broken: list[Atoms] = []
        self.dispersed: bool | None = None

    def read(self, section: _Section) -> None:
        """Take in one section of the file."""
        self.sections += 1
        if section.name == "calculation":
            self.steps.append(self._step(section))
        elif section.name == "atominfo":
            self._read_atoms(section)
        elif section.name == "kpoints":
            self._read_kpoints(section)
        else:
            first: dict[str, str] = {}
            for name, value in VALUE.findall(section.text):
                first.setdefault(name, value)  # NELM comes twice: the second is the GW default
            self.version = self.version or first.pop("version", "").strip()
            for name, value in first.items():
                self.tags.note(name, unescape(value))

    def _read_atoms(self, section: _Section) -> None:
        try:
            element = section.parse()
            types = element.findall("array[@name='atomtypes']/set/rc")
            self.titles = [_text(row[4]) for row in types]
            self.valence = sum(int(_text(row[0])) * float(_text(row[3])) for row in types)
            rows = element.findall("array[@name='atoms']/set/rc")
            self.symbols = [self._symbol(_text(row[0]).strip(), row) for row in rows]
        except STEP_ERRORS as error:
            if section.ended:
                return
            raise TlpotError(
                f"{self.path}: {error}, in the list of atoms, so nobody knows their elements. Use "
                "the run's OUTCAR instead."
            ) from None

    def _symbol(self, symbol: str, row: ET.Element) -> str:
        """Some POTCARs misspell their element (Zr as r); the title has it too."""
        if symbol in atomic_numbers:
            return symbol
        title = self.titles[int(_text(row[1])) - 1]
        if (named := potcar_element(title)) is None:
            raise ValueError(f"'{symbol}' is no element, nor is one in '{title.strip()}'")
        return named

    def _read_kpoints(self, section: _Section) -> None:
        with suppress(ValueError):
            element = section.parse()
            mesh = element.find("generation/v[@name='divisions']")
            self.mesh = "" if mesh is None else "x".join(_text(mesh).split())
            weights = _varray(element, "varray[@name='weights']")
            self.weights = np.empty(0) if weights is None else weights.ravel()

    def _step(self, section: _Section) -> Atoms:
        if not self.symbols:
            raise TlpotError(
                f"{self.path}: line {section.line}: an ionic step before any list of atoms, so "
                "nobody knows their elements. Use the run's OUTCAR instead."
            )
        try:
            return self._labelled(section.parse())
        except STEP_ERRORS as error:
            atoms = Atoms(self.symbols, np.full((len(self.symbols), 3), np.nan), pbc=True)
            atoms.info.update(incomplete=str(error), converged=None)
            if not section.ended:
                self.broken.append(atoms)
            return atoms

    def _labelled(self, element: ET.Element) -> Atoms:
        cell = _varray(element, "structure/crystal/varray[@name='basis']")
        scaled = _varray(element, "structure/varray[@name='positions']")
        if cell is None or scaled is None:
            raise ValueError("the step has no structure")
        atoms = Atoms(self.symbols, cell=cell, scaled_positions=scaled, pbc=True)
        atoms.info["converged"] = None
        electrons = self.tags.number("NELECT", np.nan)
        note_charge(atoms, None if np.isnan(electrons) else self.valence - electrons)
        note_moment(atoms, self._moment(element))
        free = element.find("energy/i[@name='e_fr_energy']")
        scf = element.findall("scstep/energy")
        if not scf and self.tags.flag("ML_LMLFF"):
            atoms.info["machine_learned"] = True
        elif free is None or not scf:
            atoms.info["incomplete"] = "the step has no energy"
        else:
            self._label(atoms, element, float(numbers(_text(free))[0]), scf)
        return atoms

    def _label(self, atoms: Atoms, element: ET.Element, free: float, scf: list[ET.Element]) -> None:
        """Energies: the step's own is the enthalpy, and its sigma→0 is not to be trusted."""
        if "NELM" not in self.tags:
            raise TlpotError(
                f"{self.path}: not what a vasprun.xml has: NELM is missing, so nobody knows "
                "whether its steps converged. Use the run's OUTCAR instead."
            )
        free -= self.tags.number("PSTRESS", 0.0) * KBAR * atoms.get_volume()
        energies = np.array([_energy(step, "e_fr_energy") for step in scf])
        used = self._electronic_steps(energies)
        gap = _energy(scf[used - 1], "e_0_energy") - energies[used - 1]
        if not self.tags.responds and abs(free - energies[-1]) < np.inf:
            dispersed = abs(free - energies[-1]) > DISPERSED * len(atoms)
            self.dispersed = bool(self.dispersed or dispersed)
        stress = _varray(element, "varray[@name='stress']")
        if stress is not None and self.tags.number("ISIF", 2) < 2:
            stress = None
        voigt = None if stress is None else -KBAR * stress.reshape(9)[[0, 4, 8, 5, 2, 1]]
        atoms.info["converged"] = used < self.tags.number("NELM", 0)
        label_step(atoms, free + gap, free, _varray(element, "varray[@name='forces']"), voigt)

    def _electronic_steps(self, energies: np.ndarray) -> int:
        """How many of a step's electronic steps were its own; a linear response adds others."""
        close = np.abs(np.diff(energies)) < self.tags.number("EDIFF", EDIFF)
        if not self.tags.responds or not close.any():
            return len(energies)
        return int(close.argmax()) + 2

    def _moment(self, element: ET.Element) -> float | None:
        """Magnetic moment in μB, from what fixes it or from the occupations of both spins."""
        if self.tags.number("ISPIN", 1) != 2:
            return None
        if (fixed := self.tags.number("NUPDOWN", -1.0)) >= 0:
            return fixed
        spins = element.findall("eigenvalues/array/set/set")
        if len(spins) != 2 or not len(self.weights):
            return None
        filled = [
            [sum(float(numbers(_text(row))[1]) for row in kpoint) for kpoint in spin]
            for spin in spins
        ]
        up, down = (float(np.average(spin, weights=self.weights)) for spin in filled)
        return abs(up - down)

    def finish(self) -> list[Atoms]:
        """The run's steps, now that all of it is known."""
        notes: dict[str, object] = {"engine": f"VASP {self.version}".strip()}
        notes |= self.tags.notes(self.titles, self.dispersed)
        notes |= {"kpts": self.mesh} if self.mesh else {}
        moments = [atoms.info["magmom"] for atoms in self.steps if "magmom" in atoms.info]
        for atoms in self.steps:
            if atoms.calc:
                atoms.info.update(notes)
            if moments and atoms.calc:  # VASP writes occupations behind the last step only
                atoms.info.setdefault("magmom", moments[-1])
        for atoms in self.broken:
            place = next(i for i, step in enumerate(self.steps) if step is atoms)
            behind = len(self.steps) - place - 1
            atoms.info["incomplete"] += (
                f"; the {behind} steps behind it are read, and the run's OUTCAR may hold it whole"
            )
        return self.steps


def _text(element: ET.Element | None) -> str:
    if element is None or element.text is None:
        raise ValueError("an expected value is missing")
    return element.text


def _energy(element: ET.Element, name: str) -> float:
    return float(numbers(_text(element.find(f"i[@name='{name}']")))[0])


def _varray(element: ET.Element, path: str) -> np.ndarray | None:
    array = element.find(path)
    if array is None:
        return None
    return np.array([numbers(row.text or "") for row in array.findall("v")])
