"""Killed, or left by its file system, at any moment: the same command ends as an undisturbed one.

Each verb is disturbed at the first change of a file or folder that it was not disturbed at yet, and
called again, until it ends; then it is killed at random. ``TLPOT_KILLS=100`` kills each verb so
often, and lets each change of its files fail in every way (``make kills``).
"""

import subprocess
import sys
from itertools import cycle
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from disturbed import FAULTS, KILL, KILLS, Trial, run

from tlpot.files import PART
from tlpot.parallel.work import begin_work

FEW = 5
"""Random kills of each verb in the suite."""

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("no_workers")]


def check(folder: Path, monkeypatch, words, expected: set[str], **more) -> None:
    """Killed at random, and disturbed at each change, the same command ends as undisturbed."""
    monkeypatch.chdir(folder)
    trial = Trial(folder, words, **more)
    random, kills = np.random.default_rng(KILLS), 0
    while kills < (KILLS or FEW):
        kills += trial.kill(random.uniform(size=random.integers(1, 3)))
    print(f"{words[0]}: {kills} random kills, all ended the same")
    trial.clear()
    met = trial.sweep(cycle([KILL, *FAULTS]))
    assert expected <= {name.removesuffix(PART) for _, name in met}
    print(f"{words[0]}: disturbed at {len(met)} changes")


TRAINED = {"out", "config.yaml", "manifest.json", "history.csv", "checkpoint.pt", "report.html"}
TRAINED |= {"model.safetensors", "metrics.json"}


def config(tmp_path: Path, values: dict) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_finetune(tmp_path, monkeypatch, settings):
    path = config(tmp_path, settings | {"output": "out"})
    check(tmp_path, monkeypatch, ["finetune", path], TRAINED | {"parity.png"})


def test_more_epochs_of_a_finished_run(tmp_path, monkeypatch, settings):
    path = config(tmp_path, settings | {"output": "out"})
    more = ["finetune", path, "--resume", "training.epochs=3"]
    expected = TRAINED - {"out"} | {"last.pt", "parity.png"}
    check(tmp_path, monkeypatch, more, expected, before=lambda: run(["finetune", path]))


def test_property(tmp_path, monkeypatch):
    data = tmp_path / "crystals"
    data.mkdir()
    rows = [("Cu", 3.615), ("Al", 4.05), ("Ni", 3.52), ("Ag", 4.09), ("Au", 4.08), ("Pt", 3.92)]
    for name, a in rows:
        ase.io.write(data / f"{name}.cif", bulk(name, "fcc", a))
    (data / "id_prop.csv").write_text("".join(f"{name},{a}\n" for name, a in rows))
    values = {
        "data": {"files": str(data / "id_prop.csv"), "unit": "Å", "split": {"test": 0.3}},
        "model": {"width": 8, "convolutions": 1, "dense": 8},
        "training": {"epochs": 2, "device": "cpu"},
        "output": "out",
    }
    check(tmp_path, monkeypatch, ["property", "train", config(tmp_path, values)], TRAINED)


def test_xrd(tmp_path, monkeypatch):
    pytest.importorskip("spglib")
    data = tmp_path / "crystals"
    data.mkdir()
    for i, name in enumerate(("Cu", "Al", "Ni", "Ag", "Au", "Pt")):
        ase.io.write(data / f"{name}.cif", bulk(name, "fcc", 3.5 + 0.1 * i, cubic=True))
    for i, name in enumerate(("Mg", "Zn", "Ti", "Co", "Zr", "Cd")):
        ase.io.write(data / f"{name}.cif", bulk(name, "hcp", 2.6 + 0.1 * i, 4.5))
    values = {
        "data": {"files": str(data), "split": {"test": 0.2, "validation": 0.2}},
        "model": {"dense": [8], "dropout": 0.0},
        "training": {"epochs": 2, "device": "cpu", "augmentation": {"variants": 1}},
        "output": "out",
    }
    expected = TRAINED | {"confusion.png"}
    check(tmp_path, monkeypatch, ["xrd", "train", config(tmp_path, values)], expected)


