"""A potential as a metatomic model: what LAMMPS, i-PI, torch-sim and others load.

Descriptor, networks and energy reference become one TorchScript module, which needs neither tlpot
nor torchani. TorchScript and metatomic read annotations as they stand: hence no ``annotations``
import here, and the old names of types. Those of a function's own scope TorchScript knows only if
the code, not just an annotation, names them: hence ``torch.jit.annotate``.
"""
# ruff: noqa: UP006, UP035, UP045

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Optional, Tuple

import torch
from ase.data import atomic_numbers
from ase.units import Hartree
from torch import Tensor
from torchani.neighbors import Neighbors

from tlpot.backbones.ani import ALPHA, ANI, LAYERS, Layer
from tlpot.engine.moments import columns_of
from tlpot.files import make_folder, write_whole
from tlpot.model.potential import Potential
from tlpot.optional import require


class ScriptedDense(torch.nn.Module):
    """One linear layer of all members."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().mT.contiguous())
        self.register_buffer("bias", layer.bias.detach()[:, None].contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """``[..., atoms, in]`` to ``[members, atoms, out]``."""
        return torch.matmul(x, self.weight) + self.bias


class ScriptedNetwork(torch.nn.Module):
    """All members' networks of one element, side by side."""

    def __init__(self, backbone: ANI, symbol: str) -> None:
        super().__init__()
        self.alpha = float(ALPHA)
        *hidden, output = [ScriptedDense(backbone.layer(symbol, name)) for name in LAYERS]
        self.hidden, self.output = torch.nn.ModuleList(hidden), output

    def forward(self, x: Tensor) -> Tensor:
        """``[atoms, features]`` to the members' mean ``[atoms]``, Hartree."""
        for layer in self.hidden:
            x = self.celu(layer(x))
        return self.output(x).mean(dim=0).squeeze(1)

    def celu(self, x: Tensor) -> Tensor:
        """As `tlpot.backbones.ani.celu`."""
        return x.clamp(min=0.0) + self.alpha * torch.expm1(x.clamp(max=0.0) / self.alpha)


class ScriptedEnergies(torch.nn.Module):
    """Energies of atoms from pairs of neighbours."""

    species: Tensor
    reference: Tensor

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        backbone = potential.backbone
        assert isinstance(backbone, ANI)
        backbone = backbone.unprojected()
        about = backbone.architecture
        self.aev = replace(about, moments=None).aev_computer().to(backbone.dtype)
        products = [columns_of(about).to(backbone.dtype)] if about.moments else []
        self.products = torch.nn.ModuleList(products)
        self.networks = torch.nn.ModuleList(
            [ScriptedNetwork(backbone, s) for s in backbone.symbols]
        )
        self.register_buffer("species", backbone.species.clone())
        self.register_buffer("reference", potential.reference.table().nan_to_num())
        self.hartree = float(Hartree)

    def forward(self, numbers: Tensor, pairs: Tensor, vectors: Tensor) -> Tensor:
        """``[atoms]`` eV in double precision, reference included."""
        species = self.species[numbers]
        vectors = vectors.to(self.aev.radial.shifts.dtype)
        neighbours = Neighbors(pairs, vectors.norm(p=2, dim=1), -vectors)
        unused = torch.zeros(1, len(species), 3, dtype=vectors.dtype, device=vectors.device)
        features = self.aev.compute_from_neighbors(species[None], unused, neighbours)[0]
        for products in self.products:
            features = torch.cat([features, products(species, pairs, vectors)], dim=1)
        energies = torch.zeros(len(species), dtype=features.dtype, device=features.device)
        for element, network in enumerate(self.networks):
            atoms = (species == element).nonzero().squeeze(1)
            if len(atoms) > 0:
                energies = energies.index_copy(0, atoms, network(features[atoms]))
        return energies.double() * self.hartree + self.reference.double()[numbers]


