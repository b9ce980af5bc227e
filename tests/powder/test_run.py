import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tlpot.cli.main import app, main
from tlpot.errors import TlpotError
from tlpot.evaluation.plots import read_history
from tlpot.model.file import read_model
from tlpot.powder.classifier import load_classifier
from tlpot.powder.config import PowderConfig
from tlpot.powder.data import Example, read_examples
from tlpot.powder.opinion import classify_files
from tlpot.powder.render import POINTS
from tlpot.powder.run import prepare, train
from tlpot.powder.task import JUDGED_SEED, PowderTask, seen


def test_the_command_trains_and_classifies(tmp_path, settings, crystals, folder):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(app, ["xrd", "train", str(path), "training.epochs=30"])
    assert done.exit_code == 0, done.output
    run = tmp_path / "run"
    there = {p.name for p in run.iterdir()}
    assert there == {
        "config.yaml", "manifest.json", "history.csv", "model.safetensors", "metrics.json",
        "report.html", "confusion.png", "run.log", "last.pt",
    }  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["ideal"]["n"] == 7
    assert metrics["test"]["ideal"]["accuracy"] > 0.6
    page = (run / "report.html").read_text()
    assert "Confusion" in page
    assert "tetragonal" in page
    assert "http" not in page
    files = [str(folder / "ZnO_wurtzite.cif"), "--model", str(run), "--json"]
    said = CliRunner().invoke(app, ["xrd", "classify", *files])
    assert said.exit_code == 0, said.output
    (opinion,) = json.loads(said.output).values()
    assert opinion["crystal_system"] == "hexagonal"
    again = CliRunner().invoke(app, ["xrd", "train", str(path)])
    assert isinstance(again.exception, TlpotError)
    assert "already holds a run" in str(again.exception)


def test_it_learns(trained):
    losses = read_history(trained.folder / "history.csv")["train_loss"]
    assert losses[-1] < 0.2 * losses[0]
    assert trained.metrics["test"]["measured"]["accuracy"] > 0.6


def test_a_resumed_run_is_the_same(trained, settings, tmp_path):
    config = PowderConfig.model_validate(settings)

    def stop(row):
        if row["epoch"] == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, on_epoch=stop)
    resumed = train(config, resume=True)
    whole, again = (read_model(run.folder)[1] for run in (trained, resumed))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert resumed.metrics == trained.metrics
    with pytest.raises(TlpotError, match="nothing to resume"):
        train(config, resume=True)


