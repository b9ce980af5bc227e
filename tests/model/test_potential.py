"""Physics that any potential must obey, and the model file."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from tlpot.backbones.published import PUBLISHED
from tlpot.errors import TlpotError
from tlpot.model.load import load, load_base, supported_elements
from tlpot.model.potential import Potential, chunks, member_spread
from tlpot.structure.frames import Batch, Frame


@pytest.fixture(params=["small", "small_emodes", "small_schnet"])
def potential(request) -> Potential:
    """A small one of each backbone in float64, or a published one (``"ani2x in float64"``)."""
    name, _, precise = request.param.partition(" ")
    if name.startswith("small"):
        return request.getfixturevalue(name)()
    found = request.getfixturevalue("published")(name)
    if precise:
        found = copy.deepcopy(found)
        found.backbone.double()
    return found


def one(potential: Potential, atoms: Atoms):
    return potential.predict([atoms])[0]


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


@pytest.mark.parametrize(
    "potential", ["small", "small_emodes", "small_schnet", "ani2x in float64"], indirect=True
)
def test_forces_are_minus_the_slope_of_the_energy(potential, urea):
    forces, step = one(potential, urea).forces, 5e-4
    for atom, axis in [(0, 0), (3, 1), (5, 2), (15, 0)]:
        energies = []
        for sign in (1, -1):
            atoms = urea.copy()
            atoms.positions[atom, axis] += sign * step
            energies.append(one(potential, atoms).energy)
        slope = (energies[0] - energies[1]) / (2 * step)
        assert -slope == pytest.approx(forces[atom, axis], abs=1e-3)
    assert np.abs(forces).max() > 0.5


@pytest.mark.parametrize(
    "potential", ["small", "small_emodes", "small_schnet", "ani2x in float64"], indirect=True
)
def test_stress_is_the_slope_in_strain(potential, urea):
    stress, step = one(potential, urea).stress, 1e-3
    for k, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strain = np.zeros((3, 3))
        strain[i, j] += step / 2
        strain[j, i] += step / 2
        up, down = (one(potential, strained(urea, s)).energy for s in (strain, -strain))
        slope = (up - down) / (2 * step) / urea.get_volume()
        assert slope == pytest.approx(stress[k], rel=5e-3, abs=5e-4)
    assert np.abs(stress).max() > 5e-3


def test_forces_and_stress_in_tiny_cells_are_slopes_too(small, structures):
    potential, step = small(), 1e-4
    for atoms in structures(3):
        found = one(potential, atoms)
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[0, 1] += step
        moved[1].positions[0, 1] -= step
        up, down = (one(potential, a).energy for a in moved)
        assert (down - up) / (2 * step) == pytest.approx(found.forces[0, 1], abs=1e-5)
        strain = np.zeros((3, 3))
        strain[0, 2] = strain[2, 0] = step / 2
        up, down = (one(potential, strained(atoms, s)).energy for s in (strain, -strain))
        slope = (up - down) / (2 * step) / atoms.get_volume()
        assert slope == pytest.approx(found.stress[4], abs=1e-6)


def test_translation_changes_nothing_and_no_net_force(potential, urea):
    before = one(potential, urea)
    urea.positions += [7.3, -21.0, 0.4]
    after = one(potential, urea)
    assert after.energy == pytest.approx(before.energy, abs=1e-8)
    np.testing.assert_allclose(after.forces, before.forces, atol=1e-8)
    np.testing.assert_allclose(before.forces.sum(axis=0), 0.0, atol=1e-8)


def test_wrapping_atoms_by_whole_cells_changes_nothing(potential, urea):
    before = one(potential, urea)
    shifts = np.random.default_rng(0).integers(-3, 4, size=(len(urea), 3))
    urea.positions += shifts @ urea.cell.array
    after = one(potential, urea)
    assert after.energy == pytest.approx(before.energy, abs=1e-8)
    np.testing.assert_allclose(after.forces, before.forces, atol=1e-8)
    np.testing.assert_allclose(after.stress, before.stress, atol=1e-9)


def test_rotation_turns_forces_and_stress(potential, urea):
    before = one(potential, urea)
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    turned = Atoms(urea.symbols, urea.positions @ turn.T, cell=urea.cell.array @ turn.T, pbc=True)
    after = one(potential, turned)
    assert after.energy == pytest.approx(before.energy, abs=1e-8)
    np.testing.assert_allclose(after.forces, before.forces @ turn.T, atol=1e-8)
    full = before.stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    expected = (turn @ full @ turn.T)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(after.stress, expected, atol=1e-9)


def test_order_of_atoms_does_not_matter(potential, urea):
    order = np.random.default_rng(1).permutation(len(urea))
    before, after = one(potential, urea), one(potential, urea[order])
    assert after.energy == pytest.approx(before.energy, abs=1e-8)
    np.testing.assert_allclose(after.forces, before.forces[order], atol=1e-8)
    np.testing.assert_allclose(after.energies, before.energies[order], atol=1e-8)


@pytest.mark.parametrize(
    ("potential", "repeat"),
    [
        ("small", (2, 1, 3)),
        ("small_emodes", (2, 1, 3)),
        ("small_schnet", (2, 1, 3)),
        ("ani2x", (3, 3, 3)),
    ],
    indirect=["potential"],
)
def test_energy_is_extensive(potential, urea, repeat):
    cell, many = one(potential, urea), one(potential, urea.repeat(repeat))
    count = int(np.prod(repeat))
    assert many.energy / count / len(urea) == pytest.approx(cell.energy / len(urea), abs=1e-6)
    np.testing.assert_allclose(many.forces, np.tile(cell.forces, (count, 1)), atol=2e-4)
    np.testing.assert_allclose(many.stress, cell.stress, atol=1e-5)
    assert many.energy_std / count == pytest.approx(cell.energy_std, rel=1e-3)


def test_cells_smaller_than_the_cutoff_are_their_supercells(potential, structures):
    for atoms in structures(3):
        cell, many = one(potential, atoms), one(potential, atoms.repeat(3))
        assert many.energy / 27 == pytest.approx(cell.energy, abs=1e-7)
        np.testing.assert_allclose(many.forces[: len(atoms)], cell.forces, atol=1e-8)


@pytest.mark.parametrize(
    "potential", ["small", "small_emodes", "small_schnet", "ani2x"], indirect=True
)
def test_batched_is_single(potential, structures, urea):
    several = [*structures(5), urea, Atoms("H", cell=[9, 9, 9], pbc=True)]
    for atoms, together in zip(several, potential.predict(several), strict=True):
        alone = one(potential, atoms)
        assert together.energy == pytest.approx(alone.energy, abs=1e-5 * len(atoms))
        assert together.energy_std == pytest.approx(alone.energy_std, abs=1e-4)
        np.testing.assert_allclose(together.forces, alone.forces, atol=1e-4)
        if alone.stress is None:
            assert together.stress is None
        else:
            np.testing.assert_allclose(together.stress, alone.stress, atol=1e-5)


def test_long_lists_are_predicted_in_order(monkeypatch, small, structures):
    potential, several = small(), structures(7)
    whole = [p.energy for p in potential.predict(several)]
    monkeypatch.setattr("tlpot.model.potential.CHUNK", 7)
    np.testing.assert_allclose([p.energy for p in potential.predict(several)], whole, atol=1e-8)
    assert potential.predict([]) == []


@pytest.mark.parametrize("pbc", [(True, False, False), (True, True, False), (False, False, True)])
def test_partial_periodicity_is_a_wide_gap_elsewhere(potential, pbc):
    atoms = molecule("CH3OH")
    atoms.set_cell([3.2, 3.4, 3.6])
    atoms.pbc = pbc
    spaced = atoms.copy()
    spaced.cell[~atoms.pbc] *= 10
    spaced.pbc = True
    found, expected = one(potential, atoms), one(potential, spaced)
    assert found.energy == pytest.approx(expected.energy, abs=1e-8)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-8)
    assert found.stress is None
    free = one(potential, Atoms(atoms.symbols, atoms.positions))
    assert abs(free.energy - found.energy) > 1e-3


@pytest.mark.parametrize(
    "atoms",
    [Atoms("H"), Atoms("CO", [(0, 0, 0), (0, 0, 4.0)]), Atoms("N", cell=[9, 9, 9], pbc=True)],
    ids=["atom", "far pair", "boxed atom"],
)
def test_structures_without_close_neighbours(potential, plain, atoms):
    found, expected = one(potential, atoms), one(plain(potential), atoms)
    assert found.energy == pytest.approx(expected.energy, abs=1e-9)
    assert found.forces.shape == (len(atoms), 3)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-9)
    energy = potential.evaluate(potential.batch([Frame(atoms)]), training=True).energy.mean()
    assert energy.item() == pytest.approx(expected.energy, abs=1e-9)


def test_energy_is_the_mean_over_members_and_its_spread(small, urea):
    potential = small()
    batch = potential.batch([Frame(urea)])
    with torch.no_grad():
        members = potential.backbone.atomic_energies(batch).sum(dim=1)
    found = one(potential, urea)
    own = sum(potential.reference.values[s] for s in urea.symbols)
    assert found.energy == pytest.approx(members.mean().item() + own, abs=1e-8)
    assert found.energy_std == pytest.approx(np.std(members.numpy(), ddof=1), abs=1e-10)
    assert found.energies.sum() == pytest.approx(found.energy, abs=1e-8)
    output = potential.evaluate(batch, members=True)
    assert output.forces.shape == (3, 16, 3)
    np.testing.assert_allclose(output.forces.mean(dim=0).numpy(), found.forces, atol=1e-9)
    np.testing.assert_allclose(output.energy[:, 0] - own, members, atol=1e-8)
    assert member_spread(members[:1]).item() == 0.0


def test_float32_is_enough_for_forces(published, urea):
    """The resolution of the published weights' own precision, and of the sums over atoms."""
    single = published("ani2x")
    double = copy.deepcopy(single)
    double.backbone.double()
    a, b = one(single, urea), one(double, urea)
    assert a.energy == pytest.approx(b.energy, abs=1e-5 * len(urea))
    np.testing.assert_allclose(a.forces, b.forces, atol=5e-5)
    np.testing.assert_allclose(a.stress, b.stress, atol=1e-6)


