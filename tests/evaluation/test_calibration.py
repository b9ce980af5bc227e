"""Factors and intervals by hand and by simulation; their way through files and calculator."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tlpot
from tlpot import TLPotCalculator
from tlpot.evaluation.calibration import (
    calibrate,
    conformal_quantile,
    miscalibration_area,
    uncertainty,
)
from tlpot.model.potential import Potential
from tlpot.model.uncertainty import Calibration, Scale
from tlpot.structure.frames import Frame


class Ensemble:
    """Predicts labels off by given errors with given spreads: ``(n,)`` eV, ``(n, 2, 3)`` eV/Å."""

    calibration = None

    def __init__(self, energy, energy_std, forces=None, forces_std=None) -> None:
        n = len(energy)
        still = np.zeros((n, 2, 3))
        self.rows = zip(
            energy,
            energy_std,
            still if forces is None else forces,
            still if forces_std is None else forces_std,
            strict=True,
        )
        self.frames = [Frame(Atoms("H2"), 0.0, np.zeros((2, 3)), index=i) for i in range(n)]

    def predict(self, frames, members):
        assert members
        names = ("energy", "energy_std", "forces", "forces_std")
        return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in self.rows]


def test_quantile_has_the_finite_sample_rank():
    scores = np.arange(1.0, 30.0)[::-1]
    for n, rank in {9: 9, 10: 9.9, 13: 12.6, 18: 17.1, 19: 18, 28: 26.1, 29: 27}.items():
        found = conformal_quantile(np.sort(scores)[:n], 0.9)
        assert found == pytest.approx(rank, abs=1e-9), n
    assert conformal_quantile(scores[:8], 0.9) == math.inf
    assert conformal_quantile(scores[:1], 0.5) == scores[0]
    assert conformal_quantile(np.empty(0), 0.5) == math.inf


@pytest.mark.parametrize("n", [9, 13, 18, 29])
def test_intervals_cover_what_they_promise(n):
    """A new score is covered with probability 0.9; in a tail, with no more than the rank above."""
    random = np.random.default_rng(n)
    draws = 20000
    noise = 4 * 0.3 / draws**0.5
    above = math.ceil(0.9 * (n + 1)) / (n + 1)
    even = random.random((draws, n + 1))
    normal = np.abs(random.standard_normal((draws, n + 1)))
    heavy = np.abs(random.standard_t(2, size=(draws, n + 1)))
    for scores, most in ((even, 0.9), (normal, 0.915), (heavy, above)):
        covered = np.mean([new <= conformal_quantile(old, 0.9) for *old, new in scores])
        assert 0.9 - noise < covered < most + noise


def test_factor_is_the_rms_of_error_over_spread():
    errors, spreads = np.array([1.0, -2.0, 3.0, 4.0, -6.0]), np.array([1.0, 1.0, 1.0, 2.0, 2.0])
    ensemble = Ensemble(errors, spreads)
    found = calibrate(ensemble, ensemble.frames)
    assert found.energy == Scale(pytest.approx(math.sqrt(27 / 5)), None, 5)  # 1, 4, 9, 4, 9
    assert found.forces is None


def test_a_factor_makes_most_of_the_likelihood_of_gaussian_errors():
    random = np.random.default_rng(0)
    spreads = random.uniform(0.5, 2.0, 40)
    errors = 3.0 * spreads * random.normal(size=40)
    factor = calibrate(Ensemble(errors, spreads), Ensemble(errors, spreads).frames).energy.factor

    def surprise(scale: float) -> float:
        return np.sum(np.log(scale * spreads) + 0.5 * (errors / (scale * spreads)) ** 2)

    assert surprise(factor) < min(surprise(0.99 * factor), surprise(1.01 * factor))
    assert factor == pytest.approx(3.0, rel=0.3)


def test_on_new_frames_the_calibrated_spread_is_an_error_bar():
    """Spreads five times too small, forces of a frame alike: 90 % of new labels are covered."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(200):
        n = 50
        size = random.lognormal(0.0, 0.5, n)
        tremor = random.lognormal(0.0, 0.2, (n, 1, 1)) * random.lognormal(0.0, 0.5, (n, 2, 3))
        ensemble = Ensemble(
            5.0 * size * random.normal(size=n),
            size,
            5.0 * tremor * random.lognormal(0.0, 0.2, (n, 1, 1)) * random.normal(size=(n, 2, 3)),
            tremor,
        )
        rows = list(ensemble.rows)
        ensemble.rows = rows[:19]
        calibration = calibrate(ensemble, ensemble.frames[:19])
        scales = np.array([calibration.energy.factor, calibration.forces.factor])
        ensemble.rows = [(e, s * scales[0], f, fs * scales[1]) for e, s, f, fs in rows[19:]]
        frames = ensemble.frames[19:]
        found.append(uncertainty(frames, ensemble.predict(frames, True), calibration))
    for quantity in ("energy", "forces"):
        entries = [entry[quantity] for entry in found]
        mean = {
            name: np.mean([entry[name] for entry in entries])
            for name in ("coverage", "rms_z", "rms_z_raw", "miscalibration", "miscalibration_raw")
        }
        assert mean["coverage"] == pytest.approx(0.9, abs=0.015)
        assert mean["rms_z_raw"] == pytest.approx(5.0, abs=0.3)
        assert mean["rms_z"] == pytest.approx(1.0, abs=0.06)
        assert mean["miscalibration"] < 0.08 < 0.3 < mean["miscalibration_raw"]


