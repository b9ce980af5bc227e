import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.build import bulk
from commands import refused

import tlpot


@pytest.fixture
def config(tmp_path, settings) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize(
    ("command", "work"),
    [("property", "tlpot.property.run.train"), ("xrd", "tlpot.powder.run.train")],
)
def test_a_stopped_training_says_how_to_go_on(call, tmp_path, monkeypatch, command, work):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, stop)
    path = tmp_path / "config.yaml"
    path.write_text("data: {files: crystals}")
    code, out, err = call(command, "train", path)
    assert (code, out) == (130, "")
    assert "continue with --resume" in err


def test_finetune_prints_before_and_after(call, config, settings):
    code, out, err = call("finetune", config, "training.epochs=1")
    assert code == 0, err
    assert "report.html" in out.replace("\n", ""), "a path may be wrapped"
    assert "TLPotCalculator(" in out
    assert "meV" in out
    assert "what trains" in err
    assert "frozen" in err
    model = tlpot.load(settings["output"])
    assert model.metadata["training"]["training"]["epochs"] == 1
    refused(call("finetune", config, "training.epochs=1"), "already holds a run")
    refused(call("finetune", config, "training.epochs=1", "--resume"), "finished run")


def test_mini_ships_with_tlpot_and_fine_tunes(call, config, settings):
    settings["model"] = {"base": "mini"}
    config.write_text(yaml.safe_dump(settings))
    code, _, err = call("finetune", config, "training.epochs=2")
    assert code == 0, err
    metrics = json.loads(Path(settings["output"], "metrics.json").read_text())
    before, after = (metrics[m]["train"] for m in ("baseline", "finetuned"))
    key = "force_rmse_meV_per_A_component"
    assert after[key] < before[key]
    assert tlpot.load(settings["output"]).metadata["base"] == "mini"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.epohs=3"], ["training.epohs", "did you mean 'epochs'"]),
        (["training.epochs=many"], ["training.epochs", "integer"]),
        (["epochs"], ["key=value"]),
        (["data.files=[none.xyz]"], ["none.xyz"]),
        (["model.base=ani9"], ["ani9", "mini"]),
        (["model.elements={Si: Ge}"], ["Si", "Ge"]),
        (["model.freeze=[inptu]"], ["input"]),
        (["training.device=abacus"], ["training.device"]),
    ],
    ids=lambda value: value[0],
)
def test_bad_input_is_one_message_and_exit_code_2(call, config, settings, overrides, words):
    refused(call("finetune", config, *overrides), *words)
    assert not Path(settings["output"]).exists()


def test_brackets_in_a_message_are_not_markup(call):
    refused(call("finetune", "[bold].yaml"), "[bold].yaml")


