"""The active-learning loop: where it begins, what it adds, when it ends, and that it resumes."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tlpot.config.data import Group
from tlpot.config.run import parse_config
from tlpot.errors import TlpotError
from tlpot.model.load import load
from tlpot.sampling.active import active_learning
from tlpot.sampling.choose import committee


@pytest.fixture
def config(settings):
    settings["training"] |= {"epochs": 1}
    settings["active"] = {"start": 0.2, "add": 0.15, "criterion": 1e-9, "stop": 0.05}
    return parse_config(settings)


def test_the_worst_are_added_until_the_number_is_reached(config):
    chosen, rounds = active_learning(config, 8)
    assert [r.frames for r in rounds] == [3, 5, 7, 8]
    assert [r.left for r in rounds] == [13, 11, 9, 8]
    assert all(r.in_doubt == r.left for r in rounds)
    assert len({f.name for f in chosen}) == 8
    # the frames of the second round are the worst of the first round's model
    others = [f for f in read_pool(config) if f.name not in {c.name for c in chosen[:3]}]
    spread = committee(load(Path(config.output, "round-00")), others)
    expected = sorted(zip(-spread, [f.name for f in others], strict=True))[:2]
    assert [f.name for f in chosen[3:5]] == [name for _, name in expected]
    assert rounds[0].largest == pytest.approx(spread.max(), rel=1e-5)


def read_pool(config):
    from tlpot.data.read import read_frames

    return read_frames(config.data.files)


def test_it_stops_when_few_are_in_doubt(config):
    easy = config.active.model_copy(update={"criterion": 1e3})
    chosen, rounds = active_learning(config.model_copy(update={"active": easy}))
    assert len(rounds) == 1
    assert rounds[0].in_doubt == 0
    assert len(chosen) == 3


def test_all_frames_may_be_needed(config):
    wide = config.active.model_copy(update={"add": 0.9})
    chosen, rounds = active_learning(config.model_copy(update={"active": wide}))
    assert [r.frames for r in rounds] == [3, 16]
    assert len(chosen) == 16
    assert (rounds[-1].left, rounds[-1].in_doubt) == (0, 0)


def test_finished_rounds_are_kept_and_other_settings_refused(config):
    chosen, rounds = active_learning(config, 5)
    models = sorted(Path(config.output).glob("round-*/model.safetensors"))
    times = [m.stat().st_mtime_ns for m in models]
    (models[1].parent / "report.html").unlink()  # as if cut off before its end
    again, more = active_learning(config, 7)
    assert [f.name for f in again[:5]] == [f.name for f in chosen]
    assert more[:2] == rounds
    assert models[0].stat().st_mtime_ns == times[0]
    assert models[1].stat().st_mtime_ns != times[1]
    other = config.training.model_copy(update={"epochs": 2})
    with pytest.raises(TlpotError, match="other settings"):
        active_learning(config.model_copy(update={"training": other}), 5)


def test_minima_weights_and_energies_are_learned_from(config, labelled, write_frames, tmp_path):
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(24)[16:]]
    minima = write_frames(tmp_path / "minima.extxyz", bare[:4])
    points = write_frames(tmp_path / "points.extxyz", bare[4:])
    groups = [
        Group(files=[str(minima)], relaxed=True, weight=0.5),
        Group(files=[str(points)], energy_only=True),
    ]
    data = config.data.model_copy(update={"groups": groups})
    chosen, rounds = active_learning(config.model_copy(update={"data": data}), 24)
    kinds = Counter((frame.labels, frame.weight) for frame in chosen)
    assert kinds == {("full", 1.0): 16, ("relaxed", 0.5): 4, ("energy", 1.0): 4}
    last = Path(config.output, f"round-{rounds[-1].number:02d}", "manifest.json")
    assert json.loads(last.read_text())["data"]["labels"] == {"full": 16, "relaxed": 4, "energy": 4}


def test_minima_alone_are_learned_from(config, labelled, write_frames, tmp_path):
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(16)]
    minima = write_frames(tmp_path / "minima.extxyz", bare)
    data = config.data.model_copy(update={"files": [str(minima)], "relaxed": True})
    chosen, _ = active_learning(config.model_copy(update={"data": data}), 5)
    assert {frame.labels for frame in chosen} == {"relaxed"}


def test_a_round_on_other_frames_is_not_taken_for_this_one(config, labelled, write_frames):
    active_learning(config, 3)
    write_frames(Path(config.data.files[0]), labelled(17)[1:])
    with pytest.raises(TlpotError, match="other settings or frames"):
        active_learning(config, 3)


def test_patience_has_nothing_to_judge_by(settings):
    settings["training"]["patience"] = 3
    with pytest.raises(TlpotError, match="patience has no effect with tlpot sample learn"):
        active_learning(parse_config(settings))
