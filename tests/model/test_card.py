"""What a model says of itself, and that it names nobody."""

import json
import re

import ase.io
import pytest
import torch
import yaml
from ase.build import bulk
from safetensors.torch import save_file

from tests.conftest import make_settings
from tests.golden.test_golden import FILES
from tlpot.cli.main import main
from tlpot.evaluation.report import ROWS
from tlpot.finetuning.run import finetune
from tlpot.model.card import card, card_rows
from tlpot.model.file import FORMAT, anonymous
from tlpot.model.load import load

USER = "alice.doe"
KEYS = {"model", "sha256", "kind", "base", "elements", "level_of_theory", "data", "recipe", "test"}
KEYS |= {"calibration", "domain", "versions"}


def info(capfd, *arguments) -> str:
    with pytest.raises(SystemExit) as end:
        main(["info", *map(str, arguments)])
    output = capfd.readouterr()
    assert not end.value.code, output.err
    return output.out


def anonymous_model(folder) -> None:
    """Nothing in a run's model file names the user."""
    assert USER.encode() not in (folder / "model.safetensors").read_bytes()


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home" / USER
    folder.mkdir(parents=True)
    return folder


def test_a_potential(home, capfd, labelled, write_frames, small, monkeypatch):
    """Trained by an ancestor's run in a folder of the user's, with groups, a table and replay."""
    ancestor = small(dtype=torch.float32).save(home / "ancestor" / "model.safetensors")
    frames = labelled(16)
    for frame in frames[:14]:
        frame.atoms.info |= {"engine": "gpaw 24", "settings": f"xc=PBE setups=/home/{USER}/paw"}
    data = write_frames(home / "frames.extxyz", frames[:14])
    for i, frame in enumerate(frames[14:]):
        frame.atoms.calc = None
        ase.io.write(home / f"c{i}.extxyz", frame.atoms)
    (home / "energies.csv").write_text(
        "id,energy (eV)\n" + "".join(f"c{i},{f.energy}\n" for i, f in enumerate(frames[14:]))
    )
    settings = make_settings(data, ancestor.parent, home / "run")
    group = {"files": str(home / "c*.extxyz"), "table": str(home / "energies.csv")}
    settings["data"]["groups"] = [group | {"energy_only": True}]
    replayed = write_frames(home / "replay.extxyz", labelled(19)[16:])
    settings["training"]["replay"] = {"files": [str(replayed)]}
    run = finetune(settings)
    anonymous_model(home / "run")
    about = json.loads(info(capfd, home / "run", "--json"))
    assert about.keys() >= KEYS
    assert USER not in json.dumps(about)
    assert str(home.parent) not in json.dumps(about)
    assert {f["name"]: f["frames"] for f in about["data"]["files"]}["frames.extxyz"] == 14
    assert re.fullmatch("[0-9a-f]{64}", about["data"]["sha256"])
    counts = {part: len(run.manifest["split"][part]) for part in ("train", "validation")}
    counts["train"] += 3
    assert about["data"]["structures"] == counts
    assert about["recipe"]["epochs"] == 2
    for _, _, key in ROWS:
        assert about["test"][key] == run.metrics["finetuned"]["test"][key]
    assert about["domain"]["contacts"]
    text = " ".join(info(capfd, home / "run").split())
    for words in ("per component", "per vector", "gpaw 24", "trained from model.safetensors"):
        assert words in text
    page = (home / "run" / "report.html").read_text()
    for title, _ in card_rows(about):
        assert f"<td>{title}</td>" in page


def test_a_property(home, capfd):
    for i, (name, a) in enumerate([("Cu", 3.6), ("Al", 4.0), ("Ni", 3.5), ("Ag", 4.1)] * 2):
        atoms = bulk(name, "fcc", a + 0.1 * i)
        atoms.info["size"] = a
        ase.io.write(home / f"{i}.extxyz", atoms)
    values = {
        "data": {"files": str(home / "*.extxyz"), "property": "size", "split": {"test": 0.3}},
        "model": {"width": 8, "convolutions": 1, "dense": 8},
        "training": {"epochs": 1, "warmup_epochs": 0, "device": "cpu"},
        "output": str(home / "run"),
    }
    train("property", home, values)
    capfd.readouterr()
    about = json.loads(info(capfd, home / "run", "--json"))
    assert about["property"] == "size"
    assert len(about["data"]["files"]) == 8
    assert set(about["elements"]["own"]) <= {"Ag", "Al", "Cu", "Ni"}
    assert "MAE" in info(capfd, home / "run")
    assert "Model card" in (home / "run" / "report.html").read_text()


