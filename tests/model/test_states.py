"""A charge or a spin that a structure states is met in use as it is in training."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from tlpot import TLPotCalculator
from tlpot.cli.main import main
from tlpot.config.data import Data
from tlpot.data.check import sort_frames
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.labelling.label import _unfit
from tlpot.relax.relax import relax
from tlpot.structure.frames import Frame


def water(info=None, charges=None, moments=None):
    atoms = molecule("H2O")
    atoms.info.update(info or {})
    atoms.set_initial_charges(charges)
    atoms.set_initial_magnetic_moments(moments)
    return atoms


OPEN = {
    "charge": water({"charge": 1}),
    "numpy's": water({"charge": np.int64(-1)}),
    "of an array": water({"total_charge": np.array([1.0])}),
    "multiplicity": water({"multiplicity": 3}),
    "magmom": water({"magmom": 2.0}),
    "initial charges": water(charges=[1.0, 0.0, 0.0]),
    "initial moments": water(moments=[1.0, 0.5, 0.5]),
    "oxygen": molecule("O2"),
}
CLOSED = {
    "said to be neutral": water({"charge": 0, "spin": 1, "multiplicity": 1}),
    "partial charges": water(charges=[-0.82, 0.41, 0.41]),
    "a start that ended without a moment": water({"magmom": 0.0}, moments=[1.0, 0.0, 0.0]),
    "formal charges, neutral in all": water({"charge": 0}, charges=[1.0, 0.0, 0.0]),
    "antiferromagnetic": water(moments=[0.0, 1.0, -1.0]),
}


def in_training(atoms, folder) -> bool:
    """Whether training uses the structure, read back from a file that ASE wrote."""
    frame = Frame(atoms, energy=-1.0, forces=np.zeros((len(atoms), 3)), info=dict(atoms.info))
    ase.io.write(folder / "frame.extxyz", atoms)
    (read,) = read_frames(folder / "frame.extxyz")
    reasons = []
    for one in (frame, Frame(read.atoms, -1.0, frame.forces, info=read.info)):
        rejected = sort_frames([one], Data(files=["x"])).rejected
        reasons.append([r.reason for r in rejected])
    assert reasons[0] == reasons[1] in ([], ["charged or open-shell"])
    return not reasons[0]


@pytest.mark.parametrize("name", OPEN)
def test_what_training_leaves_out_nothing_predicts(name, mini, tmp_path):
    atoms = OPEN[name].copy()
    assert not in_training(atoms, tmp_path)
    with pytest.raises(TlpotError, match="neutral closed-shell systems only"):
        mini.predict(atoms)
    (relaxed,) = relax([atoms], mini)
    assert "neutral closed-shell" in str(relaxed.reason)
    assert "neutral closed-shell" in str(_unfit(Frame(atoms, info=dict(atoms.info))))
    atoms.calc = TLPotCalculator(mini)
    with pytest.raises(TlpotError, match="neutral closed-shell systems only"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("name", CLOSED)
def test_what_training_uses_is_predicted(name, mini, tmp_path):
    atoms = CLOSED[name].copy()
    assert in_training(atoms, tmp_path)
    atoms.calc = TLPotCalculator(mini)
    expected = mini.predict(molecule("H2O")).energy
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-6)


def test_the_verbs_name_the_file(tmp_path, capsys):
    ase.io.write(tmp_path / "ion.extxyz", OPEN["charge"])
    ion, base = str(tmp_path / "ion.extxyz"), ["--model", "mini", "--output"]
    for words in (
        ["relax", ion, *base, str(tmp_path / "relaxed")],
        ["md", ion, *base, str(tmp_path / "md")],
        ["sample", "propose", ion, "--method", "md", "--number", "2", *base, f"{ion}.new.extxyz"],
        ["label", ion, "--engine", "emt", "--output", str(tmp_path / "b.extxyz")],
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2, words
        said = capsys.readouterr()
        said = " ".join((said.out + said.err).split())
        assert "ion.extxyz#0: total charge +1" in said, said
