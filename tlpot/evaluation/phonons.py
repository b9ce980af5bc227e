"""A potential against DFT's phonons: forces on displacements, and frequencies."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import invcm
from matplotlib.figure import Figure
from scipy.linalg import null_space

from tlpot.data.phonon_run import PhononRun
from tlpot.data.tables.cells import table_text
from tlpot.evaluation import plots
from tlpot.files import Content, require_absent, write_new
from tlpot.optional import MissingLibraryError, require
from tlpot.palette import AFTER, FAINT
from tlpot.structure.units import MEV, SPRING_QUANTUM, THZ

STEP = 0.01
"""Å by which the model's atoms are displaced where DFT's force constants alone are given."""
PER_CM = invcm / THZ
"""THz in 1 cm⁻¹."""
NOISE = 0.05
"""THz: a frequency below −0.05 is imaginary."""
FORCE_RMSE = "force_rmse_meV_per_A_component"
ROUNDED_SYMPREC = 1e-3
"""Å within which frames of VASP, rounded, are symmetric."""
PHONON_FILES = ("phonons.json", "phonons.csv", "phonons.png")

Forces = Callable[[Sequence[Atoms]], np.ndarray]
"""``(structures, n, 3)`` eV/Å of like structures."""


@dataclass(frozen=True, eq=False)
class Modes:
    """Frequencies of two force fields, THz, imaginary ones negative, lowest first at each q.

    The three uniform translations at q = 0 are left out; ``q`` is ``(modes, 3)`` in units of the
    reciprocal lattice.
    """

    q: np.ndarray
    dft: np.ndarray
    model: np.ndarray


@dataclass(frozen=True, eq=False)
class PhononErrors:
    """What `judge_phonons` finds: plain numbers, and the frequencies where there are such."""

    summary: dict[str, Any]
    modes: Modes | None


def judge_phonons(forces: Forces, run: PhononRun) -> PhononErrors:
    r"""Compare a potential with a phonon run.

    ``force_error``: \|ΔF − ΔF\ :sub:`DFT`\ \| / \|ΔF\ :sub:`DFT`\ \| over all atoms of all
    displaced structures, ΔF the change from the structure at rest; where its forces were not
    computed, from the mean of the set (of a single displacement: from zero). With DFT's force
    constants alone, the same of the forces that unit displacements make. ``rest_rmse``: of the
    forces at rest. ``frequency_*``: of sorted frequencies, at all q that fit the supercell.

    Parameters
    ----------
    forces
        Of the model.
    """
    rest, constants = run.rest, run.hessian
    model_rest = forces([rest])[0]
    summary: dict[str, Any] = {
        "formula": rest.get_chemical_formula(mode="hill"),
        "n_atoms": len(rest),
        "n_displacements": len(run.displaced),
        "forces_at_rest": "unknown" if run.rest_forces is None else "computed",
        "rest_rmse_meV_per_A_component": None,
    }
    if run.rest_forces is not None:
        summary["rest_rmse_meV_per_A_component"] = _rms(model_rest - run.rest_forces) / MEV
    dft, model = np.empty((0, len(rest), 3)), np.empty((0, len(rest), 3))
    if run.displaced:
        zero = 0.0 if run.rest_forces is None else run.rest_forces
        dft = np.array([frame.forces for frame in run.displaced], dtype=float) - zero
        model = forces([frame.atoms for frame in run.displaced]) - model_rest
        unknown = run.rest_forces is None and len(dft) > 1
        middle = [x.mean(axis=0) if unknown else 0.0 for x in (dft, model)]
        summary |= _force_errors(dft - middle[0], model - middle[1])
    reason, modes = "", None
    if constants is not None:
        own = _constants(forces, rest, constants.freedoms)
        if not run.displaced:
            summary |= {**_force_errors(constants.matrix, own), FORCE_RMSE: None}
        modes = _modes_at_gamma(rest, constants.freedoms, constants.matrix, own)
    else:
        try:
            modes = _modes(run, dft, model)
        except MissingLibraryError as error:
            reason = str(error)
        except Exception as error:  # phonopy's, of sets that do not determine all constants
            reason = f"{type(error).__name__}: {error}"
    return PhononErrors({**summary, **_frequency_errors(modes), "no_frequencies": reason}, modes)


def write_phonons(errors: PhononErrors, model: str, folder: Path) -> list[Path]:
    """Write `PHONON_FILES` into a folder: errors, frequencies, parity of frequencies.

    Raises
    ------
    TlpotError
        If one of them is there already; then nothing is written.
    """
    for name in PHONON_FILES:
        require_absent(folder / name, "name another folder with --output")
    summary, table, picture = (folder / name for name in PHONON_FILES)
    about = json.dumps({"model": model, **errors.summary}, indent=2) + "\n"
    contents: dict[Path, Content] = {summary: about}
    if errors.modes is not None:
        contents[table] = _table(errors.modes)
        contents[picture] = plots.png(_parity(errors, Path(model).name))
    write_new(contents, "name another folder with --output")
    return list(contents)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _force_errors(dft: np.ndarray, model: np.ndarray) -> dict[str, float]:
    error = model - dft
    relative = float(np.linalg.norm(error) / max(float(np.linalg.norm(dft)), 1e-12))
    return {"force_error": relative, FORCE_RMSE: _rms(error) / MEV}


def _frequency_errors(modes: Modes | None) -> dict[str, Any]:
    if modes is None:
        return {"n_frequencies": 0}
    error = modes.model - modes.dft
    errors = {"rmse": _rms(error), "mean": float(error.mean()), "max": float(np.abs(error).max())}
    return {
        "n_frequencies": len(error),
        "n_q": len(np.unique(modes.q, axis=0)),
        **{f"frequency_{k}_THz": v for k, v in errors.items()},
        **{f"frequency_{k}_per_cm": v / PER_CM for k, v in errors.items()},
        "n_imaginary_dft": int((modes.dft < -NOISE).sum()),
        "n_imaginary_model": int((modes.model < -NOISE).sum()),
    }


def _constants(forces: Forces, rest: Atoms, freedoms: Sequence[int]) -> np.ndarray:
    """The model's force constants, eV/Å², by central differences."""
    displaced = []
    for freedom in freedoms:
        for sign in (1, -1):
            atoms = rest.copy()
            atoms.positions.flat[freedom] += sign * STEP
            displaced.append(atoms)
    pairs = forces(displaced).reshape(len(freedoms), 2, -1)
    matrix = -(pairs[:, 0] - pairs[:, 1])[:, freedoms] / (2 * STEP)
    return np.asarray(matrix + matrix.T) / 2


