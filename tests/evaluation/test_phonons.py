"""Force constants and frequencies of harmonic crystals and molecules, known in closed form."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from tlpot.data.phonon_run import read_phonon_run
from tlpot.data.vasp.hessian import read_hessian
from tlpot.errors import TlpotError
from tlpot.evaluation.phonons import PHONON_FILES, judge_phonons, write_phonons
from tlpot.structure.frames import Frame

THZ = 15.633302
"""Frequency of 1 u on a spring of 1 eV/Å²: √(e N_A / 10⁻³ kg/mol) / 2π / Å."""


class Springs:
    """Harmonic: F = F0 − Φ u about a structure of atoms, of any cell."""

    def __init__(self, rest: Atoms, constants: np.ndarray, at_rest: np.ndarray | None = None):
        self.rest, self.constants = rest, constants
        self.at_rest = np.zeros((len(rest), 3)) if at_rest is None else at_rest

    def __call__(self, structures: Sequence[Atoms]) -> np.ndarray:
        moves = np.array([a.positions for a in structures]) - self.rest.positions
        if self.rest.pbc.any():
            scaled = moves @ np.linalg.inv(self.rest.cell.array)
            moves -= np.round(scaled) @ self.rest.cell.array
        pushes = moves.reshape(len(moves), -1) @ self.constants
        return self.at_rest - pushes.reshape(moves.shape)


def chain(n: int, k: float = 4.0, side: float = 1.0) -> Springs:
    """Carbon atoms along x, each on springs k to its neighbours, and `side` across the chain."""
    rest = Atoms("C" * n, [[1.5 * i, 0, 0] for i in range(n)], cell=[1.5 * n, 6, 6], pbc=True)
    line = 2 * np.eye(n) - np.roll(np.eye(n), 1, axis=0) - np.roll(np.eye(n), -1, axis=0)
    return Springs(rest, np.kron(line, np.diag([k, side, side])))


def chain_frequencies(n: int, k: float = 4.0, side: float = 1.0) -> np.ndarray:
    """ω = 2 √(k/m) |sin(πj/n)|, THz, sorted, without the translations."""
    waves = 2 * np.abs(np.sin(np.pi * np.arange(1, n) / n)) / np.sqrt(12.011) * THZ
    return np.sort(np.concatenate([waves * np.sqrt(x) for x in (k, side, side)]))


def diatomic(k: float) -> Springs:
    """CO on one spring: ω² = k (1/m + 1/M), and five motions without a force."""
    rest = Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])
    constants = np.zeros((6, 6))
    constants[np.ix_([2, 5], [2, 5])] = k * np.array([[1, -1], [-1, 1]])
    return Springs(rest, constants)


def run_frames(springs: Springs, step: float, nfree: int, rest: bool = True) -> list[Frame]:
    images = [springs.rest.copy()] * rest
    sizes = {1: [step], 2: [step, -step], 4: [step, -step, 2 * step, -2 * step]}[nfree]
    for freedom in range(3 * len(springs.rest)):
        for size in sizes:
            atoms = springs.rest.copy()
            atoms.positions.flat[freedom] += size
            images.append(atoms)
    return [
        Frame(atoms, -1.0, forces, source="run", index=i)
        for i, (atoms, forces) in enumerate(zip(images, springs(images), strict=True))
    ]


@pytest.mark.parametrize("nfree", [1, 2, 4])
@pytest.mark.parametrize("rest", [True, False])
def test_closed_form_of_a_chain_and_its_errors(tmp_path, write_frames, nfree, rest) -> None:
    """A spring 21 % too stiff: forces off by 21 %, longitudinal frequencies by 10 %."""
    dft, model = chain(5), chain(5, 4.0 * 1.21, 1.21)
    model.at_rest = np.full((5, 3), 0.02) * [[1], [-1], [1], [-1], [0]]
    run = read_phonon_run(write_frames(tmp_path / "run.extxyz", run_frames(dft, 0.01, nfree, rest)))
    errors = judge_phonons(model, run)
    assert errors.modes is not None
    np.testing.assert_allclose(np.sort(errors.modes.dft), chain_frequencies(5), rtol=5e-5)
    np.testing.assert_allclose(errors.modes.model, 1.1 * errors.modes.dft, rtol=5e-5)
    assert errors.summary["force_error"] == pytest.approx(0.21, rel=1e-4)
    at_rest = errors.summary["rest_rmse_meV_per_A_component"]
    assert at_rest == (pytest.approx(20 * np.sqrt(0.8)) if rest else None)
    assert errors.summary["n_imaginary_dft"] == 0
    mean = errors.modes.dft.mean() * 0.1
    assert errors.summary["frequency_mean_THz"] == pytest.approx(mean, rel=1e-4)
    assert errors.summary["frequency_mean_per_cm"] == pytest.approx(mean * 33.35641, rel=1e-4)


def test_a_molecule_needs_no_cell_and_softer_is_told(tmp_path, write_frames) -> None:
    dft, model = diatomic(115.0), diatomic(-1.0)
    run = read_phonon_run(write_frames(tmp_path / "co.xyz", run_frames(dft, 0.01, 2)))
    errors = judge_phonons(model, run)
    reduced = 1 / (1 / 12.011 + 1 / 15.999)
    assert errors.modes is not None
    assert len(errors.modes.dft) == 3
    assert errors.modes.dft.max() == pytest.approx(THZ * np.sqrt(115.0 / reduced), rel=1e-4)
    assert errors.modes.model.min() == pytest.approx(-THZ * np.sqrt(1.0 / reduced), rel=1e-4)
    assert (errors.summary["n_imaginary_dft"], errors.summary["n_imaginary_model"]) == (0, 1)


@pytest.fixture
def phonopy_folder(tmp_path) -> tuple[Path, object, Springs]:
    """A chain of one atom a cell, five cells long: what phonopy -d leaves, and its springs."""
    phonopy = pytest.importorskip("phonopy")
    from phonopy.structure.atoms import PhonopyAtoms

    unit = PhonopyAtoms(symbols=["C"], cell=np.diag([1.5, 6, 6]), scaled_positions=[[0, 0, 0]])
    phonons = phonopy.Phonopy(unit, np.diag([5, 1, 1]), primitive_matrix=np.eye(3))
    phonons.generate_displacements(distance=0.01)
    phonons.save(tmp_path / "phonopy_disp.yaml")
    springs = chain(5)
    (tmp_path / "BORN").write_text("not for us\n")
    (tmp_path / "POSCAR-001").write_text(POSCAR)
    return tmp_path, phonons, springs


def test_phonopy_with_calculations_of_any_name(phonopy_folder, write_frames) -> None:
    folder, phonons, springs = phonopy_folder
    cells = [
        Atoms("C5", c.positions, cell=c.cell, pbc=True)
        for c in phonons.supercells_with_displacements
    ]
    for i, (atoms, forces) in enumerate(zip(cells, springs(cells), strict=True)):
        atoms.wrap()
        name = folder / f"calc-{len(cells) - i}" / "out.extxyz"
        name.parent.mkdir()
        write_frames(name, [Frame(atoms, -1.0, forces)])
    run = read_phonon_run(folder)
    assert (len(run.displaced), run.rest_forces) == (len(cells), None)
    errors = judge_phonons(chain(5, 4.0 * 1.21, 1.21), run)
    assert errors.modes is not None
    np.testing.assert_allclose(np.sort(errors.modes.dft), chain_frequencies(5), rtol=5e-5)
    np.testing.assert_allclose(errors.modes.model, 1.1 * errors.modes.dft, rtol=5e-5)
    assert errors.summary["n_q"] == 4  # at q = 0 an atom a cell has translations alone
    (folder / "calc-1" / "out.extxyz").unlink()
    with pytest.raises(TlpotError, match=r"1 of the \d displacements .* first number"):
        read_phonon_run(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_phonopy_with_force_sets(phonopy_folder, packed: bool, monkeypatch) -> None:
    from phonopy.file_IO import write_FORCE_SETS

    folder, phonons, springs = phonopy_folder
    cells = [
        Atoms("C5", c.positions, cell=c.cell, pbc=True)
        for c in phonons.supercells_with_displacements
    ]
    phonons.forces = springs(cells)
    write_FORCE_SETS(phonons.dataset, filename=folder / "FORCE_SETS")
    if packed:
        for name in ("FORCE_SETS", "phonopy_disp.yaml"):
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    errors = judge_phonons(springs, read_phonon_run(folder))
    assert errors.modes is not None
    np.testing.assert_allclose(np.sort(errors.modes.dft), chain_frequencies(5), rtol=5e-5)
    assert errors.summary["force_error"] < 1e-6


POSCAR = "C\n1.0\n7.5 0 0\n0 6 0\n0 0 6\nC\n1\nDirect\n0 0 0\n"
OUTCAR_BLOCK = """
 SECOND DERIVATIVES (NOT SYMMETRIZED)
 ------------------------------------
              {labels}
{rows}

 Eigenvectors and eigenvalues of the dynamical matrix
