"""How far a command is: a bar in a terminal, lines in a pipe or a file of Slurm's."""

from __future__ import annotations

import io
import re

import ase.io
import pytest
from ase.build import bulk
from rich.console import Console

from tlpot.cli import console as display
from tlpot.cli.main import main
from tlpot.md.dynamics import Pace

UREA = "datasets/urea/urea.extxyz"
STATE = re.compile(r"\w[\w ]* (\d+)/(\d+)(?: · (\d+:\d\d:\d\d left))?")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


def lines(file: io.StringIO) -> list[tuple[int, int, str | None]]:
    found = [STATE.match(line) for line in file.getvalue().splitlines()]
    assert all(found), file.getvalue()
    return [(int(m[1]), int(m[2]), m[3]) for m in found if m]


def test_a_pipe_gets_every_structure_with_the_time_left(clock):
    file = io.StringIO()
    with display.progress_bar("structures", 4, Console(file=file, width=40)) as advance:
        for done in range(5):
            advance(done)
            clock[0] += 90
    assert lines(file) == [
        (0, 4, None),
        (1, 4, "0:04:30 left"),
        (2, 4, "0:03:00 left"),
        (3, 4, "0:01:30 left"),
        (4, 4, None),
    ]


@pytest.mark.parametrize(("total", "pace", "most"), [(1000, 100, 12), (20_000, 2, 170)])
def test_lines_are_a_second_and_a_hundredth_or_a_minute_apart(clock, total, pace, most):
    """1000 at 100 a second last ten seconds; 20 000 at two a second are told by the minute."""
    file = io.StringIO()
    with display.count_bar("structures", Console(file=file)) as advance:
        for done in range(total + 1):
            advance(done, total)
            clock[0] += 1 / pace
    found = lines(file)
    assert most / 2 < len(found) <= most
    assert (found[0][0], found[-1][0]) == (0, total)
    assert all(left for _, _, left in found[1:-1])


def test_what_was_kept_does_not_count_as_fast(clock):
    """90 of 100 were there already; the other ten take ten seconds each."""
    file = io.StringIO()
    with display.count_bar("structures", Console(file=file)) as advance:
        for done in range(90, 100):
            advance(done, 100)
            clock[0] += 10
    assert lines(file)[1] == (91, 100, "0:01:30 left")


@pytest.mark.parametrize("width", [80, 120])
def test_count_and_time_left_are_whole_in_a_narrow_terminal(clock, width, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    note = "loss 0.00123 · validation 12.34 meV/atom, 123.4 meV/Å per component"
    terminal = Console(file=Terminal(), width=width, force_terminal=True)
    with display.Bar("epoch", terminal, 1000) as progress:
        for done in (1, 999):
            progress.move(done, note=note)
            clock[0] += 99_000
        seen = Console(file=io.StringIO(), width=width)
        seen.print(progress.get_renderable())
    (shown,) = seen.file.getvalue().splitlines()
    assert len(shown) <= width
    assert shown.startswith("epoch  999/1000 ")
    assert "0:01:39 left loss 0.00123" in shown


def test_colours_in_a_pipe_do_not_bring_the_bar_back(clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    with display.md_bar(10, Console(file=file)) as on_progress:
        on_progress(Pace(5, 10, 3.0))
    assert lines(file) == [(5, 10, None)]
    assert "3 ns/day" in file.getvalue()


def run(*words):
    with pytest.raises(SystemExit) as done:
        main([*map(str, words)])
    assert not done.value.code


def test_the_verbs_say_how_far_they_are(tmp_path, request, capsys):
    urea = request.config.rootpath / UREA
    copper = []
    for seed in range(3):
        copper.append(bulk("Cu", cubic=True))
        copper[-1].rattle(0.05, seed=seed)
    ase.io.write(tmp_path / "cu.extxyz", copper)
    base = ["--model", "mini", "--device", "cpu", "--output"]
    run("label", tmp_path / "cu.extxyz", "--engine", "emt", "--output", tmp_path / "a.extxyz")
    assert "frames 0/3" in capsys.readouterr().err
    run("md", f"{urea}@0", *base, tmp_path / "md", "--ps", 0.02, "log_every=5")
    told = capsys.readouterr().err
    assert "step 5/40" in told
    assert "step 40/40" in told
    sample = ["--method", "rattle", "--number", 4, "--output", tmp_path / "b.extxyz"]
    run("sample", f"{urea}@0:2", *sample)
    assert "structures 1/2" in capsys.readouterr().err
