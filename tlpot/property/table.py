"""Predictions as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tlpot.frames import Frame
from tlpot.property.data import by_id
from tlpot.property.model import Ensemble


def prediction_table(ensemble: Ensemble, frames: Sequence[Frame]) -> str:
    """CSV of ``id, formula, <property>``, of several models also ``<property>_std``."""
    values, spread = ensemble.predict(frames)
    several = len(ensemble.models) > 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [ensemble.name, f"{ensemble.name}_std"] if several else [ensemble.name]
    writer.writerow(["id", "formula", *names])
    for key, frame, value, doubt in zip(by_id(frames), frames, values, spread, strict=True):
        formula = frame.atoms.get_chemical_formula(mode="metal")
        numbers = [value, doubt] if several else [value]
        writer.writerow([key, formula, *(f"{number:.6g}" for number in numbers)])
    return text.getvalue()
