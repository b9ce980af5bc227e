"""The crystal graph convolutional network (Xie and Grossman, PRL 120, 145301 (2018))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, linear, softplus

from tlpot.property.graph import GAUSSIAN_STEP, RADIUS, Graph, gaussians

GAUSSIANS = round(RADIUS / GAUSSIAN_STEP) + 1
EPSILON = 1e-5
"""Added to variances."""


@dataclass(frozen=True)
class GraphSizes:
    """Sizes: numbers an atom carries, convolutions, width and number of the dense layers.

    `gate` adds an output that says whether the property is zero (a metal's band gap).
    """

    features: int
    width: int = 64
    convolutions: int = 3
    dense: int = 128
    layers: int = 1
    gate: bool = False


class Norm(nn.Module):
    """Batch normalisation without a state of its own in training.

    In training mode the statistics are the batch's. Otherwise they are `mean` and `variance`,
    which `CGCNN.measure` sets: unlike running averages they belong to the weights exactly.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.seen: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` normalised over all leading dimensions."""
        if self.training:
            flat = x.flatten(0, -2)
            if self.seen is not None:
                variance, mean = torch.var_mean(flat, dim=0, correction=0)
                self.seen.append((mean, variance))
            weights = (self.weight, self.bias)
            return batch_norm(flat, None, None, *weights, True, 0.0, EPSILON).view_as(x)
        scale = self.weight * torch.rsqrt(self.variance + EPSILON)
        return torch.addcmul(self.bias - self.mean * scale, x, scale)


class Convolution(nn.Module):
    """v'ᵢ = softplus(vᵢ + Σⱼ σ(z Wf + bf) ⊙ softplus(z Ws + bs)), z = [vᵢ; vⱼ; uᵢⱼ].

    Eq. 5 of Xie and Grossman (3.11 of the thesis), with its two batch normalisations. The product
    z W is summed from its parts: those of vᵢ and vⱼ take one product an atom, not one an edge.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        together = nn.Linear(2 * width + GAUSSIANS, 2 * width)
        self.weight, self.bias = together.weight, together.bias
        self.messages, self.sums = Norm(2 * width), Norm(width)
        self.parts = (width, width, GAUSSIANS)

    def forward(self, atoms: Tensor, neighbours: Tensor, edges: Tensor) -> Tensor:
        """``[atoms, width]`` to the same, over edges ``[atoms, 12, 41]``."""
        own, other, distance = self.weight.split(self.parts, dim=1)
        ends = linear(atoms, other).index_select(0, neighbours.flatten())
        ends = ends.view(len(atoms), -1, len(self.weight)) + linear(atoms, own, self.bias)[:, None]
        z = torch.addmm(ends.flatten(0, 1), edges.flatten(0, 1), distance.T)
        z = self.messages(z.view_as(ends))
        gate, core = z.chunk(2, dim=-1)
        return softplus(atoms + self.sums((gate.sigmoid() * softplus(core)).sum(1)))


class CGCNN(nn.Module):
    """A scalar of every crystal in a graph.

    Parameters
    ----------
    architecture
        Sizes.
    table
        ``Tensor[elements, features]`` what an atom of each atomic number starts from; rows of
        unknown elements are NaN.
    """

    table: Tensor

    def __init__(self, architecture: GraphSizes, table: Tensor) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.register_buffer("table", table.float())
        self.embedding = nn.Linear(a.features, a.width)
        for i in range(a.convolutions):
            self.add_module(f"conv{i + 1}", Convolution(a.width))
        for i in range(a.layers):
            self.add_module(f"dense{i + 1}", nn.Linear(a.dense if i else a.width, a.dense))
        self.outputs = 2 if a.gate else 1
        self.output = nn.Linear(a.dense, self.outputs)

    def forward(self, graph: Graph) -> Tensor:
        """``Tensor[crystals, outputs]``: the property in the network's own scale.

        With a gate also the log-odds that it is not zero.
        """
        atoms = self.embedding(self.table[graph.numbers])
        edges = gaussians(graph.distances)
        for i in range(self.architecture.convolutions):
            atoms = self.get_submodule(f"conv{i + 1}")(atoms, graph.neighbours, edges)
        crystals = atoms.new_zeros(graph.size, atoms.shape[1]).index_add(0, graph.crystal, atoms)
        counts = torch.bincount(graph.crystal, minlength=graph.size)
        x = softplus(crystals / counts[:, None])
        for i in range(self.architecture.layers):
            x = softplus(self.get_submodule(f"dense{i + 1}")(x))
        return self.output(x)

    def new_head(self, seed: int) -> list[str]:
        """Start the dense layers and the output anew, for another property; their names."""
        head = [name for name, _ in self.named_children() if name.startswith(("dense", "output"))]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in head:
                getattr(self, name).reset_parameters()
        return head

    @torch.no_grad()
    def measure(self, batches: Iterable[Graph]) -> None:
        """Set the statistics of every `Norm` to the mean of those of the batches."""
        norms = [m for m in self.modules() if isinstance(m, Norm)]
        for norm in norms:
            norm.seen = []
        self.train()
        for graph in batches:
            self(graph)
        self.eval()
        for norm in norms:
            assert norm.seen is not None
            means, variances = zip(*norm.seen, strict=True)
            norm.mean.copy_(torch.stack(means).mean(0))
            norm.variance.copy_(torch.stack(variances).mean(0))
            norm.seen = None
