"""The published ANI ensembles: torchani's modules as backbones, and back again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torchani
from ase.units import Hartree
from torchani.nn import ANINetworks, AtomicNetwork, Ensemble
from torchani.sae import SelfEnergy
from torchani.utils import SYMBOLS_1X, SYMBOLS_2X

from tlpot.backbones.aev import Architecture
from tlpot.backbones.ani import ANI, LAYERS
from tlpot.backbones.base import Backbone
from tlpot.errors import TlpotError, first_line

PUBLISHED: dict[str, Callable[[], torchani.arch.ANI]] = {
    "ani2x": torchani.models.ANI2x,
    "ani1x": torchani.models.ANI1x,
    "ani1ccx": torchani.models.ANI1ccx,
}
SYMBOLS: dict[str, tuple[str, ...]] = {
    "ani2x": SYMBOLS_2X,
    "ani1x": SYMBOLS_1X,
    "ani1ccx": SYMBOLS_1X,
}
"""Elements of each, known without its weights."""


def from_torchani(module: torchani.arch.ANI) -> tuple[ANI, dict[str, float]]:
    """torchani's module as a backbone, and its self-energies in eV."""
    aev, members = module.aev_computer, module.neural_networks.members
    symbols = tuple(module.symbols)
    widths = tuple(
        tuple(layer.out_features for layer in members[0].atomics[s].layers) for s in symbols
    )
    architecture = Architecture(
        symbols=symbols,
        widths=widths,
        members=len(members),
        radial_cutoff=aev.radial.cutoff,
        radial_eta=aev.radial.eta.item(),
        radial_shifts=tuple(aev.radial.shifts.tolist()),
        angular_cutoff=aev.angular.cutoff,
        angular_eta=aev.angular.eta.item(),
        angular_zeta=aev.angular.zeta.item(),
        angular_shifts=tuple(aev.angular.shifts.tolist()),
        angular_sections=tuple(aev.angular.sections.tolist()),
    )
    backbone = ANI(architecture)
    for symbol in symbols:
        networks = [member.atomics[symbol] for member in members]
        stacks = zip(*[(*n.layers, n.final_layer) for n in networks], strict=True)
        for name, layers in zip(LAYERS, stacks, strict=True):
            target = backbone.layer(symbol, name)
            target.weight.data = torch.stack([layer.weight.detach() for layer in layers])
            target.bias.data = torch.stack([layer.bias.detach() for layer in layers])
    energies = module.energy_shifter.self_energies.double() * Hartree
    return backbone, dict(zip(symbols, energies.tolist(), strict=True))


def load_published(name: str) -> tuple[ANI, dict[str, float]]:
    """A published ANI ensemble (`PUBLISHED`) through torchani's own download and cache.

    Raises
    ------
    TlpotError
        If the weights are neither cached nor can be downloaded; if the cached ones are damaged.
    """
    try:
        module = PUBLISHED[name]()
    except Exception as error:
        if flaw := _flaw(name):
            raise TlpotError(flaw) from None
        raise TlpotError(
            f"the weights of {name} are not in torchani's cache ({torchani.paths.data_dir()}) and "
            f"could not be downloaded ({type(error).__name__}). Connect once, or copy "
            "StateDicts/*.pt from a machine that has them and set TORCHANI_DATA_DIR to the folder "
            "that holds StateDicts; `base: mini` works offline."
        ) from error
    return from_torchani(module)


def has_weights(name: str) -> bool:
    """Whether a published ensemble is in torchani's cache: nothing is downloaded."""
    return _weights_file(name).is_file()


def _weights_file(name: str) -> Path:
    return Path(torchani.paths.state_dicts_dir()) / f"{name}_state_dict.pt"


def _flaw(name: str) -> str:
    """What is wrong with the cached weights, which torchani then tries to download; or nothing."""
    file = _weights_file(name)
    mend = "delete it, and connect once to fetch it again or copy it from where it is whole"
    if not file.is_file():
        return ""
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        return f"{file} is cut or damaged ({first_line(error)}); {mend}"
    if not isinstance(weights, Mapping):
        return f"{file} holds no weights; {mend}"
    return f"{file} does not hold the weights of {name}; {mend}"


def to_torchani(backbone: Backbone, self_energies: Mapping[str, float]) -> torchani.arch.ANI:
    """torchani's own module, donors given channels of their own.

    Parameters
    ----------
    self_energies
        eV for each element of the result.
    """
    assert isinstance(backbone, ANI)
    full = backbone.unprojected().with_elements((*backbone.symbols, *backbone.donors))
    symbols = full.symbols
    members = []
    for m in range(full.members):
        networks = {}
        for symbol, widths in zip(symbols, full.architecture.widths, strict=True):
            network = AtomicNetwork((full.aev.out_dim, *widths, 1), "celu", bias=True)
            targets = (*network.layers, network.final_layer)
            for target, name in zip(targets, LAYERS, strict=True):
                source = full.layer(symbol, name)
                target.weight.data = source.weight[m].detach().clone()
                target.bias.data = source.bias[m].detach().clone()
            networks[symbol] = network
        members.append(ANINetworks(networks))
    shifter = SelfEnergy(symbols, [self_energies[s] / Hartree for s in symbols])
    shifter.self_energies = torch.tensor(
        [self_energies[s] / Hartree for s in symbols], dtype=torch.float64
    )
    module = torchani.arch.ANI(symbols, full.aev, Ensemble(members), shifter)
    return module.requires_grad_(False)