def _modes(run: PhononRun, dft: np.ndarray, model: np.ndarray) -> Modes:
    """By phonopy where it made the displacements, or symmetry must complete them."""
    moves = run.moves.reshape(len(dft), -1)
    if run.rest_forces is None:  # what they all share
        moves = np.column_stack([moves, np.full(len(moves), STEP)])
    if run.phonopy is not None or np.linalg.matrix_rank(moves, tol=STEP / 10) < moves.shape[1]:
        return _phonopy_modes(run, dft, model)
    freedoms = list(range(3 * len(run.rest)))
    both = []
    for changes in (dft, model):
        matrix = -np.linalg.lstsq(moves, changes.reshape(len(changes), -1), rcond=None)[0]
        both.append((matrix[freedoms] + matrix[freedoms].T) / 2)
    return _modes_at_gamma(run.rest, freedoms, *both)


def _phonopy_modes(run: PhononRun, dft: np.ndarray, model: np.ndarray) -> Modes:
    api = require("phonopy", "use", "frequencies of a crystal whose symmetry saved displacements")
    points = require("phonopy.harmonic.dynmat_to_fc", "use", "phonons").get_commensurate_points
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonons = run.phonopy if run.phonopy is not None else _by_symmetry(api, run)
        times = np.linalg.inv(phonons.primitive_matrix) @ phonons.supercell_matrix
        waves = np.array(points(np.round(times).astype(int)))
        masses = phonons.primitive.masses
        both: list[list[np.ndarray]] = []
        for forces in (dft, model):
            phonons.forces = forces
            phonons.produce_force_constants(show_drift=False)
            phonons.symmetrize_force_constants(show_drift=False)
            both.append([])
            for q in waves:
                phonons.dynamical_matrix.run(q)
                matrix = phonons.dynamical_matrix.dynamical_matrix
                still = np.abs(q - np.round(q)).max() < 1e-6
                both[-1].append(_thz(_without_translations(matrix, masses) if still else matrix))
    counts = [len(frequencies) for frequencies in both[0]]
    return Modes(np.repeat(waves, counts, axis=0), *map(np.concatenate, both))


