"""Engines by name, and the physics of folding a replicated cell."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from tlpot.config.run import Label
from tlpot.errors import TlpotError
from tlpot.labelling.engines import Engine, describe, folded, repeats


def engine(**settings: object) -> Engine:
    return Engine(Label(**settings))


@pytest.fixture
def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def ice() -> Atoms:
    """Two unlike water molecules in a sheared cell of about 5 Å."""
    atoms = molecule("H2O")
    atoms += molecule("H2O")
    atoms.positions[3:] += (2.4, 2.5, 0.6)
    atoms.set_cell([[5.1, 0.0, 0.0], [0.4, 5.2, 0.0], [0.0, -0.3, 5.1]])
    atoms.pbc = True
    atoms.rattle(0.05, seed=2)
    return atoms


def forces_by_energy(label: Callable[[Atoms], float], atoms: Atoms, place, step: float) -> float:
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[place] += sign * step
        ends.append(label(moved))
    return (ends[1] - ends[0]) / (2 * step)


def stress_by_energy(label: Callable[[Atoms], float], atoms: Atoms, i, j, step: float) -> float:
    ends = []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[i, j] += sign * step / 2
        strain[j, i] += sign * step / 2
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        ends.append(label(moved))
    return (ends[0] - ends[1]) / (2 * step * atoms.get_volume())


def test_repeats_reach_the_height_not_the_length():
    atoms = Atoms("H", cell=[[6.0, 0, 0], [9.9, 5.0, 0], [0, 0, 11.0]], pbc=(True, True, False))
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    times = repeats(atoms, 10.0)
    assert times[2] == 1
    assert (heights[:2] * times[:2] >= 10.0).all()
    assert (heights[:2] * (np.array(times[:2]) - 1) < 10.0).all()
    assert repeats(Atoms("H"), 10.0) == (1, 1, 1)
    assert repeats(bulk("Cu", cubic=True), 2 * 3.61) == (2, 2, 2)


def test_folding_changes_nothing_where_energy_is_extensive(copper):
    plain, fold = (folded(copper, EMT(), shortest, True) for shortest in (0.0, 10.0))
    assert fold.energy == pytest.approx(plain.energy, abs=1e-9)
    assert fold.forces == pytest.approx(plain.forces, abs=1e-9)
    assert fold.stress == pytest.approx(plain.stress, abs=1e-9)


def test_the_energy_is_the_one_the_forces_belong_to(copper):
    smeared = engine(engine="faulty_engines:Smeared").label(copper)
    assert smeared.energy == pytest.approx(engine(engine="emt").label(copper).energy - 1.0)


def test_stress_only_where_it_means_something(copper):
    assert engine(engine="emt").label(copper).stress is not None
    assert engine(engine="emt", stress=False).label(copper).stress is None
    copper.pbc = (True, True, False)
    assert engine(engine="emt").label(copper).stress is None


def test_gfn1_is_the_default_and_says_so():
    pytest.importorskip("tblite")
    default = engine()
    default.check()
    assert default.name.startswith("TBLite ")
    assert default.description == "method=GFN1-xTB replicate=10.0"
    found = default.label(molecule("H2O"))
    assert found.energy == pytest.approx(-156.96750, abs=1e-3)  # tblite's own documentation
    assert found.stress is None


def test_gfn1_of_a_small_cell_is_that_of_its_supercell(ice):
    """2×1×1 of the cell folds from the same supercell as the cell itself."""
    pytest.importorskip("tblite")
    one, two = engine().label(ice), engine().label(ice.repeat((2, 1, 1)))
    assert repeats(ice, 10.0) == (2, 2, 2)
    assert two.energy == pytest.approx(2 * one.energy, abs=1e-5)
    assert two.forces == pytest.approx(np.tile(one.forces, (2, 1)), abs=1e-4)
    assert two.stress == pytest.approx(one.stress, abs=1e-6)
    direct = engine(replicate=0).label(ice.repeat(2))
    assert direct.energy == pytest.approx(8 * one.energy, abs=1e-6)
    gamma = engine(replicate=0).label(ice)
    assert abs(gamma.energy - one.energy) > 1e-3  # what folding is for


def test_gfn1_folded_forces_and_stress_are_slopes_of_the_folded_energy(ice):
    pytest.importorskip("tblite")
    xtb = engine(parameters={"accuracy": 0.01})
    found = xtb.label(ice)
    assert found.stress is not None

    def energy(atoms: Atoms) -> float:
        return xtb.label(atoms).energy

    for place in ((0, 2), (4, 1)):
        slope = forces_by_energy(energy, ice, place, 0.01)
        assert found.forces[place] == pytest.approx(slope, abs=5e-3)
    for voigt, (i, j) in ((2, (2, 2)), (5, (0, 1))):
        slope = stress_by_energy(energy, ice, i, j, 0.004)
        assert found.stress[voigt] == pytest.approx(slope, abs=3e-4)


def test_dispersion_is_two_body_d3_bj(ice):
    dftd3 = pytest.importorskip("dftd3.ase")
    pbe = {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407, "s9": 0.0}  # Grimme 2011
    ice.calc = dftd3.DFTD3(damping="d3bj", params_tweaks=pbe)
    ice.symbols[:] = "Cu"  # an element that EMT knows
    with_d3, without = (engine(engine="emt", dispersion=d).label(ice) for d in ("PBE", None))
    assert with_d3.energy - without.energy == pytest.approx(ice.get_potential_energy(), abs=1e-9)
    assert with_d3.forces - without.forces == pytest.approx(ice.get_forces(), abs=1e-9)
    assert with_d3.stress - without.stress == pytest.approx(ice.get_stress(), abs=1e-9)
    with pytest.raises(TlpotError, match="no parameters for 'P86X'"):
        engine(engine="emt", dispersion="P86X").check()


def test_gpaw_takes_plain_settings():
    pytest.importorskip("gpaw", reason="GPAW has no wheel: it is compiled against libxc and BLAS")
    coarse = {"cutoff": 250, "kpts": [1, 1, 1], "convergence": {"density": 1e-3}}
    hydrogen = molecule("H2", cell=[3.5, 3.5, 3.5], pbc=True)
    rough = engine(engine="gpaw", parameters=coarse)
    rough.check()
    assert rough.name.startswith("GPAW ")
    assert "cutoff=250" in rough.description
    assert "kpts=1x1x1" in rough.description
    found = rough.label(hydrogen)
    assert found.stress is None  # not to be trusted below 900 eV, so only when asked for
    assert engine(engine="gpaw", parameters=coarse, stress=True).label(hydrogen).stress is not None
    free = rough.label(molecule("H2"))  # without a cell
    assert free.energy == pytest.approx(-6.7, abs=1.0)


@pytest.mark.parametrize("name", ["emtt", "no.such:Thing", "ase.calculators.emt:EMTT"])
def test_an_engine_that_is_not_at_hand(name):
    with pytest.raises(TlpotError, match=f"label.engine: '{name}' is not at hand"):
        engine(engine=name).check()


def test_settings_that_an_engine_refuses():
    pytest.importorskip("tblite")
    with pytest.raises(TlpotError, match="knows no 'methd'"):
        engine(parameters={"methd": "GFN2-xTB"}).check()
    with pytest.raises(TlpotError, match="cannot be set up with radius=1"):
        engine(engine="ase.calculators.tip3p:TIP3P", parameters={"radius": 1}).check()


def test_settings_in_one_line():
    said = describe({"xc": "PBE", "kpts": {"size": [2, 2, 3], "gamma": True}, "txt": None, "a": 1})
    assert said == "a=1 kpts.gamma=True kpts.size=2x2x3 xc=PBE"


def test_a_setting_that_ase_would_not_look_at_is_refused():
    with pytest.raises(TlpotError, match="emt knows no 'asap_cutof'; it knows asap_cutoff"):
        Engine(Label(engine="emt", parameters={"asap_cutof": True})).check()
    Engine(Label(engine="emt", parameters={"asap_cutoff": True})).check()
