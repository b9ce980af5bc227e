import numpy as np
import pytest
import torch
import torch_sim
from ase import Atoms
from torch_sim.state import initialize_state

from tlpot.errors import TlpotError
from tlpot.interfaces.torchsim import TorchSimModel


@pytest.fixture
def crystals(structures) -> list[Atoms]:
    return [atoms for atoms in structures(8) if atoms.pbc.all()]


def state_of(atoms):
    return initialize_state(atoms, torch.device("cpu"), torch.float64)


def assert_agrees(found, expected):
    assert found["energy"].tolist() == pytest.approx([p.energy for p in expected], abs=1e-9)
    assert np.allclose(found["forces"], np.concatenate([p.forces for p in expected]), atol=1e-9)
    for stress, prediction in zip(found["stress"].numpy(), expected, strict=True):
        assert np.allclose(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], prediction.stress)


def test_a_batch_of_unlike_cells_is_what_each_is_alone(small, crystals):
    potential = small()
    assert_agrees(TorchSimModel(potential)(state_of(crystals)), potential.predict(crystals))


def test_single_precision_weights_agree_to_1e_5_ev_per_atom(small, crystals):
    potential = small(dtype=torch.float32)
    found = TorchSimModel(potential, {"H", "O"})(state_of(crystals))["energy"]
    alone = [potential.predict([atoms])[0].energy for atoms in crystals]
    assert found.tolist() == pytest.approx(alone, abs=1e-5 * min(map(len, crystals)))


def test_molecules_have_no_stress(small, structures):
    molecules = [atoms for atoms in structures(8) if not atoms.pbc.any()]
    potential = small()
    found = TorchSimModel(potential)(state_of(molecules))
    expected = [p.energy for p in potential.predict(molecules)]
    assert found["energy"].tolist() == pytest.approx(expected)
    assert found["stress"].isnan().all()


def test_lists_follow_atoms_and_cells(small, crystals):
    """Small and large changes, of atoms and cells, one structure at a time."""
    potential, random = small(), np.random.default_rng(0)
    model = TorchSimModel(potential, skin=0.4)
    for size in (0.01, 0.1, 0.02, 0.3, 0.02):
        for atoms in crystals[::2]:
            strain = np.eye(3) + 0.1 * size * random.normal(size=(3, 3))
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            atoms.positions += size * random.normal(size=atoms.positions.shape)
        assert_agrees(model(state_of(crystals)), potential.predict(crystals))


def test_lists_are_kept_while_they_hold(small, crystals):
    model = TorchSimModel(small())
    state = state_of(crystals)
    model(state)
    before = model._held
    state.positions = state.positions + 0.01
    state.cell = state.cell * 1.001
    model(state)
    assert model._held is before
    state.cell = state.cell * 0.7
    model(state)
    assert model._held is not before


def test_a_structure_keeps_its_list_when_others_leave(small, crystals):
    potential = small()
    model = TorchSimModel(potential)
    state = state_of(crystals)
    state.index = torch.arange(len(crystals)) + 7
    model(state)
    lists = dict(model._lists)
    fewer = state_of([crystals[3], crystals[0]])
    fewer.index = torch.tensor([10, 7])
    assert_agrees(model(fewer), potential.predict([crystals[3], crystals[0]]))
    assert model._lists == {10: lists[10], 7: lists[7]}


def test_copies_of_a_structure_may_share_a_number(small, crystals):
    """As when torch-sim measures how many fit the memory."""
    potential = small()
    state = state_of([crystals[1]] * 3)
    state.index = torch.tensor([4, 4, 4])
    assert_agrees(TorchSimModel(potential)(state), potential.predict([crystals[1]] * 3))


def test_torch_sims_own_optimiser_runs_on_it(small, crystals):
    if hasattr(torch_sim, "Optimizer"):
        unit_cell = {"cell_filter": torch_sim.CellFilter.unit}
        how = {"optimizer": torch_sim.Optimizer.fire, "init_kwargs": unit_cell}
    else:  # 0.3
        how = {"optimizer": torch_sim.unit_cell_fire}
    model = TorchSimModel(small())
    before = model(state_of(crystals))["energy"]
    after = torch_sim.optimize(state_of(crystals), model, max_steps=20, **how)
    assert (after.energy < before).all()


def test_a_state_periodic_in_two_directions_is_refused(small, crystals):
    state = state_of(crystals[:1])
    state.pbc = torch.tensor([True, True, False])
    with pytest.raises(TlpotError, match="three directions"):
        TorchSimModel(small())(state)


def test_an_unknown_element_is_named(small):
    atoms = Atoms("Xe", cell=[4, 4, 4], pbc=True)
    with pytest.raises(TlpotError, match="Xe"):
        TorchSimModel(small())(state_of([atoms]))


def test_a_model_by_name_and_a_device_that_is_not_there(mini, crystals):
    expected = TorchSimModel(mini)(state_of(crystals[:1]))["energy"]
    assert TorchSimModel("mini", device="cpu")(state_of(crystals[:1]))["energy"] == expected
    with pytest.raises(TlpotError, match="cannot be used here"):
        TorchSimModel("mini", device="cuda:77")
    with pytest.raises(TlpotError, match="nowhere"):
        TorchSimModel("nowhere")