@pytest.mark.parametrize("arguments", [["finetune"], ["finetun", "x"], ["schema", "--what"]])
def test_wrong_usage_is_exit_code_2(call, arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_validate_checks_without_training(call, config, settings):
    code, out, err = call("validate", config)
    assert code == 0, err
    assert "ready to run" in out
    assert "what trains" in out
    assert not Path(settings["output"]).exists()
    refused(call("validate", config, "model.base=ani9"), "ani9")
    refused(call("validate", config, "data.files=[none.xyz]"), "none.xyz")


def test_init_writes_a_config_that_validates_once_files_are_set(call, tmp_path, settings):
    path = tmp_path / "new.yaml"
    code, out, _ = call("init", path)
    assert code == 0
    assert "data.files" in out
    files = f"data.files={settings['data']['files']}"
    code, _, err = call("validate", path, files, "model.base=mini")
    assert code == 0, err
    refused(call("init", path), "exists already")


def test_a_path_is_printed_as_it_is(call):
    code, _, err = call("inspect", "none/[red]good.extxyz@99:100:")
    assert code == 2
    assert "none/[red]good.extxyz@99:100:" in err


def test_a_model_that_training_ruined_is_told(call, config, settings):
    settings["training"] |= {"learning_rate": 10.0, "epochs": 1, "clip": None}
    config.write_text(yaml.safe_dump(settings))
    code, out, err = call("finetune", str(config))
    assert code == 0, err
    assert "Fine-tuning made the force RMSE worse." in out


def test_md_of_no_step_is_refused(call, tmp_path, base_model):
    start = tmp_path / "POSCAR"
    bulk("C").write(start)
    output = tmp_path / "md"
    for length in ("-1", "0"):
        code, _, err = call(
            "md", str(start), "--model", str(base_model), "--ps", length, "--output", str(output)
        )
        assert (code, "not one step" in err, output.exists()) == (2, True, False)


def test_a_folder_on_the_way_is_made(call, tmp_path):
    code, _, err = call("init", str(tmp_path / "none" / "config.yaml"))
    assert (code, err) == (0, "")
    assert (tmp_path / "none" / "config.yaml").is_file()


def test_evaluate_gives_the_figures_of_the_run(call, tmp_path, finished, write_frames):
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    frames = tlpot.read_frames(manifest["data"]["files"][0]["path"])
    test = write_frames(tmp_path / "test.extxyz", [frames[i] for i in manifest["split"]["test"]])
    code, out, _ = call("evaluate", finished.folder, test, "--json")
    assert code == 0
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["checked"]["kept"] == len(manifest["split"]["test"])
    expected = json.loads((finished.folder / "metrics.json").read_text())["finetuned"]["test"]

    def compare(a: dict, b: dict) -> None:
        for key, value in b.items():
            if isinstance(value, dict):
                compare(a[key], value)
            elif value is None:
                assert a[key] is None, key
            else:
                assert a[key] == pytest.approx(value, rel=1e-4, abs=1e-3), key

    errors = [
        [frame["energy_error_meV_per_atom"] for frame in result.pop("by_frame")]
        for result in (found, expected)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3, abs=1e-3)
    del expected["by_one_frame"]
    compare(found, expected)
    code, out, _ = call("evaluate", finished.folder / "model.safetensors", test)
    assert code == 0
    assert f"{expected['force_rmse_meV_per_A_component']:.0f}" in out


def test_evaluate_drops_what_is_bad_and_says_so(call, tmp_path, finished, labelled, write_frames):
    frames = labelled(4)
    frames[0].forces[:] = 1e6
    data = write_frames(tmp_path / "bad.extxyz", frames)
    code, out, err = call("evaluate", finished.folder, data, "--json")
    assert code == 1
    assert json.loads(out)["n_frames"] == 3
    assert "force too large" in err
    refused(call("evaluate", "ani9", data), "ani9")
    refused(call("evaluate", finished.folder, tmp_path / "none.xyz"), "none.xyz")


def test_inspect_prints_and_draws(call, tmp_path, settings):
    code, out, _ = call("inspect", *settings["data"]["files"], "--output", tmp_path / "pictures")
    assert code == 0
    assert "C2H5NO" in out
    assert list((tmp_path / "pictures").glob("*.png"))
    refused(call("inspect", tmp_path / "none.xyz"), "none.xyz")


def test_schema_is_json(call):
    code, out, _ = call("schema")
    assert code == 0
    assert json.loads(out)["properties"]["data"]


# --- the package's front door --------------------------------------------------------------------


def test_public_names():
    assert set(tlpot.__all__) >= {"load", "finetune", "read_frames", "TLPotCalculator"}
    for name in tlpot.__all__:
        assert callable(getattr(tlpot, name))
    with pytest.raises(AttributeError, match="nothing"):
        tlpot.nothing  # noqa: B018


def test_help_answers_without_loading_torch():
    code = "import sys, tlpot.cli.main; print('torch' in sys.modules, 'torchani' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.drawn
def test_elements_ranks_donors_without_weights(call, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHANI_DATA_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("went to the network"))
    picture = tmp_path / "maps" / "elements.png"
    code, out, err = call("elements", "Si", "I", "Cu", "Br", "P", "--output", picture)
    assert code == 0, err
    assert "Si: C, I: Cl, Cu: S" in out
    assert str(picture) in out
    assert picture.stat().st_size > 10_000


def test_elements_of_any_model_as_json(call, tmp_path, base_model):
    for n, (model, supported) in enumerate((("mini", "HCNO"), (base_model, "HCNO"))):
        picture = tmp_path / f"elements{n}.png"
        code, out, _ = call("elements", "Si", "--json", "--model", model, "--output", picture)
        assert code == 0
        assert json.loads(out)["supported"] == list(supported)
        assert json.loads(out)["elements"]["Si"]["suggested"] == "C"


@pytest.mark.drawn
def test_pictures_without_a_name_never_replace_others(call, tmp_path, settings, monkeypatch):
    """A second call in the same folder answers too, and leaves the first one's pictures."""
    monkeypatch.chdir(tmp_path)
    for picture, words in (
        ("inspect/energies.png", ("inspect", *settings["data"]["files"])),
        ("elements.png", ("elements", "Si")),
    ):
        Path(picture).parent.mkdir(exist_ok=True)
        Path(picture).write_bytes(b"mine")
        for n in (2, 3):
            code, out, _ = call(*words)
            first, *rest = Path(picture).parts
            numbered = Path(f"{Path(first).stem}-{n}{Path(first).suffix}", *rest)
            assert code == 0
            assert f"wrote {numbered}" in out
            assert numbered.stat().st_size > 1000
        assert Path(picture).read_bytes() == b"mine"


def test_elements_refuses_what_it_cannot_answer(call, tmp_path):
    picture = tmp_path / "elements.png"
    refused(call("elements", "Xx", "--output", picture), "'Xx' is not a chemical element")
    refused(call("elements", "U", "--output", picture), "'U'", "H to Rn")
    refused(call("elements", "Si", "--model", "nope", "--output", picture), "'nope'", "ani2x")
    refused(call("elements", "Si", "--output", tmp_path / "map.foo"), "map.foo", ".png")
    assert not picture.exists()
