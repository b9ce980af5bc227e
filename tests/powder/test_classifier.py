import numpy as np
import pytest
import torch

from tlpot.errors import TlpotError
from tlpot.powder.classifier import Classifier, as_copper, load_classifier, to_copper
from tlpot.powder.config import Augmentation, Network
from tlpot.powder.judge import judge_systems
from tlpot.powder.network import find_lines
from tlpot.powder.opinion import classify
from tlpot.powder.pattern import Pattern, read_pattern, simulate, wavelength_of

ANGLES = np.arange(10.0, 110.0, 0.02)


def write_xy(path, atoms, angles=ANGLES, wavelength="CuKa"):
    """A pattern as a diffractometer writes it: counted, on a background that falls."""
    clean = simulate(atoms, angles, wavelength).intensity
    counts = 5000 * clean / clean.max() + 800 * np.exp(-angles / 25) + 50
    counts = np.random.default_rng(0).poisson(counts)
    rows = (f"{x:.3f} {y}" for x, y in zip(angles, counts, strict=True))
    path.write_text("\n".join(["# 2theta counts", *rows]))
    return path


def test_measured_patterns_are_told_apart(trained, learned, crystals, tmp_path):
    for kind, system in {
        "rocksalt": "cubic",
        "rutile": "tetragonal",
        "wurtzite": "hexagonal",
    }.items():
        file = write_xy(tmp_path / f"{kind}.xy", crystals[learned[kind]])
        opinion = classify(file, trained.folder)
        assert opinion.best == system
        shares = list(opinion.probabilities.values())
        assert sum(shares) == pytest.approx(1.0)
        assert shares == sorted(shares, reverse=True)
        assert not opinion.doubts


def test_patterns_of_two_wavelengths_show_the_same_lattice(trained, learned, crystals, tmp_path):
    atoms = crystals[learned["wurtzite"]]
    copper = read_pattern(write_xy(tmp_path / "cu.xy", atoms))
    file = write_xy(tmp_path / "co.xy", atoms, np.arange(12.0, 140.0, 0.02), "CoKa")
    cobalt = read_pattern(file)
    one, _, _ = as_copper(copper, 1.54184)
    two, first, last = as_copper(cobalt, wavelength_of("CoKa"))
    assert 10 < first < 11
    assert 105 < last < 110
    sines, heights = find_lines(one)
    others, _ = find_lines(two)
    strong = sines[heights > 0.1 * heights.max()]
    assert len(strong) > 4
    assert np.allclose([others[np.abs(others - s).argmin()] for s in strong], strong, rtol=3e-3)
    assert not classify(file, trained.folder, "CoKa").doubts
    lie = classify(file, trained.folder, "MoKa")
    assert any("first strong line" in doubt for doubt in lie.doubts)


def test_a_pattern_in_q_has_the_opinion_of_the_same_in_2theta(trained, learned, crystals, tmp_path):
    file = write_xy(tmp_path / "angle.xy", crystals[learned["rutile"]])
    rows = [line.split() for line in file.read_text().splitlines()[1:]]
    q = [4 * np.pi * np.sin(np.radians(float(x) / 2)) / 1.54184 for x, _ in rows]
    other = tmp_path / "q.xy"
    points = zip(q, rows, strict=True)
    other.write_text("\n".join(["Q (1/A) I", *(f"{x:.7f} {row[1]}" for x, row in points)]))
    found, expected = (classify(path, trained.folder) for path in (other, file))
    assert found.best == expected.best == "tetragonal"
    for system, share in expected.probabilities.items():
        assert found.probabilities[system] == pytest.approx(share, abs=0.02)


def test_angles_of_another_wavelength_obey_bragg():
    seen = to_copper(np.array([20.0, 60.0, 170.0]), 0.71073)
    assert 1.54184 / np.sin(np.radians(seen[0] / 2)) == pytest.approx(
        0.71073 / np.sin(np.radians(10))
    )
    assert np.isnan(seen[1:]).all()