def test_a_classifier(home, capfd):
    pytest.importorskip("spglib")
    for i, name in enumerate(("Cu", "Al", "Ni", "Ag", "Au", "Pt")):
        ase.io.write(home / f"{name}.cif", bulk(name, "fcc", 3.5 + 0.1 * i, cubic=True))
        ase.io.write(home / f"{name}2.cif", bulk(name, "hcp", 2.6 + 0.1 * i, 4.5))
    (home / "torn.cif").write_text("data_torn\n_cell_length_a 3\n")
    values = {
        "data": {"files": str(home), "split": {"test": 0.2, "validation": 0.2}},
        "model": {"dense": [8], "dropout": 0.0},
        "training": {"epochs": 1, "warmup_epochs": 0, "device": "cpu"},
        "output": str(home / "run"),
    }
    values["training"]["augmentation"] = {"variants": 1}
    train("xrd", home, values)
    text = " ".join(info(capfd, home / "run").split())
    assert "% right" in text
    assert "temperature" in text
    assert "Model card" in (home / "run" / "report.html").read_text()


def train(verb, home, values) -> None:
    (home / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as end:
        main([verb, "train", str(home / "config.yaml")])
    assert not end.value.code
    anonymous_model(home / "run")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_earlier_files_show_what_they_hold(path):
    about = card(path)
    assert about.keys() >= KEYS
    assert all(isinstance(text, str) and text for _, text in card_rows(about))


def test_an_earlier_file_that_names_folders_is_shown_without(tmp_path, capfd, small):
    header = {
        "reference": {},
        "metadata": {
            "base": "ani2x",
            "training": {"model": {"base": f"/home/{USER}/runs/one"}, "training": {"epochs": 3}},
            "data": {"files": [{"path": f"/home/{USER}/a b/run1/OUTCAR", "sha256": "ab"}]},
        },
    }
    text = json.dumps({"format": FORMAT, **header})
    weight = next(small().backbone.parameters()).detach().contiguous()
    save_file({"networks.w": weight}, tmp_path / "old.safetensors", {"tlpot": text})
    about = json.loads(info(capfd, tmp_path / "old.safetensors", "--json"))
    assert USER not in json.dumps(about)
    assert about["data"]["files"][0]["name"] == "OUTCAR"
    assert about["base"]["licence"].startswith("MIT")


def test_bases(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHANI_DATA_DIR", str(tmp_path))
    about = json.loads(info(capfd, "ani2x", "--json"))
    assert about["elements"]["own"] == [*list("HCNOSF"), "Cl"]
    assert about["level_of_theory"] == ["wB97X"]
    text = " ".join(info(capfd, "mini").split())
    assert "284 meV/Å per component, 493 per vector" in text
    assert "MIT" in text
    with pytest.raises(SystemExit, match="2"):
        main(["info", "schnet"])


def test_a_model_from_scratch_has_no_licence_to_keep(home, labelled, write_frames):
    data = write_frames(home / "frames.extxyz", labelled(12))
    settings = make_settings(data, "schnet", home / "run")
    settings["model"] = {"base": "schnet", "schnet": {"features": 8, "interactions": 1}}
    finetune(settings)
    anonymous_model(home / "run")
    about = card(home / "run")
    assert "scratch" in about["base"]["licence"]
    assert about["backbone"] == "schnet"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"/home/{USER}/run/x.cif", "x.cif"),
        (f"refused /home/{USER}/x.cif#3: too close", "refused x.cif#3: too close"),
        (rf"C:\Users\{USER}\x.cif", "x.cif"),
        (f"~{USER}/x.cif", "x.cif"),
        (f"$SCRATCH/{USER}/x.cif", "x.cif"),
        (f"setups=/home/{USER}/paw", "setups=paw"),
        ("eV/Å^3, kJ/mol per molecule, PBE/def2-SVP", "eV/Å^3, kJ/mol per molecule, PBE/def2-SVP"),
        ("1 / 2", "1 / 2"),
    ],
)
def test_a_path_is_cut_and_a_unit_is_not(text, shown):
    assert anonymous({"x": [text]}) == {"x": [shown]}


def test_what_is_saved_again_names_nobody(tmp_path, small):
    """Also what a caller or an earlier version put there."""
    potential = small()
    potential.metadata["mine"] = {f"/home/{USER}/a": [f"/home/{USER}/b"]}
    path = potential.save(tmp_path / "model.safetensors")
    assert USER.encode() not in path.read_bytes()
    assert load(path).metadata["mine"] == {"a": ["b"]}
