"""How many frames does it take, from pretrained weights and from scratch (thesis Table 4.4)?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from collections.abc import Sequence

import numpy as np

from benchmarks.lib.sweep import FEW, full_base, reduced_base, study, x23
from tlpot.ablation.sweep import Outcome

FRACTIONS = [0.1, 0.25, 0.5, 0.75, 1.0]
START = {
    "transfer": {"model.init": "pretrained"},
    "scratch": {"model.init": "scratch", "training.fit": "mean"},
}
CRYSTALS = ("21_urea", "06_benzene", "17_pyrazole")
AXES = {"data.train_fraction": FRACTIONS, "start": START}
ERRORS = {"energy": "energy_rmse_meV_per_atom", "force": "force_rmse_meV_per_A_component"}


def slopes(outcomes: Sequence[Outcome]) -> list[str]:
    """Exponents of error ~ frames^s, least squares over all points in log–log."""
    lines = ["", "Fitted exponents s of error ~ (training frames)^s:", ""]
    good = [o for o in outcomes if o.metrics is not None and o.manifest is not None]
    for curve in dict.fromkeys(_curve(o) for o in good):
        members = [o for o in good if _curve(o) == curve]
        frames = np.log([len(o.manifest["split"]["train"]) for o in members])
        found = []
        for name, key in ERRORS.items():
            errors = np.log([o.metrics["finetuned"]["test"][key] for o in members])
            found.append(f"{name} {np.polyfit(frames, errors, 1)[0]:.2f}")
        lines.append(f"- {', '.join(curve)}: {', '.join(found)}")
    return lines


def _curve(outcome: Outcome) -> tuple[str, ...]:
    return tuple(v for k, v in outcome.point.labels.items() if k != "data.train_fraction")


if __name__ == "__main__":
    study(
        "ablation_data",
        str(__doc__),
        reduced={"base": reduced_base(), "axes": AXES},
        full={
            "base": full_base(),
            "axes": AXES | {"crystal": {name: {"data.files": x23(name)} for name in CRYSTALS}},
        },
        says=slopes,
        members=FEW,
    )
