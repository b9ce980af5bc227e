"""Added columns of a descriptor as a few components: a fixed linear map for each centre element."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tlpot.engine.term import Term


class Projection:
    """Columns to components and back, for the atoms of one batch.

    Parameters
    ----------
    matrices
        ``Tensor[elements, components, columns]``.
    order, counts
        The atoms sorted by element, and how many there are of each.
    """

    def __init__(self, matrices: Tensor, order: Tensor, counts: Sequence[int]) -> None:
        self.components = matrices.shape[1]
        self._matrices = [m for m, count in zip(matrices, counts, strict=True) if count]
        self._order, self._back = order, order.argsort()
        self._counts = [count for count in counts if count]

    def down(self, columns: Tensor) -> Tensor:
        """``[..., atoms, columns]`` to ``[..., atoms, components]``."""
        return self._apply(columns, [matrix.T for matrix in self._matrices])

    def up(self, components: Tensor) -> Tensor:
        """``[..., atoms, components]`` to ``[..., atoms, columns]``: the transposed map."""
        return self._apply(components, self._matrices)

    def _apply(self, values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        if not matrices:
            return values.new_zeros(*values.shape[:-1], 0)
        by_element = values.index_select(-2, self._order).split(self._counts, dim=-2)
        mapped = [v @ matrix for v, matrix in zip(by_element, matrices, strict=True)]
        return torch.cat(mapped, dim=-2).index_select(-2, self._back)


class Covariances:
    """Of columns, over many batches, by the element of the centre.

    Parameters
    ----------
    elements, columns
        How many there are.
    """

    def __init__(self, elements: int, columns: int) -> None:
        self.counts = torch.zeros(elements, dtype=torch.float64)
        self._sums = torch.zeros(elements, columns, dtype=torch.float64)
        self._products = torch.zeros(elements, columns, columns, dtype=torch.float64)

    def add(self, species: Tensor, columns: Tensor) -> None:
        """Atoms more: ``[atoms]`` and ``[atoms, columns]``."""
        species, columns = species.cpu(), columns.double().cpu()
        for element in species.unique().tolist():
            some = columns[species == element]
            self.counts[element] += len(some)
            self._sums[element] += some.sum(0)
            self._products[element] += some.T @ some

    @classmethod
    def joined(cls, parts: Sequence[Covariances]) -> Covariances:
        """Of all batches of some others."""
        whole = cls(*parts[0]._sums.shape)
        for part in parts:
            whole.counts += part.counts
            whole._sums += part._sums
            whole._products += part._products
        return whole

    def mean(self, element: int) -> Tensor:
        """``[columns]``."""
        return self._sums[element] / self.counts[element]

    def of(self, element: int) -> Tensor:
        """``[columns, columns]`` around the mean."""
        mean = self.mean(element)
        return self._products[element] / self.counts[element] - torch.outer(mean, mean)


def components(
    added: Sequence[Term], covariances: Sequence[Tensor], count: int, blind: Tensor | None = None
) -> Tensor:
    """Components of the added terms of one centre element, each term's by themselves.

    Parameters
    ----------
    covariances
        ``[columns, columns]`` of each term.
    count
        Of all components, shared out by `Term.share`.
    blind
        ``[columns]`` of all terms: which have no part in any.

    Returns
    -------
    ``Tensor[count, columns]``.
    """
    parts = sum(term.share for term in added)
    counts = [count * term.share // parts for term in added]
    counts[0] += count - sum(counts)
    blocks, first = [], 0
    for term, covariance, own in zip(added, covariances, counts, strict=True):
        if blind is not None:
            sighted = ~blind[first : first + term.size]
            covariance = covariance * sighted[:, None] * sighted
        first += term.size
        if term.variance is None:
            blocks.append(principal_components(covariance, own))
        else:
            blocks.append(alike_components(covariance, own, term.variance))
    return torch.block_diag(*blocks)


def alike_components(covariance: Tensor, count: int, total: float) -> Tensor:
    """Principal components ``[count, columns]`` of columns made alike, of `total` variance.

    Columns that hardly vary beside the others stay out: what they have is mostly rounding.
    """
    variance = covariance.diagonal()
    varies = variance > 1e-6 * variance.max()
    scale = (total / varies.sum() / variance.where(varies, 1.0)).sqrt() * varies
    return principal_components(covariance * scale[:, None] * scale, count) * scale


def principal_components(covariance: Tensor, count: int) -> Tensor:
    """The directions ``[count, columns]`` of largest variance, largest first; zeros past the rank.

    Signs are such that the largest entry of each is positive.
    """
    out = covariance.new_zeros(count, len(covariance))
    varies = covariance.diagonal() > 0
    if varies.any():
        some = covariance[varies][:, varies]
        variance, directions = torch.linalg.eigh(some)
        directions = directions.flip(1)[:, :count].T
        directions = directions[variance.flip(0)[: len(directions)] > 1e-12 * variance.max()]
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        rows = torch.zeros(len(directions), len(covariance), dtype=covariance.dtype)
        rows[:, varies] = directions * largest.sign()
        out[: len(rows)] = rows
    return out
