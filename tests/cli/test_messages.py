"""What is the user's is never overwritten; what went wrong is told by its true cause."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule

import tlpot
from tlpot.csp.scores import read_reference
from tlpot.data.tables.cells import cell_number, cell_text, table_text
from tlpot.data.tables.table import read_table
from tlpot.errors import TlpotError
from tlpot.finetuning.run import validate
from tlpot.model.load import BUNDLED, load, load_base, supported_elements
from tlpot.property.elements import element_table
from tlpot.relax.relax import relax
from tlpot.relax.settings import Relaxation
from tlpot.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    """In an empty folder."""
    monkeypatch.chdir(tmp_path)
    return call


# --- nothing is overwritten -----------------------------------------------------------------------


def test_pictures_of_the_user_stay(call, settings):
    data = settings["data"]["files"][0]
    Path("elements.png").write_text("mine")
    Path("inspect").mkdir()
    for name in ("energies.png", "forces.png"):
        Path("inspect", name).write_text("mine")
        code, out, err = call("inspect", data, "--output", "inspect")
        assert (code, out) == (2, "")
        assert "inspect exists already; name another folder with --output" in err
        assert Path("inspect", name).read_text() == "mine"
        Path("inspect", name).unlink()
    code, out, err = call("elements", "Si", "--model", "mini", "--output", "elements.png")
    assert (code, out) == (2, "")
    assert "elements.png exists already; name another file with --output" in err
    assert Path("elements.png").read_text() == "mine"


# --- a word that is also a file -------------------------------------------------------------------


def test_a_base_is_not_taken_for_the_file_of_its_name(monkeypatch, tmp_path, base_model):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for name in ("ani2x", "mini", "schnet"):
        shutil.copy(base_model, name)
        for reader in (load, load_base, supported_elements):
            with pytest.raises(TlpotError, match=rf"'{name}' is the base .*write \./{name}"):
                reader(name)
        assert load(f"./{name}").backbone.members == load(base_model).backbone.members
        assert load(Path(name)).backbone.members == load(base_model).backbone.members
    Path("mini").unlink()
    Path("mini").mkdir()
    assert load("mini").backbone.symbols, "a folder without a model is no model"
    shutil.copy(base_model, "mini/model.safetensors")
    with pytest.raises(TlpotError, match=r"mini/model\.safetensors is here too"):
        load("mini")


def test_other_words_with_a_meaning(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for word in ("modes", "labels"):
        Path(word).write_text("{}")
    with pytest.raises(TlpotError, match=r"write \./modes for the file"):
        element_table("modes")
    with pytest.raises(TlpotError, match=r"write \./labels for the file"):
        read_reference([], "labels")


# --- tables ---------------------------------------------------------------------------------------


def test_what_is_unknown_is_an_empty_cell_in_every_table():
    row = {"a": None, "b": float("nan"), "c": np.float64("nan"), "d": 0.1234567, "e": "nan", "f": 3}
    text = table_text([*row, "g"], [row], digits=3)
    assert text.splitlines()[1] == ",,,0.123,nan,3,"
    assert [cell_number(cell) for cell in ("1.5", "inf")] == [1.5, float("inf")]
    assert np.isnan([cell_number(cell_text(float("nan"))), cell_number("nan")]).all()


MISTAKEN = (
    *("2-3", "2/3", "1.2.2020", "2-8 15", "7, 9", "12:30", "4 500", "50%", "MAR1", "1-Sep", "3 pm"),
    *("=1+1", "+a.cif#0", "-1.cif#0", "@sum.cif#0", "007", "98e018", "1234567890123456789"),
)


@pytest.mark.parametrize("text", MISTAKEN)
def test_no_cell_is_what_a_spreadsheet_makes_something_else_of(tmp_path, text):
    """Dates, times, formulas and numbers are never made of ids; tlpot reads the same ids back."""
    path = tmp_path / "table.csv"
    path.write_text(table_text(["id", "value"], [{"id": text, "value": -1.5}]))
    assert path.read_text().splitlines()[1].lstrip('"').startswith("'")
    (row,) = read_table(path, lambda ident: False).rows
    assert (row.ident, row.number(1)) == (text, -1.5)


@pytest.mark.parametrize(
    "text", ["marble2", "1e-05", "-0.25", "1000017", "H.hidden1", "2 to 8; 15", "a-1"]
)
def test_other_text_stays_as_it_is(text):
    assert cell_text(text) == text


def test_one_place_writes_tables():
    room = Path(tlpot.__file__).parent
    writers = re.compile(r"csv\.(writer|DictWriter)|to_csv|savetxt")
    found = [f.name for f in room.rglob("*.py") if writers.search(f.read_text())]
    assert found == ["cells.py"]


# --- validate -------------------------------------------------------------------------------------


def test_validate_sees_what_finetune_would_refuse(settings, tmp_path, finished):
    def refused(why: str, section: str = "", **changes: object) -> None:
        values = settings | ({section: settings[section] | changes} if section else changes)
        with pytest.raises(TlpotError, match=why):
            validate(values)

    before = sorted(tmp_path.rglob("*"))
    assert validate(settings | {"output": str(tmp_path / "deep" / "run")}).parts["train"]
    refused("'cuda:77' cannot be used here", "training", device="cuda:77")
    refused("already holds a run", output=str(finished.folder))
    refused("is a file", output=settings["data"]["files"][0])
    refused("cannot be made", output=f"{settings['data']['files'][0]}/run")
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


# --- damaged weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_model_file_is_told_as_such(base_model, tmp_path, share):
    content = base_model.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[: round(share * len(content))])
    kind = "is cut" if share else "is empty"
    with pytest.raises(TlpotError, match=rf"cut\.safetensors {kind}"):
        load(path)
    (tmp_path / "other.safetensors").write_text("not weights at all")
    with pytest.raises(TlpotError, match=r"other\.safetensors is not a safetensors model file"):
        load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense", None])
def test_damaged_weights_in_torchanis_cache_are_no_failed_download(tmp_path, monkeypatch, content):
    """A cut download, an unpacked half, or another model's weights under this name."""
    import torch
    import torchani

    folder = tmp_path / "StateDicts"
    folder.mkdir()
    file = folder / "ani2x_state_dict.pt"
    if content is None:
        torch.save({"weight": torch.zeros(1)}, file)
    else:
        file.write_bytes(content)
    monkeypatch.setattr(torchani.paths, "state_dicts_dir", lambda: folder)
    monkeypatch.setattr(torchani.arch, "state_dicts_dir", lambda: folder)

    def offline(*_: object, **kwargs: object) -> str:
        if kwargs.get("local_files_only"):
            return str(file)
        raise ConnectionError("no network")

    monkeypatch.setattr(torchani.arch, "hf_hub_download", offline)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    said = "does not hold the weights of ani2x" if content is None else "is cut or damaged"
    with pytest.raises(TlpotError, match=rf"ani2x_state_dict\.pt {said} .*|{said}") as caught:
        load("ani2x")
    assert "delete it" in str(caught.value)
    assert "could not be downloaded" not in str(caught.value)
    file.unlink()
    with pytest.raises(TlpotError, match="could not be downloaded"):
        load("ani2x")


