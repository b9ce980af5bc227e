"""What a term of the descriptor must say: its values, their pull and their push.

A descriptor x of the atoms is made of terms, each a function of the vectors v to an atom's
neighbours. With J = ∂x/∂v a term gives three things and keeps no J: the values x; the *pull* Jᵀ·g,
which turns a slope in x into forces and virial; the *push* J·u, which the gradient of a loss of
forces needs. Each exists twice: in torch, for any device and precision, and compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from tlpot.engine.constants import Constants
from tlpot.engine.environment import Environment
from tlpot.engine.neighbourhood import Neighbourhood


class Term(ABC):
    """A term: for each atom `blocks` (one an element, or a pair of elements) of `columns` numbers.

    Attributes
    ----------
    blocks, columns
        Of an atom.
    share
        Its part of the components, where several terms enter through them.
    variance
        Of all its components, if its columns are made alike first; None: as they are.
    """

    blocks: int
    columns: int
    share = 1
    variance: float | None = None

    def __init__(self, constants: Constants) -> None:
        self.constants = constants

    @property
    def size(self) -> int:
        """Columns of all blocks."""
        return self.blocks * self.columns

    def values(self, around: Environment | Neighbourhood) -> Tensor:
        """x: ``Tensor[atoms, blocks, columns]``."""
        if isinstance(around, Neighbourhood):
            return self.compiled_values(around)
        return self.torch_values(around)

    def pull(self, around: Environment | Neighbourhood, slope: Tensor) -> Tensor:
        """Jᵀ·slope: ``[k, atoms, blocks, columns]`` to ``[k, pairs, 3]``."""
        if isinstance(around, Neighbourhood):
            return self.compiled_pull(around, slope)
        return self.torch_pull(around, slope)

    def push(self, around: Environment | Neighbourhood, vectors: Tensor) -> Tensor:
        """J·vectors: ``[k, pairs, 3]`` to ``[k, atoms, blocks, columns]``."""
        if isinstance(around, Neighbourhood):
            return self.compiled_push(around, vectors)
        return self.torch_push(around, vectors)

    @abstractmethod
    def torch_values(self, environment: Environment) -> Tensor:
        """`values` by torch."""

    @abstractmethod
    def torch_pull(self, environment: Environment, slope: Tensor) -> Tensor:
        """`pull` by torch."""

    @abstractmethod
    def torch_push(self, environment: Environment, vectors: Tensor) -> Tensor:
        """`push` by torch."""

    @abstractmethod
    def compiled_values(self, neighbourhood: Neighbourhood) -> Tensor:
        """`values` by a kernel."""

    @abstractmethod
    def compiled_pull(self, neighbourhood: Neighbourhood, slope: Tensor) -> Tensor:
        """`pull` by a kernel."""

    @abstractmethod
    def compiled_push(self, neighbourhood: Neighbourhood, vectors: Tensor) -> Tensor:
        """`push` by a kernel."""
