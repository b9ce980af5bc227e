"""Agreement with torchani, and the ways to and from smaller, larger and torchani's own modules."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.units import Hartree
from torch.optim import AdamW
from torchani.aev import ANIAngular

from tlpot.backbones.aev import FINE
from tlpot.backbones.published import PUBLISHED, from_torchani
from tlpot.config.run import Training
from tlpot.model.load import load_base
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame
from tlpot.training.loss import loss


def torchani_says(module, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy and forces by torchani's own road: its neighbour list, its networks, its sum."""
    positions = torch.tensor(atoms.positions, dtype=torch.float64)[None].requires_grad_()
    cell = pbc = None
    if atoms.pbc.any():
        cell = torch.tensor(atoms.cell.array, dtype=torch.float64)
        pbc = torch.tensor(atoms.pbc)
    species = torch.tensor(atoms.numbers)[None]
    energy = module((species, positions), cell=cell, pbc=pbc).energies * Hartree
    (slope,) = torch.autograd.grad(energy.sum(), positions)
    return energy.item(), -slope[0].numpy()


def agrees(potential: Potential, module, atoms: Atoms, by_atom: float = 1e-5) -> None:
    found = potential.predict([atoms])[0]
    energy, forces = torchani_says(module, atoms)
    assert found.energy == pytest.approx(energy, abs=by_atom * len(atoms))
    np.testing.assert_allclose(found.forces, forces, atol=1e-4)


def says_the_same(one: Potential, other: Potential, atoms: Atoms) -> None:
    a, b = one.predict([atoms])[0], other.predict([atoms])[0]
    assert a.energy == pytest.approx(b.energy, abs=1e-9)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-9)


def structures(urea: Atoms) -> list[Atoms]:
    """Molecules; a periodic supercell; one with atoms outside the box; partial periodicity."""
    several = [molecule(name) for name in ("CH3OH", "CH3CONH2", "C6H6", "N2")]
    for atoms in several:
        atoms.rattle(0.05, seed=1)
    outside = urea.copy()
    outside.positions[::3] += 2 * urea.cell[0] - urea.cell[2]
    slab = urea.repeat((2, 2, 1))
    slab.pbc = (True, True, False)
    return [*several, urea.repeat((2, 1, 2)), outside, slab]


@pytest.mark.parametrize("name", PUBLISHED)
def test_energies_and_forces_are_torchanis(published, urea, name):
    potential = published(name)
    module = PUBLISHED[name]().double()
    assert potential.backbone.members == len(module.neural_networks.members) == 8
    assert potential.backbone.symbols == tuple(module.symbols)
    for atoms in structures(urea):
        agrees(potential, module, atoms)


def test_every_member_is_torchanis(published):
    atoms = molecule("CH3OH")
    potential = published("ani2x")
    module = PUBLISHED["ani2x"]().double()
    numbers = torch.tensor(atoms.numbers)[None]
    positions = torch.tensor(atoms.positions)[None]
    expected = module((numbers, positions), ensemble_values=True).energies[:, 0] * Hartree
    found = potential.evaluate(potential.batch([Frame(atoms)])).energy[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=6e-5)


def test_sulphur_and_halogens_too(published):
    potential = published("ani2x")
    module = PUBLISHED["ani2x"]().double()
    for name in ("CH3SH", "CH3Cl", "CH3CH2Cl", "CF4", "ClF"):
        agrees(potential, module, molecule(name))


@pytest.mark.parametrize("donors", [{}, {"Si": "C", "Cl": "O"}])
def test_to_torchani_and_back(small, urea, donors):
    urea.symbols[[0, 2]] = ["Si", "Cl"] if donors else ["C", "O"]
    fine = small(donors=donors)
    agrees(fine, fine.to_torchani(), urea, by_atom=1e-9)
    potential = small(donors=donors, fine=None)
    module = potential.to_torchani()
    assert tuple(module.symbols) == potential.elements
    agrees(potential, module, urea, by_atom=1e-9)
    backbone, energies = from_torchani(module)
    again = Potential(backbone, potential.reference)
    assert energies == pytest.approx(potential.reference.values, rel=1e-12)
    a, b = again.predict([urea])[0], potential.predict([urea])[0]
    assert a.energy == pytest.approx(b.energy, abs=1e-9)
    assert a.energy_std == pytest.approx(b.energy_std, abs=1e-9)


