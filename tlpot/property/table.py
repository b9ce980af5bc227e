"""Predictions as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from tlpot.data.tables.cells import table_text
from tlpot.property.data import by_id
from tlpot.property.model import Ensemble
from tlpot.structure.frames import Frame


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
    rows = [
        {"id": key, "formula": frame.atoms.get_chemical_formula(mode="metal")}
        | {name: float(column[i]) for name, column in columns.items()}
        for i, (key, frame) in enumerate(zip(by_id(frames), frames, strict=True))
    ]
    return table_text(["id", "formula", *columns], rows, digits=6)
