from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from tlpot.evaluation import plots
from tlpot.evaluation.metrics import judge, metrics
from tlpot.model.uncertainty import Calibration, Scale
from tlpot.structure.frames import Frame

pytestmark = pytest.mark.drawn


@pytest.fixture
def pair(frames, noisy):
    return frames, noisy(0.2).predict(frames), noisy(0.02).predict(frames)


def offsets(axis) -> np.ndarray:
    return np.concatenate([np.asarray(c.get_offsets()) for c in axis.collections])


def test_parity_is_written_with_four_panels(pair, tmp_path):
    figure = plots.parity(*pair)
    plots.write(figure, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert plots.png(figure) is plots.png(figure), "it is drawn once"
    assert len(figure.axes) == 4


def test_parity_shows_every_force_component_in_file_order(pair):
    frames, before, after = pair
    dft = np.concatenate([frame.forces.ravel() for frame in frames])
    for axis, predictions in zip(plots.parity(*pair).axes[:2], (before, after), strict=True):
        model = np.concatenate([prediction.forces.ravel() for prediction in predictions])
        assert np.allclose(offsets(axis), np.column_stack([dft, model]))


def test_parity_counts_energies_from_the_composition_mean(pair):
    frames, before, _ = pair
    points = offsets(plots.parity(*pair).axes[2])
    methane = frames[8:]
    dft = np.array([1e3 * frame.energy / len(frame) for frame in methane])
    model = np.array([1e3 * guess.energy / 5 for guess in before[8:]])
    assert np.allclose(points[:2], np.column_stack([dft, model]) - dft.mean())
    assert len(points) == len(frames)


def test_panels_name_errors_and_conventions(pair):
    frames, before, after = pair
    axes = plots.parity(*pair).axes
    for axis, predictions in zip(axes[:2], (before, after), strict=True):
        found = metrics(frames, predictions)
        note = axis.texts[0].get_text()
        assert f"{plots.short(found['force_rmse_meV_per_A_component'])} meV/Å per component" in note
        assert f"{plots.short(found['force_rmse_meV_per_A_vector'])} meV/Å per vector" in note
    assert "centred" in axes[2].texts[0].get_text()


def test_a_row_shares_its_limits_and_counts_what_lies_outside(frames, noisy):
    figure = plots.parity(frames, noisy(0.0, 10.0).predict(frames), noisy(0.0).predict(frames))
    forces_before, forces_after, before, after = figure.axes
    assert forces_before.get_xlim() == forces_after.get_ylim()
    assert before.get_xlim() == before.get_ylim() == after.get_xlim() == after.get_ylim()
    assert "10 of 10 points outside" in before.texts[0].get_text()
    assert "outside" not in after.texts[0].get_text()


def test_parity_of_many_compositions_is_centred_by_composition(noisy):
    """Offsets of molecules against each other, which no ranking depends on, are taken away."""
    names = ("H2O", "CH4", "NH3", "CO2", "C2H6", "CH3OH", "N2", "CH3CONH2")
    frames = [
        Frame(atoms, -7.0 * len(atoms) + 0.1 * i, np.zeros((len(atoms), 3)))
        for i in range(3)
        for atoms in map(molecule, names)
    ]
    off = noisy(0.0).predict(frames)
    shifted = [
        replace(guess, energy=guess.energy + names.index(name) * len(frame))
        for guess, frame, name in zip(off, frames, 3 * names, strict=True)
    ]
    axis = plots.parity(frames, shifted, shifted).axes[2]
    points = offsets(axis)
    assert len(points) == len(frames)
    assert np.allclose(points[:, 0], points[:, 1], atol=1e-6)
    assert "model mean of composition" in axis.get_ylabel()


def test_parity_without_force_labels_or_frames(frames, noisy):
    energies = [Frame(frame.atoms, energy=frame.energy) for frame in frames]
    guesses = noisy(0.1).predict(frames)
    axes = plots.parity(energies, guesses, guesses).axes
    assert len(axes) == 2
    assert len(offsets(axes[0])) == len(frames)
    assert "meV/atom" in axes[0].texts[0].get_text()
    assert len(plots.parity([], [], []).axes) == 4


def test_parity_of_a_diverged_model(frames, noisy):
    figure = plots.parity(frames, noisy(0.1).predict(frames), noisy(np.nan).predict(frames))
    assert "RMSE – meV/atom" in figure.axes[3].texts[0].get_text()
    assert "10 of 10 points outside" in figure.axes[3].texts[0].get_text()


def test_parity_of_relaxed_structures_and_a_single_frame(frames, noisy):
    relaxed = [Frame(frames[0].atoms, energy=-15.0, forces=np.zeros((3, 3)))]
    axes = plots.parity(relaxed, noisy(0.1).predict(relaxed), noisy(0.0).predict(relaxed)).axes
    assert all("outside" not in axis.texts[0].get_text() for axis in axes)


def test_many_points_are_coloured_by_density(frames, noisy):
    many = frames * 10
    axis = plots.parity(many, noisy(0.1).predict(many), noisy(0.1).predict(many)).axes[0]
    (points,) = axis.collections
    assert len(points.get_array()) == 3 * sum(len(frame) for frame in many)


def test_learning_curve_without_validation_has_one_panel(history):
    assert len(plots.learning_curve(history).axes) == 3
    bare = {k: v * np.nan if k.startswith("validation") else v for k, v in history.items()}
    (axis,) = plots.learning_curve(bare).axes
    assert np.allclose(axis.lines[0].get_ydata(), history["train_loss"])


def test_element_bars_are_the_vector_rmse(frames, exact, noisy):
    after = noisy(0.1).predict(frames)
    (axis,) = plots.element_errors(frames, exact, after).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["C", "H", "O"]
    heights = np.array([bar.get_height() for bar in axis.patches])
    assert np.allclose(heights[:3], 0.0)
    assert (heights[3:] > 50).all()


def test_error_against_calibrated_spread(frames, noisy):
    guesses = noisy(0.1).predict(frames)
    energy, forces = plots.error_against_spread(frames, guesses, None).axes
    spread = [1e3 * g.energy_std / len(f) for f, g in zip(frames, guesses, strict=True)]
    assert np.allclose(offsets(energy)[:, 0], spread)
    assert energy.get_xlabel() == "raw spread (meV/atom)"
    assert len(offsets(forces)) == 3 * sum(map(len, frames))
    (line,) = [line for line in energy.lines if line.get_linestyle() == "-"]
    assert line.get_slope() == 1.0

    # predictions of a potential that scales its spreads already
    calibration = Calibration(Scale(2.0, 1.7, 10), None)
    energy, forces = plots.error_against_spread(frames, guesses, calibration).axes
    assert np.allclose(offsets(energy)[:, 0], spread)
    assert energy.get_xlabel() == "calibrated spread (meV/atom)"
    assert forces.get_xlabel() == "raw spread (meV/Å)"
    (line,) = [line for line in energy.lines if line.get_linestyle() == "--"]
    assert line.get_slope() == 1.7


def test_figures_of_a_run(frames, noisy, history):
    judgement = judge(noisy(0.2), noisy(0.02), {"test": frames})
    assert list(plots.figures(judgement, history)) == ["parity", "learning", "elements", "spread"]
    single = judge(noisy(0.2), noisy(0.0), {"train": frames})
    assert "spread" not in plots.figures(single, history)


def test_history_is_read_back_with_empty_cells_as_nan(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,train_loss,validation_loss\n1,0.5,\n2,0.25,0.3\n")
    history = plots.read_history(path)
    assert history["epoch"].tolist() == [1.0, 2.0]
    assert np.isnan(history["validation_loss"][0])
    assert history["validation_loss"][1] == 0.3


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.5, "0.500"), (14.04, "14.0"), (327.4, "327"),
     (999.7, "1000"), (12345.6, "12346")],
)  # fmt: skip
def test_short(value, text):
    assert plots.short(value) == text