def test_a_cut_checkpoint_is_told_as_such(tmp_path):
    save_checkpoint(tmp_path, {"weights": [np.arange(3).tolist()]})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TlpotError, match=r"checkpoint\.pt is cut or damaged \([^\n]*\); start"):
        load_checkpoint(tmp_path)


# --- molecules have no cell -----------------------------------------------------------------------


def test_a_molecule_has_no_cell_to_relax(call):
    ase.io.write("water.xyz", molecule("H2O"))
    boxed = molecule("H2O", vacuum=8.0)
    boxed.pbc = True
    ase.io.write("boxed.extxyz", boxed)
    for file in ("water.xyz", "boxed.extxyz"):
        code, out, _ = call(
            "relax", file, "--model", "mini", "--free", "cell", "--output", file[:3]
        )
        assert code == 2
        assert "0 structures relaxed, 1 set aside" in out
        assert "has no cell to relax" in " ".join(out.split())
        code, _, err = call("relax", file, "--model", "mini", "--pressure", 2, "--output", "p")
        assert code == 2
        assert "pressure has no effect without a crystal" in err
    code, _, err = call("relax", "water.xyz", "--model", "mini", "--symmetry", "--output", "s")
    assert code == 2
    assert "symmetry has no effect without a crystal" in err
    assert not Path("p").exists()
    assert not Path("s").exists()


def test_molecules_beside_crystals_keep_their_boxes():
    """Mixed input is what it always was: pressure on crystals, positions of molecules."""
    found = relax(
        [bulk("C"), molecule("H2O")], load("mini"), Relaxation(free="cell", bonds=False, steps=5)
    )
    assert "no cell to relax" not in (found[0].reason or "")
    assert "no cell to relax" in (found[1].reason or "")


# --- numbers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_must_be_finite(call, settings, number):
    path = Path("config.yaml")
    path.write_text(yaml.safe_dump(settings))
    for words in (
        ("md", "x", "--ps", number),
        ("md", "x", "--set", f"tau=.{number.strip('-')}"),
        (
            *["sample", "propose", "x", "--method", "rattle", "--number", "2", "--output", "o"],
            *("--min-distance", number),
        ),
        ("validate", path, f"training.learning_rate=.{number.strip('-')}"),
        ("rank", "x", "--pressure", number),
    ):
        code, out, err = call(*words)
        assert (code, out) == (2, ""), err
        line = " ".join(err.split())
        reasons = ("finite number", "Input should be greater", "is not in the range")
        assert any(reason in line for reason in reasons), err


# --- exit codes -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_workers")
def test_ablate_tells_of_failed_points(call, settings, capsys):
    settings["training"]["epochs"] = 1
    sweep = {"base": settings, "output": "sweep", "axes": {"training.learning_rate": [1e-4, 1e30]}}
    sweep["base"]["training"]["clip"] = None
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    code, out, err = call("ablate", "sweep.yaml")
    assert code == 1, err
    assert "1 of 2 points failed" in out
    assert "failed" in Path("sweep/points.csv").read_text()
    sweep |= {"axes": {"training.learning_rate": [1e30]}, "output": "none"}
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    code, out, _ = call("ablate", "sweep.yaml")
    assert code == 2
    assert "1 of 1 points failed" in out


def test_the_exit_codes_are_documented(call):
    _, out, _ = call("--help")
    assert "Exit codes: 0 done; 1 done but for some" in " ".join(out.split())
    assert (BUNDLED / "mini.safetensors").is_file()
