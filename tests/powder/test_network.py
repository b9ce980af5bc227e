import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tlpot.errors import TlpotError
from tlpot.powder.config import Augmentation, Network
from tlpot.powder.convolution import PatternConvolution
from tlpot.powder.lines import Lines, lines_of
from tlpot.powder.network import CrystalSystemNet, Input, find_lines
from tlpot.powder.render import ideal, measured


def test_lines_are_found_where_they_are(crystals):
    lines = lines_of(crystals["ZnO_wurtzite"])
    strong = lines.intensity > 0.05 * lines.intensity.max()
    for pattern in (
        ideal([lines])[0],
        measured([lines], Augmentation(strain=0, shift=0, last=135), np.random.default_rng(0))[0],
    ):
        sines, heights = find_lines(pattern)
        assert len(sines) == len(heights)
        found = 2 * np.degrees(np.arcsin(sines))
        gaps = np.abs(found[:, None] - lines.two_theta[strong]).min(axis=0)
        assert np.median(gaps) < 0.02
        assert np.mean(gaps < 0.15) > 0.8
        assert len(sines) < 3 * len(lines.two_theta)


def test_a_larger_lattice_is_a_shift_on_the_logarithmic_axis(crystals):
    small = lines_of(crystals["MgO_rocksalt"])
    sine = np.sin(np.radians(small.two_theta / 2)) / 1.1
    large = Lines(
        2 * np.degrees(np.arcsin(sine)), small.intensity, small.hkl, small.cell, small.rotations
    )
    inputs = Input(Network(sees="log_q", pool=20))(ideal([small, large]))
    correlation = np.correlate(inputs[0].numpy(), inputs[1].numpy(), "full")
    shift = correlation.argmax() - (inputs.shape[1] - 1)
    step = np.log(np.sin(np.radians(67.5)) / np.sin(np.radians(2))) / inputs.shape[1]
    assert shift * step == pytest.approx(np.log(1.1), abs=2 * step)


def test_pooling_keeps_intensity_and_makes_fewer_points(crystals):
    pattern = ideal([lines_of(crystals["MgO_rocksalt"])])
    for pool in (1, 10, 50):
        seen = Input(Network(sees="two_theta", intensity="linear", pool=pool))(pattern)[0]
        assert len(seen) == 13_500 // pool
        assert seen.max() == pytest.approx(1.0)
    whole = Input(Network(sees="two_theta", intensity="linear", pool=1))(pattern)[0]
    assert np.allclose(whole, pattern[0], atol=1e-4)


def test_the_originals_network_has_its_layers():
    how = Network(
        sees="two_theta", pool=10, dense=[700, 70], dropout=0,
        convolutions={"kernels": [100, 50, 25], "filters": 60},
    )  # fmt: skip
    network = CrystalSystemNet(how, 1350)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if "weight" in name}
    assert shapes["layers.conv1.weight"] == (60, 1, 100)
    assert shapes["layers.conv2.weight"] == (60, 60, 50)
    assert shapes["layers.conv3.weight"] == (60, 60, 25)
    assert shapes["layers.dense1.weight"][0] == 700
    assert shapes["layers.dense2.weight"] == (70, 700)
    assert network(torch.rand(2, 1350)).shape == (2, 7)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValidationError, match="convolutions has no effect with sees: lines"):
        Network(convolutions={})
    with pytest.raises(ValidationError, match="freeze has no effect without base"):
        Network(freeze=["dense1"])
    with pytest.raises(ValidationError, match="dense has no effect with base: some"):
        Network(base="some.safetensors", dense=[5])
    how = Network(sees="two_theta", pool=500, convolutions={"kernels": [3] * 6})
    with pytest.raises(TlpotError, match="leave no point"):
        CrystalSystemNet(how, Input(how).points)


@pytest.mark.parametrize(("kernel", "points"), [(50, 675), (25, 337), (16, 128), (100, 40)])
def test_long_kernels_by_fourier_transform_are_the_same_convolution(kernel, points):
    torch.manual_seed(0)
    ours = PatternConvolution(9, 7, kernel, padding=kernel // 2)
    theirs = torch.nn.Conv1d(9, 7, kernel, padding=kernel // 2)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        x = torch.linspace(-1, 1, 2 * 9 * points).sin().view(2, 9, points).requires_grad_()
        out = layer(x)
        slopes = torch.autograd.grad(out.cos().sum(), [x, *layer.parameters()])
        results.append([out, *slopes])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
