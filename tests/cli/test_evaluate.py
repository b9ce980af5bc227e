"""`tlpot evaluate`: predictions beside the labels, the parity picture, the zero of the energies."""

from __future__ import annotations

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import all_properties

import tlpot
from tlpot.cli.main import main
from tlpot.config.data import Data
from tlpot.data.check import check_frames
from tlpot.data.groups import read_data
from tlpot.data.label_names import label_of
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError
from tlpot.model.reference import EnergyReference

FRAMES = 6


@pytest.fixture
def labelled(tmp_path, request):
    """Frames of our own DFT, as a file."""
    urea = request.config.rootpath / "datasets/urea/urea.extxyz"
    ase.io.write(tmp_path / "labelled.extxyz", ase.io.read(urea, f":{FRAMES}"))
    return tmp_path / "labelled.extxyz"


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs a command; its exit code, output and errors."""

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main([*map(str, words)])
        said = capsys.readouterr()
        return end.value.code or 0, said.out, " ".join(said.err.split())

    return run


def judged(call, *words):
    code, out, said = call("evaluate", *words, "--json")
    assert code == 0, said
    return json.loads(out), said


def test_predictions_stand_beside_the_labels(call, labelled, tmp_path, mini):
    pred = tmp_path / "out/pred.extxyz"
    result, said = judged(call, "mini", labelled, "-o", pred)
    assert f"wrote {pred}" in said
    before, after = read_frames(labelled), read_frames(pred)
    seen = ase.io.read(pred, ":")
    guesses = mini.predict(before, members=True)
    assert len(after) == len(seen) == FRAMES
    for old, new, atoms, guess in zip(before, after, seen, guesses, strict=True):
        assert new.energy == atoms.get_potential_energy() == old.energy
        np.testing.assert_array_equal(new.forces, old.forces)
        np.testing.assert_allclose(atoms.get_forces(), old.forces)
        np.testing.assert_allclose(new.stress, old.stress)
        np.testing.assert_allclose(atoms.arrays["forces_predicted"], guess.forces, atol=1e-4)
        np.testing.assert_allclose(
            atoms.arrays["forces_predicted_std"], guess.forces_std, atol=1e-4
        )
        np.testing.assert_allclose(atoms.info["stress_predicted"], guess.stress, atol=1e-6)
        assert atoms.info["energy_predicted_std"] == pytest.approx(guess.energy_std, abs=1e-4)
        assert "model mini" in atoms.info["predicted_by"]
        names = {*atoms.info, *atoms.arrays} - {"numbers", "positions"}
        assert {*atoms.calc.results} == {"energy", "forces", "stress"}
        assert not names & {*all_properties}
        assert not any(map(label_of, names))
    wrong = [a.info["energy_predicted"] - f.energy for a, f in zip(seen, before, strict=True)]
    rmse = 1e3 * np.sqrt(np.mean(np.square(wrong))) / len(before[0])
    assert rmse == pytest.approx(result["energy_rmse_meV_per_atom"], rel=1e-6)


def test_nobody_trains_on_predictions_without_knowing(call, labelled, tmp_path):
    """The file teaches its labels; without them it teaches nothing."""
    pred = tmp_path / "pred.extxyz"
    judged(call, "mini", labelled, "-o", pred)
    frames = check_frames(read_data(Data(files=[str(pred)])), Data(files=[str(pred)])).frames
    assert [f.energy for f in frames] == [f.energy for f in read_frames(labelled)]
    bare = tmp_path / "bare.extxyz"
    write_frames(bare, [replace(f, energy=None, forces=None, stress=None) for f in frames])
    settings = Data(files=[str(bare)])
    with pytest.raises(TlpotError, match="no energy and no forces"):
        check_frames(read_data(settings), settings)
    relaxed = ["relax", f"{labelled}@0:2", "--model", "mini", "--output", tmp_path / "relaxed"]
    assert call(*relaxed, "engine=ase", "fmax=0.3", "smax=1")[0] == 0
    settings = Data(files=[str(tmp_path / "relaxed/relaxed.extxyz")])
    (remark,) = check_frames(read_data(settings), settings).remarks
    assert "2 frames have the energies of a tlpot model, not of DFT" in remark
    assert "model mini" in remark
    for name in ("predicted_energy", "pred_forces", "prediction_stress", "energy_predicted"):
        assert not label_of(name), name
    assert label_of("dft_energy") == label_of("ref_energy") == "energy"


@pytest.mark.drawn
def test_the_parity_picture(call, labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judged(call, "mini", labelled)
    assert {path.name for path in tmp_path.iterdir()} == {"labelled.extxyz"}
    judged(call, "mini", labelled, "-o", "pred.extxyz")
    assert (tmp_path / "pred-parity.png").read_bytes().startswith(b"\x89PNG")
    judged(call, "mini", labelled, "--parity", "alone.png")
    assert (tmp_path / "alone.png").stat().st_size > 10_000
    there = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for words in (
        ("-o", "pred.extxyz"),
        ("--parity", "alone.png"),
        ("-o", "other.extxyz", "--parity", "alone.png"),
        ("-o", "pred.csv"),
    ):
        code, _, said = call("evaluate", "mini", labelled, *words)
        assert code == 2
        assert "exists already" in said or ".extxyz" in said
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == there


def test_a_base_is_judged_on_the_zero_of_the_labels_and_says_so(call, labelled):
    result, said = judged(call, "mini", labelled)
    assert result["energy_zero"] == "fitted"
    assert result["energy_max_meV_per_atom"] < 100
    assert "mini was never tuned to such labels: its energies count from its own zero, " in said
    assert f"fitted to these {FRAMES} frames" in said
    code, out, _ = call("evaluate", "mini", labelled)
    assert code == 0
    assert "761" not in out


def test_one_frame_cannot_say_where_the_zero_is(call, labelled, tmp_path):
    result, said = judged(call, "mini", f"{labelled}@0", "-o", tmp_path / "one.extxyz")
    assert result["energy_zero"] == "unknown"
    assert result["energy_rmse_meV_per_atom"] is None
    assert result["force_rmse_meV_per_A_component"] > 1
    assert "energy errors are left out" in said
    (frame,) = read_frames(tmp_path / "one.extxyz")
    assert frame.energy == read_frames(f"{labelled}@0")[0].energy


def test_labels_of_the_bases_own_method_need_no_fit(call, labelled, tmp_path, mini):
    frames = read_frames(labelled)
    guesses = mini.predict(frames)
    own = [
        replace(f, energy=p.energy + 0.01 * len(f), forces=p.forces, stress=None)
        for f, p in zip(frames, guesses, strict=True)
    ]
    write_frames(tmp_path / "own.extxyz", own)
    result, said = judged(call, "mini", tmp_path / "own.extxyz")
    assert result["energy_zero"] == "model"
    assert result["energy_mae_meV_per_atom"] == pytest.approx(10, abs=0.1)
    assert "zero" not in said


def test_a_tuned_model_on_labels_of_another_zero_is_explained(call, labelled, tmp_path, mini):
    """Its own zero is its own claim: nothing is fitted, and what is wrong is said."""
    tuned = tlpot.load("mini")
    tuned.reference = EnergyReference(mini.reference.values, "per element", "of other frames")
    tuned.save(tmp_path / "tuned.safetensors")
    result, said = judged(call, tmp_path / "tuned.safetensors", labelled)
    assert result["energy_zero"] == "model"
    assert result["energy_mae_meV_per_atom"] > 1e5
    assert "count energy from another zero: with one fitted to these frames" in said
    assert result["energy_zero_note"] in said
