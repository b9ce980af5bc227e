"""The run folder: its contract, its figures, and what becomes of it after a kill."""

import csv
import importlib.metadata
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tlpot
from tlpot import finetune, load
from tlpot.backbones.aev import COMPONENTS, FINE
from tlpot.config.run import load_config, parse_config
from tlpot.errors import TlpotError
from tlpot.evaluation.metrics import evaluate
from tlpot.finetuning.manifest import own_part
from tlpot.finetuning.prepare import prepare
from tlpot.training.parallel import Team
from tlpot.training.run_folder import choose_device

FILES = {
    "config.yaml",
    "model.safetensors",
    "history.csv",
    "metrics.json",
    "parity.png",
    "report.html",
    "manifest.json",
    "run.log",
    "last.pt",
}
METRICS = {
    "energy_rmse_meV_per_atom",
    "energy_rmse_centered_meV_per_atom",
    "force_rmse_meV_per_A_component",
    "force_rmse_meV_per_A_vector",
    "n_frames",
    "n_atoms",
}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def history(folder: Path) -> list[dict]:
    """Rows of history.csv without the seconds."""
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_folder_holds_what_the_contract_names(finished):
    assert {file.name for file in finished.folder.iterdir()} == FILES
    assert (finished.folder / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (finished.folder / "report.html").read_text()
    assert len(history(finished.folder)) == 15


def test_config_is_resolved(finished):
    stored = load_config(finished.folder / "config.yaml")
    values = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert stored.training.epochs == 15
    assert values["training"]["lambda"] == stored.training.force_share
    assert values["training"]["fit"] == "mean"
    assert values["data"]["split"]["seed"] == 0


def test_metrics_of_both_models_on_every_part(finished):
    metrics = read_json(finished.folder / "metrics.json")
    assert metrics == json.loads(json.dumps(finished.metrics))
    for model in ("baseline", "finetuned"):
        for part, n_frames in {"test": 4, "validation": 3, "train": 9}.items():
            found = metrics[model][part]
            assert set(found) >= METRICS
            assert found["n_frames"] == n_frames
            assert all(found[name] is not None for name in METRICS)
    before, after = metrics["baseline"]["train"], metrics["finetuned"]["train"]
    name = "force_rmse_meV_per_A_vector"
    assert after[name] < 0.95 * before[name]


def test_the_saved_model_is_the_one_that_was_judged(finished):
    config = load_config(finished.folder / "config.yaml")
    frames = tlpot.read_frames(config.data.files)
    test = [frames[i] for i in read_json(finished.folder / "manifest.json")["split"]["test"]]
    found = evaluate(tlpot.load(finished.folder), test)
    stored = read_json(finished.folder / "metrics.json")["finetuned"]["test"]
    for name in METRICS:
        assert found[name] == pytest.approx(stored[name], rel=1e-6), name


def test_manifest(finished):
    manifest = read_json(finished.folder / "manifest.json")
    for package in ("tlpot", "torch", "torchani", "ase"):
        assert manifest["versions"][package] == importlib.metadata.version(package)
    (file,) = manifest["data"]["files"]
    assert file["frames"] == 16
    assert len(file["sha256"]) == 64
    split = manifest["split"]
    indices = [split[part] for part in ("train", "validation", "test")]
    assert sorted(i for part in indices for i in part) == list(range(16))
    assert manifest["hardware"]["device"] == "cpu"
    assert manifest["seconds"] > 0
    assert manifest["elements"] == {}
    assert manifest["energy_reference"]["kind"] == "minimum norm"
    assert set(manifest["energy_reference"]["values_eV"]) == {"H", "C", "N", "O"}
    counted = manifest["trainable_parameters"]
    weights = load_file(finished.folder / "model.safetensors")
    assert counted["total"] == sum(w.numel() for w in weights.values())
    frozen = sum(w.numel() for name, w in weights.items() if ".output." in name)
    assert counted["total"] - counted["trainable"] == frozen > 0


def test_the_manifest_names_the_frames_that_were_held_out(settings, labelled, write_frames):
    frames = labelled(12)
    write_frames(Path(settings["data"]["files"][0]), [frames[0], *frames])
    settings["data"]["max_frames"] = 10
    prepared = prepare(parse_config(settings))
    manifest = own_part(prepared)
    for part, names in manifest["split_frames"].items():
        assert names == [frame.name for frame in prepared.parts[part]]
    read = tlpot.read_frames(settings["data"]["files"])
    by_name = {frame.name: frame for frame in read}
    for name, frame in zip(manifest["split_frames"]["test"], prepared.parts["test"], strict=True):
        assert by_name[name].energy == frame.energy


def test_the_model_keeps_its_history_and_its_frozen_layers(finished, base_model):
    model = tlpot.load(finished.folder)
    assert model.metadata["training"]["training"]["epochs"] == 15
    assert model.metadata["versions"]["torch"]
    assert model.metadata["test"]["n_frames"] == 4
    start, end = load_file(base_model), load_file(finished.folder / "model.safetensors")
    assert set(start) == set(end)
    for name, tensor in end.items():
        assert torch.equal(tensor, start[name]) == (".output." in name), name


def test_the_energy_reference_knows_nothing_of_the_test_frames(settings):
    config = parse_config(settings)
    prepared = prepare(config)
    part = prepared.parts["train"]
    network = [p.energy for p in prepared.base.predict(part)]
    errors = [(e - f.energy) / len(f) for e, f in zip(network, part, strict=True)]
    assert abs(sum(errors)) < 1e-6
    held_out = prepared.parts["test"] + prepared.parts["validation"]
    network = [p.energy for p in prepared.base.predict(held_out)]
    errors = [(e - f.energy) / len(f) for e, f in zip(network, held_out, strict=True)]
    assert abs(sum(errors)) > 1e-4


def test_the_same_config_gives_the_same_model(finished, tmp_path):
    config = load_config(finished.folder / "config.yaml")
    again = tlpot.finetune(config.model_copy(update={"output": str(tmp_path / "again")}))
    a, b = (load_file(run.folder / "model.safetensors") for run in (finished, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert history(finished.folder) == history(again.folder)


@pytest.mark.parametrize(
    ("test", "validation"), [(0.0, 0.0), (0.25, 0.0), (0.0, 0.25)], ids=["none", "test", "valid"]
)
def test_a_share_of_zero_leaves_that_part_out(settings, test, validation):
    settings["data"]["split"] = {"test": test, "validation": validation}
    settings["training"]["epochs"] = 1
    run = tlpot.finetune(settings)
    assert {file.name for file in run.folder.iterdir()} == FILES
    for part, share in {"test": test, "validation": validation}.items():
        found = read_json(run.folder / "metrics.json")["finetuned"][part]
        assert found["n_frames"] == 16 * share
        assert (found["energy_rmse_meV_per_atom"] is None) == (share == 0)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"preset": "thesis", "epochs": 1}},
        {"model": {"init": "scratch"}, "data": {"max_frames": 8}},
        {"training": {"stress_weight": 0.5, "fit": "mean", "epochs": 1}},
    ],
    ids=str,
)
def test_options_run_to_the_end(settings, change):
    for section, values in change.items():
        settings[section] |= values
    run = tlpot.finetune(settings)
    assert {file.name for file in run.folder.iterdir()} == FILES
    assert run.metrics["finetuned"]["test"]["energy_rmse_meV_per_atom"] > 0


