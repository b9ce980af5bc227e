"""Does `tlpot rank` keep every structure once when a Dask worker dies under it?

Rattled copies of the urea crystal (``datasets/urea``), ranked with `mini` through four workers of
a local Dask cluster; one is killed (SIGKILL) when a quarter of the shards is there. Every structure
must be in ``ranking.csv`` once, with the energy that it has when it is computed alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from ase import Atoms
from common import machine, machine_lines, write_results
from distributed import Client, LocalCluster

from tlpot.csp.evaluate import sharded
from tlpot.csp.landscape import KJ_PER_MOL
from tlpot.csp.output import write_ranking
from tlpot.csp.rank import rank
from tlpot.csp.ranking import Ranking
from tlpot.csp.shards import SHARD
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.frames import Frame
from tlpot.potential import Potential, load

UREA = Path(__file__).parent.parent / "datasets" / "urea" / "urea.extxyz"
WORKERS = 4
RATTLE = 0.02
"""Å."""


def copies(count: int) -> list[Atoms]:
    """The first frame's crystal, each time rattled otherwise."""
    crystal, random = read_frames(UREA)[0].atoms, np.random.default_rng(0)
    found = []
    for _ in range(count):
        atoms = crystal.copy()
        atoms.positions += random.normal(scale=RATTLE, size=atoms.positions.shape)
        found.append(atoms)
    return found


def run(count: int) -> dict[str, Any]:
    """Rank them, kill a worker on the way, and count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        structures = copies(count)
        write_frames(folder / "in.extxyz", map(Frame, structures))
        settings, model = Ranking(), load("mini")
        started = time.perf_counter()
        with LocalCluster(WORKERS, threads_per_worker=1, dashboard_address=None) as cluster:
            client = Client(cluster)
            killed: list[int] = []
            Thread(target=kill, args=(client, folder / "out", count, killed), daemon=True).start()
            elsewhere = sharded(
                "mini", settings, folder / "out", cluster.scheduler_address, WORKERS
            )
            ranked = rank(str(folder / "in.extxyz"), model, settings, evaluated=elsewhere)
            client.close()
        write_ranking(ranked, folder / "out")
        seconds = time.perf_counter() - started
        rows = list(csv.DictReader((folder / "out" / "ranking.csv").open()))
    times = Counter(row["name"].rsplit("#")[-1] for row in rows)
    lowest = ranked.candidates[0]
    place = int(lowest.name.rsplit("#")[-1])
    alone = rank_alone(structures[place], model, ranked.gas)
    return {
        "structures": count,
        "shards": -(-count // SHARD),
        "workers": WORKERS,
        "killed": len(killed),
        "shards_there_when_killed": killed[0] if killed else None,
        "rows": len(rows),
        "once": sum(n == 1 for n in times.values()),
        "missing": count - len(times),
        "status": dict(Counter(row["status"] for row in rows)),
        "off_kJ_mol": abs(alone - lowest.energy),
        "seconds": seconds,
    }


def rank_alone(crystal: Atoms, model: Potential, gas: list[Atoms]) -> float:
    """Lattice energy of one crystal of urea, two molecules a cell, in this process, kJ/mol."""
    whole, one = model.predict([crystal, gas[0]])
    return float((whole.energy / 2 - one.energy) / KJ_PER_MOL)


def kill(client: Client, folder: Path, count: int, killed: list[int]) -> None:
    """Kill the process of one worker when a quarter of the shards is written."""
    pids = list(client.run(os.getpid).values())
    while len(there := list(folder.glob("shards/*.extxyz"))) < count / SHARD / 4:
        time.sleep(0.05)
    os.kill(pids[0], signal.SIGKILL)
    killed.append(len(there))


def page(found: dict[str, Any], about: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Ten thousand structures, four Dask workers, one of them killed",
        "",
        str(__doc__).split("\n\n", 1)[1].strip(),
        "",
        f"- {found['structures']} structures in {found['shards']} shards, {found['workers']} "
        f"workers; one killed when {found['shards_there_when_killed']} shards were there",
        f"- rows in ranking.csv: {found['rows']}; structures there exactly once: {found['once']}; "
        f"missing: {found['missing']}",
        f"- status: {', '.join(f'{n} {status}' for status, n in found['status'].items())}",
        f"- lowest one against the same computed alone: {found['off_kJ_mol']:.1e} kJ/mol",
        f"- {found['seconds']:.0f} s in all (reading, molecules, energies, copies, output)",
        *machine_lines(about),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args()
    about = machine()
    found = run(given.count)
    write_results("rank_scale", {"machine": about, **found}, page(found, about))
