import csv
import json
import re
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from commands import refused

import tlpot.training.trainer as trainer
from tlpot.config.sections import load_section
from tlpot.errors import TlpotError
from tlpot.model.potential import Potential
from tlpot.property.config import PropertyConfig, PropertyNetwork
from tlpot.property.data import read_unlabelled
from tlpot.property.evaluate import errors
from tlpot.property.model import PropertyModel
from tlpot.property.prepare import prepare
from tlpot.property.report import write_report
from tlpot.property.run import train


def test_train_writes_a_whole_run_folder(call, config, settings):
    code, out, err = call("property", "train", config)
    assert code == 0, err
    assert "MAE eV" in out
    assert "report.html" in out
    assert "14 train, 2 validation, 4 test" in err
    folder = Path(settings["output"])
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.yaml",
        "manifest.json",
        "history.csv",
        "metrics.json",
        "report.html",
        "parity.png",
        "model.safetensors",
        "run.log",
        "last.pt",
    }
    page = (folder / "report.html").read_text()
    assert "data:image/png" in page
    assert "http" not in page
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["data"]["files"]) == 21
    assert all(len(file["sha256"]) == 64 for file in manifest["data"]["files"])
    refused(call("property", "train", config), "already holds a run")
    refused(call("property", "train", config, "--resume"), "finished run")


def test_training_learns(finished):
    before, after = (finished.metrics[kind]["train"] for kind in ("baseline", "trained"))
    assert after["mae"] < 0.5 * before["mae"]
    assert after["zero"]["n"] + after["other"]["n"] == after["n"] == 14


def test_the_model_file_predicts_what_the_run_reports(finished, folder):
    model = PropertyModel.load(finished.folder)
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    rows = list(csv.reader((folder / "id_prop.csv").open()))
    chosen = manifest["split"]["test"]
    predicted = model.predict([ase.io.read(folder / f"{rows[i][0]}.cif") for i in chosen])
    labels = np.array([float(rows[i][1]) for i in chosen])
    reported = finished.metrics["trained"]["test"]["mae"]
    assert np.abs(predicted - labels).mean() == pytest.approx(reported, abs=1e-5)


