"""The powder lines of a crystal, with what it takes to strain and texture them."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from ase import Atoms

from tlpot.data.crystals.read import pymatgen_structure
from tlpot.errors import TlpotError
from tlpot.optional import require

PATTERN_MAKING = "making powder patterns"

SYSTEMS = (
    "triclinic",
    "monoclinic",
    "orthorhombic",
    "tetragonal",
    "trigonal",
    "hexagonal",
    "cubic",
)
"""The classes, in the order of their lowest space-group number."""
_LAST_GROUP = (2, 15, 74, 142, 167, 194, 230)

WAVELENGTH = 1.54184
"""Å, CuKα, of every pattern that the network sees, and of one that does not say its own."""
LAST_ANGLE = 135.0
"""Degrees 2θ, end of the patterns."""
UNTURNED = np.eye(3)[None]
TEXTURE_AXES = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
)
"""Directions that crystallites may lie along, as normals of (hkl)."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Powder lines (CuKα) of one crystal.

    Attributes
    ----------
    two_theta, intensity
        ``(n,)`` degrees and any unit; Lorentz and polarisation factors included.
    hkl
        ``(n, 3)`` one reflection of each line, in the reciprocal lattice of `cell`.
    cell
        ``(3, 3)`` Å, lattice vectors as rows.
    rotations
        ``(g, 3, 3)`` of the point group, on fractional coordinates.
    """

    two_theta: np.ndarray
    intensity: np.ndarray
    hkl: np.ndarray
    cell: np.ndarray
    rotations: np.ndarray

    def strained(self, size: float, random: np.random.Generator) -> Lines:
        """The lines of the same structure in another lattice of the same symmetry.

        A random symmetric strain, normal with standard deviation `size` in each component, is
        averaged over the point group, so that a cubic cell stays cubic and a monoclinic one keeps
        its unique axis. Structure factors are kept, Lorentz and polarisation follow the angle.
        """
        strain = random.normal(0.0, size, (3, 3))
        cell = self.cell @ (np.eye(3) + 0.5 * (strain + strain.T))
        metrics = np.einsum(
            "gji,jk,gkl->gil", self.rotations, cell @ cell.T, self.rotations, optimize=True
        )
        ratio = _length(self.hkl, metrics.mean(axis=0)) / _length(self.hkl, self.cell @ self.cell.T)
        sine = np.sin(np.radians(self.two_theta / 2)) * ratio
        seen = sine < np.sin(np.radians(LAST_ANGLE / 2))
        angles = 2 * np.degrees(np.arcsin(sine[seen]))
        factor = _lorentz(angles) / _lorentz(self.two_theta[seen])
        return Lines(
            angles, self.intensity[seen] * factor, self.hkl[seen], self.cell, self.rotations
        )

    def textured(self, strength: float, random: np.random.Generator) -> Lines:
        """The lines of a powder whose crystallites lie preferably along one of `TEXTURE_AXES`.

        March and Dollase's factor (Dollase 1986, J. Appl. Cryst. 19, 267), with r between
        1 − `strength` (plates) and 1/(1 − `strength`) (needles), averaged over equivalents.
        """
        r = (1.0 - strength) ** random.uniform(-1.0, 1.0)
        reciprocal = np.linalg.inv(self.cell @ self.cell.T)
        axis = random.choice(TEXTURE_AXES) @ self.rotations
        lengths = np.sqrt(np.einsum("gi,ij,gj->g", axis, reciprocal, axis))
        own = np.sqrt(np.einsum("ni,ij,nj->n", self.hkl, reciprocal, self.hkl))
        cosine2 = (self.hkl @ reciprocal @ axis.T / (own[:, None] * lengths)) ** 2
        factor = ((r**2 - 1.0 / r) * cosine2 + 1.0 / r) ** -1.5
        intensity = self.intensity * factor.mean(axis=1)
        return Lines(self.two_theta, intensity, self.hkl, self.cell, self.rotations)


def lines_of(atoms: Atoms, rotations: np.ndarray = UNTURNED) -> Lines:
    """The powder lines of a crystal up to `LAST_ANGLE`, by pymatgen.

    Parameters
    ----------
    rotations
        ``(g, 3, 3)`` of its point group, which strain and texture need.

    Raises
    ------
    TlpotError
        If it has no lines.
    """
    two_theta, intensity = peaks(atoms, WAVELENGTH, LAST_ANGLE)
    if not len(two_theta):
        raise TlpotError(f"has no powder pattern: no line up to {LAST_ANGLE:g}° 2θ")
    return indexed(two_theta, intensity, atoms.cell.array, rotations)


def peaks(
    atoms: Atoms, wavelength: float, last: float, scaled: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees 2θ up to `last`, and intensities, of a crystal's lines, by pymatgen; maybe none.

    Parameters
    ----------
    wavelength
        Å.
    scaled
        To 100 for the strongest.
    """
    calculator = diffraction().XRDCalculator(wavelength=wavelength)
    structure = pymatgen_structure(atoms, PATTERN_MAKING)
    try:
        pattern = calculator.get_pattern(structure, scaled=scaled, two_theta_range=(0.0, last))
    except ValueError:  # of nothing to unpack, where there is no peak
        return np.empty(0), np.empty(0)
    return np.array(pattern.x), np.array(pattern.y)


def diffraction() -> ModuleType:
    """pymatgen's module of powder patterns; raises TlpotError where it is not installed."""
    return require("pymatgen.analysis.diffraction.xrd", "use", PATTERN_MAKING)


def indexed(
    two_theta: np.ndarray, intensity: np.ndarray, cell: np.ndarray, rotations: np.ndarray
) -> Lines:
    """Lines of known angle and intensity, each with the nearest reflection of the lattice."""
    hkl, angles = _reflections(cell)
    right = np.searchsorted(angles, two_theta).clip(1, len(angles) - 1)
    nearest = right - (two_theta - angles[right - 1] < angles[right] - two_theta)
    return Lines(two_theta, intensity, hkl[nearest], cell, np.asarray(rotations, dtype=float))


def crystal_system(group: int) -> str:
    """Crystal system of a space-group number."""
    return SYSTEMS[int(np.searchsorted(_LAST_GROUP, group))]


def _reflections(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half of the reflections up to a little beyond `LAST_ANGLE`, by angle: hkl and degrees 2θ."""
    shortest = 0.5 * WAVELENGTH / np.sin(np.radians(min(LAST_ANGLE + 1.0, 180.0) / 2))
    most = np.floor(np.linalg.norm(cell, axis=1) / shortest).astype(int)
    h, k, m = np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij")
    hkl = np.stack([h.ravel(), k.ravel(), m.ravel()], axis=1)[h.size // 2 + 1 :]
    sine = 0.5 * WAVELENGTH * _length(hkl, cell @ cell.T)
    seen = sine < 0.5 * WAVELENGTH / shortest
    angles = 2 * np.degrees(np.arcsin(sine[seen]))
    order = np.argsort(angles, kind="stable")
    return hkl[seen][order], angles[order]


def _length(hkl: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """``(n,)`` 1/d of reflections, 1/Å, with the metric tensor of the direct lattice."""
    return np.sqrt(np.einsum("ni,ij,nj->n", hkl, np.linalg.inv(metric), hkl))


def _lorentz(angles: np.ndarray) -> np.ndarray:
    theta = np.radians(angles / 2)
    return (1 + np.cos(2 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
