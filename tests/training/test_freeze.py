from pathlib import Path

import pytest
import torch

from tlpot.config.run import Training, parse_config
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.training.freeze import freeze
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

PATTERNS = {
    ("input", "output"): {"input", "output"},
    ("H.hidden1",): {"H.hidden1"},
    ("O.*",): {"O.input", "O.hidden1", "O.hidden2", "O.output"},
    ("*.hidden?", "H.output"): {"hidden1", "hidden2", "H.output"},
    (): set(),
}


def is_frozen(name: str, frozen: set[str]) -> bool:
    """Of a parameter, ``networks.<element>.<layer>.<kind>``."""
    _, element, layer, _ = name.split(".")
    return layer in frozen or f"{element}.{layer}" in frozen


@pytest.mark.parametrize("patterns", PATTERNS, ids=" ".join)
def test_patterns_name_layers_of_all_or_one_element(small, patterns):
    backbone = small().backbone
    states = freeze(backbone, patterns)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad != is_frozen(name, PATTERNS[patterns]), name
    assert len(states) == 16
    for state in states:
        frozen = is_frozen(f"networks.{state.name}.weight", PATTERNS[patterns])
        assert state.trained == (0 if frozen else state.parameters)
    assert sum(s.parameters for s in states) == sum(p.numel() for p in backbone.parameters())


def test_freezing_again_thaws_what_is_no_longer_named(small):
    backbone = small().backbone
    freeze(backbone, ["input"])
    freeze(backbone, ["output"])
    assert backbone.layer("H", "input").weight.requires_grad
    assert not backbone.layer("H", "output").weight.requires_grad


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("inptu", "did you mean 'input'"),
        ("hidden3", "did you mean 'hidden"),
        ("H.hiden1", "did you mean 'H.hidden1'"),
        ("Si.input", "networks H, C, N, O"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(small, pattern, hint):
    with pytest.raises(TlpotError, match=f"model.freeze: '{pattern}' matches no layer") as caught:
        freeze(small().backbone, ["input", pattern])
    assert hint in str(caught.value)


@pytest.mark.parametrize("patterns", [["*"], ["input", "hidden?", "output"]])
def test_nothing_left_to_train_is_an_error(small, patterns):
    with pytest.raises(TlpotError, match="every layer is frozen"):
        freeze(small().backbone, patterns)


@pytest.mark.parametrize("patterns", [("input", "output"), ("H.hidden1",), ("O.*",)], ids=" ".join)
def test_frozen_tensors_stay_bit_identical_and_the_others_move(small, labelled, tmp_path, patterns):
    potential, before = small(), dict(small().backbone.named_parameters())
    freeze(potential.backbone, patterns)
    compact = potential.for_elements({"H", "O"})
    train = [compact.batch([f]) for f in labelled(3)]
    settings = Training(epochs=3, weight_decay=0.5, ema=0.9)
    Trainer(PotentialTask(compact, train, [], settings), settings, tmp_path).fit()
    potential.backbone.absorb(compact.backbone)
    for name, parameter in potential.backbone.named_parameters():
        still = is_frozen(name, PATTERNS[patterns]) or name.split(".")[1] in "CN"
        assert torch.equal(parameter, before[name]) == still, name


def test_freezing_networks_that_no_frame_has_is_told(settings, labelled, write_frames):
    water = [frame for frame in labelled(20) if "N" not in frame.atoms.symbols]
    write_frames(Path(settings["data"]["files"][0]), water)
    settings["model"]["freeze"] = ["input", "O.*", "N.*", "[CN].hidden1"]
    told = [x for x in prepare(parse_config(settings)).checked.remarks if "freeze" in x]
    assert [x.split(": ")[1] for x in told] == [
        "'N.*' changes nothing",
        "'[CN].hidden1' changes nothing",
    ]
    assert told[1].endswith("no frame has C or N")
