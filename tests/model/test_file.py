"""Model files: what is saved is loaded, and what is no model is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tlpot.backbones.published import PUBLISHED
from tlpot.errors import TlpotError
from tlpot.files import sha256
from tlpot.model.load import load
from tlpot.model.potential import Potential


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_save_and_load_is_bit_for_bit(tmp_path, small, urea, dtype):
    potential = small(donors={"Si": "C"}, dtype=dtype)
    potential.metadata = {"base": "nothing", "note": [1, 2.5, None]}
    path = potential.save(tmp_path / "deep" / "model.safetensors")
    again = Potential.load(path)
    assert again.reference == potential.reference
    assert again.metadata == potential.metadata
    assert again.backbone.architecture == potential.backbone.architecture
    assert again.elements == potential.elements
    for (name, old), (other, new) in zip(
        potential.backbone.named_parameters(), again.backbone.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(old, new)
    a, b = potential.predict(urea), again.predict(urea)
    assert a.energy == b.energy
    np.testing.assert_array_equal(a.forces, b.forces)
    np.testing.assert_array_equal(a.stress, b.stress)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    assert again.identity == potential.identity == sha256(path)


def test_loading_and_saving_keeps_what_a_model_says_of_itself(tmp_path, small):
    potential = small()
    potential.metadata = {"base": "ani2x", "training": {"epochs": 3}}
    again = load(potential.save(tmp_path / "model.safetensors"))
    assert again.metadata["training"] == {"epochs": 3}
    assert again.metadata["base"] == "ani2x"


def test_a_run_folder_stands_for_its_model(tmp_path, small):
    small().save(tmp_path / "model.safetensors")
    assert load(tmp_path).elements == ("H", "C", "N", "O")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def header(change):
    """A good model file's weights under a changed header."""

    def write(path: Path, good: Path) -> None:
        with safe_open(good, "pt") as file:
            stored = json.loads(file.metadata()["tlpot"])
        text = change(stored)
        text = text if isinstance(text, str) else json.dumps(text)
        save_file(load_file(good), path, {"tlpot": text})

    return write


def architecture(**values):
    return header(lambda h: h | {"architecture": h["architecture"] | values})


CORRUPTIONS = {
    "empty": lambda path, good: path.write_bytes(b""),
    "text": lambda path, good: path.write_text("not a model"),
    "cut": lambda path, good: path.write_bytes(good.read_bytes()[:-1000]),
    "cut header": lambda path, good: path.write_bytes(good.read_bytes()[:50]),
    "pickle": lambda path, good: path.write_bytes(pickle.dumps(Bomb())),
    "torch pickle": lambda path, good: torch.save(Bomb(), path),
    "foreign": lambda path, good: save_file({"w": torch.ones(2)}, path),
    "no weights": lambda path, good: save_file({}, path, {"tlpot": "{}"}),
    "other format": header(lambda h: h | {"format": "tlpot-model-9"}),
    "list": header(lambda h: []),
    "no JSON": header(lambda h: "{"),
    "no architecture": header(lambda h: {k: v for k, v in h.items() if k != "architecture"}),
    "odd architecture": header(lambda h: h | {"architecture": {"layers": 3}}),
    "other widths": architecture(widths=[[4, 4, 4]] * 4),
    "fewer elements": architecture(symbols=["H", "C", "N"]),
    "odd reference": header(lambda h: h | {"reference": 3}),
    "odd donor": header(lambda h: h | {"elements": {"Si": "Xx"}}),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_file_that_is_no_model_is_refused_and_nothing_unpickled(
    tmp_path, monkeypatch, base_model, kind
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    CORRUPTIONS[kind](path, base_model)
    with pytest.raises(TlpotError, match=r"model\.safetensors"):
        load(path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["ani3x", "none.safetensors"])
def test_unknown_names_are_refused(name):
    with pytest.raises(TlpotError, match=name):
        load(name)


def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch, tmp_path):
    def offline() -> None:
        raise OSError("no network")

    monkeypatch.setitem(PUBLISHED, "ani2x", offline)
    monkeypatch.setattr("torchani.paths.state_dicts_dir", lambda: tmp_path)
    with pytest.raises(TlpotError, match=r"TORCHANI_DATA_DIR.*mini"):
        load("ani2x")