def test_new_flaws_in_each_epoch_resume_alike_too(settings, tmp_path):
    settings["training"] |= {"epochs": 3, "augmentation": {"variants": 0}}
    whole = train(settings)
    settings["output"] = str(tmp_path / "other")

    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, on_epoch=stop)
    resumed = train(settings, resume=True)
    weights = [read_model(run.folder)[1] for run in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_copies_of_a_crystal_stay_on_one_side(settings, folder):
    """What the original did not do: a pattern shifted by one point is the same pattern."""
    examples, _ = read_examples(PowderConfig.model_validate(settings).data)
    copies = [
        Example(
            replace(one.frame, info={"crystal": i}),
            replace(one.lines, two_theta=one.lines.two_theta + shift),
            one.system,
        )
        for i, one in enumerate(examples)
        for shift in (-0.01, 0.0, 0.01)
    ]
    settings["data"]["split"]["group"] = "crystal"
    kept = prepare(PowderConfig.model_validate(settings), examples=copies)
    settings["data"]["split"]["group"] = None
    loose = prepare(PowderConfig.model_validate(settings), examples=copies)

    def shared(prepared):
        first = [
            {tuple(np.round(one.lines.two_theta[:3], 1)) for one in prepared.part(name)}
            for name in ("train", "test")
        ]
        return len(first[0] & first[1])

    crystals = [{one.frame.info["crystal"] for one in kept.part(p)} for p in ("train", "test")]
    assert not crystals[0] & crystals[1]
    assert shared(loose) > 0


def test_too_few_crystals_say_which_were_left_out(settings, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("id,crystal_system\nZnO_wurtzite,hexagonal\n")
    settings["data"]["table"] = str(table)
    with pytest.raises(TlpotError, match=r"cannot be split.* left out, the first of them .*no row"):
        prepare(PowderConfig.model_validate(settings))


def test_flawed_test_patterns_are_never_trained_on(settings):
    config = PowderConfig.model_validate(settings)
    prepared = prepare(config)
    parts = [prepared.part(name) for name in ("train", "test")]
    formulas = [
        {one.frame.atoms.symbols.formula.reduce()[0].format("hill") for one in p} for p in parts
    ]
    assert not formulas[0] & formulas[1]
    task = PowderTask(
        prepared.classifier, parts[0], prepared.part("validation"), 0.5, True, torch.device("cpu")
    )
    judged = seen(prepared.classifier, parts[1], config.training.augmentation, JUDGED_SEED + 1)
    trained_on = {row.numpy().tobytes() for row in task.kept.flatten(0, 1)}
    assert len(trained_on) == 5 * len(parts[0])
    assert not trained_on & {row.numpy().tobytes() for row in judged}


def test_frozen_layers_of_a_base_stay(trained, settings, tmp_path):
    settings["model"] = {"base": str(trained.folder), "freeze": ["dense1"]}
    settings["training"]["epochs"] = 2
    tuned = train(settings)
    before, after = (read_model(run.folder)[1] for run in (trained, tuned))
    for name in before:
        same = "dense1" in name or "scale" in name
        assert torch.equal(before[name], after[name]) == same, name
    settings["model"]["freeze"] = ["dense7"]
    with pytest.raises(TlpotError, match="'dense7' matches no layer; did you mean 'dense1'"):
        train(settings | {"output": str(tmp_path / "other")})


def test_the_originals_kind_of_network_trains_too(settings):
    settings["model"] = {
        "sees": "two_theta", "intensity": "linear", "pool": 100, "dense": [16], "dropout": 0,
        "convolutions": {"filters": 8, "kernels": [5, 3]},
    }  # fmt: skip
    settings["training"] |= {"augmentation": None, "weight_decay": 0, "epochs": 30}
    done = train(settings)
    losses = read_history(done.folder / "history.csv")["train_loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert load_classifier(done.folder).augmentation is None


def test_one_crystal_system_is_nothing_to_learn(settings, folder):
    settings["data"]["files"] = str(folder / "*rutile.cif")
    with pytest.raises(TlpotError, match="all have the same crystal system"):
        train(settings)


def test_bad_config_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {files: [a.cif]}\nmodel: {pol: 3}\n")
    done = CliRunner().invoke(app, ["xrd", "train", str(path)])
    assert isinstance(done.exception, TlpotError)
    assert "model.pol: unknown key; did you mean 'pool'" in str(done.exception)


def test_no_crystal_of_the_base_is_held_out(trained, settings, tmp_path):
    settings["model"] = {"base": str(trained.folder)}
    settings["training"] |= {"epochs": 1}
    settings["data"]["split"] |= {"seed": 3}
    run = train(settings)
    first, mine = (
        json.loads((folder / "manifest.json").read_text())["split"]
        for folder in (trained.folder, run.folder)
    )
    counts = run.metrics["seen_by_base"]
    assert counts["train"] == len(first["train"])
    assert counts["moved_to_train"] > 0
    assert set(mine["test"]).isdisjoint(first["train"] + first["validation"])
    assert "The base was trained on" in (run.folder / "report.html").read_text()


def test_page_fits_and_leaves_out_what_there_is_none_of(trained, tmp_path, look):
    path = shutil.copy(trained.folder / "report.html", tmp_path)
    page = Path(path).read_text()
    table = page.split("By crystal system")[1].split("</table>")[0]
    assert re.findall(r"<tr><td>(\w+)", table) == ["tetragonal", "hexagonal", "cubic"]
    assert "and 31 more" in page
    seen = look(tmp_path / "report.html")
    assert seen.complaints == []
    assert set(seen.overflow.values()) == {0}
    assert seen.sheets <= 4


def test_crystal_systems_that_no_crystal_has_are_told(trained, folder, crystals, tmp_path, capsys):
    """Three systems are trained; the other four can never be recognised, and everyone is told."""
    unseen = ["triclinic", "monoclinic", "orthorhombic", "trigonal"]
    found = load_classifier(trained.folder)
    assert sorted(found.unseen) == sorted(unseen)
    assert f"No training crystal is {' or '.join(found.unseen)}" in " ".join(
        (trained.folder / "report.html").read_text().split()
    )
    file = folder / f"{next(iter(crystals))}.cif"
    with pytest.raises(SystemExit) as stopped:
        main(["xrd", "classify", str(file), "--model", str(trained.folder)])
    out = " ".join(capsys.readouterr().out.split())
    assert not stopped.value.code
    assert f"no training crystal was {' or '.join(found.unseen)}" in out
    with pytest.raises(TlpotError, match="wavelength has no effect without a measured pattern"):
        classify_files([str(file)], found, "MoKa")


def test_a_fine_tuned_classifier_resumes(trained, settings):
    """Its config names a base and nothing of the network, which is the base's."""
    settings["model"] = {"base": str(trained.folder)}
    settings["training"]["epochs"] = 2

    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, on_epoch=stop)
    assert train(settings, resume=True).metrics["test"]
    settings["model"]["sees"] = "lines"
    settings["output"] += "-other"
    with pytest.raises(TlpotError, match=r"model\.sees has no effect with base"):
        train(settings)


def test_a_device_trains_and_says_what_the_cpu_says(settings, device):
    settings["training"] |= {"device": device, "epochs": 2}
    run = train(settings)
    classifier = load_classifier(run.folder)
    patterns = np.random.default_rng(0).random((2, POINTS))
    here = classifier.probabilities(patterns)
    classifier.network.to(device)
    assert classifier.probabilities(patterns) == pytest.approx(here, abs=1e-5)
