import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from tlpot.csp.gas import GAS, gas_energy
from tlpot.csp.landscape import Candidate, Energies, spread_of_differences
from tlpot.errors import TlpotError
from tlpot.structure.molecules import Unit, constitution, find_molecules


def test_density(packings):
    one = Candidate("urea", packings[0], 2, np.zeros(2))
    assert one.density == pytest.approx(1.375, abs=0.002)


def test_members_average_to_the_energy(mini, packings):
    members = Energies(mini).members(packings)
    assert members.shape == (len(packings), mini.backbone.members)
    predicted = [p.energy for p in mini.predict(packings)]
    np.testing.assert_allclose(members.mean(axis=1), predicted, atol=1e-6)


def test_gas_molecule_does_not_depend_on_the_start(mini, packings):
    unit = Unit((("CH4N2O", 1),))
    starts = [find_molecules(atoms)[0] for atoms in packings]
    one, alone = gas_energy(unit, {"CH4N2O": starts[:1]}, Energies(mini))
    two, _ = gas_energy(unit, {"CH4N2O": starts[::-1]}, Energies(mini))
    np.testing.assert_allclose(one, two, atol=2e-3)
    forces = Energies(mini).forces(alone[0])
    assert np.linalg.norm(forces, axis=1).max() < 0.011


def test_gas_molecule_that_does_not_relax_is_named(mini, monkeypatch):
    monkeypatch.setattr("tlpot.csp.gas.GAS", GAS.model_copy(update={"steps": 1}))
    stretched = molecule("CH3OH")
    stretched.rattle(0.1, seed=0)
    with pytest.raises(TlpotError, match=r"gas molecule CH4O .*1 steps.*--molecule"):
        gas_energy(Unit((("CH4O", 1),)), {"CH4O": [stretched]}, Energies(mini))


@pytest.fixture(scope="module")
def bursting():
    """CO and water within a bond's length of each other, from where they part downhill."""
    water = molecule("H2O")
    water.rotate(180, "x", center=water.positions[0])
    water.rotate(90, "y", center=water.positions[0])
    water.translate(-water.positions[0])
    return water + Atoms("CO", [[1.6, 0, 0], [2.1, 1.02, 0]])


def test_a_component_that_falls_apart_alone_is_told(mini, bursting):
    unit = Unit((("CH2O2", 1), ("H2O", 2)))
    starts, remarks = {"CH2O2": [bursting], "H2O": [molecule("H2O")]}, []
    _, alone = gas_energy(unit, starts, Energies(mini), remarks.append)
    assert len(alone) == 2
    (remark,) = remarks
    assert "gas molecule CH2O2 does not stay" in remark
    assert "broken bonds" in remark
    assert "O0-C3" in remark
    assert "falls apart into CO + H2O" in remark
    assert "above the lowest do not depend" in remark


def test_a_start_that_stays_what_it_is_counts_before_one_that_does_not(mini, bursting):
    whole, remarks = molecule("HCOOH"), []
    energies = Energies(mini)
    unit = Unit((("CH2O2", 1),))
    found, alone = gas_energy(unit, {"CH2O2": [bursting, whole]}, energies, remarks.append)
    lone, _ = gas_energy(unit, {"CH2O2": [whole]}, energies)
    assert not remarks
    np.testing.assert_allclose(found, lone, atol=1e-3)
    assert constitution(alone[0]) == constitution(whole)


def test_what_members_share_cancels_in_differences():
    random = np.random.default_rng(0)
    common, own = random.normal(0, 30, 8), random.normal(0, 1, (5, 8))
    energies = common + own
    found = spread_of_differences(energies, 2.0)
    for i in range(5):
        for j in range(5):
            expected = 2.0 * np.std(energies[i] - energies[j], ddof=1)
            assert found[i, j] == pytest.approx(expected, abs=1e-6)
    assert found.max() < 0.3 * energies.std(axis=1, ddof=1).min()


def test_a_single_network_has_no_error_bar():
    assert np.isnan(spread_of_differences(np.zeros((3, 1)), 1.0)).all()
