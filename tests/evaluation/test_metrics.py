import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from tlpot.evaluation.errors import center
from tlpot.evaluation.metrics import breakdown, evaluate, judge, metrics
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import composition, units_of

STRESS = np.array([1.0, -2.0, 0.0, 0.0, 3.0, 0.0]) * 1e-3


def two_atoms(energy=0.0, **labels) -> Frame:
    return Frame(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), energy=energy, **labels)


def guess(energy, forces=None, stress=None) -> SimpleNamespace:
    forces = np.zeros((2, 3)) if forces is None else forces
    return SimpleNamespace(energy=energy, forces=forces, stress=stress)


def energies_only(frames, errors) -> list[SimpleNamespace]:
    """Predictions off by `errors`, in meV/atom, for frames labelled with zero energy."""
    return [
        guess(1e-3 * error * len(frame), np.zeros((len(frame), 3)))
        for frame, error in zip(frames, errors, strict=True)
    ]


def test_energy_errors_by_hand():
    frames = [two_atoms(), two_atoms(), two_atoms()]
    found = metrics(frames, [guess(0.002), guess(0.004), guess(0.012)])  # 1, 2, 6 meV/atom
    assert found["energy_mae_meV_per_atom"] == pytest.approx(3.0)
    assert found["energy_rmse_meV_per_atom"] == pytest.approx(np.sqrt(41 / 3))
    assert found["energy_max_meV_per_atom"] == pytest.approx(6.0)
    assert found["energy_mae_centered_meV_per_atom"] == pytest.approx(2.0)  # -2, -1, 3
    assert found["energy_rmse_centered_meV_per_atom"] == pytest.approx(np.sqrt(14 / 3))
    assert (found["n_frames"], found["n_atoms"], found["n_energies"]) == (3, 6, 3)


def test_force_errors_by_hand_in_both_conventions():
    frame = two_atoms(forces=np.zeros((2, 3)))
    wrong = np.array([[0.003, 0.004, 0.0], [0.0, 0.0, 0.001]])
    found = metrics([frame], [guess(0.0, wrong)])
    assert found["force_mae_meV_per_A_component"] == pytest.approx(8 / 6)
    assert found["force_rmse_meV_per_A_component"] == pytest.approx(np.sqrt(26 / 6))
    assert found["force_mae_meV_per_A_vector"] == pytest.approx(3.0)
    assert found["force_rmse_meV_per_A_vector"] == pytest.approx(np.sqrt(26 / 2))
    assert found["force_max_meV_per_A_vector"] == pytest.approx(5.0)


def test_vector_rmse_is_root_three_times_component_rmse(frames, noisy):
    found = evaluate(noisy(0.05), frames)
    for entry in (found, *found["by_element"].values(), *found["by_system"].values()):
        ratio = entry["force_rmse_meV_per_A_vector"] / entry["force_rmse_meV_per_A_component"]
        assert ratio == pytest.approx(np.sqrt(3))


def test_stress_only_where_labelled_and_predicted():
    labelled, bare = two_atoms(stress=np.zeros(6)), two_atoms()
    found = metrics([labelled, bare], [guess(0.0, stress=STRESS), guess(0.0, stress=STRESS)])
    assert found["stress_rmse_meV_per_A3"] == pytest.approx(np.sqrt(14 / 6))
    assert found["stress_mae_meV_per_A3"] == pytest.approx(1.0)
    assert found["n_stresses"] == 1
    assert metrics([labelled], [guess(0.0)])["stress_rmse_meV_per_A3"] is None


def test_one_constant_per_composition_is_removed():
    water, methane = molecule("H2O"), molecule("CH4")
    frames = [Frame(atoms, energy=0.0) for atoms in (water, water, methane, methane)]
    found = metrics(frames, energies_only(frames, [10.0, 12.0, -40.0, -44.0]))
    assert found["energy_mae_centered_meV_per_atom"] == pytest.approx(1.5)  # 1 1 2 2


def test_centring_one_system_is_the_plain_centring(water_crystal):
    frames = [Frame(water_crystal(size), energy=0.0) for size in (1, 2, 3)]
    errors = np.array([1.0, -3.0, 7.0])
    found = metrics(frames, energies_only(frames, errors))["energy_rmse_centered_meV_per_atom"]
    assert found == pytest.approx(np.std(errors))