def test_a_killed_run_resumes_bit_for_bit(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SHARE", 1e9)
    whole = train(settings | {"output": str(tmp_path / "whole")})

    def kill(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, on_epoch=kill)
    resumed = train(settings, resume=True)
    for name, value in whole.model.network.state_dict().items():
        other = resumed.model.network.state_dict()[name]
        assert torch.equal(value.nan_to_num(), other.nan_to_num()), name
    assert whole.metrics == resumed.metrics


def test_fine_tuning_keeps_frozen_layers_and_the_statistics_of_the_base(finished, folder, settings):
    settings["model"] = {"base": str(finished.folder), "freeze": ["embedding", "conv*"]}
    before = PropertyModel.load(finished.folder)
    run = train(settings)
    old, new = (dict(m.network.named_parameters()) for m in (before, run.model))
    for name in old:
        kept = name.split(".")[0] not in ("dense1", "output")
        assert torch.equal(old[name], new[name]) == kept, name
    for was, norm in ((m.network.conv1.messages for m in (before, run.model)),):
        assert torch.equal(was.mean, norm.mean)
        assert torch.equal(was.variance, norm.variance)
    assert (run.model.mean, run.model.scale) == (before.mean, before.scale)
    assert run.metrics["baseline"]["test"] == finished.metrics["trained"]["test"]


def test_another_property_gets_its_own_scale(finished, folder, settings, tmp_path):
    table = tmp_path / "table.csv"
    rows = list(csv.reader((folder / "id_prop.csv").open()))
    table.write_text("id,ten_gaps\n" + "".join(f"{k},{10 * float(v)}\n" for k, v in rows))
    settings["data"] |= {"files": str(table), "structures": str(folder)}
    settings["model"] = {"base": str(finished.folder), "freeze": ["conv*"]}
    run = train(settings)
    old, new = (m.network for m in (PropertyModel.load(finished.folder), run.model))
    assert torch.equal(old.conv1.weight, new.conv1.weight)
    assert not torch.equal(old.dense1.weight, new.dense1.weight)
    assert run.model.name == "ten_gaps"
    assert run.model.scale > 5 * PropertyModel.load(finished.folder).scale
    settings["model"]["freeze"] = ["conv*", "dense*"]
    settings["output"] = str(tmp_path / "frozen")
    with pytest.raises(
        TlpotError, match=r"dense1: the base predicts 'property'.*would stay random"
    ):
        train(settings)
    assert not Path(settings["output"]).exists()


@pytest.mark.parametrize("elements", ["periodic", "modes"])
def test_gate_and_elements_reach_the_network(settings, elements):
    settings["model"] |= {"gate": True, "elements": elements, "layers": 2}
    run = train(settings)
    assert run.model.network.architecture.gate
    assert run.model.network.table.shape[1] == {"periodic": 53, "modes": 4}[elements]
    assert run.model.network.dense2.weight.shape == (8, 8)


def test_part_of_the_training_crystals_and_whole_groups(settings, folder, tmp_path):
    table = tmp_path / "twice.csv"
    for name in ("Si", "NaCl", "MgO", "Cu", "C"):
        for strain in (1.0, 1.01):
            atoms = ase.io.read(folder / f"{name}.cif")
            atoms.set_cell(atoms.cell * strain, scale_atoms=True)
            ase.io.write(tmp_path / f"{name}_{strain}.cif", atoms)
    rows = [f"{path.stem},{i}" for i, path in enumerate(sorted(tmp_path.glob("*.cif")))]
    table.write_text("\n".join(rows))
    settings["data"] |= {"files": str(table), "train_fraction": 0.5}
    settings["data"]["split"] |= {"group": "composition"}
    run = train(settings)
    split = json.loads((run.folder / "manifest.json").read_text())["split"]
    assert len(split["train"]) == 3
    names = {part: {rows[i].split("_")[0] for i in split[part]} for part in ("validation", "test")}
    assert not names["validation"] & names["test"]
    assert len(split["test"]) == 2 * len(names["test"])


def test_predict_and_evaluate(call, finished, folder, tmp_path):
    out = tmp_path / "out.csv"
    model = ("--model", finished.folder)
    code, _, err = call(
        "property", "predict", folder / "Si.cif", folder / "Cu.cif", *model, "-o", out
    )
    assert code == 0, err
    rows = list(csv.DictReader(out.open()))
    assert [row["formula"] for row in rows] == ["Si2", "Cu"]
    expected = PropertyModel.load(finished.folder).predict([ase.io.read(folder / "Si.cif")])[0]
    assert float(rows[0]["property"]) == pytest.approx(expected, rel=1e-4)
    again = call("property", "predict", folder / "Si.cif", *model, "-o", folder / "Cu.cif")
    refused(again, "Cu.cif exists already")
    assert ase.io.read(folder / "Cu.cif").symbols == "Cu"
    code, text, _ = call("property", "predict", folder / "Si.cif", *model, *model)
    assert code == 0
    assert "property_std" in text
    assert text.splitlines()[1].endswith(",0")
    code, text, _ = call("property", "evaluate", folder / "id_prop.csv", *model, "--json")
    assert json.loads(text)["zero"]["n"] == 4
    code, text, _ = call("property", "evaluate", folder / "id_prop.csv", *model)
    assert code == 0
    assert "property ≠ 0" in text


def test_files_that_cannot_be_predicted_are_named_or_left_out(call, finished, folder, tmp_path):
    shutil.copy(folder / "Si.cif", tmp_path)
    (tmp_path / "cut.cif").write_text("data_cut\n_cell_length_a 5\n")
    (tmp_path / "cut.vasp").write_text("nothing\n")
    model = ("--model", finished.folder)
    refused(call("property", "predict", tmp_path, *model), "cut.cif", "cut.vasp", "--drop-bad")
    code, out, err = call("property", "predict", tmp_path, *model, "--drop-bad")
    err = err.replace("\n", "")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "Si.cif#0,Si2," in out
    assert "cut.cif" in err
    assert "cut.vasp" in err
    (tmp_path / "Si.cif").unlink()
    refused(call("property", "predict", tmp_path, *model, "--drop-bad"), "cut.cif", "cut.vasp")


def test_elements_of_no_training_crystal_are_told(call, finished, folder, settings, tmp_path):
    ase.io.write(tmp_path / "W.cif", bulk("W"))
    base = PropertyModel.load(finished.folder)
    assert "W" not in base.metadata["elements"]
    code, out, err = call("property", "predict", tmp_path, "--model", finished.folder)
    assert (code, len(out.splitlines())) == (0, 2)
    assert "W: in no training crystal; the prediction for" in err
    table = tmp_path / "more.csv"
    table.write_text("W,0\nSi,1.1\n")
    shutil.copy(folder / "Si.cif", tmp_path)
    settings["data"] |= {"files": str(table), "split": {"test": 0, "validation": 0}}
    settings["model"] = {"base": str(finished.folder)}
    tuned = train(settings).model
    assert set(tuned.metadata["elements"]) == {"W", *base.metadata["elements"]}
    del base.metadata["elements"]
    assert not base.never_seen(read_unlabelled(str(tmp_path / "W.cif"))[0])


def test_the_example_is_a_config():
    example = Path(__file__).parents[2] / "examples" / "property.yaml"
    assert load_section(PropertyConfig, example).model == PropertyNetwork()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.epohs=3"], ["training.epohs", "did you mean 'epochs'"]),
        (["data.files=[none.csv]"], ["none.csv"]),
        (["data.structures=none"], ["row 1 (C)", "C.cif is in none"]),
        (["model.freeze=[conv1]"], ["freeze", "base"]),
        (["model.base=none.safetensors"], ["width has no effect with base: none.safetensors"]),
        (["model={base: none.safetensors}"], ["none.safetensors", "no such model file"]),
        (["model.elements=none.json"], ["none.json"]),
        (["data.split.test=0.99"], ["below 1"]),
        (["training.device=tpu7"], ["tpu7"]),
    ],
)
def test_bad_configs_are_refused(call, config, settings, overrides, words):
    refused(call("property", "train", config, *overrides), *words)
    assert not Path(settings["output"], "config.yaml").exists()


