"""A full disk, a quota, a read-only or a vanished file system: nothing is lost, and it is told.

Of verbs that keep nothing of unfinished work: what they write is all there or not at all. Those
that do are in `test_interrupted`.
"""

import errno
import os
import resource
import sys
from itertools import cycle
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from disturbed import FAULTS, Trial, command

from tlpot.errors import StorageError
from tlpot.files import PART, append

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Where the first of several files can be taken away again, when the second cannot be written."""
VERBS = {
    "init": "init new/config.yaml",
    "init --examples": "init --examples new",
    "elements": "elements Si --model mini --output new/map.pdf",
    "inspect": "inspect ../in.extxyz --output new/inspected --model mini",
    "evaluate": "evaluate mini ../in.extxyz --output new/out.extxyz",
    "propose": "sample propose ../in.extxyz --method rattle --number 2 --output new/out.xyz",
    "choose": "sample choose ../in.extxyz --by random --number 2 --output new/out.xyz",
    "export": "export mini --to torchani --output new/model.py",
}


@pytest.mark.parametrize("verb", VERBS)
def test_all_or_nothing(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # matplotlib's PDF says when it was made
    images = [molecule("CH3OH") for _ in range(4)]
    for i, atoms in enumerate(images):
        atoms.rattle(0.05, seed=i)
        atoms.calc = EMT()
        atoms.get_forces()
    ase.io.write("in.extxyz", images)

    def before() -> None:
        Path("new").mkdir()
        Path("new/mine.txt").write_text("mine")

    trial = Trial(tmp_path, VERBS[verb].split(), before=before)

    def nothing() -> None:
        files = [path for path in trial.cut.rglob("*") if path.is_file() and path.suffix != PART]
        assert [path.read_text() for path in files] == ["mine"]

    several = len([path for path in trial.whole.rglob("*") if path.is_file()]) > 2
    met = trial.sweep(cycle(FULL if several else FAULTS), each=not several, after=nothing)
    assert several or {what for what, _ in met} >= {"open", "write", "fsync", "rename"}


@pytest.mark.parametrize("verb", ["relax", "inspect"])
def test_what_a_vanished_file_system_holds_is_not_set_aside_as_damaged(tmp_path, verb):
    for name in ("a", "b"):
        ase.io.write(tmp_path / f"{name}.extxyz", molecule("H2O"))

    def gone(note: int) -> None:
        def audit(event: str, arguments: tuple) -> None:
            if event == "open" and str(arguments[0]).endswith("b.extxyz"):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])

        sys.addaudithook(audit)

    words = [verb, "a.extxyz", "b.extxyz", "--model", "mini", "--output", "out"]
    end = command(tmp_path, words, gone)
    assert end.code == 2, end.output
    assert "error: b.extxyz cannot be read (Stale file handle): see that its" in end.output
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_appended_leaves_the_end_as_it_was(tmp_path):
    """A real limit: of the size of files."""
    path = tmp_path / "frames.extxyz"
    path.write_text("x" * 90)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StorageError, match=r"frames\.extxyz cannot be written .*ulimit"):
            append(path, "y" * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "x" * 90