def test_ablate(tmp_path, monkeypatch, settings):
    settings["training"] |= {"epochs": 1}
    sweep = {"base": settings, "output": "out", "axes": {"training.lambda": [0.1, 0.9]}}
    expected = TRAINED | {"points.csv", "table.md", "by-training.lambda.png"}
    check(tmp_path, monkeypatch, ["ablate", config(tmp_path, sweep)], expected)


def test_label(tmp_path, monkeypatch):
    crystals = [bulk("Cu", cubic=True) for _ in range(2)]
    for i, atoms in enumerate(crystals):
        atoms.rattle(0.05, seed=i + 1)
    ase.io.write(tmp_path / "in.extxyz", crystals)
    arguments = ["label", tmp_path / "in.extxyz", "--output", "new/out.extxyz", "--engine", "emt"]
    check(tmp_path, monkeypatch, arguments, {"new"})


def test_label_for_vasp(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "in.extxyz", [bulk("Cu", a=a, cubic=True) for a in (3.6, 3.7)])
    arguments = ["label", tmp_path / "in.extxyz", "--output", "out", "--engine", "vasp"]
    check(tmp_path, monkeypatch, arguments, {"out", "0000", "0001", "README.txt"})


def test_evaluate(tmp_path, monkeypatch, labelled, write_frames):
    frames = write_frames(tmp_path / "in.extxyz", labelled(2))
    arguments = ["evaluate", "mini", frames, "--output", "new/out.extxyz"]
    arguments += ["--refused", "new.csv"]
    expected = {"new", "out.extxyz", "out-parity.png", "new.csv"}
    check(tmp_path, monkeypatch, arguments, expected)


def test_export(tmp_path, monkeypatch):
    arguments = ["export", "mini", "--to", "torchani", "--output", "new/out.py"]
    check(tmp_path, monkeypatch, arguments, {"new", "out.py", "out.safetensors"})


def test_relax(tmp_path, monkeypatch):
    pytest.importorskip("torch_sim")
    ase.io.write(tmp_path / "in.extxyz", [molecule("H2O"), molecule("NH3")])
    arguments = ["relax", tmp_path / "in.extxyz", "--model", "mini", "--output", "out"]
    expected = {"out", "work.json", "shards", "000000.extxyz", "relaxed.extxyz", "relaxed.csv"}
    check(tmp_path, monkeypatch, arguments, expected | {"quarantine.extxyz", "summary.json"})


@pytest.fixture
def crystals(tmp_path, ideal_urea) -> Path:
    folder = tmp_path / "crystals"
    folder.mkdir()
    for i, scale in enumerate((1.0, 1.02)):
        atoms = ideal_urea.copy()
        atoms.set_cell(scale * atoms.cell, scale_atoms=True)
        ase.io.write(folder / f"{i}.extxyz", atoms)
    return folder


def ranking(crystals: Path, *more: str) -> list[object]:
    plain = ["rank", crystals, "--model", "mini", "--output", "out", "--no-relax"]
    return [*plain, "--no-duplicates", *more]


def test_rank(tmp_path, monkeypatch, crystals):
    pytest.importorskip("phonopy")
    arguments = ranking(crystals, "--phonons", "1", "--supercell", "1")
    expected = {"out", "work.json", "shards", "000000.extxyz", "phonons-000000.json", "cif"}
    expected |= {"structures.extxyz", "gas.extxyz", "landscape.png", "ranking.json", "ranking.csv"}
    check(tmp_path, monkeypatch, arguments, expected)
    assert run(arguments) == 2, "it is finished, and not done again"


