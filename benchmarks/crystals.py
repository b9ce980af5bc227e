"""What does fine-tuning bring, crystal by crystal (thesis Table 4.6)?"""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from sweeps import full_base, reduced_base, study, x23

from tlpot.ablation.sweep import Outcome

ENERGY, FORCE = "energy_rmse_meV_per_atom", "force_rmse_meV_per_A_component"

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


def ratios(outcomes: Sequence[Outcome]) -> list[str]:
    """Default against thesis preset, over the crystals and seeds that have both."""
    errors: dict[tuple[str, int], dict[str, tuple[float, float]]] = {}
    for o in outcomes:
        if o.metrics is not None and "crystal" in o.point.labels:
            test = o.metrics["finetuned"]["test"]
            found = errors.setdefault((o.point.labels["crystal"], o.point.seed), {})
            found[o.point.labels["recipe"]] = (test[ENERGY], test[FORCE])
    pairs = [(e["default"], e["thesis"]) for e in errors.values() if len(e) == len(PRESETS)]
    if not pairs:
        return []
    energy, force = (
        fmean(default[i] for default, _ in pairs) / fmean(thesis[i] for _, thesis in pairs)
        for i in (0, 1)
    )
    return [
        "",
        f"Default over thesis preset, ratio of means over the {len(pairs)} pairs of crystal and "
        f"seed that have both: energy RMSE {energy:.2f} (asked for 0.33), force RMSE {force:.2f} "
        f"(asked for 0.9). Median energy RMSE of the default "
        f"{median(default[0] for default, _ in pairs):.2f} meV/atom (asked for 0.5).",
        "",
        "Formamide's test frames, and urea's in part, were in view when the recipe was chosen.",
    ]


if __name__ == "__main__":
    study(
        "crystals",
        str(__doc__),
        reduced={"base": reduced_base(), "axes": {"recipe": SMALL}},
        full={"base": full_base(), "axes": {"crystal": crystals(), "recipe": PRESETS}},
        says=ratios,
    )