@pytest.mark.parametrize(
    ("angles", "said"),
    [
        ((40.0, 110.0), "begins at 40"),
        ((10.0, 50.0), "ends at 50"),
    ],
)
def test_a_range_unlike_that_of_training_is_said(trained, crystals, tmp_path, angles, said):
    file = write_xy(tmp_path / "part.xy", crystals["MgO_rocksalt"], np.arange(*angles, 0.02))
    opinion = classify(file, trained.folder)
    assert any(said in doubt for doubt in opinion.doubts)
    assert opinion.as_dict()["outside_training"] == opinion.doubts


def test_a_lattice_unlike_those_of_training_is_said(trained, crystals, tmp_path):
    large = crystals["MgO_rocksalt"].copy()
    large.set_cell(large.cell * 2.5, scale_atoms=True)
    opinion = classify(write_xy(tmp_path / "large.xy", large), trained.folder)
    assert any("first strong line" in doubt for doubt in opinion.doubts)


def test_what_cannot_be_judged_is_refused_by_name(trained, crystals, tmp_path):
    atoms = crystals["MgO_rocksalt"]
    narrow = write_xy(tmp_path / "narrow.xy", atoms, np.arange(36.0, 46.0, 0.02))
    with pytest.raises(TlpotError, match=r"narrow\.xy: the pattern .* fewer than 15°"):
        classify(narrow, trained.folder)
    file = write_xy(tmp_path / "good.xy", atoms)
    with pytest.raises(TlpotError, match=r"good\.xy: .* is the wavelength right"):
        classify(file, trained.folder, 0.1)
    for wrong in ("CuKx", "-1", "0", "nan"):
        with pytest.raises(TlpotError, match=f"wavelength '{wrong}'"):
            classify(file, trained.folder, wrong)
    for text in ("", "hello\n" * 100, "\n".join(f"{i / 5} nan" for i in range(400))):
        bad = tmp_path / "bad.xy"
        bad.write_text(text)
        with pytest.raises(TlpotError, match=r"bad\.xy"):
            classify(bad, trained.folder)
    with pytest.raises(TlpotError, match="no such model file"):
        classify(file, tmp_path / "absent")


def test_a_file_of_another_kind_is_no_classifier(small, tmp_path):
    potential = small(dtype=torch.float32).save(tmp_path / "potential.safetensors")
    with pytest.raises(TlpotError, match="no classifier of powder patterns"):
        load_classifier(potential)


def test_trained_on_ideal_patterns_it_says_so(crystals, tmp_path):
    plain = Classifier(Network(dense=[8]), None)
    pattern = simulate(crystals["MgO_rocksalt"], ANGLES)
    assert any("ideal patterns" in doubt for doubt in plain.classify(pattern).doubts)
    with pytest.raises(TlpotError, match="no peak"):
        plain.classify(Pattern(ANGLES, np.zeros_like(ANGLES)))


def test_saved_and_loaded_it_says_the_same(tmp_path, crystals):
    torch.manual_seed(0)
    settings = Network(
        sees="log_q", pool=100, convolutions={"kernels": [5], "filters": 4}, dense=[8]
    )
    one = Classifier(settings, Augmentation(), 1.7, {"first_line": [10.0, 40.0], "note": "mine"})
    two = load_classifier(one.save(tmp_path / "model.safetensors"))
    pattern = simulate(crystals["MgO_rocksalt"], ANGLES)
    assert two.classify(pattern) == one.classify(pattern)
    assert (two.settings, two.augmentation, two.temperature) == (settings, Augmentation(), 1.7)
    assert two.metadata["note"] == "mine"


def test_calibration_takes_away_overconfidence(trained):
    random = np.random.default_rng(0)
    classifier = Classifier(Network(dense=[8]), None)
    truth = random.integers(0, 7, 2000)
    logits = random.normal(0, 1, (2000, 7))
    logits[np.arange(2000), truth] += 1.5
    classifier.logits = lambda seen: torch.tensor(4.0 * logits)
    classifier.calibrate(torch.zeros(0), truth)
    before, after = (
        judge_systems(torch.tensor(4 * logits / t).softmax(1).numpy(), truth)
        for t in (1.0, classifier.temperature)
    )
    assert classifier.temperature > 2
    assert after["log_loss"] < 0.7 * before["log_loss"]
    assert after["calibration_error"] < 0.5 * before["calibration_error"]
    assert after["accuracy"] == before["accuracy"]
