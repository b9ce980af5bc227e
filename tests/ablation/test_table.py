"""Pictures of a sweep: a setting's numbers where they belong."""

from __future__ import annotations

import pytest

from tlpot.ablation.sweep import Outcome, Point
from tlpot.ablation.table import DRAWN, draw
from tlpot.config.run import parse_config


def outcomes(choices: list[str]) -> list[Outcome]:
    config = parse_config({"data": {"files": "frames.extxyz"}})
    errors = dict.fromkeys(DRAWN, 1.0)
    metrics = {"baseline": {"test": errors}, "finetuned": {"test": errors}}
    points = [Point({"setting": choice}, 0, config, choice) for choice in choices]
    return [Outcome(point, metrics, {}) for point in points]


@pytest.mark.parametrize(
    ("choices", "places", "ticks"),
    [
        (["10", "20", "40"], [10, 20, 40], None),
        (["0", "0.01", "0.03", "1"], [0, 1, 2, 3], ["0", "0.01", "0.03", "1"]),
        (["1", "0.01", "0"], [0, 1, 2], ["1", "0.01", "0"]),
    ],
)
def test_numbers_are_drawn_at_their_value_unless_they_lie_too_close(choices, places, ticks):
    for panel in draw(outcomes(choices), "setting").axes:
        line = panel.lines[0]
        assert line.get_xdata().tolist() == places
        assert line.get_linestyle() == "-"
        if ticks:
            words = [text.get_text() for text in panel.get_xticklabels()]
            shown = dict(zip(panel.get_xticks(), words, strict=True))
            assert [shown[x] for x in sorted(shown)] == sorted(ticks, key=float)
