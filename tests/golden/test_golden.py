"""Files that earlier versions wrote are read for ever, and mean the same."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.golden.make import MODELS, answers, main

FILES = sorted(Path(__file__).parent.glob("*/*.safetensors"))
NUMBERS = {"rtol": 0.0, "atol": 1e-4}
"""eV, eV/Å, eV/Å³: what float32 networks may differ by between machines."""


def assert_same(found: object, stored: object) -> None:
    if isinstance(stored, dict):
        assert found.keys() == stored.keys()
        for key in stored:
            assert_same(found[key], stored[key])
    elif isinstance(stored, list) and any(isinstance(value, dict) for value in stored):
        for mine, theirs in zip(found, stored, strict=True):
            assert_same(mine, theirs)
    elif stored is None or np.asarray(stored).dtype.kind == "U":
        assert found == stored
    else:
        np.testing.assert_allclose(found, stored, **NUMBERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_file_predicts_what_it_did(path):
    crystals = ase.io.read(path.with_name("structures.extxyz"), ":")
    stored = json.loads(path.with_suffix(".json").read_text())
    assert_same(answers(path, crystals), stored)


def test_every_kind_of_model_has_a_golden_file_and_the_numbers_tell_them_apart():
    assert {path.stem for path in FILES} >= {make.__name__ for make in MODELS}
    stored = {path.stem: json.loads(path.with_suffix(".json").read_text()) for path in FILES}
    for values in stored.values():
        for prediction in values.get("predictions", ()):
            assert prediction["energy_std"] > 0.01
        for prediction in values.get("predictions", ())[:2]:
            assert np.abs(prediction["forces"]).max() > 0.01
    rough, exact = (stored[name]["predictions"][0] for name in ("ani", "ani_calibrated"))
    assert exact["energy_std"] == pytest.approx(2.5 * rough["energy_std"], rel=1e-5)
    np.testing.assert_allclose(exact["forces_std"], 1.5 * np.array(rough["forces_std"]), rtol=1e-4)
    for values in (stored["powder_lines"], stored["powder_pattern"]):
        assert np.ptp(values["probabilities"], axis=0).max() > 0.01


def test_what_made_them_still_makes_such_files(tmp_path):
    main(tmp_path / "now")
    golden = {path.name for path in Path(__file__).parent.glob("model-*/*")}
    assert {path.name for path in (tmp_path / "now").iterdir()} == golden
