import pytest
from ase.build import molecule

from tlpot.csp.dispersion import dispersion, label_functional
from tlpot.errors import TlpotError
from tlpot.potential import Potential


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
