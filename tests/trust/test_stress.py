"""The stress test counts what collapses, breaks and holds; potentials here are made up."""

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from tlpot.backbones.base import Backbone
from tlpot.errors import TlpotError
from tlpot.finetuning.run import finetune
from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.model.reference import EnergyReference
from tlpot.relax.relax import Relaxed
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import find_molecules
from tlpot.structure.packing import CLOSEST, closeness, deformed
from tlpot.trust.settings import Stress
from tlpot.trust.stress import FAILURES, judged_relaxation
from tlpot.trust.stress_cases import APART, RAMP, SCAN, points_of, stress_cases
from tlpot.trust.stress_run import SHORT, own_base, run_stress, stress_test

EPSILON, SIGMA = 0.0104, 3.4
"""Argon's: eV, Å."""
FEW = Stress(count=4, steps=60, scans=4, ramp=0.05)


class Pairs(Backbone):
    """Lennard-Jones argon; with a hole, pairs closer than 3 Å attract each other."""

    kind = "pairs"

    def __init__(self, hole: bool) -> None:
        super().__init__()
        self.symbols, self.cutoff, self.members, self.hole = ("Ar",), 8.0, 1, hole
        self.networks = torch.nn.ModuleDict({"Ar": torch.nn.Linear(1, 1, dtype=torch.float64)})

    def atomic_energies(self, batch):
        distance = batch.vectors.norm(dim=1)
        inner = distance.clamp(min=3.0) if self.hole else distance
        ratio = (SIGMA / inner) ** 6
        energy = 4 * EPSILON * (ratio**2 - ratio)
        if self.hole:
            energy = energy - 5.0 * (1 - distance / 3.0).clamp(min=0.0) ** 2
        atoms = energy.new_zeros(len(batch.numbers))
        for end in batch.pairs:
            atoms = atoms.index_add(0, end, energy / 2)
        return atoms[None]

    def describe(self):
        return {}

    @classmethod
    def restore(cls, header):
        return cls(False)


def argon(hole: bool) -> Potential:
    return Potential(Pairs(hole), EnergyReference({"Ar": 0.0}, "none", "made up"))


@pytest.fixture(scope="module")
def argon_test():
    """Argon with a wall as the base, and with a hole in it as the model."""
    start = Frame(bulk("Ar", cubic=True, a=5.3), source="argon")
    potentials = {"model": argon(hole=True), "base": argon(hole=False)}
    return stress_test(start, potentials, {"model": "hole", "base": "wall"}, FEW)


def test_what_has_no_wall_is_counted_as_collapsed_and_what_has_one_is_not(argon_test):
    counts, failed = argon_test.counts, argon_test.as_dict()["failures"]
    assert failed["base"] == 0
    for kind in ("random packing, 50 GPa", "compressed cell, 50 GPa"):
        assert sum(counts["model"][kind][verdict] for verdict in FAILURES) == 2
    assert counts["model"][SCAN]["collapsed"] == FEW.scans
    assert counts["base"][SCAN]["sound"] == FEW.scans
    assert counts["base"][RAMP]["sound"] == 1
    first = argon_test.worst[0]
    assert argon_test.outcomes["model"][first].verdict == "collapsed"


def test_the_energy_of_two_molecules_rises_inside_contact(argon_test, published):
    """And that of ANI-2x for urea, on every random approach."""
    walls = [end.curve for end in argon_test.outcomes["base"].values() if end.curve]
    assert all((np.diff(np.array(curve)[APART < 0.7]) > 0).all() for curve in walls)
    ani = published("ani2x")
    for scan in stress_cases(molecule("CH3CONH2"), Stress(count=0, scans=4, ramp=0.0)):
        energies = np.array([p.energy for p in ani.predict(list(points_of(scan)))])
        assert (np.diff(energies[APART < 0.62]) > 0).all()


def test_cases_are_molecules_as_they_were_and_no_closer_than_they_may_be(ideal_urea):
    cases = stress_cases(ideal_urea, Stress(count=6, scans=3))
    again = stress_cases(ideal_urea, Stress(count=6, scans=3))
    same = zip(cases, again, strict=True)
    assert all(np.array_equal(a.atoms.positions, b.atoms.positions) for a, b in same)
    bonded = find_molecules(ideal_urea)[0].get_all_distances()
    kinds = [case.info["kind"] for case in cases]
    assert kinds.count("random packing") == kinds.count("compressed cell") == 6
    for case in cases:
        if "pressure" not in case.info:
            continue
        parts = find_molecules(case.atoms)
        assert {len(part) for part in parts} == {8}
        ordered = [np.sort(part.get_all_distances().ravel()) for part in parts]
        assert np.allclose(ordered, np.sort(bonded.ravel()), atol=1e-6)
        if case.info["kind"] == "random packing":
            member = np.repeat(np.arange(len(parts)), 8)
            assert closeness(case.atoms, member) >= CLOSEST - 1e-9
        else:
            assert case.atoms.get_volume() < ideal_urea.get_volume()
    for scan in (case for case in cases if case.info["kind"] == SCAN):
        for wanted, pair in zip(APART, points_of(scan), strict=True):
            if wanted > 0.99:  # out of contact
                continue
            member = np.arange(len(pair)) >= int(scan.info["second"])
            assert closeness(pair, member) == pytest.approx(wanted, abs=1e-6)