"""


def outcar_block(matrix: np.ndarray, labels: list[str], wrap: int = 10**6) -> str:
    rows = []
    for label, row in zip(labels, -matrix, strict=True):
        words = [f"{x:12.6f}" for x in row]
        lines = [words[i : i + wrap] for i in range(0, len(words), wrap)]
        rows.append(
            "\n".join(f" {label if not n else '':4}" + "".join(x) for n, x in enumerate(lines))
        )
    return OUTCAR_BLOCK.format(labels=" ".join(labels), rows="\n".join(rows))


@pytest.fixture
def water_constants() -> np.ndarray:
    """Nine degrees of freedom; a uniform translation makes no force."""
    random = np.random.default_rng(4).normal(size=(9, 9))
    inner = np.eye(9) - np.kron(np.ones((3, 3)) / 3, np.eye(3))
    return inner @ (random @ random.T + 9 * np.eye(9)) @ inner


@pytest.mark.parametrize("wrap", [4, 10**6])
def test_outcar_lists_minus_the_second_derivatives(tmp_path, outcar_text, water_constants, wrap):
    labels = [f"{i}{x}" for i in (1, 2, 3) for x in "XYZ"]
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, tags="IBRION = 8") + outcar_block(water_constants, labels, wrap))
    hessian = read_hessian(path, 3)
    assert hessian is not None
    np.testing.assert_allclose(hessian.matrix, water_constants, atol=2e-6)
    run = read_phonon_run(path)
    assert (len(run.displaced), len(run.rest)) == (0, 3)
    springs = Springs(run.rest, 1.1 * water_constants)
    errors = judge_phonons(springs, run)
    assert errors.summary["force_error"] == pytest.approx(0.1, rel=1e-3)
    assert errors.modes is not None
    assert len(errors.modes.dft) == 6
    np.testing.assert_allclose(errors.modes.model, np.sqrt(1.1) * errors.modes.dft, rtol=1e-4)


def test_held_atoms_have_no_rows(tmp_path, outcar_text, water_constants) -> None:
    """Selective dynamics: VASP displaces 1Z and 3X alone, and lists these."""
    freedoms = [2, 6]
    part = water_constants[np.ix_(freedoms, freedoms)]
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, tags="IBRION = 5") + outcar_block(part, ["1Z", "3X"]))
    run = read_phonon_run(path)
    assert run.hessian is not None
    assert run.hessian.freedoms == freedoms
    errors = judge_phonons(Springs(run.rest, water_constants), run)
    assert errors.summary["force_error"] < 1e-4
    masses = np.array([1.008, 15.999])
    wanted = np.linalg.eigvalsh(part / np.sqrt(np.outer(masses, masses)))
    assert errors.modes is not None
    np.testing.assert_allclose(errors.modes.dft, THZ * np.sqrt(wanted), rtol=1e-4)


@pytest.mark.parametrize("thz", [False, True])
@pytest.mark.parametrize("selective", [False, True])
def test_vasprun_lists_them_over_the_masses(
    tmp_path, vasprun_text, water_constants, thz: bool, selective: bool
) -> None:
    freedoms = [0, 1, 2, 8] if selective else list(range(9))
    part = water_constants[np.ix_(freedoms, freedoms)]
    masses = np.repeat([1.0, 1.0, 16.0], 3)[freedoms]
    listed = -part / np.sqrt(np.outer(masses, masses)) * (THZ**2 if thz else 1.0)
    rows = "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>\n" for row in listed)
    unit = '<i name="unit" type="string">THz^2</i>' if thz else ""
    block = f' <dynmat>\n{unit}<varray name="hessian" >\n{rows}</varray>\n </dynmat>\n'
    flags = "<v type='logical'> T T T </v><v> F F F </v><v> F F T </v>"
    start = ' <structure name="initialpos" >\n  <varray type="logical" name="selective" >'
    start += f"{flags}</varray>\n </structure>\n <calculation>"
    text = vasprun_text(4, tags="IBRION = 6").replace("</modeling>", f"{block}</modeling>")
    text = text.replace(" ********", " 0.0")
    if selective:
        text = text.replace(" <calculation>", start, 1)
    path = tmp_path / "vasprun.xml.gz"
    path.write_bytes(gzip.compress(text.encode()))
    run = read_phonon_run(path)
    assert run.hessian is not None
    assert run.hessian.freedoms == freedoms
    np.testing.assert_allclose(run.hessian.matrix, part, atol=1e-5)


def test_broken_tables_and_what_is_no_phonon_run_are_told(
    tmp_path, outcar_text, water_constants, write_frames, water
) -> None:
    labels = [f"{i}{x}" for i in (1, 2, 3) for x in "XYZ"]
    block = outcar_block(water_constants, labels)
    path = tmp_path / "OUTCAR"
    for broken in (
        block[: len(block) // 2],
        re.sub(r"\n 2Y.*", "", block),
        block.replace("3X", "4X"),
    ):
        path.write_text(outcar_text(4, tags="IBRION = 8") + broken)
        with pytest.raises(TlpotError, match="force constants"):
            read_phonon_run(path)
    path.write_text(outcar_text(4))
    with pytest.raises(TlpotError, match="there is none"):
        read_phonon_run(path)
    with pytest.raises(TlpotError, match="no such file"):
        read_phonon_run(tmp_path / "none")
    (tmp_path / "phonopy_disp.yaml").write_text("nothing: here\n")
    with pytest.raises(TlpotError, match=r"phonopy_disp\.yaml"):
        read_phonon_run(tmp_path)


def test_files_and_the_verb(tmp_path, write_frames, small, capsys) -> None:
    from typer.testing import CliRunner

    from tlpot.cli.main import app

    frames = run_frames(diatomic(100.0), 0.01, 2)
    data = write_frames(tmp_path / "run.extxyz", frames)
    model = small().save(tmp_path / "model.safetensors")
    words = ["evaluate", str(model), "--phonons", str(data), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out" / "phonons.json").read_text())
    assert summary["n_displacements"] == 12
    assert summary["n_frequencies"] == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(PHONON_FILES)
    rows = (tmp_path / "out" / "phonons.csv").read_text().splitlines()
    assert len(rows) == 4
    with pytest.raises(TlpotError, match="--output"):
        write_phonons(judge_phonons(diatomic(1.0), read_phonon_run(data)), "m", tmp_path / "out")
