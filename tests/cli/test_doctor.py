"""`tlpot doctor` in real processes: well, with broken libraries, without a command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tlpot
from tlpot.cli import health
from tlpot.cli.health import _within, examine

BROKEN = {
    "numba": "raise ImportError('Numba needs NumPy 2.3 or less')",
    "torchani": "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
    "typer": "raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')",
}


@pytest.fixture
def doctor(tmp_path):
    """Runs it with some libraries broken: exit code, and what was looked at by name."""

    def run(*broken: str, words: tuple[str, ...] = (), **environment: str) -> tuple[int, dict]:
        for library in broken:
            (tmp_path / f"{library}.py").write_text(BROKEN[library])
        path = os.pathsep.join([str(tmp_path), str(Path(tlpot.__file__).parents[1])])
        done = subprocess.run(
            [sys.executable, "-m", "tlpot", "doctor", "--json", *words],
            env=os.environ | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        answer = json.loads(done.stdout)
        checks = {check["name"]: check for check in answer["checks"]}
        assert answer["wrong"] == [n for n, c in checks.items() if c["state"] == "wrong"]
        assert all(check["mend"] for check in checks.values() if check["state"] == "wrong")
        assert answer["ok"] == (done.returncode == 0)
        return done.returncode, checks

    return run


def test_what_works_is_told(doctor, settings, tmp_path):
    (tmp_path / "good.yaml").write_text("data: {files: id_prop.csv, property: gap}")
    _, checks = doctor(words=(str(tmp_path / "good.yaml"),), TLPOT_ENGINE="compiled")
    for name in ("python", "tlpot", "torch", "numba", "device", "engine compiled", "training"):
        assert checks[name]["state"] == "ok", checks[name]
    assert "ANI-2x" in checks
    assert "numba cache" in checks
    assert checks["config"]["state"] == "ok", "one of a property"
    assert {"extra use", "extra label", "extra dask"} <= set(checks)


def test_what_is_broken_is_told_and_the_rest_tried(doctor, tmp_path):
    (tmp_path / "bad.yaml").write_text("data: {files: x}\ntraining: {epoch: 3}")
    code, checks = doctor(
        "numba",
        words=(str(tmp_path / "bad.yaml"),),
        TORCHANI_DATA_DIR=str(tmp_path / "none"),
        OMP_NUM_THREADS="4096",
    )
    assert code == 2
    assert "Numba needs NumPy 2.3 or less" in checks["cache"]["seen"]
    assert "pip install -U numba" in checks["kernels"]["mend"]
    assert checks["engine torch"]["state"] == "ok"
    assert checks["training"]["state"] == "ok"
    assert checks["ANI-2x"]["state"] != "ok"
    assert "no such folder" in checks["TORCHANI_DATA_DIR"]["seen"]
    assert "OMP_NUM_THREADS" in checks
    assert "did you mean 'epochs'" in checks["config"]["seen"]


def test_a_crash_and_a_missing_command_line_do_not_take_it_along(doctor):
    code, checks = doctor("torchani", "typer")
    assert code == 2
    assert checks["self-test, weights"]["seen"] == "ended by SIGILL"
    assert checks["device"]["state"] == "ok"


def test_a_busy_machine_is_no_broken_library(monkeypatch):
    monkeypatch.setattr(health, "PATIENCE", 0.01)
    (check,) = health._tested()
    assert (check.state, check.seen) == ("wrong", "not done after 0.01 s")
    assert "less busy" in check.mend


def test_without_the_command_line_other_verbs_say_who_knows(tmp_path):
    (tmp_path / "typer.py").write_text(BROKEN["typer"])
    path = os.pathsep.join([str(tmp_path), str(Path(tlpot.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "tlpot", "init"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No module named 'typer'")
    assert "-m tlpot doctor" in done.stderr


@pytest.mark.parametrize(
    ("version", "bounds", "within"),
    [
        ("2.13.0+cpu", "<2.14,>=2.4", True),
        ("2.14.0", "<2.14,>=2.4", False),
        ("2.4", ">=2.4.0", True),
        ("1.26.3", ">=1.26.4", False),
        ("3.0rc1", "<3", False),
        ("10.1", ">=9.2,<11", True),
        ("1", "", True),
    ],
)
def test_bounds(version, bounds, within):
    assert _within(version, bounds) == within


def test_a_python_that_is_too_old_ends_it(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    checks = list(examine())
    assert checks[0].state == "wrong"
    assert "3.11" in checks[0].mend
    assert not any(check.name == "device" for check in checks)
