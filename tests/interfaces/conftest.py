"""Models for other programs."""

from collections.abc import Callable, Sequence

import pytest
import torch
from ase import Atoms

from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame


@pytest.fixture
def weighty() -> Callable[[Potential, Sequence[Atoms]], Potential]:
    """Gives a potential added terms, fitted to shaken structures, that count."""

    def add(potential: Potential, structures: Sequence[Atoms]) -> Potential:
        potential = potential.with_terms(fine_angles=True, moments=True)
        shaken = [atoms.copy() for atoms in structures for _ in range(4)]
        for seed, atoms in enumerate(shaken):
            atoms.rattle(0.1, seed=seed)
        backbone = potential.backbone
        backbone.fit_components([potential.batch([Frame(atoms) for atoms in shaken])])
        random = torch.Generator().manual_seed(0)
        for symbol in backbone.symbols:
            added = backbone.layer(symbol, "input").weight[..., -backbone.architecture.last :]
            added.copy_(0.1 * torch.randn(added.shape, generator=random))
        return potential

    return add