def test_too_few_frames_are_no_calibration_or_have_no_interval():
    for n in (0, 4, 5, 8, 9):
        ensemble = Ensemble(
            np.ones(n),
            np.ones(n),
            np.ones((n, 2, 3)),
            np.arange(1, 7).reshape(2, 3) * np.ones((n, 1, 1)),
        )
        found = calibrate(ensemble, ensemble.frames)
        assert (found is None) == (n < 5)
        if found:
            for scale in (found.energy, found.forces):
                assert scale.frames == n
                assert (scale.quantile is None) == (n < 9)
    # 54 force components of nine frames: the one of rank ⌈55·0.9⌉ = 50 of |Δ|/σ is 1/1
    assert found.forces.quantile == pytest.approx(1.0 / found.forces.factor)


def test_forces_that_symmetry_forbids_do_not_count():
    n = 9
    forces, spreads = np.zeros((n, 2, 3)), np.full((n, 2, 3), 1e-9)
    forces[:, 0, 0], spreads[:, 0, 0] = 0.2, 0.1
    forces[:, 1, 2] = 1e-6
    ensemble = Ensemble(np.ones(n), np.ones(n), forces, spreads)
    assert calibrate(ensemble, ensemble.frames).forces.factor == pytest.approx(2.0)


def test_labels_that_are_missing_do_not_count():
    ensemble = Ensemble(np.ones(9), np.ones(9), np.ones((9, 2, 3)), np.ones((9, 2, 3)))
    frames = [replace(f, forces=None) for f in ensemble.frames]
    frames[0] = replace(frames[0], energy=None)
    found = calibrate(ensemble, frames)
    assert found.forces is None
    assert found.energy.frames == 8


def test_miscalibration_area():
    random = np.random.default_rng(0)
    z = random.normal(size=20000)
    assert miscalibration_area(z) < 0.01
    assert miscalibration_area(0 * z) == pytest.approx(0.5, abs=0.01)
    assert miscalibration_area(1e9 * z) == pytest.approx(0.5, abs=0.01)
    assert 0.1 < miscalibration_area(2 * z) < miscalibration_area(4 * z) < 0.5


def test_uncertainty_by_hand():
    ensemble = Ensemble(np.array([0.2, -0.4, 0.8, 0.0]), np.array([0.1, 0.2, 0.3, 0.4]))
    calibration = Calibration(Scale(2.0, 1.5, 20), None)  # raw spreads are half of these
    predictions = ensemble.predict(ensemble.frames, True)
    found = json.loads(json.dumps(uncertainty(ensemble.frames, predictions, calibration)))
    assert found["level"] == 0.9
    energy = found["energy"]
    assert (energy["n"], energy["factor"], energy["quantile"]) == (4, 2.0, 1.5)
    assert energy["calibrated_on"] == 20
    assert energy["rms_z"] == pytest.approx(math.sqrt((4 + 4 + 64 / 9) / 4))
    assert energy["rms_z_raw"] == pytest.approx(2 * energy["rms_z"])
    assert energy["coverage"] == 0.25
    assert energy["half_width_meV_per_atom"] == pytest.approx(1.5 * 250 / 2)
    assert energy["spearman"] == pytest.approx(-0.2)  # ranks 2 3 4 1 against 1 2 3 4
    assert found["forces"]["n"] == 0
    assert {v for k, v in found["forces"].items() if k != "n"} == {None}


# --- the scale's way through potential, file, calculator and run ---------------------------------

CALIBRATION = Calibration(Scale(3.0, 1.7, 12), Scale(0.5, None, 8), 0.9)


