"""rank and relax, in a process of their own, stopped on the way: what is done is kept.

One worker has less than a shard to do. The same command goes on from there, and leaves what a
command that was never stopped leaves.
"""

from __future__ import annotations

import csv
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from forked import Forked, begin, command

from tlpot.cli.main import main
from tlpot.data.read import read_frames
from tlpot.parallel.shards import Journal
from tlpot.relax.files import RelaxedFolder, relax_files
from tlpot.relax.settings import Relaxation

pytest.importorskip("torch_sim")
pytestmark = pytest.mark.long
COUNT = 4


@pytest.fixture(scope="module")
def crystals(packings, tmp_path_factory) -> Path:
    """Crystals of urea, each a little off another minimum."""
    folder, random = tmp_path_factory.mktemp("crystals"), np.random.default_rng(0)
    for i in range(COUNT):
        atoms = packings[i].copy()
        atoms.positions += random.normal(scale=0.02, size=atoms.positions.shape)
        ase.io.write(folder / f"{i}.extxyz", atoms)
    return folder


def words(verb: str, crystals: Path, output: Path) -> list[str]:
    """The command; its crystals end one after the other, as they would with a large model."""
    more = ["--no-duplicates"] if verb == "rank" else []
    options = [
        "--model",
        "mini",
        "--device",
        "cpu",
        "--batch-atoms",
        "1",
        "--fmax",
        "0.1",
        "--smax",
        "0.1",
    ]
    return [verb, str(crystals), *options, *more, "--output", str(output)]


def wait_for(process: Forked, journals: list[Journal], count: int) -> None:
    """Until so many structures are done."""
    while sum(journal.count() for journal in journals) < count:
        assert process.is_alive(), process.ended()
        time.sleep(0.01)


def table(folder: Path) -> dict[str, dict[str, float]]:
    """Numbers of every structure by its name."""
    (path,) = {folder / "ranking.csv", folder / "relaxed.csv"} & {*folder.iterdir()}
    with path.open() as file:
        rows = list(csv.DictReader(file))
    number = re.compile(r"-?[\d.]+(e-?\d+)?")
    return {
        Path(row["name"]).name: {k: float(v) for k, v in row.items() if number.fullmatch(v or "")}
        for row in rows
    }


@pytest.fixture(scope="module")
def uninterrupted(crystals, tmp_path_factory):
    found = {}

    def get(verb: str) -> Path:
        if verb not in found:
            found[verb] = tmp_path_factory.mktemp("whole") / verb
            with pytest.raises(SystemExit) as end:
                main(words(verb, crystals, found[verb]))
            assert not end.value.code
        return found[verb]

    return get


@pytest.mark.parametrize(
    ("verb", "how"),
    [("rank", signal.SIGINT), ("rank", signal.SIGKILL), ("relax", signal.SIGINT)],
)
def test_what_is_done_is_kept(crystals, uninterrupted, tmp_path, verb, how):
    folder = tmp_path / "out"
    arguments = words(verb, crystals, folder)
    process = begin(*arguments)
    journal = Journal(folder / "shards/000000.extxyz")
    wait_for(process, [journal], 2)
    process.stop(how)
    end = process.ended()
    assert end.code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "the same command goes on" in end.err
    kept = journal.read()
    assert 2 <= len(kept) < COUNT

    again = command(*arguments)
    assert again.code == 0
    counted = [int(n) for n in re.findall(rf"(\d+)/{COUNT}", again.err)]
    assert len(kept) <= counted[0] < COUNT
    assert counted[-1] == COUNT
    found, expected = table(folder), table(uninterrupted(verb))
    assert list(found) == list(expected)
    for name, row in expected.items():
        assert found[name] == pytest.approx(row, rel=1e-3, abs=0.05), name
    if verb == "relax":
        text = (folder / "relaxed.extxyz").read_text()
        assert all(one in text for one in kept.values())
        assert len(read_frames(folder / "relaxed.extxyz")) == COUNT
    assert not (folder / "shards").exists()


def test_several_workers_lose_what_they_have_in_hand(crystals, tmp_path):
    """Two, each with a shard that goes on: both are taken up, in batches of another size."""
    folder = tmp_path / "out"

    def relax(batch_atoms: int, told: Callable[[int, int], object]) -> RelaxedFolder:
        settings = Relaxation(batch_atoms=batch_atoms, fmax=0.05)
        options = {"workers": 2, "device": "cpu", "shard": 2, "on_structure": told}
        return relax_files(crystals, "mini", folder, settings, **options)

    process = Forked(relax, 1, lambda *now: None)
    wait_for(process, [Journal(folder / f"shards/{i:06d}.extxyz") for i in range(2)], 2)
    process.kill()
    process.ended()
    seen: list[tuple[int, int]] = []
    outcome = relax(500, lambda *now: seen.append(now))
    assert seen[0][0] >= 2
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (COUNT, COUNT)
    assert outcome.relaxed + len(outcome.quarantine) == COUNT


def test_a_line_that_was_cut_off_is_done_again(tmp_path):
    journal = Journal(tmp_path / "000000.extxyz")
    journal.add({4: "a\nfile's text \udcff"})
    journal.add({0: "b", 1: "c"})
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-4])
    assert journal.read() == {4: "a\nfile's text \udcff", 0: "b"}
    assert journal.count() == 2
    journal.add({1: "d"})
    assert journal.read() == {4: "a\nfile's text \udcff", 0: "b", 1: "d"}
    assert journal.count() == 3