def export_metatomic(potential: Potential, path: Path) -> Path:
    """Write a metatomic model file: the ensemble's mean energy, eV and Å.

    It asks for double precision, since totals of 10⁵ eV leave float32 nothing below 8 meV.

    Raises
    ------
    TlpotError
        If the backbone is not ANI.
    """
    potential.require_export("metatomic")
    for module in ("metatomic.torch", "metatensor.torch"):
        require(module, "metatomic", "tlpot export --to metatomic")
    from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput

    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")},
        atomic_types=sorted(atomic_numbers[symbol] for symbol in potential.elements),
        interaction_range=potential.backbone.cutoff,
        length_unit="angstrom",
        supported_devices=["cuda", "cpu"],
        dtype="float64",
    )
    metadata = ModelMetadata(
        name="tlpot",
        description=f"fine-tuned from {potential.metadata.get('base', 'a tlpot model')}; "
        f"energy reference {potential.reference.kind}",
    )
    model = _model_class()(ScriptedEnergies(potential), potential.backbone.cutoff).eval()
    make_folder(path.parent)
    with TemporaryDirectory(prefix="tlpot-") as folder:
        whole = Path(folder, path.name)
        AtomisticModel(model, metadata, capabilities).save(str(whole))
        return write_whole(path, whole.read_bytes())


def _model_class() -> Any:
    """The module that metatomic saves; a class of its own names, for TorchScript."""
    from metatensor.torch import Labels, TensorBlock, TensorMap
    from metatomic.torch import ModelOutput, NeighborListOptions, System

    class Model(torch.nn.Module):
        """Energies of systems by metatomic's interface; forces and stress are its derivatives."""

        def __init__(self, energies: ScriptedEnergies, cutoff: float) -> None:
            super().__init__()
            self.energies = energies
            self.neighbours = NeighborListOptions(
                cutoff=cutoff, full_list=False, strict=True, requestor="tlpot"
            )

        def requested_neighbor_lists(self) -> List[NeighborListOptions]:
            """Pairs within the cutoff, each once."""
            return [self.neighbours]

        def forward(
            self,
            systems: List[System],
            outputs: Dict[str, ModelOutput],
            selected_atoms: Optional[Labels] = None,
        ) -> Dict[str, TensorMap]:
            """``energy`` of each system or atom, eV, of the atoms that are selected."""
            if "energy" not in outputs:
                return torch.jit.annotate(Dict[str, TensorMap], {})
            numbers, pairs, vectors, labels = self._joined(
                torch.jit.annotate(List[System], systems)
            )
            energies = self.energies(numbers, pairs, vectors)
            if selected_atoms is not None:
                chosen = labels.select(selected_atoms.to(energies.device))
                labels = Labels(["system", "atom"], labels.values[chosen])
                energies = energies[chosen]
            if torch.jit.annotate(ModelOutput, outputs["energy"]).sample_kind != "atom":
                owner = labels.values[:, 0].long()
                total = torch.zeros(len(systems), dtype=energies.dtype, device=energies.device)
                energies = total.index_add(0, owner, energies)
                every = torch.arange(len(systems), device=energies.device, dtype=torch.int32)
                labels = Labels(["system"], every[:, None])
            zero = torch.zeros(1, 1, dtype=torch.int32, device=energies.device)
            block = TensorBlock(
                values=energies.to(systems[0].positions.dtype)[:, None],
                samples=labels,
                components=torch.jit.annotate(List[Labels], []),
                properties=Labels(["energy"], zero),
            )
            return {"energy": TensorMap(Labels(["_"], zero), [block])}

        def _joined(self, systems: List[System]) -> Tuple[Tensor, Tensor, Tensor, Labels]:
            """Atomic numbers, pairs and vectors of all systems, and what to call the atoms."""
            numbers: List[Tensor] = []
            samples: List[Tensor] = []
            pairs: List[Tensor] = []
            vectors: List[Tensor] = []
            atoms = 0
            for index, system in enumerate(torch.jit.annotate(List[System], systems)):
                neighbours = system.get_neighbor_list(self.neighbours)
                pairs.append(neighbours.samples.values[:, :2].long().t() + atoms)
                vectors.append(neighbours.values.squeeze(-1))
                numbers.append(system.types.long())
                place = torch.arange(len(system.types), device=system.types.device)
                samples.append(torch.stack([torch.full_like(place, index), place], dim=1))
                atoms += len(system.types)
            labels = Labels(["system", "atom"], torch.cat(samples).int())
            return torch.cat(numbers), torch.cat(pairs, 1), torch.cat(vectors), labels

    return Model