@pytest.fixture
def calibrated(small) -> Potential:
    potential = small()
    potential.calibration = CALIBRATION
    return potential


def test_predictions_and_calculator_are_scaled_alike(small, calibrated, urea):
    (raw,), (scaled,) = (p.predict([urea], members=True) for p in (small(), calibrated))
    assert scaled.energy == raw.energy
    assert scaled.energy_std == pytest.approx(3.0 * raw.energy_std)
    np.testing.assert_allclose(scaled.forces_std, 0.5 * raw.forces_std)
    np.testing.assert_allclose(scaled.forces, calibrated.predict([urea])[0].forces, atol=1e-9)
    assert calibrated.predict([urea])[0].forces_std is None
    calculator = TLPotCalculator(calibrated)
    energy_std = calculator.get_property("energy_std", urea)
    assert energy_std == pytest.approx(scaled.energy_std, abs=1e-9)
    forces_std = calculator.get_property("forces_std", urea)
    np.testing.assert_allclose(forces_std, scaled.forces_std, atol=1e-9)
    assert calculator.calibration == CALIBRATION
    assert TLPotCalculator(small()).calibration is None


def test_a_supercell_has_the_ratio_of_its_cell(small, urea):
    """Error and spread of the energy grow alike, so that the factor carries over."""
    potential, teacher = small(), small(seed=7)
    factors = []
    for repeat in ((1, 1, 1), (2, 1, 1)):
        cells = []
        for seed in range(6):
            atoms = urea.copy()
            atoms.rattle(0.1, seed=seed)
            cells.append(atoms.repeat(repeat))
        found = teacher.predict(cells)
        frames = [Frame(a, p.energy, p.forces) for a, p in zip(cells, found, strict=True)]
        calibration = calibrate(potential, frames)
        factors.append((calibration.energy.factor, calibration.forces.factor))
    np.testing.assert_allclose(factors[1], factors[0], rtol=1e-6)


def test_calibrating_again_starts_from_the_raw_spread(small, labelled):
    potential, frames = small(), labelled(10)
    first = calibrate(potential, frames)
    potential.calibration = first
    second = calibrate(potential, frames)
    assert second.energy.factor == pytest.approx(first.energy.factor)
    assert second.forces.quantile == pytest.approx(first.forces.quantile)


def test_one_member_has_no_spread_to_calibrate(small, labelled):
    assert calibrate(small(members=1), labelled(10)) is None


def test_a_file_keeps_the_calibration(calibrated, small, tmp_path):
    path = calibrated.save(tmp_path / "model.safetensors")
    assert Potential.load(path).calibration == CALIBRATION
    assert calibrated.for_elements(["H", "O"]).calibration == CALIBRATION
    assert Potential.load(small().save(path)).calibration is None


def test_files_from_before_calibrations_are_raw(calibrated, urea, tmp_path):
    path = calibrated.save(tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["tlpot"])
    del header["calibration"]
    save_file(load_file(path), path, {"tlpot": json.dumps(header)})
    old = Potential.load(path)
    assert old.calibration is None
    assert old.predict([urea])[0].energy_std == pytest.approx(
        calibrated.predict([urea])[0].energy_std / 3.0
    )


def test_a_run_calibrates_on_its_validation_frames(settings):
    settings["data"]["split"] = {"test": 0.2, "validation": 0.4}
    run = tlpot.finetune(settings)
    stored = tlpot.load(run.folder)
    frames = tlpot.read_frames(settings["data"]["files"])
    validation = [frames[i] for i in run.manifest["split"]["validation"]]
    expected = calibrate(stored, validation)
    assert stored.calibration.energy.factor == pytest.approx(expected.energy.factor, rel=1e-4)
    assert stored.calibration.forces.factor == pytest.approx(expected.forces.factor, rel=1e-4)
    assert stored.calibration.energy.frames == 6
    assert stored.calibration.energy.quantile is None
    found = run.metrics["finetuned"]["test"]["uncertainty"]
    assert found["energy"]["factor"] == stored.calibration.energy.factor
    assert found["energy"]["coverage"] is None
    page = (run.folder / "report.html").read_text()
    assert "6 validation frames\nare too few" in page


def test_a_run_without_validation_frames_says_so(settings):
    settings["data"]["split"] = {"test": 0.2, "validation": 0.0}
    run = tlpot.finetune(settings)
    assert tlpot.load(run.folder).calibration is None
    found = run.metrics["finetuned"]["test"]["uncertainty"]
    assert found["level"] is None
    assert found["energy"]["rms_z_raw"] > 0
    assert "The spread is raw" in (run.folder / "report.html").read_text()
