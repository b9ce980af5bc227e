import numpy as np
import pytest
from ase.build import bulk, molecule

from tlpot.errors import TlpotError
from tlpot.structure.molecules import (
    Unit,
    constitution,
    find_molecules,
    find_unit,
    holds_cation,
    wrong_unit,
)


def test_molecules_are_whole_in_any_cell(packings, moved):
    for atoms, z in ((packings[0], 2), (moved(packings[0]), 4)):
        found = find_molecules(atoms)
        assert [m.get_chemical_formula() for m in found] == ["CH4N2O"] * z
        assert find_unit(found) == (Unit((("CH4N2O", 1),)), z)
        for one in found:
            assert not one.pbc.any()
            assert one.get_all_distances().max() < 4.6
    lengths = [np.sort(find_molecules(a)[0].get_all_distances().ravel())
               for a in (packings[0], moved(packings[0]))]  # fmt: skip
    np.testing.assert_allclose(*lengths, atol=1e-6)


def test_networks_are_refused():
    with pytest.raises(TlpotError, match="network"):
        find_molecules(bulk("C", "diamond", 3.567).repeat(2))


def test_unit_of_a_hydrate():
    crystal = [molecule("CH3OH")] * 4 + [molecule("H2O")] * 2
    unit, z = find_unit(crystal)
    assert z == 2
    assert str(unit) == "2 CH4O + H2O"
    assert wrong_unit(crystal, unit) is None
    assert "not Z × 2 CH4O + H2O: bonds make 4 CH4O" in (wrong_unit(crystal[:4], unit) or "")


def test_missing_atom_is_a_wrong_count(packings):
    unit = find_unit(find_molecules(packings[0]))[0]
    short = packings[0].copy()
    del short[short.symbols.search("H")[0]]
    assert "its 15 atoms are not Z × CH4N2O" in (wrong_unit(find_molecules(short), unit) or "")


def test_constitution_tells_isomers_and_nothing_else():
    ethanol, ether = molecule("CH3CH2OH"), molecule("CH3OCH3")
    assert constitution(ethanol) != constitution(ether)
    shuffled = ethanol[np.random.default_rng(0).permutation(len(ethanol))]
    shuffled.rattle(0.05, seed=0)
    shuffled.rotate(50, (1, 2, 3))
    assert constitution(shuffled) == constitution(ethanol)


def test_a_nitrogen_with_four_bonds_is_a_cation():
    ammonium = molecule("CH4")
    ammonium.symbols[0] = "N"
    assert holds_cation(ammonium)
    assert not any(holds_cation(molecule(name)) for name in ("NH3", "CH3NO2", "CH4"))
