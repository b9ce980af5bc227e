from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from tlpot.cli.main import main
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.finetuning.run import validate
from tlpot.finetuning.units import check_units
from tlpot.structure.frames import Frame

UREA = Path(__file__).parents[2] / "datasets" / "urea" / "urea.extxyz"
KCAL, KJ = units.kcal / units.mol, units.kJ / units.mol


@dataclass
class Guess:
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


def crystals(unit: float = 1.0, n: int = 12):
    """Frames with stresses in a unit of that many eV/Å³, and predictions off by a constant."""
    random = np.random.default_rng(1)
    frames, guesses = [], []
    for _ in range(n):
        atoms = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6, 4, 4], pbc=True)
        energy, forces = random.normal(), random.normal(size=(2, 3))
        stress = 0.01 * random.normal(size=6)
        frames.append(Frame(atoms, energy, forces, stress / unit, source="a.xyz"))
        guesses.append(Guess(energy, forces, 0.8 * stress + 0.1))
    return frames, guesses


def dataset(energy: float = 1.0, forces: float = 1.0, noise: float = 0.3, n: int = 12):
    """Frames of two compositions with labels in a unit of that many eV; and good predictions."""
    random = np.random.default_rng(0)
    frames, guesses = [], []
    for i in range(n):
        atoms = molecule("CH3OH" if i % 2 else "H2O")
        true_energy = -500.0 * len(atoms) + len(atoms) * 0.05 * random.normal()
        true_forces = random.normal(size=(len(atoms), 3))
        frames.append(Frame(atoms, true_energy / energy, true_forces / forces, source="a.xyz"))
        off = noise * random.normal(size=true_forces.shape)
        error = 0.05 * noise * random.normal() * len(atoms)
        guesses.append(Guess(true_energy + error + 300.0 * len(atoms), true_forces + off))
    return frames, guesses


@pytest.mark.parametrize("noise", [0.0, 0.3, 30.0])
def test_right_units_pass_whatever_the_zero_of_energy(noise):
    check_units(*dataset(noise=noise))


@pytest.mark.parametrize(
    ("unit", "guess"),
    [
        (units.Hartree / units.Bohr, "Hartree/Bohr"),
        (KCAL, "kcal/mol/Å"),
        (KJ, "kJ/mol/Å"),
        (1e-3, "meV/Å"),
        (-1.0, "gradients"),
    ],
)
def test_forces_in_another_unit_are_refused_with_its_name(unit, guess):
    with pytest.raises(TlpotError, match=rf"a\.xyz: the forces .* look like {guess}.*keys\.forces"):
        check_units(*dataset(forces=unit))


@pytest.mark.parametrize(
    ("unit", "guess"),
    [
        (units.Hartree, "Hartree"),
        (units.Rydberg, "Rydberg"),
        (KCAL, "kcal/mol"),
        (KJ, "kJ/mol"),
        (-1.0, ".*sign"),
    ],
)
def test_energies_in_another_unit_are_refused_with_its_name(unit, guess):
    with pytest.raises(TlpotError, match=rf"a\.xyz: the energies .* look like {guess}.*energy\."):
        check_units(*dataset(energy=unit))


@pytest.mark.parametrize(
    ("atoms", "guess"), [(40, "energies per atom. "), (14, "energies per atom or Rydberg")]
)
def test_energies_per_atom_are_told_from_units(atoms, guess):
    """Of cells of 14 atoms they are as large as energies in Rydberg."""
    energies = np.random.default_rng(0).normal(size=12)
    frames = [Frame(Atoms(f"C{atoms}"), e / atoms, source="a.xyz") for e in energies]
    with pytest.raises(TlpotError, match=f"they look like {guess}"):
        check_units(frames, [Guess(energy, np.zeros((atoms, 3))) for energy in energies])


def test_relaxed_structures_and_missing_labels_say_nothing():
    frames, guesses = dataset()
    still = [Frame(f.atoms, None, np.zeros_like(f.forces), labels="relaxed") for f in frames]
    check_units(still, guesses)
    check_units([Frame(f.atoms) for f in frames], guesses)


def test_stresses_in_another_unit_or_sign_are_refused_where_they_are_trained_on():
    check_units(*crystals())
    for unit, guess in (
        (-1.0, "pressures"),
        (units.GPa, "GPa. "),
        (-units.GPa, "GPa with the sign of a pressure"),
        (0.1 * units.GPa, "kbar. "),
        (-0.1 * units.GPa, "kbar with the sign"),
    ):
        with pytest.raises(TlpotError, match=rf"a\.xyz: the stresses .* look like {guess}"):
            check_units(*crystals(unit))
        check_units(*crystals(unit), stress=False)