def test_a_part_of_the_elements_can_be_saved(small, urea, tmp_path):
    compact = small().for_elements({"C", "N", "O", "H"})
    again = load(compact.save(tmp_path / "compact.safetensors"))
    assert set(again.elements) == {"C", "N", "O", "H"}
    assert again.predict([urea])[0].energy == compact.predict([urea])[0].energy


def test_for_elements_changes_no_prediction(published, urea):
    potential = published("ani2x")
    compact = potential.for_elements({"C", "N", "O", "H"})
    assert set(compact.elements) == {"C", "N", "O", "H"}
    a, b = one(potential, urea), one(compact, urea)
    assert a.energy == pytest.approx(b.energy, abs=1e-5)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-5)


@pytest.mark.parametrize("potential", ["small"], indirect=True)
def test_unknown_elements_are_refused_with_donors(potential):
    with pytest.raises(TlpotError, match=r"Si.*model\.elements: \{Si: C\}"):
        potential.predict([Atoms("SiO", [(0, 0, 0), (0, 0, 1.5)])])
    with pytest.raises(TlpotError, match="Si"):
        potential.for_elements({"Si", "H"})


# --- stand-ins -----------------------------------------------------------------------------------


def test_a_stand_in_has_its_donors_network_and_its_own_reference(base_model):
    potential = load_base(base_model, {"Si": "C", "Cl": "O"})
    silane, methane = molecule("CH4"), molecule("CH4")
    silane.symbols[0] = "Si"
    a, b = one(potential, silane), one(potential, methane)
    assert a.energy == b.energy
    np.testing.assert_array_equal(a.forces, b.forces)
    potential.reference.values["Si"] += 2.5
    assert one(potential, silane).energy - b.energy == pytest.approx(2.5, abs=1e-6)
    assert one(potential, methane).energy == pytest.approx(b.energy, abs=1e-6)


