"""`tlpot export`: models that other programs load without tlpot."""

import json
import subprocess
import sys

import ase.io
import pytest
from ase.units import Hartree

from tlpot.cli.main import main
from tlpot.errors import TlpotError
from tlpot.interfaces.export import export
from tlpot.model.load import load, load_base

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import ase.io, torch
from exported import load
assert "tlpot" not in sys.modules
model, found = load().double(), []
for atoms in ase.io.read(sys.argv[2], ":"):
    species = torch.tensor(atoms.numbers)[None]
    positions = torch.tensor(atoms.positions)[None]
    periodic = atoms.pbc.all()
    cell = torch.tensor(atoms.cell.array) if periodic else None
    pbc = torch.tensor([True] * 3) if periodic else None
    found.append(model((species, positions), cell=cell, pbc=pbc).energies.item())
print(json.dumps(found))
"""


def energies(folder, structures) -> list[float]:
    """eV, of torchani in a process that never imports tlpot."""
    ase.io.write(folder / "structures.extxyz", structures)
    command = [sys.executable, "-c", ASK, str(folder), str(folder / "structures.extxyz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [Hartree * energy for energy in json.loads(done.stdout.splitlines()[-1])]


def test_torchani_gives_our_energies(tmp_path, urea, structures, weighty):
    potential = load_base("mini", {"Si": {"from": "C", "as": "clone"}, "I": "O"})
    potential = weighty(potential, [urea])
    model = potential.save(tmp_path / "model.safetensors")
    path = tmp_path / "exported.py"
    with pytest.raises(SystemExit) as done:
        main(["export", str(model), "--to", "torchani", "--output", str(path)])
    assert not done.value.code
    atoms = structures(4)[3]
    atoms.symbols[0], atoms.symbols[-1] = "Si", "I"
    some = [urea.repeat(2), atoms]
    ours = [p.energy for p in load(model).predict(some)]
    assert energies(tmp_path, some) == pytest.approx(ours, abs=1e-3)


@pytest.mark.parametrize("elements", [["H,C"], ["Xx"], ["H", "Pu"]])
def test_elements_that_the_model_does_not_know_are_refused(tmp_path, elements):
    with pytest.raises(TlpotError, match=rf"--elements {elements[-1]}: the model knows H"):
        export("mini", tmp_path / "model.py", "torchani", elements)


def test_elements_that_are_left_out_change_nothing(tmp_path, urea):
    export("mini", tmp_path / "exported.py", "torchani", ["H", "C", "N", "O"])
    urea = urea.repeat(2)
    (found,) = energies(tmp_path, [urea])
    assert found == pytest.approx(load("mini").predict([urea])[0].energy, abs=1e-3)


def test_what_cannot_be_written_is_refused(tmp_path, small_emodes):
    with pytest.raises(TlpotError, match=r"written as \.py"):
        export("mini", tmp_path / "model.pt", "torchani")
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(TlpotError, match=r"model\.safetensors exists already"):
        export("mini", tmp_path / "model.py", "torchani")
    assert (tmp_path / "model.safetensors").read_text() == "mine"
    emodes = small_emodes().save(tmp_path / "emodes.safetensors")
    with pytest.raises(TlpotError, match="emodes"):
        export(emodes, tmp_path / "other.py", "torchani")
    assert not (tmp_path / "other.py").exists()
