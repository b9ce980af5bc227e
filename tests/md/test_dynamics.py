"""Runs with the bundled model: physics, restart, guards."""

import gc
import json
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from forked import Forked

from tlpot.cli.main import main
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.md.dynamics import run_md
from tlpot.md.settings import Dynamics
from tlpot.md.start import read_start
from tlpot.md.summary import read_log, summarise
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.load import load
from tlpot.model.potential import Potential

QUICK = {"log_every": 5, "frame_every": 10, "save_every": 20}


@pytest.fixture(scope="module")
def mini() -> Potential:
    return load("mini")


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("log.csv", "trajectory.extxyz")}


def last(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "restart.npz") as file:
        return {name: file[name] for name in file.files}


def test_nve_keeps_its_energy(mini, tmp_path):
    run_md(molecule("CH3OH"), mini, 200, tmp_path / "md", Dynamics(ensemble="nve", log_every=2))
    log = read_log(tmp_path / "md" / "log.csv")
    swing = np.ptp(log["kinetic_eV"])
    assert swing > 0.1
    assert np.ptp(log["conserved_eV"]) < 0.02 * swing
    assert np.allclose(log["conserved_eV"], log["kinetic_eV"] + log["potential_eV"])
    assert abs(summarise(tmp_path / "md")["drift_meV_per_atom_per_ps"]) < 2


def test_a_long_run_keeps_no_model_of_every_segment(mini, tmp_path):
    gc.collect()
    gc.disable()
    try:
        run_md(molecule("H2O"), mini, 20, tmp_path / "md", Dynamics(save_every=2))
        held = [one for one in gc.get_objects() if isinstance(one, TLPotCalculator)]
    finally:
        gc.enable()
    assert len(held) == 1


def test_a_killed_run_goes_on_bit_for_bit(mini, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = Dynamics(**QUICK)
    process = Forked(run_md, molecule("CH3OH"), mini, 100, cut, settings)
    while not (cut / "settings.json").exists() or len((cut / "log.csv").read_bytes()) < 1000:
        assert process.is_alive(), process.ended()
        time.sleep(0.005)
    process.kill()
    process.ended()
    with (cut / "log.csv").open("a") as file:
        file.write("12,half a ro")
    assert 0 < json.loads(str(last(cut)["notes"]))["step"] < 100
    assert run_md(molecule("CH3OH"), mini, 100, cut, settings) is None
    assert run_md(molecule("CH3OH"), mini, 100, whole, settings) is None
    assert files(cut) == files(whole)
    for name, value in last(whole).items():
        assert np.array_equal(last(cut)[name], value), name
    with pytest.raises(TlpotError, match="100 steps of this run already"):
        run_md(molecule("CH3OH"), mini, 100, cut, settings)
    mirrored = load("mini")
    for weight in mirrored.backbone.parameters():
        weight.neg_()
    with pytest.raises(TlpotError, match="other model"):
        run_md(molecule("CH3OH"), mirrored, 200, cut, settings)
    with pytest.raises(TlpotError, match="other settings"):
        run_md(molecule("CH3OH"), mini, 200, cut, Dynamics())


@pytest.mark.parametrize("how", [{"thermostat": "bussi"}, {"ensemble": "npt"}])
def test_ctrl_c_changes_nothing(mini, urea, tmp_path, how):
    settings = Dynamics(**QUICK, **how)

    def interrupt(progress):
        if progress.step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_md(urea, mini, 40, tmp_path / "cut", settings, interrupt)
    seen = []
    run_md(urea, mini, 40, tmp_path / "cut", settings, seen.append)
    run_md(urea, mini, 40, tmp_path / "whole", settings)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert seen[0].step == 25
    assert (seen[-1].step, seen[-1].steps) == (40, 40)
    assert seen[-1].ns_per_day > 0


def test_trajectory_and_log_are_what_others_read(mini, urea, tmp_path):
    run_md(urea, mini, 20, tmp_path / "md", Dynamics(ensemble="npt", **QUICK))
    images = ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")
    log = read_log(tmp_path / "md" / "log.csv")
    assert [image.info["step"] for image in images] == [0, 10, 20]
    assert log["step"].tolist() == [0, 5, 10, 15, 20]
    for image, row in zip(images, (0, 2, 4), strict=True):
        assert image.get_potential_energy() == pytest.approx(log["potential_eV"][row], abs=1e-4)
        assert image.get_kinetic_energy() == pytest.approx(log["kinetic_eV"][row], abs=1e-4)
        assert image.get_volume() == pytest.approx(log["volume_A3"][row])
        said = mini.predict([image])[0]
        assert said.energy == pytest.approx(image.get_potential_energy(), abs=1e-4)
        assert said.energy_std == pytest.approx(log["spread_eV"][row], abs=1e-4)


def test_a_bad_start_is_stopped_in_time(mini, tmp_path):
    """Two molecules that are far too close fly apart."""
    pair = molecule("CH4") + molecule("CH4")
    pair.positions[5:] += [2.2, 0.3, 0.1]
    reason = run_md(pair, mini, 500, tmp_path / "md", Dynamics(log_every=1, temperature=100))
    assert reason is not None
    words = ("temperature", "potential energy", "bond", "collide")
    assert any(word in reason for word in words)
    doubtful = read_frames(tmp_path / "md" / "doubtful.extxyz")
    assert 1 <= len(doubtful) <= 5
    assert doubtful[0].energy is None
    assert reason in (tmp_path / "md" / "stopped.txt").read_text()
    assert reason in summarise(tmp_path / "md")["stopped"]
    (good,) = read_frames(tmp_path / "md" / "last_good.extxyz")
    assert np.isfinite(good.atoms.positions).all()
    with pytest.raises(TlpotError, match="a guard stopped"):
        run_md(pair, mini, 900, tmp_path / "md", Dynamics(log_every=1, temperature=100))


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"max_temperature": 1.0}, "temperature"),
        ({"max_spread": 1e-6}, "spread"),
        ({"max_energy": 1e-4}, "potential energy"),
    ],
)
def test_each_guard_trips(mini, tmp_path, limits, word):
    settings = Dynamics(**limits, log_every=2)
    assert word in run_md(molecule("CH3OH"), mini, 40, tmp_path / "md", settings)