def _by_symmetry(api: Any, run: PhononRun) -> Any:
    """phonopy's object for a run of frames alone, the cell as they have it."""
    if not run.rest.pbc.all():
        raise ValueError("not all atoms are displaced in three directions")
    atoms = require("phonopy.structure.atoms", "use", "phonons").PhonopyAtoms(
        numbers=run.rest.numbers, cell=run.rest.cell.array, positions=run.rest.positions
    )
    phonons = api.Phonopy(
        atoms, np.eye(3, dtype=int), primitive_matrix="auto", symprec=ROUNDED_SYMPREC, log_level=0
    )
    rows = [(int(np.abs(m).sum(axis=1).argmax()), m) for m in run.moves]
    phonons.dataset = {
        "natom": len(run.rest),
        "first_atoms": [{"number": i, "displacement": m[i].tolist()} for i, m in rows],
    }
    return phonons


def _modes_at_gamma(
    atoms: Atoms, freedoms: Sequence[int], dft: np.ndarray, model: np.ndarray
) -> Modes:
    masses = atoms.get_masses()
    roots = np.sqrt(masses[np.array(freedoms) // 3])
    whole = len(freedoms) == 3 * len(atoms)
    both = []
    for constants in (dft, model):
        matrix = constants / np.outer(roots, roots)
        both.append(_thz(_without_translations(matrix, masses) if whole else matrix))
    return Modes(np.zeros((len(both[0]), 3)), *both)


def _without_translations(matrix: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Of the motions in which the centre of mass stands still."""
    inner = null_space(np.kron(np.sqrt(masses), np.eye(3)))
    return np.asarray(inner.T @ matrix @ inner)


def _thz(dynamical: np.ndarray) -> np.ndarray:
    """Frequencies of a dynamical matrix in eV/Å²/u."""
    squares = np.linalg.eigvalsh(dynamical)
    return np.asarray(SPRING_QUANTUM / THZ * np.sign(squares) * np.sqrt(np.abs(squares)))


def _table(modes: Modes) -> str:
    columns = ("q1", "q2", "q3", "dft_THz", "model_THz", "dft_per_cm", "model_per_cm")
    rows = [
        (*q, dft, model, dft / PER_CM, model / PER_CM)
        for q, dft, model in zip(modes.q, modes.dft, modes.model, strict=True)
    ]
    return table_text(columns, [dict(zip(columns, row, strict=True)) for row in rows])


def _parity(errors: PhononErrors, model: str) -> Figure:
    """The model's frequencies against DFT's, cm⁻¹, and THz on the far sides."""
    assert errors.modes is not None
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis = figure.subplots()
    dft, own = errors.modes.dft / PER_CM, errors.modes.model / PER_CM
    ends = [min(dft.min(), own.min(), 0.0), max(dft.max(), own.max()) * 1.03]
    axis.plot(ends, ends, color=FAINT, zorder=0)
    axis.scatter(dft, own, s=8, color=AFTER, linewidths=0)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    axis.set(xlabel="DFT, cm⁻¹", ylabel=f"{model}, cm⁻¹")
    scales = (lambda x: x * PER_CM, lambda x: x / PER_CM)
    axis.secondary_xaxis("top", functions=scales).set_xlabel("THz")
    axis.secondary_yaxis("right", functions=scales).set_ylabel("THz")
    rmse = errors.summary["frequency_rmse_per_cm"]
    axis.text(0.03, 0.97, f"RMSE {rmse:.3g} cm⁻¹", transform=axis.transAxes, va="top")
    return figure
