"""Folders of relaxed structures: complete, restartable, and never overwritten."""

import csv
import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from ase.spacegroup import crystal
from forked import Forked

from tlpot.cli.main import main
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.relax.files import relax_files
from tlpot.relax.settings import Relaxation

NAMES = ("H2O", "NH3", "CH4", "CH3OH", "HCN", "H2CO")


@pytest.fixture
def files(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        ase.io.write(folder / f"{name}.extxyz", molecule(name))
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "relaxed.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_killed_run_goes_on_where_it_was(tmp_path, files):
    """A second process is killed after its first shard; what it had done is not done again."""
    folder = tmp_path / "out"
    process = Forked(partial(relax_files, files, "mini", folder, shard=1))
    while not list(folder.glob("shards/*.extxyz")):
        assert process.is_alive(), process.ended()
        time.sleep(0.01)
    process.kill()
    process.ended()
    assert not (folder / "relaxed.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("shards/*.extxyz")}
    with pytest.raises(TlpotError, match="settings"):
        relax_files(files, "mini", folder, Relaxation(fmax=0.1), shard=1)

    seen = []
    outcome = relax_files(
        files, "mini", folder, shard=1, workers=2, on_structure=lambda *n: seen.append(n)
    )
    assert seen[0][0] >= len(kept) > 0
    assert seen[-1] == (len(NAMES), len(NAMES))
    assert outcome.relaxed == len(NAMES)
    assert [Path(row["name"]).stem for row in table(folder)] == sorted(NAMES)
    assert all(float(row["max_force_eV_per_A"]) < 0.01 for row in table(folder))
    assert [len(f) for f in read_frames(folder / "relaxed.extxyz")] == [
        len(molecule(name)) for name in sorted(NAMES)
    ]
    with pytest.raises(TlpotError, match="finished"):
        relax_files(files, "mini", folder, shard=1)


def test_a_file_of_any_name_is_relaxed_and_named(tmp_path):
    """A line break in a name made the shards unreadable after all the work."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["two\nlines.xyz", "C:\\new.xyz", 'a "b" = [c].xyz', "\udcff.xyz"]
    for name in names:
        ase.io.write(folder / "plain.xyz", molecule("H2O"), format="extxyz")
        (folder / "plain.xyz").rename(folder / name)
    outcome = relax_files(folder, "mini", tmp_path / "out")
    assert outcome.relaxed == len(names)
    found = [frame.info["name"] for frame in read_frames(tmp_path / "out/relaxed.extxyz")]
    assert found == [f"{path}#0" for path in sorted(folder.iterdir())]


def test_a_dead_dask_worker_costs_its_shard_only(tmp_path, files):
    """One of two is killed at work; every structure is once in the result."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:

        def kill_one(done, total):
            workers = [worker for worker in cluster.workers.values() if worker.pid is not None]
            if done == 1 and len(cluster.workers) == 2:
                os.kill(workers[0].pid, signal.SIGKILL)

        outcome = relax_files(
            files,
            "mini",
            tmp_path / "out",
            scheduler=cluster.scheduler_address,
            shard=1,
            on_structure=kill_one,
        )
    assert outcome.relaxed == len(NAMES)
    assert [Path(row["name"]).stem for row in table(outcome.folder)] == sorted(NAMES)


def test_bad_inputs_are_rows_of_the_table(tmp_path, files, capfd):
    """Broken, empty, disordered, overlapping, unknown: named; exit code 1 while some are left."""
    sites, cell = [(0, 0, 0), (0.5, 0.5, 0.5)], [6, 6, 6, 90, 90, 90]
    salt = crystal(["C", "N"], sites, spacegroup=225, cellpar=cell)
    ase.io.write(files / "whole.cif", salt)
    text = (files / "whole.cif").read_text()
    (files / "broken.cif").write_text(text[: len(text) * 2 // 3])
    (files / "disordered.cif").write_text(text.replace("1.0000\n", "0.5000\n"))
    (files / "empty.cif").write_text("")
    os.remove(files / "whole.cif")
    pair = molecule("H2O")
    pair.positions[1] = pair.positions[0] + 0.05
    ase.io.write(files / "overlapping.extxyz", pair)
    ase.io.write(files / "strange.extxyz", molecule("SiH4"))
    everything = [str(path) for path in sorted(files.iterdir())]
    folder = tmp_path / "out"

    def run(files, *options):
        return main(["relax", *files, "--model", "mini", "--output", str(folder), *options])

    with pytest.raises(SystemExit) as end:
        run(everything)
    assert end.value.code == 1
    assert "6 structures relaxed, 5 set aside" in capfd.readouterr().out
    aside = {
        Path(row["name"].split("#")[0]).stem: row["reason"]
        for row in table(folder)
        if row["status"] == "set aside"
    }
    words = {
        "broken": "cannot be read",
        "disordered": "disordered",
        "empty": "empty",
        "overlapping": "overlap",
        "strange": "does not know Si",
    }
    assert set(aside) == set(words)
    for name, word in words.items():
        assert word in aside[name]
    assert len(read_frames(folder / "quarantine.extxyz")) == 2
    assert json.loads((folder / "summary.json").read_text())["set_aside"] == 5

    for name, option, message in (
        ("empty.cif", (), "the file is empty"),
        ("H2O.extxyz", ("--fmax", "-1"), "fmax"),
        ("H2O.extxyz", (), "finished"),
    ):
        with pytest.raises(SystemExit) as end:
            run([str(files / name)], *option)
        assert end.value.code == 2
        assert message in capfd.readouterr().err


def test_nothing_left_is_exit_code_2(tmp_path, capfd):
    ase.io.write(tmp_path / "strange.extxyz", molecule("SiH4"))
    arguments = [str(tmp_path / "strange.extxyz"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main(["relax", *arguments, "--model", "mini"])
    assert end.value.code == 2
    assert "0 structures relaxed, 1 set aside" in capfd.readouterr().out


def test_a_folder_of_something_else_is_left_alone(tmp_path, files):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(TlpotError, match="name another"):
        relax_files(files, "mini", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