def test_md(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "in.extxyz", molecule("H2O"))
    arguments = ["md", tmp_path / "in.extxyz", "--model", "mini", "--output", "out", "--ps", "0.01"]
    arguments += ["--set", "save_every=10", "--set", "log_every=5", "--set", "frame_every=5"]
    expected = {"out", "settings.json", "log.csv", "trajectory.extxyz", "restart.npz"}
    check(tmp_path, monkeypatch, arguments, expected | {"summary.json", "md.png", "rdf.png"})
    assert run(arguments) == 2, "it is finished, and not done again"


def test_md_that_a_guard_stops(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "in.extxyz", molecule("H2O"))
    arguments = ["md", tmp_path / "in.extxyz", "--model", "mini", "--output", "out", "--ps", "1"]
    arguments += ["--set", "max_temperature=1"]
    expected = {"doubtful.extxyz", "stopped.txt", "summary.json"}
    check(tmp_path, monkeypatch, arguments, expected, ends=1)


DIES = """
import os
from tlpot.cli.main import main
replace = os.replace
def die(source, target):
    if os.path.basename(target) == {name!r}:
        os._exit(9)
    return replace(source, target)
os.replace = die
if __name__ == "__main__":
    main({arguments!r})
"""


@pytest.mark.parametrize("name", ["000000.extxyz", "ranking.html"])
def test_a_ranking_that_dies_goes_on_with_what_it_has(tmp_path, monkeypatch, crystals, name):
    """As after `kill -9`, in a process of its own; a ranking of other settings is refused."""
    monkeypatch.chdir(tmp_path)
    arguments = ranking(crystals)
    code = DIES.format(name=name, arguments=[str(a) for a in arguments])
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not (tmp_path / "out" / "ranking.csv").exists()
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/shards").glob("*.extxyz")}
    assert len(shards) == (name == "ranking.html")
    assert run([*arguments, "--dispersion", "d3", "--functional", "pbe"]) == 2
    assert {p: p.stat().st_mtime_ns for p in shards} == shards
    assert run(arguments) == 0
    assert (tmp_path / "out/ranking.html").exists()
    assert not {"work.json", "shards"} & {p.name for p in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("note", ["{}", "mine"])
def test_a_note_of_the_users_is_not_taken_for_ours(tmp_path, monkeypatch, capfd, crystals, note):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/work.json").write_text(note)
    assert run(ranking(crystals)) == 2
    assert "not empty" in " ".join(capfd.readouterr().err.split())
    assert (tmp_path / "out/work.json").read_text() == note


def test_work_of_another_verb_is_not_gone_on_with(tmp_path, monkeypatch, capfd, crystals):
    monkeypatch.chdir(tmp_path)
    begin_work(tmp_path / "out", {"md": {"settings": {}}})
    assert run(ranking(crystals)) == 2
    assert "begun with other work" in " ".join(capfd.readouterr().err.split())


HOLDS = """
import sys
from pathlib import Path
from tlpot.parallel.work import locked
with locked(Path("out")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("verb", ["rank", "relax", "md", "label", "ablate"])
def test_a_place_is_one_processes_at_a_time(tmp_path, monkeypatch, capfd, crystals, verb, settings):
    """A second command is refused while the first, in another process, is at work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"base": settings, "output": "out"}))
    one = [crystals / "0.extxyz", "--model", "mini", "--output", "out"]
    arguments = {
        "rank": ranking(crystals),
        "relax": ["relax", *one],
        "md": ["md", *one],
        "label": ["label", one[0], "--engine", "emt", "--output", "out.extxyz"],
        "ablate": ["ablate", "sweep.yaml"],
    }[verb]
    code = HOLDS
    if verb == "label":
        (tmp_path / "out.extxyz").touch()
        code = HOLDS.replace('"out"', '"out.extxyz"')
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **options) as other:
        assert other.stdout.readline() == "held\n"
        assert run(arguments) == 2
        assert "another process is at work" in capfd.readouterr().err
        other.stdin.close()
    assert list((tmp_path / "out").iterdir()) == []