def test_a_network_is_pressed_and_heated_and_nothing_else():
    diamond = bulk("C", "diamond", a=3.57, cubic=True)
    kinds = {case.info["kind"] for case in stress_cases(diamond, FEW)}
    assert kinds == {"compressed cell", RAMP}
    pressed = deformed(diamond, 0.9 * np.eye(3))
    assert pressed.get_volume() == pytest.approx(0.729 * diamond.get_volume())


def test_verdicts_name_what_became_of_a_relaxation(ideal_urea):
    good = Relaxed("x", ideal_urea, ideal_urea, energy=-1.0)
    broken = ideal_urea.copy()
    broken.positions[-1] += 0.5 * broken.cell.array.sum(axis=0)
    collapsed = ideal_urea.copy()
    collapsed.positions[1] = collapsed.positions[0] + 0.2
    huge = ideal_urea.copy()
    huge.set_cell(2 * huge.cell.array, scale_atoms=True)
    lost = ideal_urea.copy()
    lost.positions[0] = np.nan
    for atoms, reason, verdict in (
        (ideal_urea, None, "sound"),
        (ideal_urea, "not converged in 9 steps: force 1 eV/Å", "unfinished"),
        (ideal_urea, "the ensemble's spread is 9 meV per √N", "outside"),
        (broken, "not converged in 9 steps", "broken"),
        (huge, "exploded: its volume changed 8-fold", "exploded"),
        (lost, "exploded: its forces are not finite", "exploded"),
        (collapsed, "not converged in 9 steps", "collapsed"),
    ):
        assert judged_relaxation(replace(good, atoms=atoms, reason=reason)).verdict == verdict


def test_a_test_that_was_stopped_goes_on_to_the_same_end(finished, tmp_path, ideal_urea):
    """In a folder of its own, of a run beside its own base."""
    ase.io.write(tmp_path / "urea.extxyz", ideal_urea)
    start = Frame(ideal_urea, source="urea")
    few = Stress(count=2, steps=3, scans=2, ramp=0.005)
    whole = run_stress(finished.folder, start, tmp_path / "whole", few)
    assert whole.models["base"].endswith("base.safetensors")
    total = 2 * len(whole.cases)
    assert [sum(map(sum, (r.values() for r in c.values()))) for c in whole.counts.values()] == [
        total // 2
    ] * 2

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stress(finished.folder, start, tmp_path / "again", few, on_case=stop)
    with pytest.raises(TlpotError, match="begun with other"):
        run_stress(finished.folder, start, tmp_path / "again", few.model_copy(update={"steps": 4}))
    begun = []
    run_stress(
        finished.folder, start, tmp_path / "again", few, on_case=lambda n, _: begun.append(n)
    )
    assert begun[0] >= 4
    one, other = (
        json.loads((tmp_path / f / "stress.json").read_text()) for f in ("whole", "again")
    )
    assert one == other
    files = {p.name for p in (tmp_path / "again").iterdir()}
    assert {"stress.json", "stress.csv", "failed.extxyz", "scans.png", "run.log"} <= files
    assert ("worst.png" in files) == bool(one["failures"]["model"])
    with pytest.raises(TlpotError, match="finished work"):
        run_stress(finished.folder, start, tmp_path / "again", few)


def test_the_base_beside_a_model_is_its_own_or_said_to_be_missing(finished, base_model, tmp_path):
    assert own_base("mini", load("mini"))[0] is None
    assert own_base(finished.folder, finished.potential)[0] == str(base_model)
    alone = finished.potential.save(tmp_path / "alone.safetensors")
    name, why = own_base(alone, load(alone))
    assert name is None
    assert "base.safetensors is not here" in why
    silane = Frame(molecule("SiH4"), source="silane")
    with pytest.raises(TlpotError, match="Si"):
        run_stress(finished.folder, silane, tmp_path / "silane", FEW)
    nothing = Stress(count=0, scans=0, ramp=0.0)
    with pytest.raises(TlpotError, match="nothing to test"):
        run_stress("mini", Frame(molecule("CH4")), tmp_path / "none", nothing)


def test_a_report_has_a_short_test_of_model_and_base_unless_told_otherwise(settings, finished):
    """What it says of the model is what the model in the folder does; off, nothing is said."""
    heading = "Does it hold where no frame was?"
    assert "stress" not in finished.metrics
    assert heading not in (finished.folder / "report.html").read_text()
    run = finetune(settings | {"evaluation": {"stress": True}})
    stress = json.loads((run.folder / "metrics.json").read_text())["stress"]
    assert set(stress["counts"]) == {"model", "base"}
    assert stress["counts"]["model"].keys() == stress["counts"]["base"].keys()
    assert sum(stress["counts"]["model"]["dimer scan"].values()) == SHORT.scans
    assert heading in (run.folder / "report.html").read_text()
    assert "stress test in" in (run.folder / "run.log").read_text()
