"""Which engine computes, and how a user hears of it: real processes."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
{before}
from ase.build import molecule
import tlpot
p = tlpot.load("mini").predict([molecule("CH3OH")])[0]
print(repr(p.energy), repr(float(abs(p.forces).sum())), "numba" in sys.modules)
"""
ABSENT = "sys.modules['numba'] = None"


def run(before: str = "", **environment: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k != "TLPOT_ENGINE"}
    code = CODE.format(before=before)
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def values(done: subprocess.CompletedProcess) -> tuple[float, float]:
    assert done.returncode == 0, done.stderr
    energy, forces, _ = done.stdout.split()
    return float(energy), float(forces)


def test_the_switch_and_an_absent_numba_change_no_result():
    ours, torchs, without = run(), run(TLPOT_ENGINE="torch"), run(ABSENT)
    assert ours.stdout.split()[-1] == "True"
    assert torchs.stdout.split()[-1] == "False"
    for other in (torchs, without):
        assert values(other) == pytest.approx(values(ours), rel=1e-6, abs=1e-4)
    assert not torchs.stderr
    assert without.stderr.count("numba cannot be imported") == 1
    assert "pip install -U numba" in without.stderr


@pytest.mark.parametrize(
    ("before", "choice", "words"),
    [("", "fast", "set it to compiled or torch"), (ABSENT, "compiled", "pip install -U numba")],
)
def test_a_switch_that_cannot_be_obeyed_is_refused(before, choice, words):
    done = run(before, TLPOT_ENGINE=choice)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode
    assert "TlpotError" in last
    assert words in last


TWO_KERNELS = """
{before}
import numpy as np
from tlpot.engine.term_kernels import sorted_edges, summed
ones, pairs = np.ones((1, 4, 3), np.float32), np.array([0, 0, 1, 1])
print(summed(ones, pairs, np.ones(4, np.float32), 2).tolist())
apart = np.array([[3.0, 4.0, 0.0]], np.float32)
edges = sorted_edges(np.array([0]), np.array([1]), apart, np.array([0, 0]), 1, np.float32(6))
print(edges[0].tolist(), edges[4].tolist())
"""
"""Two of the kernels, which take a second or two; the others are compiled in the same way."""
ANSWERS = """[[[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]]
[5.0] [1.0, -1.0]
"""


def two_kernels(before: str = "", **environment: str) -> subprocess.CompletedProcess:
    code = TWO_KERNELS.format(before=before)
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_kernels_are_compiled_once_and_that_is_said_in_a_line(tmp_path):
    first, second = (two_kernels(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.stderr.splitlines() == [
        "compiling for this processor: once, about a quarter of a minute"
    ]
    assert not second.stderr
    assert first.stdout == second.stdout == ANSWERS


def test_where_nothing_can_be_kept_kernels_are_still_compiled():
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes = []"
    assert two_kernels(nowhere).stdout == ANSWERS
