import json

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch.nn.functional import batch_norm, linear, softplus

from tlpot.cli.main import main
from tlpot.errors import TlpotError
from tlpot.property.graph import Graph
from tlpot.property.model import PropertyModel, as_graph, batches
from tlpot.property.released import import_checkpoint


@pytest.fixture
def seeds(tlpot_data):
    folder = tlpot_data / "seeds" / "cgcnn"
    if not folder.is_dir():
        pytest.skip("no seeds/cgcnn in TLPOT_DATA")
    return folder


def test_released_networks_say_what_they_are_known_to_say(seeds, tmp_path):
    """Formation energies within a few times the published 0.039 eV/atom of the PBE values that the
    Materials Project lists, silicon's PBE gap, which they underestimate as PBE does."""
    features = str(seeds / "atom_init.json")
    path = seeds / "formation-energy-per-atom.pth.tar"
    model = import_checkpoint(path, features, "formation_energy", "eV/atom")
    crystals = [bulk("NaCl", "rocksalt", 5.69), bulk("MgO", "rocksalt", 4.25), bulk("Si")]
    assert model.predict(crystals) == pytest.approx([-2.09, -3.07, 0.0], abs=0.15)
    target = tmp_path / "gap.safetensors"
    options = ("--elements", features, "--name", "band_gap", "--unit", "eV")
    with pytest.raises(SystemExit) as stopped:
        main(["property", "import", str(seeds / "band-gap.pth.tar"), *options, "-o", str(target)])
    assert not stopped.value.code
    gap = PropertyModel.load(target)
    assert gap.predict([bulk("NaCl", "rocksalt", 5.69)])[0] == pytest.approx(5.0, abs=0.6)
    assert (gap.name, gap.unit) == ("band_gap", "eV")
    assert gap.mean == pytest.approx(2.3538, abs=1e-3)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint in the published format with two features an element."""
    shapes = {"embedding": (8, 2), "conv_to_fc": (6, 8), "fcs.0": (6, 6), "fc_out": (1, 6)}
    shapes |= {f"convs.{i}.fc_full": (16, 57) for i in range(2)}
    generator = torch.manual_seed(0)
    weights = {f"{k}.weight": torch.randn(s, generator=generator) for k, s in shapes.items()}
    weights |= {f"{k}.bias": torch.randn(s[0], generator=generator) for k, s in shapes.items()}
    for i in range(2):
        for norm, width in (("bn1", 16), ("bn2", 8)):
            for part in ("weight", "bias", "running_mean", "running_var"):
                weights[f"convs.{i}.{norm}.{part}"] = torch.rand(width, generator=generator) + 0.5
    args = {"task": "regression", "atom_fea_len": 8, "n_conv": 2, "h_fea_len": 6, "n_h": 2}
    stored = {"state_dict": weights, "args": args, "epoch": 3}
    stored["normalizer"] = {"mean": torch.tensor(1.0), "std": torch.tensor(2.0)}
    torch.save(stored, tmp_path / "c.pth.tar")
    (tmp_path / "two.json").write_text(json.dumps({"29": [0, 1], "14": [1, 0]}))
    return tmp_path / "c.pth.tar"


def test_every_weight_of_a_checkpoint_is_used(checkpoint):
    elements = str(checkpoint.parent / "two.json")
    stored = torch.load(checkpoint, weights_only=True)
    before = import_checkpoint(checkpoint, elements, "x").predict([bulk("Cu"), bulk("Si")])
    assert np.isfinite(before).all()
    for name, weight in stored["state_dict"].items():
        changed = {**stored["state_dict"], name: weight + 0.1}
        torch.save({**stored, "state_dict": changed}, checkpoint)
        after = import_checkpoint(checkpoint, elements, "x").predict([bulk("Cu"), bulk("Si")])
        assert not np.array_equal(before, after), name


def published(stored: dict, features: torch.Tensor, graph: Graph) -> torch.Tensor:
    """CGCNN term by term (Xie and Grossman 2018), from the weights of a checkpoint alone: vectors
    of both atoms and the edge are put side by side and multiplied in one."""
    w = stored["state_dict"]

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(x, *(w[f"{name}.{part}"] for part in parts))

    centres = torch.linspace(0.0, 8.0, 41)
    edges = torch.exp(-((graph.distances.unsqueeze(-1) - centres) ** 2) / 0.2**2)
    v = dense(features[graph.numbers], "embedding")
    for i in range(stored["args"]["n_conv"]):
        ends = v[graph.neighbours]
        z = torch.cat([v.unsqueeze(1).expand_as(ends), ends, edges], dim=2)
        z = dense(z, f"convs.{i}.fc_full")
        z = norm(z.reshape(-1, z.shape[2]), f"convs.{i}.bn1").reshape(z.shape)
        filters, cores = z[..., : v.shape[1]], z[..., v.shape[1] :]
        messages = (torch.sigmoid(filters) * softplus(cores)).sum(dim=1)
        v = softplus(v + norm(messages, f"convs.{i}.bn2"))
    means = torch.stack([v[graph.crystal == k].mean(dim=0) for k in range(graph.size)])
    x = softplus(dense(softplus(means), "conv_to_fc"))
    for i in range(stored["args"]["n_h"] - 1):
        x = softplus(dense(x, f"fcs.{i}"))
    scale = stored["normalizer"]
    return scale["mean"] + scale["std"] * dense(x, "fc_out").squeeze(1)


def test_an_imported_network_is_the_published_equations(checkpoint):
    elements = str(checkpoint.parent / "two.json")
    crystals = [bulk("Cu"), bulk("Si"), bulk("SiCu", "zincblende", 5.0)]
    (graph,) = batches([as_graph(atoms) for atoms in crystals], len(crystals))
    features = torch.zeros(100, 2)
    features[29], features[14] = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    expected = published(torch.load(checkpoint, weights_only=True), features, graph)
    model = import_checkpoint(checkpoint, elements, "x")
    assert model.predict(crystals) == pytest.approx(expected.tolist(), rel=1e-4)


def test_what_is_no_checkpoint_is_refused(checkpoint, tmp_path):
    elements = str(checkpoint.parent / "two.json")
    with pytest.raises(TlpotError, match="no such file"):
        import_checkpoint(tmp_path / "none.pth.tar", elements, "x")
    torch.save({"weights": 1}, tmp_path / "other.pth.tar")
    with pytest.raises(TlpotError, match=r"other\.pth\.tar: not a checkpoint"):
        import_checkpoint(tmp_path / "other.pth.tar", elements, "x")
    with pytest.raises(TlpotError, match=r"53 features.*needs 2"):
        import_checkpoint(checkpoint, "periodic", "x")
    stored = torch.load(checkpoint, weights_only=True)
    stored["args"]["task"] = "classification"
    torch.save(stored, checkpoint)
    with pytest.raises(TlpotError, match="classification"):
        import_checkpoint(checkpoint, elements, "x")