def test_a_stand_in_is_trained_and_used(settings, labelled, write_frames):
    frames = labelled(16)
    for frame in frames:
        frame.atoms.symbols[frame.atoms.symbols == "C"] = "Si"
    write_frames(Path(settings["data"]["files"][0]), frames)
    settings["model"] |= {"elements": {"Si": "C"}, "freeze": []}
    run = tlpot.finetune(settings)
    model = tlpot.load(run.folder)
    assert model.backbone.donors == {"Si": "C"}
    elements = read_json(run.folder / "manifest.json")["elements"]
    assert elements == {"Si": {"from": "C", "as": "alias"}}
    silicon = next(f.atoms for f in frames if "Si" in f.atoms.symbols)
    carbon = silicon.copy()
    carbon.symbols[carbon.symbols == "Si"] = "C"
    a, b = model.predict([silicon, carbon])
    own = model.reference.values["Si"] - model.reference.values["C"]
    assert a.energy - b.energy == pytest.approx(2 * own, abs=1e-5)
    assert abs(own) > 1e-3


def test_a_fine_tuned_model_is_a_base_too(settings, finished):
    settings["model"]["base"] = str(finished.folder)
    settings["training"]["epochs"] = 1
    run = tlpot.finetune(settings)
    before = run.metrics["baseline"]["train"]["force_rmse_meV_per_A_component"]
    reached = finished.metrics["finetuned"]["train"]["force_rmse_meV_per_A_component"]
    assert before == pytest.approx(reached, rel=1e-3)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"files": ["none.xyz"]}}, "none.xyz"),
        ({"model": {"base": "ani9"}}, "ani9"),
        ({"model": {"freeze": ["inptu"]}}, "did you mean 'input'"),
        ({"model": {"elements": {"Si": "Ge"}}}, "donor Ge"),
        ({"training": {"device": "cuda:99"}}, r"training\.device"),
        ({"training": {"device": "abacus"}}, r"training\.device"),
        ({"data": {"split": {"group": "weather"}}}, "weather"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(settings, change, message):
    for section, values in change.items():
        settings[section] |= values
    with pytest.raises(TlpotError, match=message):
        tlpot.finetune(settings)
    assert not Path(settings["output"]).exists()


def test_labels_in_another_unit_are_refused(settings, labelled, write_frames):
    frames = [replace(f, forces=f.forces / 27.2114, stress=None) for f in labelled(16)]
    write_frames(Path(settings["data"]["files"][0]), frames)
    with pytest.raises(TlpotError, match="the forces are"):
        tlpot.finetune(settings)
    settings["model"]["init"] = "scratch"
    tlpot.finetune(settings)


def test_a_run_is_never_overwritten(finished, settings):
    settings["output"] = str(finished.folder)
    before = {file.name: file.read_bytes() for file in finished.folder.iterdir()}
    with pytest.raises(TlpotError, match="already holds a run"):
        tlpot.finetune(settings)
    config = load_config(finished.folder / "config.yaml")
    with pytest.raises(TlpotError, match="nothing to resume"):
        tlpot.finetune(config, resume=True)
    assert {file.name: file.read_bytes() for file in finished.folder.iterdir()} == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "report.html"])