def test_published_weights_to_torchani(published, urea):
    module = published("ani2x").to_torchani()
    own = PUBLISHED["ani2x"]()
    for ours, theirs in zip(module.parameters(), own.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    agrees(published("ani2x"), module.double(), urea.repeat((2, 1, 1)))


def test_published_stand_in_gives_the_donors_energies(published):
    published("ani2x")
    potential = load_base("ani2x", {"Si": "C"})
    silane, methane = molecule("CH4"), molecule("CH4")
    silane.symbols[0] = "Si"
    a, b = potential.predict([silane])[0], potential.predict([methane])[0]
    assert a.energy == b.energy
    agrees(potential, potential.to_torchani().double(), silane)


# --- smaller selves ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbols", "donors"),
    [
        (("H", "O"), {}),
        (("O", "H"), {}),
        (("H", "O", "C"), {}),
        (("C", "H", "O", "Si"), {"Si": "C"}),
        (("H", "Si"), {"Si": "O"}),
    ],
)
def test_with_elements_changes_no_energy(small, structures, symbols, donors):
    potential = small(donors=donors)
    compact = Potential(potential.backbone.with_elements(symbols), potential.reference)
    assert compact.elements == symbols
    atoms = structures(2)[1]
    if donors:
        atoms.symbols[atoms.symbols == "O"] = "Si"
    says_the_same(potential, compact, atoms)


@pytest.mark.parametrize("donors", [{}, {"Si": "C"}])
def test_fine_angles_change_no_energy_before_training(small, structures, donors):
    potential = small(donors=donors, fine=None)
    finer = potential.with_terms()
    assert finer.backbone.architecture.fine == FINE
    assert finer.with_terms() is finer
    atoms = structures(4)[3]
    if donors:
        atoms.symbols[atoms.symbols == "C"] = "Si"
    says_the_same(potential, finer, atoms)


def test_fine_angles_and_clones_come_in_any_order(small):
    plain = small(donors={"Si": "C"}, fine=None)
    symbols = (*plain.backbone.symbols, "Si")
    one = plain.with_terms().backbone.with_elements(symbols)
    other = Potential(plain.backbone.with_elements(symbols), plain.reference).with_terms()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.backbone.state_dict()[name]), name


def test_fine_angles_are_torchanis_terms_of_their_own_constants(small):
    """Columns of a block: those of one ``ANIAngular``, then those of another."""
    about = small().backbone.architecture
    found = about.aev_computer().angular
    grids = [
        ANIAngular(a.eta, a.zeta, a.shifts, a.sections, about.angular_cutoff) for a in about.angles
    ]
    vectors = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    distances = vectors.norm(dim=2)
    expected = torch.cat([grid(distances, vectors) for grid in grids], dim=1)
    torch.testing.assert_close(found(distances, vectors), expected, rtol=1e-5, atol=1e-7)


def test_absorbing_an_untrained_self_changes_nothing(small):
    potential = small(donors={"Si": "C"})
    before = copy.deepcopy(potential.backbone.state_dict())
    potential.backbone.absorb(potential.for_elements({"H", "Si"}).backbone)
    for name, tensor in potential.backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("frozen", [(), ("input",), ("H.input", "O.hidden1")])
def test_training_a_smaller_self_is_training_the_whole(small, plain, labelled, frozen):
    """AdamW with decay, on the descriptors of H and O alone, against the plain path of it all."""
    frames = [f for f in labelled(8) if set(f.atoms.symbols) == {"H", "O"}][:4]
    settings = Training.model_validate({"lambda": 0.3, "stress_weight": 0.1})
    whole, part = small(), small()
    for potential in (whole, part):
        for name, parameter in potential.backbone.named_parameters():
            parameter.requires_grad_(not any(f"{layer}." in name for layer in frozen))
    compact = part.for_elements({"H", "O"})

    def train(model: Potential, weights: list) -> None:
        optimiser = AdamW([w for w in weights if w.requires_grad], lr=1e-3, weight_decay=0.5)
        batch = model.batch(frames)
        for _ in range(6):
            optimiser.zero_grad()
            loss(model.evaluate(batch, training=True), batch, settings).total.backward()
            for weight in weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            optimiser.step()

    occurring = [
        p
        for name, p in whole.backbone.named_parameters()
        if name.startswith(("networks.H.", "networks.O."))
    ]
    train(plain(whole), occurring)
    train(compact, list(compact.backbone.parameters()))
    start = small().backbone.state_dict()
    part.backbone.absorb(compact.backbone)
    moved = 0
    for name, tensor in part.backbone.state_dict().items():
        torch.testing.assert_close(tensor, whole.backbone.state_dict()[name], rtol=0, atol=1e-8)
        moved += not torch.equal(tensor, start[name])
    assert moved > 8
    for name, tensor in part.backbone.state_dict().items():
        if any(f"{layer}." in name for layer in frozen) or ".C." in name:
            assert torch.equal(tensor, start[name]), name


def test_gaussian_start_forgets_only_what_trains(small):
    backbone, before = small().backbone, small().backbone
    backbone.layer("H", "hidden1").requires_grad_(True)
    backbone.init_gaussian(0.1, seed=4)
    for (name, new), (_, old) in zip(
        backbone.named_parameters(), before.named_parameters(), strict=True
    ):
        assert torch.equal(new, old) != name.startswith("networks.H.hidden1"), name
    weight = backbone.layer("H", "hidden1").weight
    assert 0.07 < weight.std().item() < 0.13
    again = small().backbone
    again.layer("H", "hidden1").requires_grad_(True)
    again.init_gaussian(0.1, seed=4)
    assert torch.equal(again.layer("H", "hidden1").weight, weight)