def test_a_bond_that_breaks_stops_the_run(mini, tmp_path):
    """Hydrogen, of which the model knows nothing, falls into itself or apart."""
    pair = Atoms("H2", [[0, 0, 0], [0.75, 0, 0]])
    free = {"max_temperature": 1e9, "max_energy": 1e9}
    reason = run_md(pair, mini, 400, tmp_path / "md", Dynamics(log_every=1, **free))
    assert "bond broke" in reason or "collide" in reason


def test_the_training_bounds_the_spread(mini, tmp_path):
    known = Potential(mini.backbone, mini.reference, {"domain": {"spread": 1e-7}})
    assert "spread" in run_md(molecule("CH3OH"), known, 5, tmp_path / "md")


def test_the_command_line(tmp_path, capfd):
    ase.io.write(tmp_path / "in.extxyz", [molecule("H2O"), molecule("CH3OH")])
    file, output = str(tmp_path / "in.extxyz"), str(tmp_path / "md")

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["md", *arguments, "--model", "mini", "--output", output])
        return end.value.code, capfd.readouterr()

    assert run(f"{file}@1", "--ps", "0.01", "--set", "thermostat=bussi")[0] == 0
    for name in ("summary.json", "md.png", "rdf.png", "log.csv", "trajectory.extxyz"):
        assert (tmp_path / "md" / name).stat().st_size > 0
    code, said = run(f"{file}@1", "--ps", "0.02", "--set", "thermostat=bussi")
    assert code == 0
    assert "0.02 ps of 6 atoms" in said.out
    same = [f"{file}@1", "--ps", "0.02", "--set", "thermostat=bussi"]
    for arguments, message in (
        (same, "40 steps of this run already"),
        ([file], "2 structures"),
        ([f"{file}@1", "--supercell", "2x2"], "2x2x3"),
        ([f"{file}@1", "--supercell", "2x1x1"], "not periodic"),
        ([f"{file}@1", "--set", "thermostat"], "key=value"),
        ([f"{file}@1", "--set", "termostat=bussi"], "thermostat"),
        ([f"{file}@1", "--ensemble", "npt"], "periodic in three"),
        ([f"{file}@1", "--temperature", "-3"], "temperature"),
    ):
        code, said = run(*arguments)
        assert code == 2
        assert message in said.err
    output = str(tmp_path / "hot")
    assert run(f"{file}@1", "--ps", "1", "--set", "max_temperature=1")[0] == 1


def test_a_supercell_is_what_it_says(urea, tmp_path):
    ase.io.write(tmp_path / "urea.extxyz", urea)
    assert len(read_start(str(tmp_path / "urea.extxyz"), "1x2x3")) == 6 * len(urea)


def test_unknown_elements_and_strange_folders_are_refused(mini, tmp_path):
    with pytest.raises(TlpotError, match="Si"):
        run_md(molecule("SiH4"), mini, 10, tmp_path / "md")
    (tmp_path / "note.txt").write_text("precious")
    with pytest.raises(TlpotError, match="name another folder"):
        run_md(molecule("H2O"), mini, 10, tmp_path)
