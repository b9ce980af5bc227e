"""Fixed atoms, as files have them, stay where they are in every verb that moves atoms."""

import csv
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import (
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
    FixScaled,
)

from tlpot.cli.main import main
from tlpot.data.constraints import fixed_components, hold
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError
from tlpot.md.dynamics import run_md
from tlpot.md.settings import Dynamics
from tlpot.md.start import read_start
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.relax.files import relax_files
from tlpot.relax.relax import relax
from tlpot.relax.settings import Relaxation
from tlpot.sampling.geometries import normal_modes, sample_md, sample_modes, sample_rattle
from tlpot.structure.frames import Frame

HEAVY = (0, 2)
"""Atoms of methanol that are fixed: C and O are 0 and 1; here C and a hydrogen."""


@pytest.fixture(scope="module")
def mini() -> Potential:
    return load("mini")


@pytest.fixture
def held_urea(urea) -> Atoms:
    """Urea off its minimum, C and O fixed, one hydrogen along z."""
    atoms = urea.copy()
    atoms.rattle(0.05, seed=1)
    fixed = np.repeat((atoms.numbers == 6) | (atoms.numbers == 8), 3).reshape(-1, 3)
    fixed[np.flatnonzero(atoms.numbers == 1)[0], 2] = True
    return hold(atoms, fixed)


def test_every_kind_of_constraint_on_components():
    atoms = molecule("CH3OH", vacuum=3.0, pbc=True)
    every, z = np.ones(3, bool), np.array([False, False, True])
    cases = [
        (FixAtoms([1]), every),
        (FixCartesian(1, z), z),
        (FixScaled(1, z), z),
        (FixedPlane(1, (0, 0, 2)), z),
        (FixedLine(1, (0, 3, 0)), np.array([True, False, True])),
        ([FixedPlane(1, (1, 0, 0)), FixedPlane(1, (0, 0, 1))], np.array([True, False, True])),
    ]
    for constraint, mask in cases:
        atoms.set_constraint(constraint)
        fixed = fixed_components(atoms)
        assert np.array_equal(fixed[1], mask)
        assert not fixed[[0, 2, 3, 4, 5]].any()
        assert np.array_equal(fixed_components(hold(atoms.copy(), fixed)), fixed)
    for harmless in ([], FixCom(), FixCartesian(1, np.zeros(3, bool))):
        atoms.set_constraint(harmless)
        assert fixed_components(atoms) is None


def test_what_cannot_be_kept_is_refused(mini):
    atoms = molecule("CH3OH", vacuum=3.0, pbc=True)
    skewed = atoms.copy()
    skewed.cell[1] += 0.5 * skewed.cell[0]
    for start, constraint, said in (
        (atoms, FixBondLength(0, 1), "FixBondLength"),
        (skewed, FixScaled(1, (True, False, False)), "no Cartesian axis"),
    ):
        start.set_constraint(constraint)
        (one,) = relax([start], mini)
        assert said in one.reason
        with pytest.raises(TlpotError, match=said):
            next(sample_rattle(start, 0.0, 0.1, np.random.default_rng(0)))
        with pytest.raises(TlpotError, match=said):
            run_md(start, mini, 1, "nowhere")


def test_files_bring_them(tmp_path, held_urea):
    whole = fixed_components(held_urea)
    ase.io.write(tmp_path / "a.traj", held_urea)
    ase.io.write(tmp_path / "a.extxyz", held_urea)
    write_frames(tmp_path / "b.extxyz", [Frame(held_urea)])
    poscar = held_urea.copy()
    poscar.set_constraint([FixAtoms(np.flatnonzero(whole.all(axis=1)))])
    ase.io.write(tmp_path / "POSCAR", poscar, format="vasp")
    for name in ("a.traj", "a.extxyz", "b.extxyz"):
        (frame,) = read_frames(tmp_path / name)
        assert np.array_equal(fixed_components(frame.atoms), whole)
    (frame,) = read_frames(tmp_path / "POSCAR")
    assert sorted(frame.atoms.numbers[fixed_components(frame.atoms)[:, 0]]) == [6, 6, 8, 8]
    assert fixed_components(read_start(str(tmp_path / "b.extxyz"), "2x1x1")).sum() == 2 * 13


@pytest.mark.parametrize("engine", ["torch-sim", "ase"])
@pytest.mark.parametrize("free", ["positions", "all"])
def test_fixed_atoms_do_not_move_as_others_relax(mini, held_urea, urea, engine, free):
    """Among free ones in a batch; in a cell that changes they keep their place in it."""
    fixed = fixed_components(held_urea)
    loose = hold(held_urea.copy(), None)
    settings = Relaxation(free=free, engine=engine, fmax=0.02, smax=0.01)
    one, other = relax([held_urea, loose], mini, settings)
    assert one.reason is other.reason is None
    for place in ("positions", "scaled"):
        ends = [a.positions if place == "positions" else a.get_scaled_positions(wrap=False)
                for a in (held_urea, one.atoms)]  # fmt: skip
        moved = np.abs(ends[1] - ends[0])[fixed.all(axis=1)].max()
        assert (moved < 1e-9) == (place == "scaled" or free == "positions")
    left = np.linalg.norm(one.forces, axis=1)
    assert np.linalg.norm(one.forces * ~fixed, axis=1).max() < 0.02 < left.max()
    assert one.energy > other.energy + 0.01
    if free == "positions":
        assert np.array_equal(one.atoms.positions[fixed], held_urea.positions[fixed])
        assert np.abs(one.atoms.positions - held_urea.positions)[~fixed].max() > 0.01
    assert np.array_equal(fixed_components(one.atoms), fixed)
    assert not other.atoms.constraints


