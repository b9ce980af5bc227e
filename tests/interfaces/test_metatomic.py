"""Exported to metatomic: the same energies, forces and stress, without tlpot's code."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

pytest.importorskip("metatomic.torch")

import torch
from metatensor.torch import Labels
from metatomic.torch import ModelEvaluationOptions, ModelOutput, load_atomistic_model
from metatomic.torch.systems_to_torch import systems_to_torch

from tlpot.errors import TlpotError
from tlpot.interfaces.metatomic import export_metatomic
from tlpot.model.load import load, load_base
from tlpot.model.potential import Potential


def test_moments_are_exported(urea, weighty, tmp_path):
    potential = weighty(load("mini"), [urea])
    path = export_metatomic(potential, tmp_path / "moments.pt")
    atoms = urea.copy()
    atoms.calc = pytest.importorskip("metatomic_ase").MetatomicCalculator(path)
    ours = potential.predict([urea])[0]
    assert atoms.get_potential_energy() == pytest.approx(ours.energy, abs=1e-5)
    assert np.abs(atoms.get_forces() - ours.forces).max() < 1e-4


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_metatomic(load("mini"), tmp_path_factory.mktemp("model") / "mini.pt")


def test_energies_forces_and_stress_are_ours(exported, urea):
    calculator = pytest.importorskip("metatomic_ase").MetatomicCalculator(exported)
    lone = Atoms("O", cell=[20.0] * 3, pbc=True)
    for atoms in (urea, urea.repeat((2, 1, 1)), molecule("CH3CONH2"), lone):
        ours = load("mini").predict([atoms])[0]
        atoms = atoms.copy()
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(ours.energy, abs=1e-5)
        assert np.abs(atoms.get_forces() - ours.forces).max() < 2e-5
        if ours.stress is not None:
            assert np.abs(atoms.get_stress() - ours.stress).max() < 1e-6


@pytest.mark.parametrize("kind", ["alias", "clone"])
def test_new_elements_are_exported_as_they_are(kind, tmp_path):
    potential = load_base("mini", {"Si": {"from": "C", "as": kind}})
    path = export_metatomic(potential, tmp_path / "silane.pt")
    atoms = molecule("SiH4")
    atoms.calc = pytest.importorskip("metatomic_ase").MetatomicCalculator(path)
    ours = potential.predict([atoms])[0]
    assert atoms.get_potential_energy() == pytest.approx(ours.energy, abs=1e-5)
    assert np.abs(atoms.get_forces() - ours.forces).max() < 2e-5


def neighbours(atoms: Atoms, model):
    """What an engine hands over: a system with the pairs that the model asks for."""
    from vesin.metatomic import compute_requested_neighbors

    system = systems_to_torch(atoms, dtype=torch.float64)
    compute_requested_neighbors(system, "angstrom", model)
    return system


def test_several_systems_atoms_and_chosen_atoms(exported, urea):
    pytest.importorskip("vesin.metatomic")
    model = load_atomistic_model(exported)
    systems = [neighbours(atoms, model) for atoms in (urea, molecule("H2O"))]
    ours = load("mini").predict([urea, molecule("H2O")])

    def ask(kind, chosen=None):
        wanted = ModelEvaluationOptions(
            length_unit="angstrom",
            outputs={"energy": ModelOutput(unit="eV", sample_kind=kind)},
            selected_atoms=chosen,
        )
        return model(systems, wanted, check_consistency=True)["energy"].block().values[:, 0]

    assert ask("system").tolist() == pytest.approx([p.energy for p in ours], abs=1e-5)
    atomic = np.concatenate([p.energies for p in ours])
    assert ask("atom").tolist() == pytest.approx(atomic, abs=1e-5)
    chosen = Labels(["system", "atom"], torch.tensor([[0, 3], [1, 0], [1, 2]]))
    expected = [ours[0].energies[3], ours[1].energies[[0, 2]].sum()]
    assert ask("system", chosen).tolist() == pytest.approx(expected, abs=1e-5)


def test_other_backbones_are_refused(small_emodes, tmp_path):
    potential: Potential = small_emodes()
    with pytest.raises(TlpotError, match="emodes cannot be exported"):
        export_metatomic(potential, tmp_path / "model.pt")
