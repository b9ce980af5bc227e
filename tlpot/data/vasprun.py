"""VASP's vasprun.xml, step by step."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from ase import Atoms

from tlpot.data.compression import DAMAGE, damaged, open_binary
from tlpot.data.vasp import KBAR, UNFINISHED, label_step, note_charge, numbers
from tlpot.errors import TlpotError


def read_vasprun(path: Path) -> list[Atoms]:
    """All ionic steps of a vasprun.xml; returns and raises as `tlpot.data.outcar.read_outcar`."""
    steps: list[Atoms] = []
    run = _Run(path)
    inside = False
    try:
        with open_binary(path) as file:
            for event, element in ET.iterparse(file, events=("start", "end")):
                if event == "start":
                    inside = inside or element.tag == "calculation"
                elif element.tag in ("parameters", "atominfo"):
                    getattr(run, f"read_{element.tag}")(element)
                elif element.tag == "calculation":
                    steps.append(run.step(element))
                    element.clear()
                    inside = False
    except ET.ParseError as error:
        if not steps:
            raise TlpotError(
                f"{path}: no finished ionic step: {error}. The run was stopped early or the file "
                "is cut. Copy it again, or leave it out of data.files."
            ) from None
        if inside:
            atoms = Atoms(run.symbols, np.full((len(run.symbols), 3), np.nan), pbc=True)
            atoms.info.update(incomplete=UNFINISHED, converged=None)
            steps.append(atoms)
    except DAMAGE as error:
        raise TlpotError(damaged(path, error)) from None
    except (ValueError, IndexError, KeyError) as error:
        raise TlpotError(
            f"{path}: not what a vasprun.xml has ({error}). Copy the file again, or leave it out "
            "of data.files."
        ) from None
    if not any(atoms.calc for atoms in steps):
        raise TlpotError(f"{path}: holds no finished ionic step, so nothing to learn from.")
    return steps


class _Run:
    """What a vasprun.xml says about the whole run, and how to read one of its steps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, str] = {}
        self.symbols: list[str] = []
        self.valence = 0.0

    def read_parameters(self, element: ET.Element) -> None:
        for item in element.iter("i"):  # NELM comes twice: the second is the GW default
            self.settings.setdefault(item.get("name", ""), (item.text or "").strip())

    def read_atominfo(self, element: ET.Element) -> None:
        rows = element.findall("array[@name='atoms']/set/rc")
        self.symbols = [_text(row[0]).strip() for row in rows]
        for row in element.findall("array[@name='atomtypes']/set/rc"):
            self.valence += int(_text(row[0])) * float(_text(row[3]))

    def step(self, element: ET.Element) -> Atoms:
        cell = _varray(element, "structure/crystal/varray[@name='basis']")
        scaled = _varray(element, "structure/varray[@name='positions']")
        forces = _varray(element, "varray[@name='forces']")
        stress = _varray(element, "varray[@name='stress']")
        free = element.find("energy/i[@name='e_fr_energy']")
        scf = element.findall("scstep/energy")
        if cell is None or scaled is None:
            atoms = Atoms(self.symbols, np.full((len(self.symbols), 3), np.nan), pbc=True)
            atoms.info.update(incomplete="the step has no structure", converged=None)
            return atoms
        atoms = Atoms(self.symbols, cell=cell, scaled_positions=scaled, pbc=True)
        if "NELECT" in self.settings:
            note_charge(atoms, self.valence - float(self.settings["NELECT"]))
        if not scf and self.settings.get("ML_LMLFF", "F").startswith("T"):
            atoms.info.update(machine_learned=True, converged=None)
        elif free is None or not scf:
            atoms.info.update(incomplete="the step has no energy", converged=None)
        else:
            # calculation/energy is the enthalpy and mislabels sigma→0; the last scstep does not
            pressure = float(self.settings.get("PSTRESS") or 0.0) * KBAR
            free_energy = float(_text(free)) - pressure * atoms.get_volume()
            gap = _energy(scf[-1], "e_0_energy") - _energy(scf[-1], "e_fr_energy")
            if stress is not None and int(self.settings.get("ISIF", "2")) < 2:
                stress = None
            voigt = None if stress is None else -KBAR * stress.reshape(9)[[0, 4, 8, 5, 2, 1]]
            atoms.info["converged"] = len(scf) < int(self.settings["NELM"])
            label_step(atoms, free_energy + gap, free_energy, forces, voigt)
        return atoms


def _text(element: ET.Element | None) -> str:
    if element is None or element.text is None:
        raise ValueError("an expected value is missing")
    return element.text


def _energy(element: ET.Element, name: str) -> float:
    return float(_text(element.find(f"i[@name='{name}']")))


def _varray(element: ET.Element, path: str) -> np.ndarray | None:
    found = element.find(path)
    if found is None:
        return None
    return np.array([numbers(row.text or "") for row in found.findall("v")])
