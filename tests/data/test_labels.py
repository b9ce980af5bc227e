"""Which label is taken, under what name, and when that is refused."""

import re
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from tlpot.config.data import Data, Keys
from tlpot.data.check import check_frames
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError

FORCES = np.arange(9.0).reshape(3, 3) / 10
STRESS = np.array([1.0, 0.1, 0.2, 0.1, 1.5, 0.3, 0.2, 0.3, 2.0])


def crystal(**results: object) -> Atoms:
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]], cell=[4, 4, 5], pbc=True)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def write(path: Path, info: dict, arrays: dict | None = None) -> Path:
    """An extxyz whose labels carry just the given names."""
    atoms = crystal()
    atoms.info.update(info)
    for key, value in (arrays or {}).items():
        atoms.arrays[key] = value
    ase.io.write(path, atoms, format="extxyz")
    return path


def refusal(*args: object, **kwargs: object) -> str:
    with pytest.raises(TlpotError) as error:
        read_frames(*args, **kwargs)  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize(
    ("energy", "forces"),
    [
        ("REF_energy", "REF_forces"),
        ("dft_energy", "dft_forces"),
        ("DFT_energy", "DFT_forces"),
        ("TotEnergy", "force"),
        ("orca_energy", "orca_forces"),
        ("total_energy", "forces"),
        ("E", "forces"),
        ("energy_dft", "forces_dft"),
        ("E_vasp", "forces-vasp"),
        ("energy_eV", "forces_eV"),
        ("total_energy_eV", "forces_eV/A"),
        ("energy(eV)", "dft_forces_eV_per_ang"),
    ],
)
def test_names_in_the_wild(tmp_path: Path, energy: str, forces: str) -> None:
    path = write(tmp_path / "a.extxyz", {energy: -3.5}, {forces: FORCES})
    (frame,) = read_frames(path)
    assert frame.energy == -3.5
    np.testing.assert_allclose(frame.forces, FORCES)
    assert (frame.info["energy_key"], frame.info["forces_key"]) == (energy, forces)


@pytest.mark.parametrize(
    ("info", "forces", "keys", "says"),
    [
        ({"energy_hartree": -1.0}, "forces", {"energy": "energy_hartree"}, "hartree by its name"),
        ({"energy": -1.0}, "f_au", {"forces": "f_au"}, "forces 'f_au' is in au"),
        ({"energy": -1.0, "energy_unit": "Ha"}, "forces", {}, "in ha by 'energy_unit=Ha'"),
        ({"energy": -1.0, "units": "kcal/mol"}, "forces", {}, "in kcal by 'units=kcal/mol'"),
    ],
)
def test_another_unit_is_believed(tmp_path, info, forces, keys, says) -> None:
    """It was taken for eV, if only somebody named it."""
    path = write(tmp_path / "a.extxyz", info, {forces: FORCES})
    assert says in refusal(path, Keys(**keys))
    mine = {"energy": -1.0, "energy_unit": "eV", "units": "eV, Angstrom"}
    (frame,) = read_frames(write(tmp_path / "b.extxyz", mine, {"forces": FORCES}))
    assert frame.energy == -1.0


def test_columns_that_may_be_the_forces_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.extxyz", {"energy": -1.0}, {"grad_E_neg": FORCES})
    with pytest.raises(TlpotError, match="no forces; it has grad_E_neg"):
        check_frames(read_frames(path), Data(files=[str(path)]))


@pytest.mark.parametrize("key", ["stress_GPa", "vasp_stress_kbar", "REF_virial_hartree"])
def test_a_stress_that_is_not_read_is_told(tmp_path: Path, key: str) -> None:
    """Training went without it and nobody said so."""
    path = write(tmp_path / "a.extxyz", {"energy": -1.0, key: STRESS}, {"forces": FORCES})
    remarks = check_frames(read_frames(path), Data(files=[str(path)])).remarks
    assert any(f"but '{key}'" in remark and "eV/Å³" in remark for remark in remarks)
    known = {"energy": -1.0, "stress": STRESS, key: STRESS}
    path = write(tmp_path / "b.extxyz", known, {"forces": FORCES})
    frames = check_frames(read_frames(path), Data(files=[str(path)]))
    assert "no stress" not in " ".join(frames.remarks)


@pytest.mark.parametrize("key", ["gradient", "orca_gradients", "grad"])
def test_gradients_are_negative_forces(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "a.extxyz", {"energy": -3.5}, {key: -FORCES})
    np.testing.assert_allclose(read_frames(path)[0].forces, FORCES)
    write(path, {"energy": -3.5}, {key: -FORCES, "forces": FORCES})
    np.testing.assert_allclose(read_frames(path)[0].forces, FORCES)