def test_a_frame_alone_in_its_composition_has_no_centred_error():
    assert center(np.array([5.0, 1.0, 3.0]), np.array(["a", "b", "b"])).tolist() == [-1.0, 1.0]
    found = metrics([two_atoms()], [guess(0.002)])
    assert found["energy_rmse_meV_per_atom"] == pytest.approx(1.0)
    assert found["energy_rmse_centered_meV_per_atom"] is None


def test_missing_labels_are_left_out_not_zero():
    unlabelled = two_atoms(energy=None)
    half = two_atoms(energy=float("nan"), forces=np.array([[0.0, 0, 0], [np.nan] * 3]))
    forces = np.array([[0.002, 0, 0], [9.0, 9, 9]])
    found = metrics([unlabelled, half], [guess(100.0, forces), guess(100.0, forces)])
    assert found["energy_rmse_meV_per_atom"] is None
    assert found["n_energies"] == 0
    assert found["n_forces"] == 1
    assert found["force_mae_meV_per_A_vector"] == pytest.approx(2.0)


def test_a_diverged_prediction_is_undefined_not_left_out():
    frames = [two_atoms(), two_atoms()]
    assert metrics(frames, [guess(0.0), guess(float("nan"))])["energy_rmse_meV_per_atom"] is None


def test_no_frames_are_zero_frames_and_nulls(noisy):
    found = evaluate(noisy(0.0), [])
    assert (found["n_frames"], found["n_atoms"]) == (0, 0)
    assert all(value is None for key, value in found.items() if "meV" in key)
    assert found["by_kind"] == found["by_system"] == found["by_size"] == found["by_element"] == {}


def test_one_prediction_a_frame():
    with pytest.raises(ValueError, match="shorter"):
        metrics([two_atoms()], [])


def test_breakdown_groups(frames, noisy):
    found = breakdown(frames, noisy(0.01).predict(frames))
    assert {k: v["n_frames"] for k, v in found["by_kind"].items()} == {"crystal": 6, "molecule": 4}
    assert {k: v["n_frames"] for k, v in found["by_system"].items()} == {
        "CH4 molecule": 2,
        "H2O crystal": 6,
        "H2O molecule": 2,
    }
    assert list(found["by_size"]) == ["3", "5", "6"]
    assert {k: v["n_atoms"] for k, v in found["by_element"].items()} == {"C": 2, "H": 30, "O": 11}
    assert found["by_system"]["H2O crystal"]["atoms_per_molecule"] == 3


def test_by_element_sees_only_its_own_atoms(frames, exact):
    off = [
        replace(guess, forces=guess.forces + 0.01 * (frame.atoms.numbers == 8)[:, None])
        for guess, frame in zip(exact, frames, strict=True)
    ]
    found = breakdown(frames, off)["by_element"]
    assert found["O"]["force_rmse_meV_per_A_component"] == pytest.approx(10.0)
    assert found["H"]["force_rmse_meV_per_A_component"] == 0.0


def test_composition_is_the_same_for_supercells(water_crystal):
    assert composition(water_crystal(1)) == composition(water_crystal(4)) == "H2O"


def test_units_are_those_of_the_molecules(water_crystal):
    unlike = molecule("H2O")
    unlike.extend(Atoms("N2", [[9, 0, 0], [9, 0, 1.1]]))
    apart = molecule("C6H6")
    apart.positions[-1] *= 2.0
    shifted = water_crystal(2)
    shifted.positions += 1.7
    shifted.wrap()
    some = [molecule("C6H6")] * 9 + [
        apart,
        molecule("C2H2"),
        shifted,
        bulk("Si", cubic=True),
        unlike,
    ]
    units = units_of([Frame(atoms) for atoms in some])
    assert [str(u) for u in units] == [*["C6H6"] * 10, "C2H2", "H2O", "None", "H2O + N2"]
    assert [u and u.atoms_per_molecule for u in units[-5:]] == [12, 4, 3, None, None]


