"""The crystals of the property benchmark, and CGCNN once more, plainly, to compare with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.geometry import cellpar_to_cell
from pymatgen.core import Lattice, Structure
from torch import Tensor
from torch.nn.functional import batch_norm, linear, softplus

from tlpot.frames import Frame
from tlpot.property.data import Crystals
from tlpot.property.graph import Graph

SEEDS = Path(os.environ.get("TLPOT_DATA", "")) / "seeds"
FILE = SEEDS / "crystals_mp36k.npz"
RELEASED = {"formation_energy": "formation-energy-per-atom", "band_gap": "band-gap"}


class Source:
    """``crystals_mp36k.npz``: 36,738 crystals of the Materials Project, labels PBE."""

    def __init__(self) -> None:
        with np.load(FILE) as file:
            self.data = {name: file[name] for name in file}
        self.starts = np.concatenate([[0], np.cumsum(self.data["n_atoms"])])
        listed = (SEEDS / "cgcnn/mp-ids-27430.csv").read_text().split()
        self.with_gap = np.isin(self.data["mp_id"], listed)
        self.metal = self.data["band_gap"] == 0

    def __len__(self) -> int:
        return len(self.data["n_atoms"])

    def atoms(self, i: int) -> Atoms:
        part = slice(self.starts[i], self.starts[i + 1])
        cell = cellpar_to_cell(self.data["cellpar"][i])
        frac = self.data["frac"][part]
        return Atoms(self.data["Z"][part], scaled_positions=frac, cell=cell, pbc=True)

    def crystals(self, name: str, chosen: np.ndarray | None = None) -> Crystals:
        """Crystals with a property, as `tlpot property train` takes them in memory."""
        chosen = np.arange(len(self)) if chosen is None else chosen
        frames = [
            Frame(self.atoms(i), source=str(FILE), index=int(i), info={"id": self.data["mp_id"][i]})
            for i in chosen
        ]
        return Crystals(frames, self.data[name][chosen], name)


def pymatgen_graph(atoms: Atoms) -> Graph:
    """The graph as the original builds it: pymatgen's neighbours within 8 Å sorted by distance, the
    first twelve; where there are fewer, atom 0 at 9 Å."""
    lattice = Lattice(atoms.cell.array)
    structure = Structure(lattice, atoms.numbers, atoms.get_scaled_positions(wrap=False))
    centres, ends, _, distances = structure.get_neighbor_list(8.0)
    order = np.lexsort((np.arange(len(centres)), distances, centres))
    found = np.bincount(centres, minlength=len(atoms))
    rank = np.arange(len(centres)) - np.repeat(np.cumsum(found) - found, found)
    kept, rank = order[rank < 12], rank[rank < 12]
    neighbours = np.zeros((len(atoms), 12), dtype=np.int64)
    away = np.full((len(atoms), 12), 9.0, dtype=np.float32)
    neighbours[centres[kept], rank], away[centres[kept], rank] = ends[kept], distances[kept]
    numbers = torch.as_tensor(atoms.numbers, dtype=torch.long)
    crystal = torch.zeros(len(atoms), dtype=torch.long)
    return Graph(numbers, crystal, torch.from_numpy(neighbours), torch.from_numpy(away))


def plain(stored: dict, features: Tensor, graph: Graph) -> Tensor:
    """The published equations, term by term, from the weights of a released checkpoint.

    Nothing here is shared with `tlpot.property.network`: vectors of both atoms and the edge are put
    side by side and multiplied in one.
    """
    w = stored["state_dict"]

    def dense(x: Tensor, name: str) -> Tensor:
        return linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        about = [w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return batch_norm(x, *about)

    centres = torch.linspace(0.0, 8.0, 41)
    edges = torch.exp(-((graph.distances.unsqueeze(-1) - centres) ** 2) / 0.2**2)
    v = dense(features[graph.numbers], "embedding")
    for i in range(stored["args"]["n_conv"]):
        ends = v[graph.neighbours]
        z = torch.cat([v.unsqueeze(1).expand_as(ends), ends, edges], dim=2)
        z = dense(z, f"convs.{i}.fc_full")
        z = norm(z.reshape(-1, z.shape[2]), f"convs.{i}.bn1").reshape(z.shape)
        filters, cores = z[..., : v.shape[1]], z[..., v.shape[1] :]
        messages = (torch.sigmoid(filters) * softplus(cores)).sum(dim=1)
        v = softplus(v + norm(messages, f"convs.{i}.bn2"))
    means = torch.stack([v[graph.crystal == k].mean(dim=0) for k in range(graph.size)])
    x = softplus(dense(softplus(means), "conv_to_fc"))
    scale = stored["normalizer"]
    return scale["mean"] + scale["std"] * dense(x, "fc_out").squeeze(1)