def test_symmetry_and_fixed_atoms_are_not_kept_at_once(mini, held_urea):
    (one,) = relax([held_urea], mini, Relaxation(symmetry=True))
    assert "fixed atoms" in one.reason


def test_relaxed_files_keep_and_tell_them(tmp_path, mini, held_urea, capfd):
    write_frames(tmp_path / "in.extxyz", [Frame(held_urea), Frame(hold(held_urea.copy(), None))])
    options = ["--model", "mini", "--output", str(tmp_path / "out"), "--free", "positions"]
    with pytest.raises(SystemExit) as end:
        main(["relax", str(tmp_path / "in.extxyz"), *options])
    assert end.value.code == 0
    assert "1 of them with fixed atoms" in capfd.readouterr().out
    with (tmp_path / "out" / "relaxed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["fixed_atoms"] for row in rows] == ["5", "0"]
    assert all(float(row["max_force_eV_per_A"]) < 0.01 for row in rows)
    kept, free = read_frames(tmp_path / "out" / "relaxed.extxyz")
    fixed = fixed_components(held_urea)
    assert np.array_equal(fixed_components(kept.atoms), fixed)
    assert np.allclose(kept.atoms.positions[fixed], held_urea.positions[fixed], atol=1e-8)
    assert not free.atoms.constraints
    other = hold(held_urea.copy(), np.ones_like(fixed))
    write_frames(tmp_path / "in.extxyz", [Frame(other), Frame(other)])
    settings = Relaxation(free="positions")
    assert relax_files(tmp_path / "in.extxyz", "mini", tmp_path / "still", settings).held == 2


@pytest.mark.parametrize("thermostat", ["bussi", "langevin"])
def test_dynamics_leaves_them_where_they_are(mini, tmp_path, held_urea, thermostat):
    """Also after a restart; the temperature is that of what moves."""
    fixed = fixed_components(held_urea)
    settings = Dynamics(thermostat=thermostat, temperature=300, log_every=10, frame_every=10,
                        save_every=20, max_energy=10.0)  # fmt: skip
    for steps in (20, 40):
        assert run_md(held_urea, mini, steps, tmp_path / "md", settings) is None
    frames = read_frames(tmp_path / "md" / "trajectory.extxyz")
    assert len(frames) == 5
    last = frames[-1].atoms.positions
    assert np.allclose(last[fixed], held_urea.positions[fixed], atol=1e-8)
    assert np.abs(last - held_urea.positions)[~fixed].max() > 0.01
    with np.load(tmp_path / "md" / "restart.npz") as file:
        assert not file["momenta"][fixed].any()
    loose = hold(held_urea.copy(), None)
    with pytest.raises(TlpotError, match="other fixed"):
        run_md(loose, mini, 60, tmp_path / "md", settings)
    with pytest.raises(TlpotError, match="some are fixed; run nvt"):
        run_md(held_urea, mini, 1, tmp_path / "npt", Dynamics(ensemble="npt"))
    with pytest.raises(TlpotError, match="nothing can move"):
        run_md(hold(loose, np.ones_like(fixed)), mini, 1, tmp_path / "still", settings)


def test_sampling_leaves_them_where_they_are(mini):
    start = molecule("CH3OH")
    fixed = np.zeros((6, 3), bool)
    fixed[list(HEAVY)] = True
    hold(start, fixed)
    calculator = TLPotCalculator(mini)
    random = np.random.default_rng(0)
    for sampler in (
        sample_modes(start, calculator, 300, random),
        sample_md(start, calculator, 300, random),
        sample_rattle(start, 0.02, 0.1, random),
    ):
        moved = next(sampler)
        assert np.allclose(moved.positions[fixed], start.positions[fixed], atol=1e-9)
        assert np.abs(moved.positions - start.positions)[~fixed].max() > 0.01
    modes = normal_modes(start, calculator)
    assert modes.directions.shape == (12, 6, 3)
    assert not modes.directions[:, fixed].any()


def test_the_ranking_says_so(mini, tmp_path, urea, held_urea):
    held_urea.positions = urea.positions
    ase.io.write(tmp_path / "a.extxyz", held_urea)
    command = ["rank", str(tmp_path / "a.extxyz"), "--model", "mini"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--output", str(Path(tmp_path, "ranking")), "--fmax", "0.05"])
    assert end.value.code == 0
    assert "1 of the structures have fixed atoms" in (tmp_path / "ranking/ranking.json").read_text()
