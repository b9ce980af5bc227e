"""What does the batch size do, at one learning rate or one scaled with it (thesis Table 4.3)?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.sweep import FEW, full_base, reduced_base, study

SIZES = (1, 2, 4, 8, 16)


def axes(rate: float) -> dict:
    """Rates are scaled by the square root of batch/2, as Adam's noise is (Malladi et al. 2022)."""
    choices = {f"{n}": {"training.batch_size": n} for n in SIZES}
    for n in (n for n in SIZES if n != 2):
        scaled = {"training.batch_size": n, "training.learning_rate": rate * (n / 2) ** 0.5}
        choices[f"{n}, rate scaled"] = scaled
    return {"batch": choices}


if __name__ == "__main__":
    study(
        "ablation_batch",
        str(__doc__),
        reduced={"base": reduced_base(), "axes": axes(1e-3)},
        full={"base": full_base(preset="thesis"), "axes": axes(1e-4)},
        members=FEW,
    )
