import numpy as np
import pytest
import torch
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal

from tlpot.errors import TlpotError
from tlpot.property.elements import element_table, unknown_elements
from tlpot.property.graph import Graph
from tlpot.property.model import Ensemble, PropertyModel
from tlpot.property.network import CGCNN, GraphSizes


def make_model(seed: int = 0, **sizes) -> PropertyModel:
    torch.manual_seed(seed)
    table = element_table("periodic")
    network = CGCNN(GraphSizes(table.shape[1], 8, 2, 8, **sizes), table)
    return PropertyModel(network, "gap", "eV", 1.0, 2.0)


@pytest.fixture
def rutile():
    sites = [(0, 0, 0), (0.305, 0.305, 0)]
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    built = crystal(["Ti", "O"], sites, spacegroup=136, cellpar=cell)
    built.rattle(0.02, seed=1)  # no two neighbours equally far
    return built


def test_prediction_does_not_depend_on_order_cell_or_orientation(rutile):
    model = make_model()
    shuffled = rutile[np.random.default_rng(0).permutation(len(rutile))]
    turned = rutile.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    moved = rutile.copy()
    moved.positions += [0.3, 5.0, -2.0]
    large = make_supercell(rutile, [[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    values = model.predict([rutile, shuffled, turned, moved, large])
    assert values == pytest.approx(np.full(5, values[0]), abs=1e-5)
    assert np.ptp(make_model(1).predict([rutile, bulk("Cu")])) > 1e-3


def test_the_convolution_is_the_published_one(rutile):
    """Eq. 5 of Xie and Grossman, edge by edge, without batch normalisation's statistics."""
    torch.manual_seed(0)
    layer = make_model().network.conv1.eval()
    graph = Graph.of(rutile)
    atoms = torch.randn(len(graph), 8)
    edges = torch.rand(len(graph), 12, 41)
    for norm in (layer.messages, layer.sums):
        norm.mean.normal_()
        norm.variance.uniform_(0.5, 2.0)
        norm.weight.data.normal_()

    def normalised(norm, x):
        return (x - norm.mean) / torch.sqrt(norm.variance + 1e-5) * norm.weight + norm.bias

    expected = []
    for i in range(len(graph)):
        total = torch.zeros(8)
        for k, j in enumerate(graph.neighbours[i]):
            z = torch.cat([atoms[i], atoms[j], edges[i, k]])
            z = normalised(layer.messages, layer.weight @ z + layer.bias)
            total += torch.sigmoid(z[:8]) * torch.log1p(torch.exp(z[8:]))
        expected.append(torch.log1p(torch.exp(atoms[i] + normalised(layer.sums, total))))
    assert torch.allclose(layer(atoms, graph.neighbours, edges), torch.stack(expected), atol=1e-5)


def test_a_batch_predicts_as_its_crystals_alone(rutile):
    model = make_model()
    crystals = [rutile, bulk("Cu"), bulk("NaCl", "rocksalt", 5.64)]
    together = model.predict(crystals)
    alone = [model.predict([c])[0] for c in crystals]
    assert together == pytest.approx(alone, abs=1e-5)


def test_measured_statistics_make_evaluation_as_training(rutile):
    network = make_model().network
    graph = Graph.join([Graph.of(a) for a in (rutile, bulk("Cu"), bulk("Si"))])
    network.train()
    seen = network(graph)
    network.measure([graph])
    assert not network.training
    assert torch.allclose(network(graph), seen, atol=1e-5)
    assert not torch.allclose(make_model().network.eval()(graph), seen, rtol=0.1)


def test_a_gate_says_zero_where_it_closes():
    model = make_model(gate=True)
    crystals = [bulk("Cu"), bulk("Si")]
    model.network.output.bias.data[1] = -100.0
    assert model.predict(crystals).tolist() == [0.0, 0.0]
    model.network.output.bias.data[1] = 100.0
    assert model.predict(crystals).all()


def test_save_is_load(tmp_path, rutile):
    model = make_model(gate=True)
    model.metadata["note"] = "kept"
    loaded = PropertyModel.load(model.save(tmp_path / "model.safetensors"))
    assert np.array_equal(loaded.predict([rutile]), model.predict([rutile]))
    about = (loaded.name, loaded.unit, loaded.mean, loaded.scale, loaded.metadata)
    assert about == ("gap", "eV", 1.0, 2.0, {"note": "kept"})


def test_a_file_of_another_kind_is_refused(tmp_path, small):
    with pytest.raises(TlpotError, match="no property"):
        PropertyModel.load(small(dtype=torch.float32).save(tmp_path / "potential.safetensors"))


def test_an_ensemble_is_mean_and_standard_deviation(rutile):
    models = [make_model(seed) for seed in range(3)]
    mean, spread = Ensemble(models).predict([rutile])
    each = [m.predict([rutile])[0] for m in models]
    assert mean[0] == pytest.approx(np.mean(each))
    assert spread[0] == pytest.approx(np.std(each, ddof=1))
    assert Ensemble(models[:1]).predict([rutile])[1] == [0.0]
    models[1].name = "bulk modulus"
    with pytest.raises(TlpotError, match="different properties: bulk modulus"):
        Ensemble(models)


def test_every_element_has_its_own_features():
    table = element_table("periodic")
    assert len({tuple(row) for row in table[1:].tolist()}) == 118
    group, period, block = table[:, :18], table[:, 18:25], table[:, 25:29]
    for z, place in {
        1: (0, 0, 0),
        2: (17, 0, 0),
        13: (12, 2, 1),
        26: (7, 3, 2),
        92: (2, 6, 3),
    }.items():
        assert (group[z].argmax(), period[z].argmax(), block[z].argmax()) == place
    assert unknown_elements(table, np.arange(1, 119)) == []


def test_elemental_modes_end_at_radon():
    table = element_table("modes")
    assert table.shape == (119, 4)
    assert unknown_elements(table, np.array([1, 86, 92])) == ["U"]


def test_features_from_a_file(tmp_path):
    path = tmp_path / "atom_init.json"
    path.write_text('{"1": [1, 0], "8": [0, 1]}')
    table = element_table(str(path))
    assert table[8].tolist() == [0.0, 1.0]
    assert unknown_elements(table, np.array([8, 6])) == ["C"]
    path.write_text('{"1": [1, 0], "8": [0]}')
    with pytest.raises(TlpotError, match=r"atom_init\.json.*equally many"):
        element_table(str(path))
    path.write_text("[1, 2]")
    with pytest.raises(TlpotError, match="not a JSON object"):
        element_table(str(path))
    with pytest.raises(TlpotError, match="periodic"):
        element_table(str(tmp_path / "none.json"))
