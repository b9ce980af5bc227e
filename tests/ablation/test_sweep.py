import copy

import pytest
import yaml

from tlpot.ablation.sweep import load_sweep, parse_sweep, points
from tlpot.errors import TlpotError


def sweep(settings, **given):
    return parse_sweep({"base": settings, **given})


def test_every_combination_runs_once_a_seed(settings):
    axes = {
        "training.lambda": [0.1, 0.9],
        "freezing": {
            "none": {},
            "first": {"model.freeze": ["input"], "training.learning_rate": 0.002},
        },
    }
    found = points(sweep(settings, axes=axes, seeds=[0, 5]))
    assert len({p.name for p in found}) == len(found) == 8
    assert {(*p.labels.values(), p.seed) for p in found} == {
        (share, freezing, seed)
        for share in ("0.1", "0.9")
        for freezing in ("none", "first")
        for seed in (0, 5)
    }
    for p in found:
        assert p.config.training.force_share == float(p.labels["training.lambda"])
        assert p.config.data.split.seed == p.config.training.seed == p.seed
        first = p.labels["freezing"] == "first"
        assert p.config.model.freeze == (["input"] if first else ["output"])
        assert (p.config.training.learning_rate == 0.002) == first


def test_without_axes_there_is_the_base(settings):
    (point,) = points(sweep(settings))
    assert point.labels == {}


def test_a_points_name_is_its_settings_alone(settings):
    elsewhere = copy.deepcopy(settings) | {"output": "elsewhere"}
    (a,), (b,) = points(sweep(settings)), points(sweep(elsewhere))
    (c,) = points(sweep(settings, axes={"training.epochs": [3]}))
    assert a.name == b.name != c.name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"axes": {"training.lamda": [0.1]}}, "training.lamda.*did you mean 'lambda'"),
        ({"axes": {"training.lambda": [7]}}, "point training.lambda=7"),
        ({"axes": {"training.lambda": []}}, "training.lambda is empty"),
        ({"axes": {"training.lambda": [0.1, 0.10]}}, "same run"),
        ({"axes": {"output.name": [1]}}, "'output' is not a section"),
        ({"seeds": []}, "seeds is empty"),
        ({"axis": {}}, "axis: unknown key; did you mean 'axes'"),
    ],
)
def test_a_sweep_that_is_not_sound_is_refused(settings, given, says):
    with pytest.raises(TlpotError, match=says):
        points(sweep(settings, **given))


def test_base_is_beside_the_sweep(tmp_path, settings):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "sweep.yaml").write_text("base: base.yaml\noutput: there\n")
    loaded = load_sweep(tmp_path / "sweep.yaml", {"workers": 3})
    assert (loaded.output, loaded.workers) == ("there", 3)
    assert points(loaded)[0].config.training.epochs == settings["training"]["epochs"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "not valid YAML"), ("- 1", "expected base"), ("base: no.yaml", "no such config")],
)
def test_unreadable_sweeps_are_named(tmp_path, text, says):
    path = tmp_path / "sweep.yaml"
    with pytest.raises(TlpotError, match="no such sweep"):
        load_sweep(path)
    path.write_text(text)
    with pytest.raises(TlpotError, match=says):
        points(load_sweep(path))
