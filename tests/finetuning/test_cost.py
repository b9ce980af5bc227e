"""`validate` says what training will take, how labels are called, and what an alias is."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import pytest
import torch
import yaml

import tlpot
from tlpot.cli.main import main
from tlpot.config.run import parse_config
from tlpot.finetuning.prepare import prepare
from tlpot.finetuning.run import validate
from tlpot.training.cost import Cost


def cost_of(settings: dict) -> Cost:
    costs: list[Cost] = []
    validate(settings, costs.append)
    (cost,) = costs
    return cost


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        shown = capsys.readouterr()
        assert not stopped.value.code, shown.err
        return shown.out

    return run


def test_an_estimate_is_near_what_training_takes(settings):
    """Within a factor of four, as the machine may do other things meanwhile."""
    settings["training"] |= {"epochs": 6}
    cost = cost_of(settings)
    run = tlpot.finetune(settings)
    assert 0.25 < cost.epochs * cost.epoch / run.manifest["seconds"] < 4.0
    assert 0 < cost.timed <= cost.steps == -(-len(run.manifest["split"]["train"]) // 4)
    assert 1e8 < (cost.memory or 0) < 1e11


def test_measuring_changes_and_leaves_nothing(settings, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    costs: list[Cost] = []
    measured = validate(settings, costs.append).potential.backbone.state_dict()
    fresh = prepare(parse_config(settings)).potential.backbone.state_dict()
    assert all(torch.equal(measured[k].nan_to_num(), fresh[k].nan_to_num()) for k in fresh)
    assert sorted(tmp_path.rglob("*")) == before


def test_validate_tells_of_time_memory_aliases_and_label_names(call, settings):
    source = settings["data"]["files"][0]
    frames = ase.io.read(source, ":")
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
    ase.io.write("frames.extxyz", frames)
    settings["data"]["files"] = ["frames.extxyz"]
    settings["model"]["elements"] = {"Si": "C", "I": {"from": "O", "as": "clone"}}
    Path("config.yaml").write_text(yaml.safe_dump(settings))
    out = call("validate", "config.yaml")
    epochs = settings["training"]["epochs"]
    assert re.search(rf"training: about 0:00:\d\d for {epochs} epochs, at least [\d.]+ GB", out)
    assert re.search(r"as \d+ of the \d+ steps of an epoch on cpu", out)
    assert f"energy: read from 'REF_energy' in {len(frames)} frames" in out
    assert "Si is an alias of C: it uses C's networks" in out
    assert "I is a clone of O: it has networks" in out
    assert out.count("no frame holds it") == 2
    assert not Path(settings["output"]).exists()
