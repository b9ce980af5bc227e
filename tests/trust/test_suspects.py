"""Frames with faults put into them are named with their cause; right ones are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import units
from ase.build import molecule
from ase.collections import g2
from ase.constraints import FixAtoms

from tlpot.cli.main import main
from tlpot.data.check import check_frames
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError
from tlpot.finetuning.run import finetune, validate
from tlpot.model.load import load, load_base
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Batch, Frame
from tlpot.trust.gate import opinion_of
from tlpot.trust.geometry import exchanged, scaled
from tlpot.trust.residuals import unfitted
from tlpot.trust.suspects import Suspect, find_suspects

UREA = Path(__file__).parents[2] / "datasets" / "urea" / "urea.extxyz"
FAULTY = [11, 30, 52]
SEED = 0
"""Of a split that trains on frame 60 and not on 20."""


@pytest.fixture(scope="module")
def urea() -> list[Frame]:
    """PBE, 80 displaced crystals; the bundled model is rough, and needs no download."""
    return read_frames(UREA)


@pytest.fixture(scope="module")
def predict():
    return opinion_of(load("mini"))


def suspects(frames, predict, foreign=()) -> list[Suspect]:
    return find_suspects(frames, predict(frames), predict, foreign)


def by_element(frame: Frame) -> np.ndarray:
    return np.argsort(np.array(frame.atoms.symbols), kind="stable")


def within_elements(frame: Frame) -> Frame:
    random, forces = np.random.default_rng(0), np.array(frame.forces)
    symbols = np.array(frame.atoms.symbols)
    for element in "HN":
        places = np.flatnonzero(symbols == element)
        forces[places] = frame.forces[random.permutation(places)]
    return replace(frame, forces=forces)


FAULTS = {
    "the sign is flipped": lambda f: replace(f, forces=-f.forces),
    "kcal/mol/Å": lambda f: replace(f, forces=f.forces * units.mol / units.kcal),
    "Hartree/Bohr": lambda f: replace(f, forces=f.forces * units.Bohr / units.Hartree),
    "twice too large": lambda f: replace(f, forces=2 * f.forces),
    "order of atoms: grouped by element": lambda f: replace(f, forces=f.forces[by_element(f)]),
    "order of atoms: within each element": within_elements,
    "forces all zero": lambda f: replace(f, forces=0 * f.forces),
    "on 8 atoms": lambda f: replace(f, forces=f.forces * (np.arange(16) > 7)[:, None]),
    "positions in Bohr": lambda f: scaled(f, 1 / units.Bohr),
    "N and O exchanged": lambda f: exchanged(f, "N", "O"),
    "energy": lambda f: replace(f, energy=f.energy + 8.0),
    "per atom": lambda f: replace(f, energy=f.energy / len(f)),
    "per molecule": lambda f: replace(f, energy=f.energy / 2),
    "look like Hartree": lambda f: replace(f, energy=f.energy / units.Hartree),
    "another functional": lambda f: replace(f, energy=f.energy + 0.5 * len(f)),
    "sign is that of a pressure": lambda f: replace(f, stress=-f.stress),
    "kbar": lambda f: replace(f, stress=f.stress / (0.1 * units.GPa)),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_in_a_few_frames_is_named_with_its_cause(cause, urea, predict):
    frames = [FAULTS[cause](f) if f.index in FAULTY else f for f in urea]
    named = suspects(frames, predict)
    assert [suspect.frame.index for suspect in named] == FAULTY
    assert all(cause in suspect.cause for suspect in named), [s.cause for s in named]


WHOLE = [
    "the sign is flipped",
    "order of atoms: grouped by element",
    "positions in Bohr",
    "forces all zero",
    "on 8 atoms",
    "per atom",
]


@pytest.mark.parametrize("cause", WHOLE)
def test_so_is_one_that_all_frames_share(cause, urea, predict):
    named = suspects([FAULTS[cause](f) for f in urea], predict)
    assert len(named) == len(urea)
    assert all(cause in suspect.cause and suspect.certain for suspect in named)


def test_right_labels_are_no_suspects(urea, predict):
    assert not suspects(urea, predict)
    assert not suspects(urea[:5], predict)


def test_labels_of_another_frame(urea, predict):
    frames = list(urea)
    for a, b in ((7, 40), (40, 7)):
        frames[a] = replace(urea[a], forces=urea[b].forces, energy=urea[b].energy)
    named = {suspect.frame.index: suspect for suspect in suspects(frames, predict)}
    assert named.keys() == {7, 40}
    frames[40] = urea[40]
    (copy,) = suspects(frames, predict)
    assert copy.frame.index == 7, "the one that they do not fit"
    assert "the very energy and forces of #40, at another geometry" in copy.cause


def test_copies_of_a_frame_are_no_labels_of_another(urea, predict):
    """Wrapped, and moved as a whole: the same geometry."""
    atoms = urea[7].atoms.copy()
    atoms.positions += 0.7
    atoms.wrap()
    assert not suspects([*urea, replace(urea[7], atoms=atoms, index=80)], predict)


def test_energies_and_forces_that_do_not_belong_together_need_no_base():
    """A trajectory of an element that the base lacks: the work of the forces is the energy."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    random, frames = np.random.default_rng(0), []
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    for index in range(12):
        atoms.rattle(0.02, seed=int(random.integers(1000)))
        image = atoms.copy()
        image.calc = EMT()
        labels = image.get_potential_energy(), image.get_forces()
        image.calc = None
        frames.append(Frame(image, *labels, source="cu.xyz", index=index))
    nothing = Prediction(0.0, np.zeros((8, 3)), np.zeros(6), 0.0, np.zeros(8))
    zeros = [nothing for _ in frames]

    def named(some):
        return find_suspects(some, zeros, lambda changed: zeros[: len(changed)], ["Cu"])

    assert not named(frames)
    for factor, words in ((-1.0, "the sign is flipped"), (23.06, "kcal/mol/Å")):
        wrong = named([replace(f, forces=factor * f.forces) for f in frames])
        assert len(wrong) == 12
        assert all(words in suspect.cause for suspect in wrong)


