import csv
import io

import ase.io
import numpy as np
import pytest

from tlpot.property.evaluate import errors
from tlpot.property.interval import interval_of
from tlpot.property.model import Ensemble, PropertyModel
from tlpot.property.table import prediction_table
from tlpot.structure.frames import Frame


def test_intervals_cover_what_they_say_also_where_models_agree():
    random = np.random.default_rng(0)
    spread = np.where(random.random(4000) < 0.3, 0.0, random.gamma(1.0, size=4000))
    error = random.normal(size=4000) * (0.2 + 3 * spread)
    interval = interval_of(error[:1000], spread[:1000])
    assert interval is not None
    assert interval.crystals == 1000
    assert interval.offset == pytest.approx(spread[:1000].mean())
    trust = errors(np.zeros(3000), error[1000:], spread[1000:], interval)["uncertainty"]
    assert (trust["level"], trust["coverage"]) == (0.9, pytest.approx(0.9, abs=0.02))
    assert trust["half_width"] == pytest.approx(interval.half_width(spread[1000:]).mean())
    agreed = spread[1000:] == 0
    assert (np.abs(error[1000:]) <= interval.half_width(spread[1000:]))[agreed].mean() > 0.9


def test_too_few_crystals_or_no_spread_give_none():
    spread = np.linspace(0.1, 1.0, 9)
    assert interval_of(spread, spread) is not None
    assert interval_of(spread[:8], spread[:8]) is None
    assert interval_of(spread, np.zeros(9)) is None


def test_an_ensemble_stands_on_crystals_that_none_of_its_models_trained_on(finished, folder):
    def model(first, last, shift):
        found = PropertyModel.load(finished.folder)
        found.metadata["validation"] = {f"c{i}": [i, i + shift * i] for i in range(first, last)}
        return found

    models = [model(1, 21, 0.1), model(11, 31, 0.3)]
    interval = Ensemble(models).interval
    assert interval is not None
    assert interval.crystals == 10
    assert interval.offset == pytest.approx(15.5 * np.std([0.1, 0.3], ddof=1))
    assert Ensemble([models[0], model(15, 40, 0.2)]).interval is None
    assert Ensemble(models[:1]).interval is None
    frames = [Frame(ase.io.read(folder / "Si.cif"))]
    (row,) = csv.DictReader(io.StringIO(prediction_table(Ensemble(models), frames)))
    assert float(row["property_90"]) == pytest.approx(interval.half_width(np.zeros(1))[0], rel=1e-5)


def test_a_run_keeps_what_it_said_of_its_validation_crystals(finished):
    kept = PropertyModel.load(finished.folder).metadata["validation"]
    assert len(kept) == 2
    said = finished.metrics["trained"]["validation"]["mae"]
    assert np.mean([abs(p - v) for v, p in kept.values()]) == pytest.approx(said)
