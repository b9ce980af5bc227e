import json

import pytest
import yaml

from tlpot.cli.main import main
from tlpot.config.data import Data, Split
from tlpot.config.run import Config, Model, Training, load_config, parse_config, parse_elements
from tlpot.config.sections import as_section
from tlpot.config.template import config_template
from tlpot.config.training import PRESETS
from tlpot.errors import TlpotError

FILES = {"data": {"files": ["a.xyz"]}}


def test_a_config_comes_from_a_dict_a_file_or_is_one(tmp_path):
    config = as_section(Config, FILES)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(FILES))
    assert as_section(Config, config) is config
    assert as_section(Config, path) == as_section(Config, str(path)) == config
    with pytest.raises(TlpotError, match=r"config is not a valid config:(?s:.*)data.file: unknown"):
        as_section(Config, {"data": {"file": "a"}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trianing": {}}, "trianing: unknown key; did you mean 'training'"),
        ({"training": {"epoch": 3}}, "training.epoch: unknown key; did you mean 'epochs'"),
        ({"training": {"lamda": 0.5}}, "training.lamda: unknown key; did you mean 'lambda'"),
        ({"data": {"files": ["a"], "split": {"tset": 0.1}}}, "data.split.tset: unknown key; did"),
        ({"training": {"zzz": 3}}, "training.zzz: unknown key; known keys: epochs, batch_size"),
        ({"training": {"epochs": "many"}}, "training.epochs: Input should be a valid integer"),
        (
            {"training": {"epochs": 5, "warmup_epochs": 5}},
            "training: warmup_epochs: 5 of 5 epochs leave none at the learning rate",
        ),
        ({"training": {"learning_rate": float("inf")}}, "learning_rate: Input should be a finite"),
        ({"training": {"epochs": 0}}, "training.epochs: Input should be greater than 0"),
        ({"training": {"lambda": 1.5}}, "training.lambda: Input should be less than"),
        ({"training": {"preset": "best"}}, "training.preset: Input should be 'default' or 'thesis"),
        ({"training": "fast"}, "training: "),
        ({"data": {}}, "data.files: required"),
        ({"data": {"files": []}}, "files is empty"),
        (
            {"data": {"files": ["a"], "groups": [{"files": "b", "wieght": 2}]}},
            "data.groups.0.wieght: unknown key; did you mean 'weight'",
        ),
        (
            {"data": {"files": ["a"], "groups": [{"relaxed": True}]}},
            "data.groups.0.files: required",
        ),
        (
            {"data": {"files": ["a"], "relaxed": True, "energy_only": True}},
            "data: missing forces are zero (relaxed) or unknown (energy_only), not both",
        ),
        ({"data": {"files": [3]}}, "data.files.0: Input should be a valid string"),
        (
            {"data": {"files": ["a"], "split": {"test": 0.6, "validation": 0.5}}},
            "data.split: test + validation must be below 1",
        ),
        (
            {"data": {"files": ["a"], "split": {"seed": -1}}},
            "data.split.seed: Input should be great",
        ),
        ({"model": {"elements": {"Si": 6}}}, "model.elements.Si: name a donor, e.g. `Si: C`"),
        (
            {"model": {"elements": {"Si": {"from": "C", "as": "copy"}}}},
            "model.elements.Si.as: Input should be 'alias' or 'clone'",
        ),
        ({"model": {"elements": {"Si": {"as": "clone"}}}}, "model.elements.Si.from: required"),
        (
            {"model": {"elements": {"Si": {"form": "C"}}}},
            "model.elements.Si.form: unknown key; did you mean 'from'",
        ),
        ({"model": {"train": "own"}}, "model.train: Input should be 'all' or 'new'"),
        ({"model": {"train": "new", "init": "scratch"}}, "model: train: new keeps the base's"),
    ],
)
def test_errors_name_the_key_and_what_would_be_right(change, message):
    with pytest.raises(TlpotError, match="config") as caught:
        parse_config(FILES | change)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["just words", "- a\n- list", "a: [1", "\xff\xfe: 1", ""])
