"""What a batch queue goes by: 0 where all is done, 1 where part was set aside, 2 where all was."""

import os
import subprocess
import sys

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot.cli.main import main

MODEL = ("--model", "mini")
LOOSE = (*MODEL, "--free", "positions", "--fmax", "50", "--max-spread", "1000")
VERBS = {
    "relax": lambda files: ("relax", *files, *LOOSE, "--output", "out"),
    "rank": lambda files: ("rank", *files, *MODEL, "--no-relax", "--output", "out"),
    "evaluate": lambda files: ("evaluate", "mini", *files),
    "label": lambda files: ("label", *files, "--engine", "lj", "--output", "out.extxyz"),
}


@pytest.fixture
def files(tmp_path, monkeypatch, ideal_urea):
    """A structure that every verb takes, and one that none does, as names of files."""
    monkeypatch.chdir(tmp_path)
    for name, atoms in (("good", ideal_urea), ("bad", Atoms("H", cell=[8] * 3, pbc=True))):
        atoms = atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=-10.0, forces=atoms.positions * 0)
        if name == "bad":
            atoms.info["charge"] = 1
        ase.io.write(f"{name}.extxyz", atoms)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("names", "code"), [(["good"], 0), (["good", "bad"], 1), (["bad"], 2)])
def test_what_was_set_aside_is_an_exit_code(files, capsys, verb, names, code):
    with pytest.raises(SystemExit) as end:
        main([*VERBS[verb]([f"{name}.extxyz" for name in names])])
    told = "".join(capsys.readouterr())
    assert (end.value.code or 0) == code, told
    assert ("bad.extxyz" in told) == bool(code)


def test_a_lone_atom_is_set_aside(files, capsys):
    """It was relaxed in silence, as the radicals beside it."""
    radical = molecule("CH3")
    radical.set_initial_magnetic_moments(None)
    ase.io.write("radical.xyz", radical)
    ase.io.write("atom.xyz", Atoms("H"))
    with pytest.raises(SystemExit) as end:
        main([*VERBS["relax"](["radical.xyz", "atom.xyz"])])
    told = capsys.readouterr().out
    assert end.value.code == 2
    assert "odd number of electrons (9)" in told
    assert "a lone atom" in told


def test_a_terminal_without_our_letters_costs_no_traceback():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "tlpot", "relax", "Å → γ.cif", "--model", "mini"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"no such file" in done.stderr
    assert b"Traceback" not in done.stderr
