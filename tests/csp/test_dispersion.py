import pytest
from ase.build import molecule

from tlpot.csp.dispersion import dispersion, label_functional
from tlpot.errors import TlpotError
from tlpot.model.potential import Potential


def trained(model, *levels):
    metadata = {"base": "mini", "training": {}, "data": {"levels": list(levels)}}
    return Potential(model.backbone, model.reference, metadata)


@pytest.mark.parametrize("kind", ["d3", "d4"])
def test_dispersion_binds(mini, kind):
    calculator = dispersion(kind, mini)
    near, far = (molecule("CH4") + molecule("CH4") for _ in range(2))
    near.positions[5:] += [0, 0, 4.0]
    far.positions[5:] += [0, 0, 40.0]
    energies = [calculator.get_potential_energy(atoms) for atoms in (near, far)]
    assert -0.1 < energies[0] - energies[1] < -0.005


@pytest.mark.parametrize(
    "said",
    [
        {"engine": "GPAW 26.7.0", "xc": "PBE+D3(BJ)"},
        {"engine": "GPAW 26.7.0", "settings": "d3bj=PBE xc=PBE"},
        {"engine": "TBLite 0.6.0", "settings": "method=GFN1-xTB"},
        {"engine": "VASP 6.4", "xc": "vdW-DF2"},
        {"engine": "VASP 6.4", "xc": "PBE", "dispersion": "D3(BJ) (IVDW = 12)"},
        {"engine": "VASP 6.4", "xc": "vdW-DF2", "dispersion": "nonlocal (LUSE_VDW)"},
        {"engine": "VASP 6.4", "xc": "PBE", "dispersion": "unnamed"},
        {"engine": "VASP 6.4", "settings": "ENCUT=520 GGA=PE IVDW=12"},
        {"engine": "VASP 6.4", "settings": "ENCUT=520 GGA=ML LUSE_VDW=.TRUE."},
        {"functional": "PBE+MBD"},
        {"level_of_theory": "r2SCAN-3c"},
    ],
    ids=str,
)
def test_labels_that_contain_it_refuse_more(mini, said):
    with pytest.raises(TlpotError, match="contain dispersion already"):
        dispersion("d3", trained(mini, said), "PBE")


def test_plain_functional_is_taken_from_the_labels(mini):
    said = {"engine": "GPAW 26.7.0", "settings": "cutoff=700 xc=PBE"}
    assert label_functional(trained(mini, said).metadata) == ("PBE", "")
    assert label_functional(mini.metadata) == ("wB97X", "")
    for said in (
        {"engine": "VASP 6.4", "xc": "PBE", "dispersion": "none", "potentials": "C=PAW_PBE C"},
        {"engine": "VASP 6.4", "settings": "ENCUT=520 GGA=PE IVDW=0"},
    ):
        assert label_functional(trained(mini, said).metadata) == ("PBE", "")


def test_another_functional_than_that_of_the_labels_is_refused(mini):
    said = {"engine": "VASP 6.4", "xc": "PBE", "dispersion": "none"}
    with pytest.raises(TlpotError, match="labels are of PBE"):
        dispersion("d3", trained(mini, said), "B3LYP")
    with pytest.raises(TlpotError, match="labels are of wB97X"):
        dispersion("d3", mini, "PBE")
    dispersion("d3", trained(mini, said), "pbe")


def test_unknown_labels_ask(mini):
    with pytest.raises(TlpotError, match="--functional PBE"):
        dispersion("d3", trained(mini))
    dispersion("d3", trained(mini), "PBE")


def test_coupled_cluster_has_all_of_it():
    assert label_functional({"base": "ani1ccx"})[0] is None
    assert "CCSD" in label_functional({"base": "ani1ccx"})[1]


@pytest.mark.parametrize("kind", ["d3", "d4"])
def test_unknown_functional_is_named(mini, kind):
    with pytest.raises(TlpotError, match="no parameters for 'P86X'"):
        dispersion(kind, trained(mini), "P86X")