def test_zeros_of_atoms_that_a_file_holds_fast_are_no_labels(urea, predict, tmp_path):
    def fixed(frame):
        atoms = frame.atoms.copy()
        atoms.set_constraint(FixAtoms(range(8)))
        return replace(frame, atoms=atoms, forces=frame.forces * (np.arange(16) > 7)[:, None])

    frames = [fixed(frame) for frame in urea]
    assert not suspects(frames, predict)
    (again, *_) = read_frames(write_frames(tmp_path / "a.extxyz", frames))
    for frame in (frames[0], again):
        labels = Batch.of_frame(frame, 5.2).forces
        assert labels[:8].isnan().all()
        np.testing.assert_allclose(labels[8:], urea[0].forces[8:])
    kept = replace(frames[0], forces=urea[0].forces)
    assert not Batch.of_frame(kept, 5.2).forces.isnan().any()


def config(folder: Path, **data) -> dict:
    return {
        "data": {"files": [str(folder / "a.extxyz")], **data},
        "model": {"base": "mini"},
        "training": {"epochs": 1},
        "output": str(folder / "run"),
    }


@pytest.fixture
def mixed(urea, tmp_path) -> Path:
    """Three frames with flipped forces, certain; one with an energy off, doubtful."""
    frames = [replace(f, forces=-f.forces) if f.index in FAULTY else f for f in urea]
    frames[60] = replace(frames[60], energy=frames[60].energy + 8.0)
    write_frames(tmp_path / "a.extxyz", frames)
    return tmp_path


def test_certain_ones_are_refused_with_the_mend_doubtful_ones_told(mixed, urea):
    with pytest.raises(TlpotError, match=r"of 3 of 80 .*\n.*#11 #30 #52: .*sign.*data\.keys") as e:
        validate(config(mixed))
    assert "data.suspects: drop" in str(e.value)
    assert "#60" not in str(e.value)
    with pytest.raises(TlpotError, match="of 4 of 80"):
        validate(config(mixed, suspects="refuse"))
    prepared = validate(config(mixed, suspects="drop"))
    assert len(prepared.checked.frames) == 76
    assert {r.frame.index for r in prepared.checked.rejected} == {*FAULTY, 60}


def test_what_is_doubtful_is_in_terminal_log_manifest_and_report(urea, tmp_path, capsys):
    frames = list(urea)
    frames[60] = replace(frames[60], energy=frames[60].energy + 8.0)
    write_frames(tmp_path / "a.extxyz", frames)
    run = finetune(config(tmp_path))
    (row,) = run.manifest["data"]["suspects"]
    assert row["frame"].endswith("a.extxyz#60")
    assert not row["certain"]
    assert "a.extxyz #60: energy unlike" in (run.folder / "run.log").read_text()
    page = (run.folder / "report.html").read_text()
    assert "Look at these" in page
    assert "energy unlike" in page


def test_training_frames_that_the_model_cannot_fit_are_named(urea, tmp_path, capsys):
    """Let through before training, named after it, and none besides; held-out ones are not."""
    frames = list(urea)
    for index in (20, 60):
        frames[index] = replace(frames[index], energy=frames[index].energy + 8.0)
    write_frames(tmp_path / "a.extxyz", frames)
    settings = config(tmp_path, split={"test": 0.2, "seed": SEED})
    run = finetune(settings)
    split = run.manifest["split_frames"]
    train = [int(name.rpartition("#")[2]) for name in split["train"]]
    assert 60 in train
    assert 20 not in train
    (row,) = run.metrics["unfitted"]
    assert row["frame"].endswith("a.extxyz#60")
    assert "a.extxyz #60" in (run.folder / "run.log").read_text().rpartition("energy reference")[2]


