"""A potential as torchani's own model: weights in safetensors, and a script that loads them."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save

from tlpot.backbones.aev import AEVWithMoments, AngularColumns
from tlpot.backbones.ani import ANI
from tlpot.engine.moment_columns import MomentColumns
from tlpot.engine.moments import PRODUCTS, TENSOR_AXES, mixtures_of
from tlpot.files import Content, write_new
from tlpot.model.potential import Potential

LOADER = '''\
"""{name} as a torchani model: `from {stem} import load`. Needs torchani and safetensors.

Made by tlpot. Energies are in Hartree, as torchani's are; pickles are not involved.
"""

import json
from pathlib import Path
from typing import List, Tuple

import torch
from safetensors import safe_open
from torch import Tensor
from torchani.aev import AEVComputer, Angular, ANIAngular, ANIRadial, Radial
from torchani.arch import ANI
from torchani.neighbors import Neighbors
from torchani.nn import ANINetworks, AtomicNetwork, Ensemble
from torchani.sae import SelfEnergy

WEIGHTS = Path(__file__).with_suffix(".safetensors")


{columns}


def load() -> ANI:
    """The ensemble, in double precision where the reference energies are."""
    with safe_open(WEIGHTS, "pt") as file:
        about = json.loads(file.metadata()["torchani"])
        state = {{name: file.get_tensor(name) for name in file.keys()}}
    radial = ANIRadial(about["radial_eta"], about["radial_shifts"], about["radial_cutoff"])
    if about["fine"]:
        angular = AngularColumns(about["angular_columns"], about["angular_cutoff"])
    else:
        angular = ANIAngular(
            about["angular_eta"],
            about["angular_zeta"],
            about["angular_shifts"],
            about["angular_sections"],
            about["angular_cutoff"],
        )
    symbols = about["symbols"]
    aev = AEVComputer(radial, angular, len(symbols))
    if about["moments"]:
        products = MomentColumns(torch.tensor(about.pop("mixtures")), **about["moments"])
        aev = AEVWithMoments(radial, angular, len(symbols), products)
    members = [
        ANINetworks(
            {{
                symbol: AtomicNetwork((aev.out_dim, *widths, 1), "celu", bias=True)
                for symbol, widths in zip(symbols, about["widths"], strict=True)
            }}
        )
        for _ in range(about["members"])
    ]
    shifter = SelfEnergy(symbols, [0.0] * len(symbols))
    shifter.self_energies = shifter.self_energies.double()
    model = ANI(symbols, aev, Ensemble(members), shifter)
    model.load_state_dict(state)
    return model.requires_grad_(False)
'''


def export_torchani(potential: Potential, path: Path) -> Path:
    """Write ``<path>.safetensors`` and ``<path>.py``, whose ``load()`` gives a `torchani.arch.ANI`.

    Raises
    ------
    TlpotError
        If the backbone is not ANI.
    """
    module = potential.to_torchani()
    assert isinstance(potential.backbone, ANI)
    backbone = potential.backbone
    full = backbone.with_elements((*backbone.symbols, *backbone.donors)).architecture
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    about = {**asdict(full), "angular_columns": full.angular_columns}
    if full.moments:
        keep = {key: about["moments"][key] for key in ("shifts", "eta", "cutoff")}
        about["moments"] = {**keep, "axes": TENSOR_AXES, "kinds": PRODUCTS}
        about["mixtures"] = mixtures_of(full).tolist()
    loader = path.with_suffix(".py")
    classes = (AngularColumns, MomentColumns, AEVWithMoments) if full.moments else (AngularColumns,)
    columns = "\n\n".join(map(inspect.getsource, classes))
    contents: dict[Path, Content] = {
        loader: LOADER.format(name=path.stem, stem=path.stem, columns=columns),
        path.with_suffix(".safetensors"): save(state, {"torchani": json.dumps(about)}),
    }
    write_new(contents, "name another file")
    return loader
