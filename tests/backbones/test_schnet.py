"""SchNet: its formulas, its physics beyond `test_potential`, its model file."""

from dataclasses import replace
from math import cos, exp, log, pi

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch.optim import AdamW

from tlpot.backbones.schnet import SHARED, SchNet
from tlpot.config.run import Training
from tlpot.errors import TlpotError
from tlpot.model.load import load, load_base
from tlpot.sampling.choose import frame_features
from tlpot.structure.frames import Batch, Frame
from tlpot.training.loss import loss

NAMES = ("CH3OH", "CH3CONH2", "CH3CH2OH", "CH4", "NH3", "H2O", "HCOOH", "CH3CHO")


def molecules() -> list[Atoms]:
    found = [molecule(name) for name in NAMES]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    return found


# --- the formulas --------------------------------------------------------------------------------


def test_energies_are_the_formulas_of_the_paper(small_schnet):
    """Written out atom by atom, pair by pair, for each member."""
    backbone: SchNet = small_schnet().backbone
    a, weights = backbone.architecture, dict(backbone.named_parameters())
    atoms = molecule("CH3CONH2")
    found = backbone.atomic_energies(Batch.of_frame(Frame(atoms), a.cutoff))

    def ssp(x):
        return np.log1p(np.exp(x)) - log(2)

    for member in range(3):

        def dense(name, x, member=member):
            weight = weights[f"networks.{SHARED}.{name}.weight"][member].numpy()
            bias = weights.get(f"networks.{SHARED}.{name}.bias")
            return weight @ x + (0 if bias is None else bias[member].numpy())

        x = [weights[f"networks.{s}.embedding.weight"][member].numpy() for s in atoms.symbols]
        width = a.cutoff / (a.gaussians - 1)
        for block in ("interaction1", "interaction2"):
            changes = []
            for i in range(len(atoms)):
                heard = 0
                for j in range(len(atoms)):
                    r = atoms.get_distance(i, j)
                    if i == j or r >= a.cutoff:
                        continue
                    expanded = [exp(-((r - k * width) ** 2) / 2 / width**2) for k in range(12)]
                    hidden = ssp(dense(f"{block}_filter1", np.array(expanded)))
                    fade = 0.5 * cos(pi * r / a.cutoff) + 0.5
                    filters = dense(f"{block}_filter2", hidden) * fade
                    heard = heard + dense(f"{block}_input", x[j]) * filters
                changes.append(dense(f"{block}_output", ssp(dense(f"{block}_hidden", heard))))
            x = [old + change for old, change in zip(x, changes, strict=True)]
        expected = [dense("output", ssp(dense("hidden", one))).item() for one in x]
        np.testing.assert_allclose(found[member].numpy(), expected, rtol=0, atol=1e-9)
        assert np.ptp(expected) > 0.1


def test_energies_and_forces_are_those_of_torch_geometric(small_schnet):
    models = pytest.importorskip("torch_geometric.nn.models")
    potential = small_schnet()
    backbone, atoms = potential.backbone, molecules()[1]
    a, batch = backbone.architecture, potential.batch([Frame(atoms)])
    pairs = torch.cat([batch.pairs, batch.pairs.flip(0)], dim=1)

    def graph(positions, _):
        return pairs, (positions[pairs[0]] - positions[pairs[1]]).norm(dim=1)

    sizes = (a.features, a.features, a.interactions, a.gaussians, a.cutoff)
    output = potential.evaluate(batch, members=True)
    own = potential.reference.table()[batch.numbers].sum()
    for member in range(a.members):
        theirs = models.SchNet(*sizes, interaction_graph=graph).double()
        theirs.distance_expansion.offset = torch.linspace(0, a.cutoff, a.gaussians).double()
        shared = backbone.networks[SHARED]
        layers = {"hidden": theirs.lin1, "output": theirs.lin2}
        for i, block in enumerate(theirs.interactions, start=1):
            layers[f"interaction{i}_filter1"], _, layers[f"interaction{i}_filter2"] = block.mlp
            layers[f"interaction{i}_input"] = block.conv.lin1
            layers[f"interaction{i}_hidden"] = block.conv.lin2
            layers[f"interaction{i}_output"] = block.lin
        assert set(layers) == set(shared)
        for name, layer in layers.items():
            values = {k: v[member] for k, v in shared[name].state_dict().items()}
            layer.load_state_dict(values)
        for symbol in backbone.symbols:
            row = Atoms(symbol).numbers[0]
            theirs.embedding.weight.data[row] = backbone.networks[symbol].embedding.weight[member]
        positions = torch.tensor(atoms.positions, requires_grad=True)
        energy = theirs(batch.numbers, positions).sum()
        (slope,) = torch.autograd.grad(energy, positions)
        assert output.energy[member, 0] - own == pytest.approx(energy.item(), abs=1e-5)
        torch.testing.assert_close(output.forces[member], -slope, rtol=0, atol=1e-5)
        assert slope.abs().max() > 0.1


