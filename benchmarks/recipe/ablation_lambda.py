"""What does λ do in L = λ·MSE(F) + (1−λ)·MSE(E/N) (thesis Table 4.5)?

And, as ``ablation_loss``: energies judged per atom, per √N or per frame, and Huber for squares. The
exponent of N matters where frames differ in size, so its full size trains on the 15 crystals of
``size_and_element.py``; the frames of the reduced one are all alike, so it asks about Huber alone.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from size_and_element import BASE, CRYSTALS

from benchmarks.lib.sweep import FEW, full_base, reduced_base, study

AXES = {"training.lambda": [0.0, 0.01, 0.03, 0.1, 0.5, 0.9, 1.0]}

SHARE, SIZE = 0.03, 37.0
"""The default λ; mean number of atoms of the mixed crystals."""


def judged_by(exponent: float) -> dict[str, float]:
    """MSE(E/N^p), λ such that an energy of a frame of mean size weighs as it does with p = 1."""
    forces = SHARE / (1.0 - SHARE) * SIZE ** (2.0 - 2.0 * exponent)
    return {"training.size_exponent": exponent, "training.lambda": forces / (1.0 + forces)}


HUBER = {f"Huber {delta:g}": {"training.huber": delta} for delta in (0.01, 0.1)}
FORMS = {"E/√N": judged_by(0.5), "E": judged_by(0.0)}

if __name__ == "__main__":
    study(
        "ablation_lambda",
        str(__doc__).splitlines()[0],
        reduced={"base": reduced_base(stress_weight=0.0), "axes": AXES},
        full={"base": full_base(preset="thesis"), "axes": AXES},
        members=FEW,
    )
    mixed = {**BASE, "data": {"files": CRYSTALS["data.files"]}}
    study(
        "ablation_loss",
        "Energies per atom, per √N or per frame; Huber or squares?",
        reduced={"base": reduced_base(), "axes": {"loss": {"squares": {}, **HUBER}}},
        full={"base": mixed, "axes": {"loss": {"E/N, squares": {}, **FORMS, **HUBER}}},
        members=FEW,
    )