def test_of_labels_that_a_model_fits_none_is_named(urea, predict):
    """And one force of another sign among them, or one order of atoms, is."""
    random = np.random.default_rng(0)
    guesses = predict(urea)
    frames = [
        replace(f, energy=g.energy, forces=g.forces + random.normal(scale=0.02, size=(16, 3)))
        for f, g in zip(urea, guesses, strict=True)
    ]
    assert not unfitted(frames, guesses, predict, stress=False)
    frames[30] = replace(frames[30], forces=-frames[30].forces)
    frames[52] = replace(frames[52], forces=frames[52].forces[by_element(frames[52])])
    named = unfitted(frames, guesses, predict, stress=False)
    assert [suspect.frame.index for suspect in named] == [30, 52]


@pytest.mark.parametrize("verb", ["inspect", "validate", "finetune"])
def test_many_labels_are_compared_with_a_bar(urea, tmp_path, capsys, monkeypatch, verb):
    """And few do not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tlpot.trust.gate.LONG", 20)
    write_frames(tmp_path / "a.extxyz", urea[:24])
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config(tmp_path)))
    shown = []
    for chunk in (1024, 16):
        monkeypatch.setattr("tlpot.model.potential.CHUNK", chunk)
        words = ["a.extxyz", "--model", "mini"] if verb == "inspect" else ["c.yaml"]
        words += [f"output=run-{chunk}"] if verb == "finetune" else []
        with pytest.raises(SystemExit) as stopped:
            main([verb, *words])
        assert not stopped.value.code
        shown.append("frames compared with the base 24/24" in capsys.readouterr().err)
    assert shown == [False, True]


def test_inspect_shows_suspects(mixed, capsys, monkeypatch):
    monkeypatch.chdir(mixed)
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", "a.extxyz", "--model", "mini"])
    text = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    assert "look at these: the labels of 4 frames do not fit" in text
    assert "units: 76 of 80 frames compared with mini: no sign" in text


def test_checks_of_data_alone_say_that_zeros_of_held_atoms_do_not_count(urea):
    from tlpot.config.data import Data

    atoms = urea[0].atoms.copy()
    atoms.set_constraint(FixAtoms([0]))
    forces = np.array(urea[0].forces)
    forces[0] = 0.0
    checked = check_frames([replace(urea[0], atoms=atoms, forces=forces)], Data(files=["a"]))
    assert any("no labels; only the other atoms' forces count" in r for r in checked.remarks)


def test_what_a_stand_in_misses_is_learned_from_the_file():
    """Flipped and swapped forces of an element that the base lacks are named, and none besides."""
    frames = read_frames(UREA.parents[1] / "methylsilane" / "methylsilane.extxyz")
    predict = opinion_of(load_base("mini", {"Si": "C"}))
    assert not suspects(frames, predict, ["Si"])
    frames = [replace(f, forces=-f.forces) if f.index in FAULTY else f for f in frames]
    frames[40] = replace(frames[40], forces=frames[40].forces[by_element(frames[40])])
    named = suspects(frames, predict, ["Si"])
    assert [suspect.frame.index for suspect in named] == [11, 30, 40, 52]
    assert not any(suspect.certain for suspect in named), "the base's opinion is weak there"


@pytest.fixture(scope="module")
def molecules(predict) -> list[Frame]:
    """Neutral molecules of G2, one each, with energies as of another method: no labels but these.

    It has other atoms, and differs from the base by 0.1 eV, half of it by the square root of N.
    """
    random = np.random.default_rng(0)
    frames = []
    for name in g2.names:
        atoms = molecule(name)
        if set(atoms.symbols) <= set("CHNO") and len(atoms) > 2 and not atoms.numbers.sum() % 2:
            frames.append(Frame(atoms, source="g2.extxyz", index=len(frames), labels="energy"))
    zero = {"H": -13.6, "C": -1036.0, "N": -1488.0, "O": -2044.0}
    return [
        replace(
            frame,
            energy=guess.energy
            + sum(zero[symbol] for symbol in frame.atoms.symbols)
            + 0.1 * random.normal() * np.sqrt(len(frame) / 8),
        )
        for frame, guess in zip(frames, predict(frames), strict=True)
    ]


@pytest.mark.parametrize(
    ("put", "cause"),
    [
        (lambda frame: frame.energy / len(frame), "it is per atom"),
        (lambda frame: frame.energy / units.Hartree, "Hartree"),
        (lambda frame: -frame.energy, "the sign is flipped"),
        (lambda frame: frame.energy + 8.0, "energy unlike the others', no cause known"),
    ],
)
def test_an_energy_among_those_of_other_molecules(molecules, predict, put, cause):
    wrong = (3, 11, 20)
    faulty = [replace(f, energy=put(f)) if f.index in wrong else f for f in molecules]
    named = suspects(faulty, predict)
    assert [suspect.frame.index for suspect in named] == list(wrong)
    assert all(cause in suspect.cause for suspect in named)


def test_right_energies_of_molecules_are_no_suspects(molecules, predict):
    assert len(molecules) > 40
    assert suspects(molecules, predict) == []