def test_zeros_where_the_model_expects_none_are_placeholders():
    frames, guesses = crystals()
    zero = np.zeros((2, 3))
    still = [replace(f, forces=zero) for f in frames]
    with pytest.raises(TlpotError, match=r"a\.xyz: the forces .* exactly zero.*data\.relaxed"):
        check_units(still, guesses)
    check_units([replace(f, labels="relaxed") for f in still], guesses)
    check_units(still, [replace(g, forces=zero) for g in guesses])  # by symmetry
    good = replace(still[0], source="b.xyz", forces=guesses[0].forces)
    with pytest.raises(TlpotError, match=r"^a\.xyz"):
        check_units([good, *still[1:]], guesses)
    unstressed = [replace(f, stress=np.zeros(6)) for f in frames]
    with pytest.raises(TlpotError, match=r"the stress .* exactly zero.*stress_weight: 0"):
        check_units(unstressed, guesses)
    check_units(unstressed, guesses, stress=False)


def test_a_pretrained_model_that_ranks_a_few_crystals_wrongly_is_no_sign_of_a_wrong_unit():
    """Four relaxed polymorphs, meV apart, in the reverse order: science, not a mistake."""
    atoms = Atoms("H2O", molecule("H2O").positions)
    still = np.zeros((3, 3))
    labels = [-14.200, -14.195, -14.190, -14.185]
    frames = [Frame(atoms, energy, still) for energy in labels]
    check_units(frames, [Guess(-2 * energy, still) for energy in labels])


@pytest.mark.parametrize("factor", [-0.06, 0.006])
def test_a_prediction_wrong_by_what_is_no_unit_is_no_sign_either(factor):
    """A stand-in element may follow the labels, upside down or far too strongly."""
    frames, guesses = dataset(noise=0.0)
    zero = -500.0
    for frame, guess in zip(frames, guesses, strict=True):
        guess.energy = (frame.energy - zero * len(frame)) / factor + zero * len(frame)
    check_units(frames, guesses)


def test_each_long_file_is_judged_by_itself_and_all_is_told():
    """Two halves in different units are neither one's nor the other's together."""
    frames, guesses = dataset(n=40)
    mixed, more = dataset(forces=units.Hartree / units.Bohr, energy=units.Rydberg, n=40)
    mixed = [replace(frame, source="b.xyz") for frame in mixed]
    with pytest.raises(TlpotError) as caught:
        check_units([*frames, *mixed], [*guesses, *more])
    forces, energies = str(caught.value).splitlines()
    assert forces.startswith("b.xyz: the forces are 0.0")
    assert "look like Hartree/Bohr" in forces
    assert "b.xyz: the energies" in energies
    assert "look like Rydberg" in energies


# --- inspect --------------------------------------------------------------------------------------

UNITS = {
    "good": {},
    "Hartree": {"energy": units.Hartree},
    "Rydberg": {"energy": units.Rydberg},
    "kcal/mol": {"energy": KCAL},
    "Hartree/Bohr": {"forces": units.Hartree / units.Bohr},
    "kcal/mol/Å": {"forces": KCAL},
    "GPa": {"stress": units.GPa},
    "kbar with the sign of a pressure": {"stress": -0.1 * units.GPa},
}


@pytest.fixture(scope="module")
def urea() -> list[Frame]:
    return read_frames(UREA)[::4]


@pytest.mark.parametrize("unit", UNITS)
def test_inspect_names_the_unit_as_finetune_does(
    unit, urea, tmp_path, write_frames, monkeypatch, capsys
):
    """On PBE frames of urea, by the bundled model, which needs no download."""
    monkeypatch.chdir(tmp_path)
    factors = UNITS[unit]
    changed = [
        replace(f, **{name: getattr(f, name) / size for name, size in factors.items()})
        for f in urea
    ]
    write_frames(Path("a.extxyz"), changed)
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", "a.extxyz", "--model", "mini"])
    said = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    assert "units: 20 of 20 frames compared with mini" in said
    if unit == "good":
        assert "no sign of another unit or sign" in said
    else:
        assert f"they look like {unit}" in said
        data, model = {"files": "a.extxyz", "max_force": 1e4}, {"base": "mini"}
        with pytest.raises(TlpotError, match=f"they look like {unit}"):
            validate({"data": data, "model": model, "output": "run"})


def test_inspect_says_by_what_it_judges_and_when_it_cannot(
    urea, tmp_path, write_frames, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tlpot.finetuning.units.has_weights", lambda name: False)
    write_frames(Path("a.extxyz"), urea)
    silver = [
        replace(urea[0], atoms=Atoms("Ag2", [[0, 0, 0], [2.6, 0, 0]]), forces=np.ones((2, 3)))
    ]
    write_frames(Path("b.extxyz"), [replace(silver[0], stress=None)])
    for arguments, words in (
        (["a.extxyz"], "the weights of ani2x are not on this machine: mini, which is rougher"),
        (["b.extxyz"], "units are not checked: each structure has an element that mini does not"),
        (["a.extxyz", "--model", "nowhere"], "units are not checked: 'nowhere' is neither"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["inspect", *arguments])
        assert stopped.value.code == 0
        assert words in " ".join(capsys.readouterr().out.split())
