"""The recipe follows the labels where the config leaves it open; minima of cells have a stress."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from ase.units import GPa

from tlpot.config.run import load_config, parse_config
from tlpot.data.groups import read_data
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.finetuning.run import finetune
from tlpot.finetuning.units import find_doubts
from tlpot.training.run_folder import as_begun


@pytest.fixture
def minima(labelled, write_frames, tmp_path) -> dict:
    """A config of sixteen energies, said to be of minima."""
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(16)]
    return {
        "data": {"files": str(write_frames(tmp_path / "m.extxyz", bare)), "relaxed": True},
        "training": {"device": "cpu"},
        "output": str(tmp_path / "run"),
    }


def settled(config: dict, base, **training) -> tuple[float, int, str]:
    config = config | {"model": {"base": str(base)}}
    config["training"] = config["training"] | training
    prepared = prepare(parse_config(config))
    return prepared.config.training.learning_rate, prepared.config.training.epochs, prepared.recipe


def test_labels_decide_what_is_left_open(minima, base_model, labelled, write_frames, tmp_path):
    rate, epochs, reason = settled(minima, base_model)
    assert (rate, epochs) == (5e-4, 60)
    assert "only 0 of 11 training frames have forces" in reason
    energies = {**minima["data"], "relaxed": False, "energy_only": True}
    assert settled(minima | {"data": energies}, base_model)[:2] == (5e-4, 60)
    full = str(write_frames(tmp_path / "full.extxyz", labelled(40)[16:]))
    both = {"groups": [minima["data"]], "files": full}
    assert settled(minima | {"data": both}, base_model) == (1e-4, 150, "")


def test_what_is_stated_wins(minima, base_model, small_schnet, tmp_path):
    assert settled(minima, base_model, epochs=7)[:2] == (5e-4, 7)
    assert settled(minima, base_model, learning_rate=1e-4) == (1e-4, 150, "")
    assert settled(minima, base_model, preset="thesis") == (1e-4, 100, "")
    assert settled(minima, base_model, warmup_epochs=80)[:2] == (5e-4, 150)
    schnet = small_schnet().save(tmp_path / "schnet.safetensors")
    assert settled(minima, schnet) == (1e-4, 150, "")


def test_it_is_told_kept_and_taken_up(minima, base_model):
    """What the data decided is in the run's own config, which a resumed run keeps."""
    minima |= {"model": {"base": str(base_model)}}
    minima["training"] |= {"epochs": 2, "warmup_epochs": 0}
    run = finetune(minima)
    assert "training.learning_rate: 0.0005" in (run.folder / "run.log").read_text()
    assert load_config(run.folder / "config.yaml").training.learning_rate == 5e-4
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["recipe"]["learning_rate"] == 5e-4
    assert "computed" in manifest["recipe"]["why"]
    minima["training"]["epochs"] = 3
    longer = finetune(minima, resume=True)
    rows = list(csv.DictReader((longer.folder / "history.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert load_config(run.folder / "config.yaml").training.learning_rate == 5e-4
    del minima["training"]["epochs"]
    taken = as_begun(run.folder, parse_config(minima)).training
    assert (taken.learning_rate, taken.epochs) == (5e-4, 150)
    assert taken.model_fields_set >= {"learning_rate", "epochs"}
    minima["training"] |= {"epochs": 4, "learning_rate": 1e-4}
    with pytest.raises(TlpotError, match=r"learning_rate: 0.0005 → 0.0001"):
        finetune(minima, resume=True)


@pytest.mark.parametrize("pressure", [0.0, 2.5])
def test_cells_at_rest_have_the_stress_of_their_pressure(minima, labelled, pressure):
    """ASE's sign: a crystal pressed from outside has a negative stress."""
    config = parse_config({"data": minima["data"] | {"relaxed": "cell", "pressure": pressure}})
    for frame in read_data(config.data):
        if frame.kind == "molecule":
            assert frame.stress is None
        else:
            np.testing.assert_allclose(frame.stress, [-pressure * GPa] * 3 + [0.0] * 3)
            assert frame.of_pressure
    plain = read_data(parse_config({"data": minima["data"]}).data)
    assert all(frame.stress is None for frame in plain)


def test_a_stress_of_the_file_stays(labelled, write_frames, tmp_path):
    frames = [replace(f, forces=np.zeros_like(f.forces)) for f in labelled(4)]
    path = write_frames(tmp_path / "f.extxyz", frames)
    config = parse_config({"data": {"files": str(path), "relaxed": "cell", "pressure": 1.0}})
    for frame, before in zip(read_data(config.data), frames, strict=True):
        assert (frame.stress is None) == (before.stress is None)
        if frame.stress is not None:
            np.testing.assert_allclose(frame.stress, before.stress, atol=1e-8)


def test_such_stresses_are_no_sign_of_wrong_units(labelled, teacher):
    frames = [f for f in labelled(60) if f.stress is not None]
    still = [
        replace(f, labels="relaxed", forces=np.zeros_like(f.forces), stress=np.zeros(6))
        for f in frames
    ]
    assert find_doubts(still, teacher.predict(frames)) == []
