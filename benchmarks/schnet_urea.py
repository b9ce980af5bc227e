"""Does a SchNet that learned molecules' energies (QM9) learn a crystal faster than a new one?

``datasets/urea`` (PBE+D3, energies, forces, stresses), a quarter of its training frames; in full
all of them too. The pretrained network is that of `qm9_runs` on the HF energies of 8,000 molecules,
all at their minima, seed 0.
"""

from __future__ import annotations

from qm9_runs import SIZES, folder_of
from sweeps import reduced_base, study

START = {
    "from scratch": {"model.base": "schnet", "model.schnet": SIZES.model_dump()},
    "from QM9": {"model.base": str(folder_of(0, "HF") / "model.safetensors")},
}
BASE = {
    **reduced_base(batch_size=4, learning_rate=2e-3, epochs=60),
    "model": {},
}


if __name__ == "__main__":
    seeds = [0, 1, 2]
    fractions = {"reduced": [0.25], "full": [0.25, 1.0]}
    axes = {size: {"start": START, "data.train_fraction": some} for size, some in fractions.items()}
    study(
        "schnet_urea",
        str(__doc__).splitlines()[0],
        reduced={"base": BASE, "axes": axes["reduced"], "seeds": seeds},
        full={"base": BASE, "axes": axes["full"], "seeds": seeds},
        adopts=False,
    )
