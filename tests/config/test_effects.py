"""Every field of data, model and training has an effect on what is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from tlpot.config.run import parse_config
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

SCHNET = {"base": "schnet", "schnet": {"features": 4, "interactions": 1, "members": 2}}

PROVEN: dict[str, dict[str, Any]] = {
    "data.split.test": {"data.split.test": 0.3},
    "data.split.validation": {"data.split.validation": 0.3},
    "data.max_frames": {"data.max_frames": 10},
    "data.train_fraction": {"data.train_fraction": 0.5},
    "data.split.seed": {"data.split.seed": 3},
    "data.max_force": {"data.max_force": 3.0, "data.bad_frames": "drop"},
    "data.min_distance": {"data.min_distance": 0.93, "data.bad_frames": "drop"},
    "model.base": {"model.base": "mini"},
    "model.freeze": {"model.freeze": ["input"]},
    "model.init": {"model.init": "scratch"},
    "training.epochs": {"training.epochs": 3},
    "training.batch_size": {"training.batch_size": 2},
    "training.learning_rate": {"training.learning_rate": 1e-3},
    "training.weight_decay": {"training.weight_decay": 0.5},
    "training.schedule": {"training.schedule": "constant"},
    "training.warmup_epochs": {"training.warmup_epochs": 1},
    "training.ema": {"training.ema": 0.0},
    "training.clip": {"training.clip": 1e-3},
    "training.seed": {"training.seed": 5},
    "training.preset": {"training.preset": "thesis"},
    "training.force_share": {"training.lambda": 0.5},
    "training.fit": {"training.fit": "members"},
    "training.fine_angles": {"training.fine_angles": False},
    "training.stress_weight": {"training.stress_weight": 1.0},
    "training.size_exponent": {"training.size_exponent": 0.0},
    "training.huber": {"training.huber": 1e-3},
    "training.weighting": {"training.weighting": "size"},
}


@pytest.fixture
def settings(settings, small, labelled, write_frames, tmp_path):
    """As elsewhere, on ice of two sizes and on a base without fine angles."""
    ice = [frame for frame in labelled(20) if frame.kind == "crystal"]
    settings["data"]["files"] = [str(write_frames(tmp_path / "ice.extxyz", ice))]
    settings["data"]["suspects"] = "drop"  # its labels are no physics
    base = small(dtype=torch.float32, fine=None).save(tmp_path / "plain.safetensors")
    return settings | {"model": {"base": str(base), "freeze": ["output"]}}


@pytest.fixture
def trained(settings, tmp_path):
    """The weights that settings and changes lead to."""

    def train(changes: dict[str, Any]) -> list[torch.Tensor]:
        values = yaml.safe_load(yaml.safe_dump(settings))
        values["training"] |= {"epochs": 2, "warmup_epochs": 0}
        for key, value in changes.items():
            *place, last = key.split(".")
            inside = values
            for word in place:
                inside = inside.setdefault(word, {})
            inside[last] = value
        prepared = prepare(parse_config(values))
        potential = prepared.potential
        parts = (prepared.parts["train"], prepared.parts["validation"])
        batches = ([potential.batch([frame]) for frame in part] for part in parts)
        task = PotentialTask(potential, *batches, prepared.config.training)
        Trainer(task, prepared.config.training, tmp_path).fit()
        return [p.detach().clone() for _, p in potential.backbone.named_parameters()]

    return train


def test_what_is_set_changes_what_is_trained(trained):
    """One by one, on fifteen frames: no field of data, model and training is a dead one."""
    plain = trained({})

    def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
        return len(one) == len(two) and all(map(torch.equal, one, two))

    assert same(plain, trained({})), "the same settings give the same weights"
    assert [key for key, changes in PROVEN.items() if same(plain, trained(changes))] == []


def test_what_the_base_or_the_frames_decide_is_refused(
    settings, small, labelled, write_frames, tmp_path
):
    def refused(why: str, **changes: Any) -> None:
        values = yaml.safe_load(yaml.safe_dump(settings))
        for section, some in changes.items():
            values[section] |= some
        with pytest.raises(TlpotError, match=why):
            prepare(parse_config(values))

    schnet = SCHNET | {"freeze": []}
    for fine in (True, False):
        why = f"fine_angles: {str(fine).lower()} has no effect with schnet"
        refused(why, model=schnet, training={"fine_angles": fine})
    refused(
        "fine_angles: true has no effect with model.freeze: input",
        model={"freeze": ["input"]},
        training={"fine_angles": True},
    )
    finer = str(small(dtype=torch.float32).save(tmp_path / "finer.safetensors"))
    refused("moments: true has no effect with schnet", model=schnet, training={"moments": True})
    refused("whose terms are settled", model={"base": finer}, training={"moments": True})
    refused("which has them", model={"base": finer}, training={"fine_angles": False})
    molecules = [frame for frame in labelled(40) if frame.kind == "molecule"]
    data = write_frames(tmp_path / "molecules.extxyz", molecules)
    settings["data"]["files"] = [str(data)]
    refused("stress_weight has no effect without a frame", training={"stress_weight": 0.5})
    thesis = parse_config(settings | {"model": schnet, "training": {"preset": "thesis"}})
    assert prepare(thesis), "what a preset sets is not what the user asks for"
