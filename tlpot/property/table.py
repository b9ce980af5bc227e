"""Predictions as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tlpot.frames import Frame
from tlpot.property.data import by_id
from tlpot.property.model import Ensemble


def prediction_table(ensemble: Ensemble, frames: Sequence[Frame]) -> str:
    """CSV of ``id, formula, <property>``.

    Of several models also ``<property>_std``, their spread, and ``<property>_90``, the half width
    of the 90 % interval, where they can tell it (`Ensemble.interval`).
    """
    values, spread = ensemble.predict(frames)
    columns = {ensemble.name: values}
    if len(ensemble.models) > 1:
        columns[f"{ensemble.name}_std"] = spread
    if interval := ensemble.interval:
        columns[f"{ensemble.name}_{100 * interval.level:.0f}"] = interval.half_width(spread)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "formula", *columns])
    for key, frame, *numbers in zip(by_id(frames), frames, *columns.values(), strict=True):
        formula = frame.atoms.get_chemical_formula(mode="metal")
        writer.writerow([key, formula, *(f"{number:.6g}" for number in numbers)])
    return text.getvalue()
