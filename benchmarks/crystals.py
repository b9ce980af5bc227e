"""What does fine-tuning bring, crystal by crystal (thesis Table 4.6)?"""

import os
from pathlib import Path

from sweeps import full_base, reduced_base, study, x23

PRESETS = {"default": {}, "thesis": {"training.preset": "thesis"}}
SMALL = {
    "default": {},
    "thesis": {
        "training.lambda": 0.9,
        "training.fit": "mean",
        "training.stress_weight": 0.0,
        "training.schedule": "plateau",
        "training.ema": 0.0,
    },
}


def crystals() -> dict[str, dict[str, str]]:
    """Every crystal of X23 that is there."""
    folder = Path(os.environ.get("TLPOT_DATA", "")) / "x23"
    names = sorted(p.name for p in folder.glob("*") if (p / "train.traj").is_file())
    return {name: {"data.files": x23(name)} for name in names} or {"none": {}}


if __name__ == "__main__":
    study(
        "crystals",
        str(__doc__),
        reduced={"base": reduced_base(), "axes": {"recipe": SMALL}},
        full={"base": full_base(), "axes": {"crystal": crystals(), "recipe": PRESETS}},
    )