def test_a_neighbour_leaves_smoothly(small_schnet):
    potential, step = small_schnet(), 1e-3
    cutoff = potential.backbone.cutoff
    pairs = [
        Atoms("CO", [(0, 0, 0), (0, 0, r)])
        for r in (cutoff - 2 * step, cutoff - step, cutoff, cutoff + step, cutoff - 0.7)
    ]
    forces = [p.forces[1, 2] for p in potential.predict(pairs)]
    assert forces[2] == forces[3] == 0.0
    assert abs(forces[1]) == pytest.approx(abs(forces[0]) / 2, rel=0.05)
    assert abs(forces[0]) < 1e-2 * abs(forces[4])


def test_pairs_beyond_the_cutoff_do_not_matter(small_schnet, urea):
    backbone = small_schnet().backbone
    near, far = (Batch.of_frame(Frame(urea), backbone.cutoff + more) for more in (0.0, 1.5))
    assert far.pairs.shape[1] > near.pairs.shape[1]
    a, b = (backbone.energy_and_slope(batch)[0] for batch in (near, far))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_every_road_to_energies_and_slopes_agrees(small_schnet, plain, urea):
    potential = small_schnet()
    batch = potential.batch([Frame(atoms) for atoms in [*molecules(), urea]])
    expected = plain(potential).evaluate(batch, members=True)
    for training in (False, True):
        found = potential.evaluate(batch, training, members=True)
        torch.testing.assert_close(found.atomic, expected.atomic, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.slope, expected.slope, rtol=0, atol=1e-10)
        mean = potential.evaluate(batch, training)
        torch.testing.assert_close(mean.slope[0], expected.slope.mean(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_training_is_training_by_plain_autograd(small_schnet, plain, fit):
    frames = [
        Frame(atoms, float(i), np.random.default_rng(i).normal(size=(len(atoms), 3)))
        for i, atoms in enumerate(molecules())
    ]
    settings = Training.model_validate({"lambda": 0.3, "stress_weight": 0.0, "fit": fit})
    start, ends = dict(small_schnet().backbone.named_parameters()), []
    for road in (lambda p: p, plain):
        potential = small_schnet()
        potential.backbone.requires_grad_(True)
        optimiser = AdamW(potential.backbone.parameters(), lr=1e-3)
        batch = potential.batch(frames)
        for _ in range(3):
            optimiser.zero_grad()
            output = road(potential).evaluate(batch, training=True, members=fit == "members")
            loss(output, batch, settings).total.backward()
            optimiser.step()
        ends.append(dict(potential.backbone.named_parameters()))
    for name, end in ends[0].items():
        torch.testing.assert_close(end, ends[1][name], rtol=0, atol=1e-9)
        assert not torch.equal(end, start[name]), name


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_energies_alone_are_learned_without_slopes(small_schnet, fit):
    """The same loss and gradients, and nothing differentiated that no label asks for."""
    frames = [Frame(atoms, -100.0 * i) for i, atoms in enumerate(molecules())]
    potential = small_schnet()
    potential.backbone.requires_grad_(True)
    settings = Training.model_validate({"fit": fit, "lambda": 0.3})
    batch, found = potential.batch(frames), []
    weights = list(potential.backbone.parameters())
    for slope in (False, True):
        output = potential.evaluate(batch, training=True, members=fit == "members", slope=slope)
        terms = loss(output, batch, settings)
        assert terms.forces == 0.0
        found.append([terms.total, *torch.autograd.grad(terms.total, weights)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="neither forces nor virial"):
        _ = potential.evaluate(batch, slope=False).forces


# --- elements ------------------------------------------------------------------------------------


def test_only_the_embedding_tells_elements_apart(small_schnet):
    potential = small_schnet()
    networks = potential.backbone.networks
    networks["N"].load_state_dict(networks["C"].state_dict())
    potential.reference.values["N"] = potential.reference.values["C"]
    methane = molecule("CH4")
    other = methane.copy()
    other.symbols[0] = "N"
    a, b = potential.predict([methane, other])
    assert a.energy == b.energy
    c = small_schnet().predict([other])[0]
    assert abs(c.energies[1] - b.energies[1]) > 1e-3


@pytest.mark.parametrize("kind", ["alias", "clone"])
def test_new_elements_begin_as_their_donor(small_schnet, tmp_path, kind):
    base = small_schnet().save(tmp_path / "base.safetensors")
    potential = load_base(base, {"Si": {"from": "C", "as": kind}})
    silane = molecule("CH4")
    silane.symbols[0] = "Si"
    a, b = potential.predict([silane, molecule("CH4")])
    assert a.energy == pytest.approx(b.energy, abs=1e-10)
    again = load(potential.save(tmp_path / "new.safetensors"))
    assert again.predict([silane])[0].energy == a.energy
    if kind == "clone":
        potential.backbone.networks["Si"].embedding.weight.data += 0.3
        c, d = potential.predict([silane, molecule("CH4")])
        assert d.energy == b.energy
        assert abs(c.energy - a.energy) > 1e-3


def test_a_smaller_self_has_the_same_energies(small_schnet):
    potential = small_schnet()
    compact = potential.for_elements({"C", "H"})
    assert compact.elements == ("H", "C")
    (a,), (b,) = potential.predict([molecule("CH4")]), compact.predict([molecule("CH4")])
    assert a.energy == pytest.approx(b.energy, abs=1e-10)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-10)
    with pytest.raises(TlpotError, match="O"):
        compact.predict([molecule("H2O")])


def test_descriptor_space_of_frames(small_schnet):
    found = frame_features(small_schnet(), [Frame(atoms) for atoms in molecules()])
    assert len(found) == len({tuple(row) for row in found.round(6)}) == len(NAMES)


# --- the model file ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_save_and_load_is_bit_for_bit(tmp_path, small_schnet, dtype, urea):
    potential = small_schnet(dtype=dtype)
    again = load(potential.save(tmp_path / "model.safetensors"))
    assert again.backbone.architecture == potential.backbone.architecture
    for a, b in zip(potential.predict([urea]), again.predict([urea]), strict=True):
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)
        np.testing.assert_array_equal(a.stress, b.stress)


@pytest.mark.parametrize(
    "change", [{"features": 4}, {"symbols": ("H", "C")}, {"interactions": 3}, {"members": 1}]
)
def test_files_whose_weights_do_not_fit_are_refused(tmp_path, small_schnet, change):
    potential = small_schnet()
    odd = potential.backbone
    odd.describe = lambda: {
        "architecture": vars(replace(odd.architecture, **change)),
        "elements": {},
    }
    path = potential.save(tmp_path / "odd.safetensors")
    with pytest.raises(TlpotError, match=r"odd\.safetensors"):
        load(path)