def test_offset_of_crystals_against_molecules_is_per_molecule(frames, exact):
    """30.5 meV/atom are 8.8 kJ/mol of the three atoms of water."""
    off = [
        replace(guess, energy=guess.energy + 0.0305 * len(frame) * (frame.kind == "crystal"))
        for guess, frame in zip(exact, frames, strict=True)
    ]
    ((name, offset),) = breakdown(frames, off)["by_offset"].items()
    assert name == "H2O"
    assert offset["meV_per_atom"] == pytest.approx(30.5)
    assert offset["kJ_mol"] == pytest.approx(30.5 * 3 * 0.0964853, rel=1e-5)
    assert (offset["n_crystals"], offset["n_molecules"]) == (6, 2)


def test_the_frame_that_makes_the_error_is_named(frames, exact):
    off = [
        replace(guess, energy=guess.energy + 1e-3 * (i % 3), forces=guess.forces + 0.01)
        for i, guess in enumerate(exact)
    ]
    even = breakdown(frames, off)
    assert even["by_one_frame"] == {}
    assert len(even["by_frame"]) == 5
    off[3] = replace(off[3], energy=off[3].energy + 1.0, forces=off[3].forces + 0.2)
    broken = breakdown(frames, off)
    worst = broken["by_frame"][0]
    assert (worst["file"], worst["index"]) == ("made-up.extxyz", 3)
    assert worst["energy_error_meV_per_atom"] == pytest.approx(1000 / len(frames[3]))
    assert worst["force_rmse_meV_per_A_component"] == pytest.approx(210)
    rest = metrics([*frames[:3], *frames[4:]], [*off[:3], *off[4:]])
    for name in ("energy_rmse_meV_per_atom", "energy_rmse_centered_meV_per_atom",
                 "force_rmse_meV_per_A_component"):  # fmt: skip
        made = broken["by_one_frame"][name]
        assert made["frame"] == "made-up.extxyz#3"
        assert made["only"] is None
        assert made["rmse"] == pytest.approx(rest[name])


def test_forces_that_are_not_finite_make_no_rmse(frames, exact):
    off = list(exact)
    off[3] = replace(off[3], energy=off[3].energy + 1.0, forces=off[3].forces * np.nan)
    broken = breakdown(frames, off)
    assert set(broken["by_one_frame"]) == {
        "energy_rmse_meV_per_atom",
        "energy_rmse_centered_meV_per_atom",
    }
    worst = broken["by_frame"][0]
    assert (worst["index"], worst["force_rmse_meV_per_A_component"]) == (3, None)


def test_a_lone_molecule_among_crystals_is_told_as_such(frames, exact):
    off = [
        replace(guess, energy=guess.energy + len(frame) * (1e-3 * (i % 3) + 0.03 * (i == 6)))
        for i, (frame, guess) in enumerate(zip(frames, exact, strict=True))
    ]
    made = breakdown(frames[:7], off[:7])["by_one_frame"]["energy_rmse_meV_per_atom"]
    assert made["only"] == "H2O molecule"


def test_chance_hardly_makes_a_frame_the_odd_one(frames, exact):
    """Gaussian errors of ten frames: what the worst adds is told in less than one set in ten."""
    random = np.random.default_rng(0)
    told = 0
    for _ in range(50):
        errors = 0.01 * random.normal(size=len(frames))
        off = [
            replace(guess, energy=guess.energy + error * len(frame))
            for guess, error, frame in zip(exact, errors, frames, strict=True)
        ]
        told += "energy_rmse_meV_per_atom" in breakdown(frames, off)["by_one_frame"]
    assert told < 5


def test_judge_gives_the_contract(frames, noisy):
    judgement = judge(noisy(0.1), noisy(0.01), {"test": frames[:8], "train": frames})
    found = json.loads(json.dumps(judgement.metrics, allow_nan=False))
    assert list(found) == ["baseline", "finetuned"]
    for model in found.values():
        assert list(model) == ["test", "validation", "train"]
        assert model["validation"]["n_frames"] == 0
        assert model["validation"]["force_rmse_meV_per_A_vector"] is None
        assert "by_element" in model["test"]
        assert "by_element" not in model["train"]
    key = "force_rmse_meV_per_A_vector"
    assert found["finetuned"]["test"][key] < found["baseline"]["test"][key]
    assert len(judgement.predictions["finetuned"]["test"]) == 8
    assert judgement.shown_part == "test"
    assert judge(noisy(0.1), noisy(0.1), {"train": frames}).shown_part == "train"