def test_the_norm_of_a_gradient_is_no_label(tmp_path: Path) -> None:
    (frame,) = read_frames(write(tmp_path / "a.extxyz", {"energy": -3.5, "grad": 0.01}))
    assert frame.forces is None


@pytest.mark.parametrize("key", ["kinetic_energy", "formation_energy", "energy_per_atom"])
def test_energies_that_are_not_totals_are_no_labels(tmp_path: Path, key: str) -> None:
    (frame,) = read_frames(write(tmp_path / "a.extxyz", {key: -3.5}))
    assert frame.energy is None


def test_energy_that_belongs_to_the_forces(tmp_path: Path) -> None:
    path = tmp_path / "a.traj"
    ase.io.write(path, crystal(energy=-1.0, free_energy=-1.5, forces=FORCES))
    (consistent,) = read_frames(path)
    (extrapolated,) = read_frames(path, energy="energy")
    assert (consistent.energy, consistent.info["energy_key"]) == (-1.5, "free_energy")
    assert (extrapolated.energy, extrapolated.info["energy_key"]) == (-1.0, "energy")


def test_competing_labels_are_refused_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.extxyz",
        {"REF_energy": -3.5, "orca_energy": -3.4},
        {"REF_forces": FORCES, "orca_forces": 2 * FORCES},
    )
    message = refusal(path)
    for part in (f"{path}#0", "REF_energy = -3.5", "orca_energy = -3.4", "data.keys.energy"):
        assert part in message
    (frame,) = read_frames(path, Keys(energy="orca_energy"))
    assert frame.energy == -3.4
    np.testing.assert_allclose(frame.forces, 2 * FORCES)  # follows the energy's prefix


def test_calculator_and_info_that_disagree(tmp_path: Path) -> None:
    image = crystal(energy=-1.0, forces=FORCES)
    image.info["energy"] = -2.0
    path = tmp_path / "a.traj"
    ase.io.write(path, image)
    assert "energy (in info) = -2.0" in refusal(path)
    assert read_frames(path, Keys(energy="energy"))[0].energy == -1.0


def test_same_number_in_float32_is_no_conflict(tmp_path: Path) -> None:
    """As in water/val: the energy once exact and once rounded."""
    path = write(tmp_path / "a.extxyz", {"TotEnergy": -30043.86733289, "energy": -30043.8671875})
    assert read_frames(path)[0].energy == pytest.approx(-30043.867, abs=1e-3)


def test_named_key_that_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.extxyz", {"REF_energy": -3.5})
    message = refusal(path, Keys(energy="REF_enegry"))
    assert "'REF_enegry'" in message
    assert "did you mean REF_energy" in message


def test_named_key_of_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.extxyz", {"U_pbe": -3.5, "energy": 0.0}, {"minus_dU": FORCES})
    (frame,) = read_frames(path, Keys(energy="U_pbe", forces="minus_dU"))
    assert frame.energy == -3.5
    np.testing.assert_allclose(frame.forces, FORCES)


def test_two_names_in_one_file_may_be_two_levels_of_theory(tmp_path: Path) -> None:
    one, two = crystal(), crystal()
    one.info["dft_energy"], two.info["ccsd_energy"] = -1.0, -2.0
    path = tmp_path / "a.extxyz"
    ase.io.write(path, [one, two])
    message = refusal(path)
    assert "'dft_energy'" in message
    assert "'ccsd_energy'" in message
    assert "#1" in message


def test_virial_becomes_stress(tmp_path: Path) -> None:
    virial = np.diag([1.0, 2.0, 3.0])
    virial[1, 2] = virial[2, 1] = 0.5
    (frame,) = read_frames(write(tmp_path / "a.extxyz", {"energy": -1.0, "dft_virial": virial}))
    np.testing.assert_allclose(frame.stress, -np.array([1, 2, 3, 0.5, 0, 0]) / 80.0)


def test_stress_of_nine_numbers(tmp_path: Path) -> None:
    full = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]]) / 100
    (frame,) = read_frames(write(tmp_path / "a.extxyz", {"energy": -1.0, "REF_stress": full}))
    np.testing.assert_allclose(frame.stress, np.arange(1, 7) / 100)


@pytest.mark.parametrize("weight", ["config_stress_weight", "stress_weight", "virial_weight"])
def test_zero_weight_is_no_stress(tmp_path: Path, weight: str) -> None:
    info = {"energy": -1.0, "stress": np.eye(3) / 100, weight: 0.0}
    (frame,) = read_frames(write(tmp_path / "a.extxyz", info))
    assert frame.stress is None
    assert frame.energy == -1.0
    (frame,) = read_frames(write(tmp_path / "b.extxyz", {**info, weight: 1.0}))
    assert frame.stress is not None


