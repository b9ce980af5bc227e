import json

import numpy as np
import pytest
import torch
from ase.build import bulk
from pydantic import ValidationError

from tlpot.csp.output import write_ranking
from tlpot.csp.rank import rank
from tlpot.csp.settings import Ranking
from tlpot.errors import TlpotError
from tlpot.powder.classifier import Classifier
from tlpot.powder.config import Augmentation, Network
from tlpot.powder.opinion import classify
from tlpot.powder.pattern import GRID_STEP, Pattern, read_pattern, similarity, simulate

ANGLES = np.arange(10.0, 60.0, GRID_STEP)


def test_peaks_are_where_bragg_says():
    silver = bulk("Ag", cubic=True, a=4.0862)
    found = simulate(silver, ANGLES, 1.5406)
    spacing = 4.0862 / np.sqrt([3, 4])
    expected = np.degrees(2 * np.arcsin(1.5406 / 2 / spacing))
    first = ANGLES[found.intensity.argmax()]
    assert first == pytest.approx(expected[0], abs=GRID_STEP)
    window = (expected[1] - 1 < ANGLES) & (expected[1] + 1 > ANGLES)
    assert ANGLES[window][found.intensity[window].argmax()] == pytest.approx(
        expected[1], abs=GRID_STEP
    )


def test_cell_and_wavelength_names_do_not_matter(packings, moved):
    one = simulate(packings[0], ANGLES, "CuKa")
    two = simulate(moved(packings[0]), ANGLES, "1.54184")
    assert similarity(one, two) == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(TlpotError, match="neither Å nor one of CuKa"):
        simulate(packings[0], ANGLES, "CuK")


def test_shift_is_forgiven_as_far_as_allowed(packings):
    base = simulate(packings[0], ANGLES)
    warm = packings[0].copy()
    warm.set_cell(warm.cell.array * 1.01, scale_atoms=True)
    moved = simulate(warm, ANGLES)
    wide, narrow = (similarity(base, moved, shift) for shift in (1.0, 0.05))
    assert wide > 0.85
    assert narrow < 0.5 * wide
    lone = [Pattern(ANGLES, np.exp(-(((ANGLES - at) / 0.1) ** 2))) for at in (20.0, 23.0)]
    assert similarity(*lone, 1.0) == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(similarity(base, Pattern(ANGLES, 0 * ANGLES)))


def write_xy(path, atoms, angles=ANGLES):
    clean = simulate(atoms, angles).intensity
    noise = np.random.default_rng(0).normal(0, 0.005 * clean.max(), len(angles))
    background = clean.max() * (0.5 * np.exp(-angles / 20) + 0.1)
    lines = [f"{x:.3f}, {y:.4f}" for x, y in zip(angles, clean + noise + background, strict=True)]
    path.write_text("\n".join(["# measured at home", "2theta intensity", *lines]))
    return path


def test_measured_pattern_finds_its_crystal(mini, landscape, packings, tmp_path):
    pattern = write_xy(tmp_path / "d.xy", packings[3], np.arange(10.0, 60.0, 0.013))
    found = rank(landscape, mini, Ranking(pattern=str(pattern)))
    assert found.best_pattern is not None
    best = found.candidates[found.best_pattern]
    assert best.name.endswith("d.cif#0")
    assert best.notes["pattern_similarity"] > 0.97
    others = [c.notes["pattern_similarity"] for c in found.candidates if c is not best]
    assert max(others) < best.notes["pattern_similarity"] - 0.01


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2\n3 4\n", "2 lines"),
        ("\n".join(f"{i} {i % 7}" for i in range(400)), "must be 2θ, .* from 0 to 399"),
        ("\n".join(f"{i / 10} nan" for i in range(400)), "no finite numbers"),
        ("\n".join(f"{i / 10} 5" for i in range(400)), "has no peak"),
    ],
)
def test_what_is_no_pattern_is_named(tmp_path, text, said):
    file = tmp_path / "bad.xy"
    file.write_text(text)
    with pytest.raises(TlpotError, match=said) as caught:
        read_pattern(file)
    assert "bad.xy" in str(caught.value)
    with pytest.raises(TlpotError, match="absent"):
        read_pattern(tmp_path / "absent.xy")


@pytest.mark.parametrize("between", ["\t", " ; "])
def test_decimals_with_a_comma(tmp_path, between):
    english, german = tmp_path / "english.xy", tmp_path / "german.xy"
    english.write_text("\n".join(f"{i / 10}, {(i % 70 == 0) / 2}" for i in range(400)))
    german.write_text(english.read_text().replace(", ", between).replace(".", ","))
    one, two = read_pattern(english), read_pattern(german)
    assert np.array_equal(one.angles, two.angles)
    assert np.array_equal(one.intensity, two.intensity)


def test_the_ranking_shows_what_the_classifier_says(mini, landscape, packings, tmp_path):
    torch.manual_seed(1)
    model = Classifier(Network(dense=[8]), Augmentation()).save(tmp_path / "model.safetensors")
    pattern = write_xy(tmp_path / "d.xy", packings[3], np.arange(10.0, 60.0, 0.013))
    settings = Ranking(pattern=str(pattern), classifier=str(model))
    found = rank(landscape, mini, settings)
    assert found.opinion is not None
    assert found.opinion == classify(pattern, model)
    for one in found.candidates:
        assert one.notes["pattern_system_probability"] in found.opinion.probabilities.values()
    folder = write_ranking(found, tmp_path / "ranking")
    stored = json.loads((folder / "ranking.json").read_text())["pattern_opinion"]
    assert stored["crystal_system"] == found.opinion.best
    assert stored["outside_training"]
    assert "ends at 60" in stored["outside_training"][0]
    page = (folder / "ranking.html").read_text()
    assert f"The measured pattern is<b>{found.opinion.best}</b>" in page
    assert "lies outside what the classifier was trained on: it ends at 60" in page
    with pytest.raises(ValidationError, match="classifier has no effect without pattern"):
        Ranking(classifier=str(model))


def test_a_crystal_without_reflections_in_the_range_is_told(mini, landscape, tmp_path):
    x = np.arange(5.0, 17.0, 0.02)
    file, heights = tmp_path / "low.xy", 100 + 500 * np.exp(-(((x - 11) / 0.1) ** 2))
    file.write_text("\n".join(f"{a:.3f} {b:.3f}" for a, b in zip(x, heights, strict=True)))
    found = rank(str(landscape / "a.cif"), mini, Ranking(pattern=str(file)))
    assert np.isnan(found.candidates[0].notes["pattern_similarity"])
    assert found.best_pattern is None
    assert "no reflection where the measured pattern is" in found.remarks[-1]
