"""The runs of several seeds together, for ``property.py``: better, and how sure?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tlpot.evaluation.calibration import conformal_quantile
from tlpot.property.evaluate import errors
from tlpot.property.interval import calibrate
from tlpot.property.model import Ensemble, as_graph
from tlpot.spread import LEVEL

if TYPE_CHECKING:
    from benchmarks.property.property import Study


def ensemble(study: Study, size: int, seeds: list[int], name: str) -> dict[str, Any]:
    """The seeds of one choice together, on the test crystals."""
    folders = [study.folder / f"{name}_{size}_{seed}" for seed in seeds]
    folders = [folder for folder in folders if (folder / "report.html").exists()]
    crystals, models = study.pool(), Ensemble.load(folders)
    split = json.loads((folders[0] / "manifest.json").read_text())["split"]
    kept, test = np.array(split["validation"]), np.array(split["test"])
    graphs = {i: as_graph(crystals.frames[i]) for i in (*kept, *test)}
    said, doubt = models.predict([graphs[i] for i in kept])
    missed = said - crystals.values[kept]
    interval = calibrate(missed, doubt)
    assert interval is not None
    values, inputs = crystals.values[test], [graphs[i] for i in test]
    mean, spread = models.predict(inputs)
    error, half = np.abs(mean - values), interval.half_width(spread)
    others = {
        "of the spread times a factor": spread * conformal_quantile(np.abs(missed) / doubt, LEVEL),
        "the same for all": np.full(len(test), conformal_quantile(np.abs(missed), LEVEL)),
    }
    fifths = np.array_split(np.argsort(spread), 5)
    return {
        "choice": name,
        "size": size,
        "members": len(folders),
        "single_mae": [float(np.abs(m.predict(inputs) - values).mean()) for m in models.models],
        "errors": errors(values, mean, spread, interval),
        "interval": asdict(interval),
        "other_intervals": {
            name: {"half_width": float(wide.mean()), "coverage": float((error <= wide).mean())}
            for name, wide in others.items()
        },
        "fifths": [
            {
                "spread": float(spread[some].mean()),
                "mae": float(error[some].mean()),
                "half_width": float(half[some].mean()),
                "coverage": float((error <= half)[some].mean()),
            }
            for some in fifths
        ],
    }
