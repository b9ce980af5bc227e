import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from tlpot.model.reference import EnergyReference, fit_reference
from tlpot.structure.frames import Frame

TRUE = {"H": -13.6, "C": -1030.2, "O": -2041.9}
PRIOR = {"H": -1.0, "C": -2.0, "N": -3.0, "O": -4.0}


def labelled(*structures: Atoms) -> tuple[list[Frame], np.ndarray]:
    """Frames of energy network + the true value of each atom, and the network's energies."""
    network = np.random.default_rng(0).normal(size=len(structures))
    own = [sum(TRUE[s] for s in atoms.symbols) for atoms in structures]
    frames = [Frame(a, energy=e) for a, e in zip(structures, network + own, strict=True)]
    return frames, network


def total(reference: EnergyReference, atoms: Atoms) -> float:
    return reference.table()[torch.as_tensor(atoms.numbers)].sum().item()


def test_enough_compositions_determine_every_element():
    frames, network = labelled(*map(molecule, ("H2O", "CH4", "CH3OH", "CO2", "H2")))
    reference = fit_reference(frames, network, PRIOR)
    assert reference.kind == "per element"
    assert "3 independent compositions for 3 elements" in reference.why
    assert reference.values == pytest.approx(TRUE | {"N": PRIOR["N"]}, abs=1e-8)


def test_one_composition_gives_one_value_an_atom():
    """Supercells and polymorphs have the composition of their cell."""
    water = molecule("H2O", cell=[4, 4, 4], pbc=True)
    frames, network = labelled(water, water.repeat((2, 1, 1)), water)
    reference = fit_reference(frames, network, PRIOR)
    assert reference.kind == "per atom"
    assert "1 independent composition " in reference.why
    assert reference.values["H"] == reference.values["O"]
    residual = [(f.energy - n) / len(f) for f, n in zip(frames, network, strict=True)]
    assert reference.values["H"] == pytest.approx(np.mean(residual), abs=1e-9)
    assert reference.values["N"] == PRIOR["N"]


def test_too_few_compositions_still_fit_them_all():
    frames, network = labelled(molecule("CH4"), molecule("CH3OH"), molecule("CH4"))
    reference = fit_reference(frames, network, PRIOR)
    assert reference.kind == "minimum norm"
    assert "2 independent compositions for 3 elements" in reference.why
    for frame, energy in zip(frames, network, strict=True):
        assert energy + total(reference, frame.atoms) == pytest.approx(frame.energy, abs=1e-7)


def test_a_single_element_is_determined():
    reference = fit_reference(*labelled(molecule("H2"), Atoms("H")), PRIOR)
    assert reference.kind == "per element"
    assert set(reference.values) == set(PRIOR)


def test_the_fit_is_of_energies_by_atom_and_least_squares():
    """Residuals of one composition: the mean of the values by atom, whatever the sizes."""
    water = molecule("H2O")
    frames = [Frame(water, energy=3.0), Frame(water + water, energy=12.0)]
    reference = fit_reference(frames, np.zeros(2), {})
    assert reference.values["H"] == pytest.approx((1.0 + 2.0) / 2)


def test_table_is_float64_by_atomic_number_and_nan_elsewhere():
    table = EnergyReference({"H": -13.6, "C": -1030.123456789012}, "per element", "").table()
    assert table.dtype == torch.float64
    assert table[6].item() == -1030.123456789012
    assert torch.isnan(table[8])
    assert torch.isfinite(table).sum() == 2