def test_zero_weight_is_no_energy_or_forces(tmp_path: Path) -> None:
    info = {"energy": -1.0, "config_forces_weight": 0.0}
    (frame,) = read_frames(write(tmp_path / "a.extxyz", info, {"REF_forces": FORCES}))
    assert frame.energy == -1.0
    assert frame.forces is None
    info = {"energy": -1.0, "config_energy_weight": 0}
    (frame,) = read_frames(write(tmp_path / "b.extxyz", info, {"REF_forces": FORCES}))
    assert frame.energy is None
    assert frame.forces is not None


def test_stress_of_a_molecule_in_a_box_means_nothing(tmp_path: Path) -> None:
    image = crystal(energy=-1.0, forces=FORCES, stress=np.ones(6))
    assert read_frames(_saved(tmp_path, image))[0].stress is not None
    image.set_cell([25, 25, 25])
    (frame,) = read_frames(_saved(tmp_path, image))
    assert frame.kind == "molecule"
    assert frame.stress is None
    assert "stress_key" not in frame.info


def _saved(folder: Path, image: Atoms) -> Path:
    ase.io.write(folder / "a.traj", image)
    return folder / "a.traj"


def test_forces_on_constrained_atoms_are_not_zeroed(tmp_path: Path) -> None:
    image = crystal(energy=-1.0, forces=FORCES + 1)
    image.set_constraint(FixAtoms([0, 1]))
    (frame,) = read_frames(_saved(tmp_path, image))
    np.testing.assert_allclose(frame.forces, FORCES + 1)
    assert [list(one.index) for one in frame.atoms.constraints] == [[0, 1]]


def test_what_else_the_file_says_is_kept(tmp_path: Path) -> None:
    info = {"energy": -1.0, "charge": 1, "spin": 2, "name": "x7"}
    (frame,) = read_frames(write(tmp_path / "a.extxyz", info))
    assert {key: frame.info[key] for key in ("charge", "spin", "name")} == {
        "charge": 1,
        "spin": 2,
        "name": "x7",
    }
    assert "energy" not in frame.info


def test_database_key_values(tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(crystal(), dft_energy=-2.5, total_charge=1, data={"dft_forces": FORCES})
    (frame,) = read_frames(tmp_path / "a.db")
    assert frame.energy == -2.5
    assert frame.info["total_charge"] == 1
    np.testing.assert_allclose(frame.forces, FORCES)


def test_label_of_the_wrong_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "a.extxyz", {"energy": -1.0}, {"forces_": np.ones(3)})
    message = refusal(path, Keys(forces="forces_"))
    assert f"{path}#0" in message
    assert "3 atoms" in message
    assert "data.keys.forces" in message


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ({"energy": "PBE"}, "its energy is not a number"),
        ({"stress": [1, 2, 3]}, "its stress .* wrong shape"),
        ({"config_weight": "high"}, "its config_weight is no number: 'high'"),
        ({"energy_weight": [1, 2]}, "its energy_weight is no number"),
    ],
)
def test_what_is_no_label_beside_one_that_is(tmp_path: Path, info: dict, says: str) -> None:
    atoms = crystal(energy=-1.0, forces=FORCES, stress=np.zeros(6))
    atoms.info.update(info)
    ase.io.write(tmp_path / "a.traj", atoms)
    assert re.search(rf"a\.traj#0: {says}", refusal(tmp_path / "a.traj"))


def test_the_moment_of_a_calculation_is_known(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.extxyz", crystal(energy=-1.0, forces=FORCES, magmom=2.0))
    assert read_frames(tmp_path / "a.extxyz")[0].info["magmom"] == 2.0


def test_water_of_mattertune(tlpot_data: Path) -> None:
    """One energy under two names, one of them rounded to float32."""
    frames = read_frames(tlpot_data / "water" / "*_water_1000_eVAng.xyz")
    assert len(frames) == 130
    assert all(frame.forces is not None and frame.stress is None for frame in frames)
    assert frames[0].energy == -30010.46073064


def test_janus(tlpot_data: Path) -> None:
    frame = read_frames(tlpot_data / "janus/mlip_test.xyz")[0]
    assert (frame.energy, frame.info["energy_key"]) == (-842.19986612, "dft_energy")
    assert frame.stress is not None
    assert frame.stress[0] == -0.002807895578799348


def test_si_i_molecules_need_a_name(tlpot_data: Path) -> None:
    path = tlpot_data / "si_i_molecules/aimnet2_configs.xyz"
    assert "orca_energy" in refusal(path)
    frames = read_frames(path, Keys(energy="orca_energy"))
    assert frames[0].energy == -22749.357279840206
    assert frames[0].forces is not None
    assert frames[0].forces[0, 0] == -1.84535272
