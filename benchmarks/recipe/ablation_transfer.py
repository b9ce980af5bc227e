"""What do pretrained weights bring, and which layers need to change (thesis Table 4.2)?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.sweep import FEW, full_base, reduced_base, study

LAYERS = ("input", "hidden1", "hidden2", "output")
ELEMENTS = ("H", "C", "N", "O")

CHOICES = {
    "from scratch": {"model.init": "scratch"},
    "all layers free": {},
    "input and output frozen": {"model.freeze": ["input", "output"]},
    **{f"{layer} frozen": {"model.freeze": [layer]} for layer in LAYERS},
    **{
        f"{layer} alone free": {"model.freeze": [other for other in LAYERS if other != layer]}
        for layer in LAYERS
    },
    **{f"{element} frozen": {"model.freeze": [f"{element}.*"]} for element in ELEMENTS},
}

if __name__ == "__main__":
    study(
        "ablation_transfer",
        str(__doc__),
        reduced={"base": reduced_base(fit="mean"), "axes": {"trained": CHOICES}},
        full={"base": full_base(preset="thesis"), "axes": {"trained": CHOICES}},
        members=FEW,
    )
