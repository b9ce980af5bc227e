"""Golden model files: small random models of every kind, and what they predict.

    python -m tests.golden.make FOLDER

writes files as this version does. Those in the repository are never written anew: they stand for
the files of users. A changed format, or a later kind, gets a folder of its own beside `model-1`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

from tlpot.backbones.aev import Architecture
from tlpot.backbones.ani import ANI
from tlpot.backbones.emodes import Architecture as ElementVectors
from tlpot.backbones.emodes import EModes
from tlpot.backbones.schnet import Architecture as Filters
from tlpot.backbones.schnet import SchNet
from tlpot.engine.constants import Angles
from tlpot.model.file import read_model
from tlpot.model.load import load_base
from tlpot.model.potential import Potential
from tlpot.model.reference import EnergyReference
from tlpot.model.uncertainty import Calibration, Scale
from tlpot.powder.classifier import Classifier, load_classifier
from tlpot.powder.config import Augmentation, Convolutions, Network
from tlpot.powder.render import ANGLES
from tlpot.property.elements import element_table
from tlpot.property.model import PropertyModel
from tlpot.property.network import CGCNN
from tlpot.property.network import GraphSizes as Graphs

REFERENCE = {"H": -16.587, "C": -1036.202, "N": -1488.176, "O": -2044.741}
ANI_SIZES: dict[str, Any] = {
    "symbols": ("H", "C", "N", "O"),
    "widths": ((6, 5, 4), (5, 4, 4), (4, 4, 4), (6, 4, 3)),
    "members": 2,
    "radial_cutoff": 4.625,
    "radial_eta": 6.0,
    "radial_shifts": (0.875, 1.5, 2.125, 2.875),
    "angular_cutoff": 3.25,
    "angular_eta": 5.0,
    "angular_zeta": 9.0,
    "angular_shifts": (0.875, 1.625),
    "angular_sections": (0.5, 1.375, 2.5),
}
FINE = Angles(eta=8.0, zeta=16.0, shifts=(1.25, 2.0, 2.75), sections=(0.75, 1.5))
SCHNET_SIZES = {"cutoff": 4.5, "features": 6, "interactions": 2, "gaussians": 8, "members": 2}


# --- what the models are asked ------------------------------------------------------------------


def structures() -> list[Atoms]:
    """A molecule, a dense crystal of ice, and both of elements that only stand in for others."""
    ice = molecule("H2O", cell=[[3.1, 0, 0], [0.4, 3.0, 0], [-0.3, 0.2, 2.9]], pbc=True)
    acetamide = molecule("CH3CONH2")
    chosen = [acetamide, ice.repeat((1, 1, 2)), molecule("SiH4"), molecule("CH3Cl")]
    for seed, atoms in enumerate(chosen):
        atoms.rattle(0.05, seed=seed)
    return [*chosen, bulk("Si"), bulk("NaCl", "rocksalt", 5.64)]


def patterns() -> np.ndarray:
    """Powder patterns of a cubic and a hexagonal lattice of points."""
    millers = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3), axis=-1).reshape(-1, 3)
    metrics = (np.eye(3) / 4.2**2, np.array([[4, 2, 0], [2, 4, 0], [0, 0, 1.2]]) / 3 / 3.1**2)
    found = []
    for metric in metrics:
        sines = 1.5406 / 2 * np.sqrt(np.einsum("ni,ij,nj->n", millers, metric, millers))
        lines = np.unique(2 * np.degrees(np.arcsin(sines[(sines > 0) & (sines < 0.7)])).round(6))
        heights = np.exp(-lines / 40)[:, None]
        found.append((heights * np.exp(-(((ANGLES - lines[:, None]) / 0.1) ** 2))).sum(axis=0))
    return np.array(found)


def answers(path: Path, crystals: list[Atoms]) -> dict[str, Any]:
    """All that a model file says of itself and of what it is asked, as plain values."""
    header, _ = read_model(path)
    if "powder" in header:
        return {"probabilities": load_classifier(path).probabilities(patterns()).tolist()}
    if "property" in header:
        model = PropertyModel.load(path)
        periodic = [atoms for atoms in crystals if atoms.pbc.all()]
        return {"name": model.name, "unit": model.unit, "values": model.predict(periodic).tolist()}
    potential = Potential.load(path)
    known = [atoms for atoms in crystals if {*atoms.symbols} <= {*potential.elements}]
    return {
        "elements": list(potential.elements),
        "clones": potential.clones,
        "predictions": [
            {
                "energy": p.energy,
                "energy_std": p.energy_std,
                "forces": p.forces.tolist(),
                "forces_std": p.forces_std.tolist(),
                "stress": None if p.stress is None else p.stress.tolist(),
            }
            for p in potential.predict(known, members=True)
        ],
    }


# --- the models ---------------------------------------------------------------------------------


def randomised(parameters: Any, seed: int) -> None:
    """Weights of a size that keeps what goes through layers."""
    random = torch.Generator().manual_seed(seed)
    for _, weight in sorted(parameters):
        size = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.1
        with torch.no_grad():
            weight.normal_(0.0, size, generator=random)


def potential(backbone: Any, calibration: Calibration | None = None) -> Potential:
    randomised(backbone.named_parameters(), seed=len(backbone.symbols))
    energies = dict.fromkeys(backbone.symbols, -5.0) | REFERENCE
    reference = EnergyReference(energies, "self-energies", "made up")
    return Potential(backbone.requires_grad_(False), reference, {"base": "golden"}, calibration)


def ani(path: Path) -> None:
    potential(ANI(Architecture(**ANI_SIZES, fine=None))).save(path)


def ani_fine(path: Path) -> None:
    potential(ANI(Architecture(**ANI_SIZES, fine=FINE))).save(path)


def ani_components(path: Path) -> None:
    backbone = ANI(Architecture(**ANI_SIZES, fine=FINE, components=8))
    shape = backbone.projection.shape
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    backbone.projection = torch.linalg.qr(rows.mT).Q.mT.float()
    potential(backbone).save(path)


def ani_calibrated(path: Path) -> None:
    calibration = Calibration(Scale(2.5, 1.8, 40), Scale(1.5, None, 40))
    potential(ANI(Architecture(**ANI_SIZES, fine=None)), calibration).save(path)


def ani_new_elements(path: Path) -> None:
    ani_fine(path)
    new = load_base(path, {"Cl": "O", "Si": {"from": "C", "as": "clone"}})
    randomised(new.backbone.named_parameters(), seed=7)
    new.save(path)


def emodes(path: Path) -> None:
    potential(EModes(ElementVectors.new((6, 5, 4), 2))).save(path)


def schnet(path: Path) -> None:
    potential(SchNet(Filters(symbols=("H", "C", "N", "O"), **SCHNET_SIZES))).save(path)


def schnet_clone(path: Path) -> None:
    schnet(path)
    new = load_base(path, {"Cl": "O", "Si": {"from": "C", "as": "clone"}})
    randomised(new.backbone.named_parameters(), seed=8)
    new.save(path)


def property_network(path: Path, gate: bool = False) -> None:
    table = element_table("modes")
    network = CGCNN(Graphs(table.shape[1], width=6, convolutions=2, dense=6, gate=gate), table)
    randomised(network.named_parameters(), seed=3)
    for name, buffer in network.named_buffers():
        if name.endswith("variance"):
            buffer.fill_(0.8)
    about = {"name": "band gap", "unit": "eV", "mean": 3.0, "scale": 2.0}
    PropertyModel(network, **about, metadata={"elements": ["Si"]}).save(path)


def property_gated(path: Path) -> None:
    property_network(path, gate=True)


def powder_lines(path: Path) -> None:
    powder(path, Network(lines=10, dense=[6], dropout=0.0))


def powder_pattern(path: Path) -> None:
    convolutions = Convolutions(filters=3, kernels=[5, 3])
    powder(path, Network(sees="log_q", pool=90, convolutions=convolutions, dense=[6]))


def powder(path: Path, network: Network) -> None:
    classifier = Classifier(network, Augmentation(), 1.7, {"unseen": ["triclinic"]})
    randomised(classifier.network.named_parameters(), seed=5)
    classifier.save(path)


MODELS: tuple[Callable[[Path], None], ...] = (
    *(
        ani,
        ani_fine,
        ani_components,
        ani_calibrated,
        ani_new_elements,
        emodes,
        schnet,
        schnet_clone,
    ),
    *(property_network, property_gated, powder_lines, powder_pattern),
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    ase.io.write(folder / "structures.extxyz", structures())
    crystals = ase.io.read(folder / "structures.extxyz", ":")
    for make in MODELS:
        path = folder / f"{make.__name__}.safetensors"
        make(path)
        path.with_suffix(".json").write_text(json.dumps(answers(path, crystals)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
