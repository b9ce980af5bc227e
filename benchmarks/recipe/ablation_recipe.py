"""What does each choice of the default recipe bring? One of them changed at a time."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from typing import Any

from benchmarks.lib.sweep import FEW, full_base, reduced_base, study


def choices(rate: float, epochs: int) -> dict[str, dict[str, Any]]:
    """The recipe itself, of this rate and length, then its neighbours."""
    changes = {
        "learning rate": [
            ("× 3", {"learning_rate": 3 * rate}),
            ("÷ 3", {"learning_rate": rate / 3}),
        ],
        "epochs": [("÷ 2", {"epochs": epochs // 2}), ("× 2", {"epochs": 2 * epochs})],
        "schedule": [(name, {"schedule": name}) for name in ("plateau", "constant")],
        "weight decay": [(f"{value:g}", {"weight_decay": value}) for value in (0.0, 0.1)],
        "batch": [("4", {"batch_size": 4})],
        "warm-up": [("none", {"warmup_epochs": 0})],
        "EMA": [("none", {"ema": 0.0})],
        "clipping": [("none", {"clip": None})],
        "fit": [("mean", {"fit": "mean"})],
        "stress": [("none", {"stress_weight": 0.0})],
        "fine angles": [("none", {"fine_angles": False})],
    }
    found: dict[str, dict[str, Any]] = {"default": {}}
    for what, others in changes.items():
        for name, values in others:
            found[f"{what}: {name}"] = {f"training.{k}": v for k, v in values.items()}
    return found


if __name__ == "__main__":
    study(
        "ablation_recipe",
        str(__doc__),
        reduced={"base": reduced_base(), "axes": {"changed": choices(1e-3, 15)}},
        full={"base": full_base("06_benzene"), "axes": {"changed": choices(1e-4, 150)}},
        members=FEW,
    )