def test_layers_that_are_not_there_and_elements_that_are_unknown(call, config, finished, tmp_path):
    base = f"base: {finished.folder}"
    refused(
        call("property", "train", config, f"model={{{base}, freeze: [conv7]}}"),
        "'conv7' matches no layer",
        "did you mean 'conv",
    )
    model = PropertyModel.load(finished.folder)
    model.network.table[29] = torch.nan
    path = model.save(tmp_path / "no_copper.safetensors")
    ase.io.write(tmp_path / "Cu.cif", bulk("Cu"))
    refused(
        call("property", "predict", tmp_path / "Cu.cif", "--model", path), "Cu.cif", "Cu: not an"
    )
    with pytest.raises(TlpotError, match="Cu"):
        train(yaml.safe_load(Path(config).read_text()) | {"model": {"base": str(path)}})


def test_resuming_on_changed_data_is_refused(settings, folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    settings["data"]["files"] = str(copied / "id_prop.csv")

    def kill(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, on_epoch=kill)
    ase.io.write(copied / "Si.cif", bulk("Si", a=5.5))
    with pytest.raises(TlpotError, match="data files changed"):
        train(settings, resume=True)


def test_resuming_on_another_base_is_refused(settings, finished, tmp_path):
    base = PropertyModel.load(finished.folder)
    settings["model"] = {"base": str(base.save(tmp_path / "base.safetensors"))}

    def kill(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, on_epoch=kill)
    with torch.no_grad():
        next(base.network.parameters()).add_(0.1)
    base.save(tmp_path / "base.safetensors")
    with pytest.raises(TlpotError, match="base changed"):
        train(settings, resume=True)


def test_a_property_model_is_no_potential(finished):
    with pytest.raises(TlpotError, match="another kind of model"):
        Potential.load(finished.folder)


def test_page_names_the_crystal_that_makes_the_error(finished, tmp_path, look):
    """A gap of 8 eV missed among gaps met within 0.1 eV; and what is not known has no card."""
    run = shutil.copytree(finished.folder, tmp_path / "run")
    prepared = prepare(load_section(PropertyConfig, run / "config.yaml"))
    test, values = prepared.splits.test, prepared.crystals.values
    predicted = values + 0.1
    predicted[test[0]] += 8.0
    part = errors(values[test], predicted[test]) | {"r2": None}
    metrics = finished.metrics | {"trained": finished.metrics["trained"] | {"test": part}}
    write_report(run, prepared, metrics, finished.manifest, predicted)
    page = (run / "report.html").read_text()
    name = prepared.crystals.frames[test[0]].name
    assert f"One crystal makes the error: without {name} the RMSE is 0.100 instead of" in page
    assert re.findall(r'<div class="card">([^<]+)<', page) == ["MAE", "RMSE"]
    assert len(page) < 400_000
    seen = look(run / "report.html")
    assert seen.complaints == []
    assert set(seen.overflow.values()) == {0}


@pytest.mark.parametrize(("rate", "longer"), [(0.002, False), (0.02, True)])
def test_a_run_that_still_learns_says_so(call, config, settings, rate, longer):
    code, out, _ = call("property", "train", config, f"training.learning_rate={rate}")
    folder = Path(settings["output"])
    assert code == 0
    assert (json.loads((folder / "manifest.json").read_text())["best_epoch"] == 3) == longer
    assert ("Train longer" in out) == longer
    assert ("Train longer" in (folder / "report.html").read_text()) == longer


def test_a_device_trains_and_says_what_the_cpu_says(settings, device):
    settings["training"]["device"] = device
    run = train(settings)
    structures = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6)]
    here = PropertyModel.load(run.folder).predict(structures)
    model = PropertyModel.load(run.folder)
    model.network.to(device)
    assert model.predict(structures) == pytest.approx(here, abs=1e-5)