@pytest.mark.parametrize("overrides", [[], ["training.epochs=3"]])
def test_files_that_are_no_config_are_refused(tmp_path, text, overrides):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(TlpotError, match=r"config\.yaml"):
        load_config(path, overrides)


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {files: a}\ntraining: {epochs: 10}\ntraining: {learning_rate: 1e-3}\n")
    with pytest.raises(TlpotError, match=r"config\.yaml .*line 3 .*'training' is given twice"):
        load_config(path)
    path.write_text("x: &x {epochs: 3}\ndata: {files: a}\ntraining: {<<: *x, seed: 1}\n")
    with pytest.raises(TlpotError, match="x: unknown key"):
        load_config(path)
    nested = "training: &y {<<: &x {epochs: 3}, epochs: 4}\ndata: {files: a}\nmodel: {<<: *y}\n"
    path.write_text(nested)
    with pytest.raises(TlpotError, match=r"model\.epochs: unknown key"):
        load_config(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(TlpotError, match=r"none\.yaml: no such config file"):
        load_config(tmp_path / "none.yaml")


def test_overrides_are_yaml_and_reach_every_section(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {files: a.xyz}\ntraining:\n  epochs: 7\nmodel:\n")
    changes = ["training.epochs=9", "training.learning_rate=1e-3", "data.split.test=0"]
    changes += ["model.elements={Si: C}", "model.freeze=[input, H.hidden1]", "output=x=y"]
    config = load_config(path, [*changes, "training.clip=null"])
    assert config.training.epochs == 9
    assert config.training.learning_rate == 1e-3
    assert config.data.split.test == 0
    assert config.model.elements == parse_elements({"Si": "C"})
    assert config.model.freeze == ["input", "H.hidden1"]
    assert config.training.clip is None
    assert config.output == "x=y"


@pytest.mark.parametrize(
    "override", ["training.epochs", "output.folder=x", "model.elements={Si: C", "training.epohs=3"]
)
def test_bad_overrides_are_refused(tmp_path, override):
    path = tmp_path / "config.yaml"
    path.write_text("data: {files: a.xyz}\noutput: run")
    with pytest.raises(TlpotError, match=override.split("=")[0].split(".")[-1]):
        load_config(path, [override])


def test_presets_fill_in_but_never_override():
    thesis = Training.model_validate({"preset": "thesis"})
    recipe = {"lambda": 0.9, "epochs": 100, "batch_size": 2, "learning_rate": 1e-4}
    recipe |= {"weight_decay": 0.1, "schedule": "plateau"}
    dumped = thesis.model_dump(by_alias=True)
    assert {key: dumped[key] for key in recipe} == recipe
    mixed = Training.model_validate({"preset": "thesis", "lambda": 0.5, "epochs": 3})
    assert (mixed.force_share, mixed.epochs, mixed.batch_size) == (0.5, 3, 2)
    by_name = Training.model_validate({"preset": "thesis", "force_share": 0.25})
    assert by_name.force_share == 0.25
    assert set(PRESETS["thesis"]) <= set(dumped)


@pytest.mark.parametrize("preset", PRESETS)
def test_dump_reads_back_as_the_same_config(tmp_path, preset):
    training = {"preset": preset, "epochs": 5, "clip": 3.0, "lambda": 0.25}
    clone = {"from": "C", "as": "clone"}
    model = {"elements": {"I": "Cl", "Si": clone}, "freeze": ["input"]}
    config = parse_config(FILES | {"training": training, "model": model})
    path = tmp_path / "config.yaml"
    path.write_text(config.dump())
    assert load_config(path) == config
    assert yaml.safe_load(path.read_text())["model"]["elements"] == model["elements"]


def test_a_donor_alone_is_an_alias():
    short, long = parse_elements({"Si": "C"}), parse_elements({"Si": {"from": "C", "as": "alias"}})
    assert short == long == {"Si": short["Si"]}
    assert (short["Si"].donor, short["Si"].kind) == ("C", "alias")


def test_one_file_may_be_a_plain_string():
    assert parse_config({"data": {"files": "a.xyz"}}).data.files == ["a.xyz"]


def test_template_is_a_config_of_the_defaults_that_explains_every_key(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config_template())
    config = load_config(path, ["data.files=[a.xyz]"])
    assert config == parse_config(FILES)

    lines = config_template().splitlines()
    for section in (Split, Data, Model, Training):
        for name, field in section.model_fields.items():
            start = f"{field.alias or name}:"
            assert any(
                x.lstrip(" #").startswith(start) and field.description in x for x in lines
            ), name


def test_template_leaves_the_recipe_to_the_preset(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config_template().replace("preset: default", "preset: thesis"))
    config = load_config(path, ["data.files=[a.xyz]"])
    assert config == parse_config(FILES | {"training": {"preset": "thesis"}})


def test_a_section_may_be_left_empty():
    thinned = yaml.safe_load("data: {files: [a.xyz], split: }\nmodel:\ntraining:\n")
    assert parse_config(thinned) == parse_config(FILES)


def test_schema_describes_every_key(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["schema"])
    assert stopped.value.code == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Config.model_fields)
    for section in schema["$defs"].values():
        for name, entry in section["properties"].items():
            assert entry.get("description"), name