def test_a_stand_in_may_stand_on_another(base_model, tmp_path):
    first = load_base(base_model, {"Si": "C"}).save(tmp_path / "first.safetensors")
    second = load_base(first, {"Ge": "Si"})
    assert second.backbone.donors == {"Si": "C", "Ge": "C"}
    assert set(second.elements) == {"H", "C", "N", "O", "Si", "Ge"}


@pytest.mark.parametrize(
    ("elements", "message"),
    [({"Si": "Ge"}, "donor Ge"), ({"H": "C"}, "already supported"), ({"Qq": "C"}, "'Qq'")],
)
def test_stand_ins_that_cannot_work_are_refused(base_model, elements, message):
    with pytest.raises(TlpotError, match=message):
        load_base(base_model, elements)


# --- many at once --------------------------------------------------------------------------------


def test_batch_carries_labels_to_the_potential(small, labelled):
    frames = labelled(4)
    batch = small().batch(frames)
    assert isinstance(batch, Batch)
    assert batch.energy.tolist() == [f.energy for f in frames]
    np.testing.assert_array_equal(batch.forces.numpy(), np.concatenate([f.forces for f in frames]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_supported_elements_are_known_without_the_weights(published, name):
    assert supported_elements(name) == published(name).elements


def test_chunks_hold_everything_once_in_order_and_are_not_too_large(monkeypatch):
    monkeypatch.setattr("tlpot.model.potential.CHUNK", 7)
    sizes = [3, 4, 1, 9, 2, 5, 1]
    groups = [[len(atoms) for atoms in group] for group in chunks([Atoms(n * "H") for n in sizes])]
    assert groups == [[3, 4], [1], [9], [2, 5], [1]]
    assert list(chunks([])) == []


def test_one_structure_gives_one_prediction(small, urea):
    """Atoms are a sequence of atoms; they are one structure all the same."""
    potential = small()
    (expected,) = potential.predict([urea])
    for one in (urea, Frame(urea)):
        found = potential.predict(one)
        assert found.energy == expected.energy
        np.testing.assert_array_equal(found.forces, expected.forces)
    assert [p.energy for p in potential.predict(a for a in (urea, urea))] == [expected.energy] * 2
    assert potential.predict([]) == []
    for wrong in ("POSCAR", ["POSCAR"], urea[0], None, [[urea]]):
        with pytest.raises(TlpotError, match=r"predict takes ase.Atoms or the frames"):
            potential.predict(wrong)