def test_files_of_something_else_are_not_overwritten(settings, name):
    mine = Path(settings["output"]) / name
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(TlpotError, match=f"holds {name} of something else"):
        tlpot.finetune(settings)
    assert mine.read_text() == "mine"


def test_a_run_without_an_epoch_may_be_replaced(settings):
    def stop(prepared) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_start=stop)
    settings["training"]["learning_rate"] = 3e-4
    assert tlpot.finetune(settings).metrics


def test_output_that_is_a_file_is_refused(settings, tmp_path):
    settings["output"] = settings["data"]["files"][0]
    with pytest.raises(TlpotError, match="is a file"):
        tlpot.finetune(settings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_that_is_not_ours_is_refused(settings, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(TlpotError, match=r"output: .*cannot be made"):
        tlpot.finetune(settings)


def test_output_below_a_file_is_refused(settings):
    settings["output"] = settings["data"]["files"][0] + "/run"
    with pytest.raises(TlpotError, match=r"output: .*cannot be made"):
        tlpot.finetune(settings)


def test_without_tensorboard_its_option_is_refused(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    settings["training"]["tensorboard"] = True
    with pytest.raises(TlpotError, match=r"training\.tensorboard.*pip install"):
        tlpot.finetune(settings)


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", Team()) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", Team()) == torch.device("cuda", 0)
    assert choose_device("cpu", Team()) == torch.device("cpu")


# --- fine angles ---------------------------------------------------------------------------------


def test_a_run_adds_fine_angles_and_trains_them(settings, small, tmp_path):
    base = small(fine=None, dtype=torch.float32).save(tmp_path / "plain.safetensors")
    settings["model"]["base"] = str(base)
    run = finetune(settings)
    wide = load(run.folder).backbone
    assert wide.architecture.fine == FINE
    assert wide.architecture.components == COMPONENTS
    assert wide.layer("H", "input").weight[..., -COMPONENTS:].abs().max() > 0
    assert wide.projection.any()
    again = finetune(
        {**settings, "model": {"base": str(run.folder)}, "output": str(tmp_path / "2")}
    )
    assert load(again.folder).backbone.architecture == wide.architecture
    assert torch.equal(load(again.folder).backbone.projection, wide.projection)


@pytest.mark.parametrize(
    "changes", [{"training": {"fine_angles": False}}, {"model": {"freeze": ["input"]}}]
)
def test_the_bases_descriptor_stays_where_fine_angles_are_off_or_of_no_use(
    settings, small, tmp_path, changes
):
    base = small(fine=None, dtype=torch.float32).save(tmp_path / "plain.safetensors")
    settings["model"]["base"] = str(base)
    for section, values in changes.items():
        settings[section] |= values
    assert load(finetune(settings).folder).backbone.architecture.fine is None
