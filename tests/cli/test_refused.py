"""Every frame that is refused is told: in a table on request, in the log of a run, all elements at
once with donors."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms

from tlpot.cli.main import main
from tlpot.structure.frames import Frame


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        return int(stopped.value.code or 0), *(" ".join(t.split()) for t in (said.out, said.err))

    return run


@pytest.fixture
def config(settings, labelled, write_frames, tmp_path) -> Path:
    """Of 20 frames, eight with forces that are too large and one that repeats another."""
    frames = [
        replace(f, forces=f.forces + 1e3) if i in range(8) else f
        for i, f in enumerate(labelled(20))
    ]
    write_frames(tmp_path / "data.extxyz", [*frames, frames[10]])
    settings["data"] = {"files": [str(tmp_path / "data.extxyz")]}
    settings["training"]["epochs"] = 1
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_refusal_lists_all_frames_in_a_table_on_request(call, config):
    for verb in ("validate", "finetune"):
        code, _, error = call(verb, config)
        assert code == 2
        assert "8 of 21 frames cannot be used" in error
        assert "All 9: --refused refused.csv" in error
        code, _, error = call(verb, config, "--refused", f"{verb}/all.csv")
        assert code == 2
        assert f"wrote {verb}/all.csv: 9 frames refused" in error
        assert "All 9" not in error
        found = rows(f"{verb}/all.csv")
        assert [int(row["index"]) for row in found] == [*range(8), 20]
        assert [row["reason"] for row in found] == ["force too large"] * 8 + ["duplicate"]
        assert all(row["file"].endswith("data.extxyz") and row["mend"] for row in found)
        assert "eV/Å" in found[0]["seen"]


def test_what_is_left_out_is_listed_too_and_in_the_log(call, config, tmp_path):
    code, _, error = call("validate", config, "data.bad_frames=drop", "--refused", "v.csv")
    assert code == 0, error
    code, _, error = call("finetune", config, "data.bad_frames=drop", "--refused", "f.csv")
    assert code == 0, error
    assert rows("f.csv") == rows("v.csv")
    assert len(rows("f.csv")) == 9
    run = yaml.safe_load(config.read_text())["output"]
    log = Path(run, "run.log").read_text()
    for row in rows("f.csv"):
        assert f"left out {row['file']}#{row['index']}: {row['reason']} — {row['seen']}" in log


def test_inspect_and_evaluate_list_them_by_the_same_option(call, config, tmp_path):
    (tmp_path / "broken.extxyz").write_text("3\n\nH 0 0")
    code, _, error = call("inspect", "data.extxyz", "broken.extxyz", "--refused", "i.csv")
    assert code == 0, error
    found = rows("i.csv")
    assert [row["reason"] for row in found] == ["force too large"] * 8 + ["duplicate", "unreadable"]
    assert found[-1]["file"] == "broken.extxyz"
    code, output, _ = call("inspect", "broken.extxyz")
    assert code == 2, "nothing could be read"
    assert "not read: broken.extxyz" in output
    code, _, error = call("evaluate", "mini", "data.extxyz", "--refused", "e.csv")
    assert code == 1, error
    assert len(rows("e.csv")) == 9
    code, _, error = call("evaluate", "mini", "data.extxyz", "--refused", "i.csv")
    assert code == 2
    assert "i.csv exists already; name another file with --refused" in error


def test_nothing_refused_is_an_empty_table(call, settings):
    Path("c.yaml").write_text(yaml.safe_dump(settings))
    code, _, error = call("validate", "c.yaml", "--refused", "r.csv")
    assert code == 0, error
    assert rows("r.csv") == []


def test_all_missing_elements_are_told_at_once_with_donors(
    call, settings, labelled, write_frames, tmp_path
):
    silane, iodine = (
        Frame(Atoms(f"{e}H", [[0, 0, 0], [0, 0, 1.5]]), -1.0, np.zeros((2, 3))) for e in ("Si", "I")
    )
    torn = replace(labelled(1)[0], forces=None)
    write_frames(tmp_path / "d.extxyz", [*labelled(8)[1:], silane, torn, iodine, iodine])
    settings["data"] = {"files": ["d.extxyz"]}
    Path("c.yaml").write_text(yaml.safe_dump(settings))
    code, _, error = call("validate", "c.yaml")
    assert code == 2
    assert "3 of 11 frames, first d.extxyz#7: I, Si: not elements of this model" in error
    assert "model.elements: {I: " in error
    assert ", Si: C}" in error
    assert "d.extxyz#8: missing label" in error, "what else is wrong is told too"
    code, out, error = call("validate", "c.yaml", "data.bad_frames=drop")
    assert code == 0, error
    assert "I, Si: not elements of this model" in out
