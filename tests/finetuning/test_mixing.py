"""Learning from a landscape: energies, with or without the zero forces of minima."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize import BFGS

import tlpot
from tlpot.cli.main import main
from tlpot.evaluation.metrics import evaluate
from tlpot.model.potential import Potential

UREA = Path(__file__).parents[2] / "datasets" / "urea"


@pytest.fixture(scope="module")
def landscape(tmp_path_factory) -> str:
    """Eight cells of urea relaxed with `mini` in place of DFT: energies, no forces."""
    random, images = np.random.default_rng(0), []
    (start,) = tlpot.read_frames(f"{UREA}@0")
    for _ in range(8):
        atoms = start.atoms.copy()
        strain = 0.06 * random.uniform(-1, 1, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = tlpot.TLPotCalculator("mini")
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
        energy = atoms.get_potential_energy()
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        images.append(atoms)
    path = tmp_path_factory.mktemp("landscape") / "landscape.extxyz"
    ase.io.write(path, images)
    return str(path)


@pytest.fixture(scope="module")
def shaken(tmp_path_factory) -> str:
    """`mini` with every weight nudged: the base to be taught."""
    potential = tlpot.load("mini")
    random = torch.Generator().manual_seed(0)
    for parameter in potential.backbone.parameters():
        noise = torch.empty_like(parameter).normal_(generator=random)
        parameter.data += 0.6 * parameter.data.std() * noise
    found = Potential(potential.backbone, potential.reference)
    return str(found.save(tmp_path_factory.mktemp("shaken") / "base.safetensors"))


def learn(landscape: str, base: str, output, **labels) -> tlpot.finetuning.run.PotentialRun:
    training = {"epochs": 15, "learning_rate": 1e-3, "lambda": 0.3, "device": "cpu"}
    split = {"test": 0.0, "validation": 0.0}
    return tlpot.finetune(
        {
            "data": {"files": landscape, "split": split, **labels},
            "model": {"base": base},
            "training": training,
            "output": str(output),
        }
    )


def test_a_landscape_teaches_energies_and_that_minima_are_still(landscape, shaken, tmp_path):
    minima = learn(landscape, shaken, tmp_path / "relaxed", relaxed=True)
    energies = learn(landscape, shaken, tmp_path / "energy", energy_only=True)
    centred, forces = "energy_rmse_centered_meV_per_atom", "force_rmse_meV_per_A_component"
    before, after = (minima.metrics[m]["train"] for m in ("baseline", "finetuned"))
    assert after[centred] < 0.7 * before[centred]
    assert after[forces] < 0.1 * before[forces]
    assert (after["n_force_frames"], after["n_forces"]) == (8, 128)
    before, after = (energies.metrics[m]["train"] for m in ("baseline", "finetuned"))
    assert after[centred] < 0.7 * before[centred]
    assert (after["n_force_frames"], after[forces]) == (0, None)
    still = tlpot.read_frames(landscape)
    zero = [replace(frame, forces=np.zeros((16, 3))) for frame in still]
    errors = [evaluate(run.potential, zero)[forces] for run in (minima, energies)]
    assert errors[0] < 0.3 * errors[1], "energies alone do not say where the minima are"


def test_full_frames_and_energies_mix(settings, labelled, write_frames, tmp_path):
    bare = [replace(f, forces=None, stress=None) for f in labelled(24)[16:]]
    group = {"files": str(write_frames(tmp_path / "bare.extxyz", bare)), "energy_only": True}
    settings["data"] |= {"groups": [group], "split": {"test": 0.25, "validation": 0.3}}
    run = tlpot.finetune(settings)
    test = run.metrics["finetuned"]["test"]
    assert test["n_force_frames"] == sum(e["n_force_frames"] for e in test["by_labels"].values())
    assert 0 < test["n_force_frames"] < test["n_frames"]
    assert test["by_labels"]["energy"]["force_rmse_meV_per_A_component"] is None
    assert run.manifest["data"]["labels"] == {"full": 16, "energy": 8}
    assert run.potential.calibration.energy is not None
    assert "frames with forces" in (run.folder / "report.html").read_text()


def test_without_forces_validation_says_so(settings, labelled, write_frames, tmp_path):
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(16)]
    write_frames(tmp_path / "frames.extxyz", bare)
    settings["data"] |= {"energy_only": True, "split": {"test": 0.2, "validation": 0.4}}
    run = tlpot.finetune(settings)
    with (run.folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["validation_force_rmse_meV_per_A_component"] for row in rows} == {""}
    assert all(float(row["validation_energy_rmse_meV_per_atom"]) > 0 for row in rows)
    assert run.potential.calibration.forces is None
    assert json.loads((run.folder / "metrics.json").read_text())


def test_a_landscape_of_energies_is_evaluated(landscape, capsys):
    with pytest.raises(SystemExit) as done:
        main(["evaluate", "mini", landscape])
    assert not done.value.code
    assert "force errors: 0 frames have forces" in capsys.readouterr().out
