"""Does MD of a fine-tuned urea crystal hold? NVE drift, NVT at 300 K, and the cell at 0 K.

Of the model of ``examples/urea_ani2x.yaml``, trained first if ``runs/urea_ani2x`` does not hold it.
Runs are kept in ``runs/md``; an interrupted one goes on, bit for bit, a larger ``--ps`` further.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import fill, table
from benchmarks.lib.runs import trained
from benchmarks.lib.study import Results, Study
from tlpot import TlpotError, load, read_frames
from tlpot.config.run import load_config
from tlpot.data.write import write_frames
from tlpot.md.dynamics import run_md
from tlpot.md.settings import Dynamics
from tlpot.md.summary import read_log, summarise
from tlpot.model.potential import Potential
from tlpot.relax.relax import relax
from tlpot.relax.settings import Relaxation
from tlpot.structure.frames import Frame
from tlpot.structure.units import GRAM_PER_CM3

ROOT = Path(__file__).parents[2]
UREA = ROOT / "datasets/urea/urea.extxyz"
EXPERIMENT = (5.565, 5.565, 4.684, 90.0, 90.0, 90.0)
"""Å and degrees, at 12 K (Swaminathan, Craven and McMullan 1984)."""
REPEATS = (2, 2, 2)
"""128 atoms."""


def measure(given: argparse.Namespace) -> Iterator[Results]:
    folder, model = given.runs / "md", given.runs / "urea_ani2x"
    trained(model, load_config(ROOT / "examples/urea_ani2x.yaml").model_dump(by_alias=True))
    potential = load(model)
    small = minimum(potential, folder / "minimum.extxyz")
    dft = read_frames(ROOT / "datasets/urea_minimum/minimum.extxyz")[0].atoms
    mass = small.get_masses().sum() / GRAM_PER_CM3
    volume = EXPERIMENT[0] * EXPERIMENT[1] * EXPERIMENT[2]
    cell = {
        name: dict(zip(("a, Å", "b, Å", "c, Å"), map(float, lengths[:3]), strict=True))
        | {"density, g/cm³": float(mass / volume)}
        for name, lengths, volume in (
            ("model", small.cell.cellpar(), small.get_volume()),
            ("DFT", dft.cell.cellpar(), dft.get_volume()),
            ("experiment", EXPERIMENT, volume),
        )
    }

    def run(name: str, picoseconds: float, settings: Dynamics) -> Results:
        """Run so far, unless it is that far already; what came of it."""
        at, steps = folder / f"{name}-{settings.timestep:g}", 1000 * picoseconds / settings.timestep
        done = read_log(at / "log.csv")["step"][-1] if (at / "settings.json").exists() else 0
        if done < round(steps) and not (at / "stopped.txt").exists():
            run_md(small.repeat(REPEATS), potential, round(steps), at, settings)
        return summarise(at)

    nve = {
        f"{step:g}": run(
            "nve", given.nve_ps, Dynamics(ensemble="nve", temperature=600.0, timestep=step)
        )
        for step in sorted({0.5, given.timestep})
    }
    nvt = run("nvt", given.ps, Dynamics(timestep=given.timestep))
    about = {"model": str(model), "cell": cell, "timestep": given.timestep}
    yield about | {"nve": nve, "nvt": nvt}
    picture = folder / f"nvt-{given.timestep:g}" / "rdf.png"
    shutil.copyfile(picture, STUDY.shelf(STUDY.folder(given)) / "md_rdf.png")


def minimum(potential: Potential, kept: Path) -> Atoms:
    """The cell of the data set that no strain was put on, relaxed; kept for runs that go on."""
    if not kept.exists():
        cells = [frame.atoms for frame in read_frames(UREA)]
        start = min(cells, key=lambda atoms: abs(atoms.cell.cellpar() - EXPERIMENT).sum())
        (relaxed,) = relax([start], potential, Relaxation())
        if relaxed.reason is not None:
            raise TlpotError(f"urea does not relax with the model: {relaxed.reason}")
        write_frames(kept, [Frame(relaxed.atoms, relaxed.energy)])
    return read_frames(kept)[0].atoms


def page(results: Results) -> str:
    cell, nvt = results["cell"], results["nvt"]
    rows = [[name, *(f"{of[name]:.3f}" for of in cell.values())] for name in cell["model"]]
    return fill(
        __file__,
        nvt=nvt,
        timestep=results["timestep"],
        nve=[
            f"- NVE, steps of {step} fs, {nve['time_ps']:g} ps from 600 K of initial velocities "
            f"({nve['temperature_K']['mean']:.0f} K on average): the energy drifts by "
            f"**{nve['drift_meV_per_atom_per_ps']:+.3f} meV/atom/ps** (wanted: below 0.5)."
            for step, nve in results["nve"].items()
        ],
        held=nvt["stopped"] or "no bond broken or made, no guard tripped",
        cell=table(["", *cell], rows),
        machine=machine_lines(results["machine"]),
    )


STUDY = Study(__file__, __doc__, page)
add = STUDY.options.add_argument
add("--ps", type=float, default=200.0)
add("--nve-ps", type=float, default=2.0)
add("--timestep", type=float, default=1.0, help="fs, of the NVT run")

if __name__ == "__main__":
    STUDY.main(measure)
