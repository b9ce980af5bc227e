"""Does MD of a fine-tuned urea crystal hold? NVE drift, NVT at 300 K, and the cell at 0 K.

``make bench-md``, or ``python benchmarks/md.py [--ps 200] [--nve-ps 2] [--timestep 1]``; needs the
model that ``tlpot finetune examples/urea_ani2x.yaml`` leaves in ``runs/urea_ani2x``. Runs are kept
in ``runs/md``; an interrupted one goes on, bit for bit, and a larger ``--ps`` goes further.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase import Atoms

from benchmarks.lib.machine import RESULTS, machine, machine_lines, table, write_results
from tlpot.csp.relax import Relaxation, relax
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.frames import Frame
from tlpot.md.dynamics import run_md
from tlpot.md.settings import Dynamics
from tlpot.md.summary import read_log, summarise
from tlpot.potential import Potential, load

MODEL, FOLDER = Path("runs/urea_ani2x"), Path("runs/md")
UREA = Path(__file__).parents[2] / "datasets/urea"
MINIMUM = UREA.with_name("urea_minimum") / "minimum.extxyz"
EXPERIMENT = (5.565, 5.565, 4.684, 90.0, 90.0, 90.0)
"""Å and degrees, at 12 K (Swaminathan, Craven and McMullan 1984)."""
REPEATS = (2, 2, 2)
"""128 atoms."""


def experimental() -> Atoms:
    """The cell of the data set that no strain was put on, 16 atoms."""
    cells = [frame.atoms for frame in read_frames(UREA / "urea.extxyz")]
    return min(cells, key=lambda atoms: abs(atoms.cell.cellpar() - EXPERIMENT).sum())


def minimum(potential: Potential) -> Atoms:
    """The relaxed cell, kept for runs that go on."""
    kept = FOLDER / "minimum.extxyz"
    if not kept.exists():
        (found,) = relax([experimental()], potential, Relaxation())
        if found.reason is not None:
            raise SystemExit(f"urea does not relax with {MODEL}: {found.reason}")
        write_frames(kept, [Frame(found.atoms, found.energy)])
    return read_frames(kept)[0].atoms


def run(
    name: str, start: Atoms, potential: Potential, picoseconds: float, settings: Dynamics
) -> dict[str, Any]:
    """Run so far, unless it is that far already; what came of it."""
    folder, steps = FOLDER / name, round(1000 * picoseconds / settings.timestep)
    done = read_log(folder / "log.csv")["step"][-1] if (folder / "settings.json").exists() else 0
    if done < steps and not (folder / "stopped.txt").exists():
        run_md(start, potential, steps, folder, settings, _speaker(name))
    return summarise(folder)


def _speaker(name: str) -> Callable[[Any], None]:
    clock = [time.monotonic()]

    def say(progress: Any) -> None:
        if time.monotonic() - clock[0] > 30:
            clock[0] = time.monotonic()
            print(name, progress.step, f"{progress.ns_per_day:.2f} ns/day", flush=True)

    return say


def report(result: dict[str, Any]) -> str:
    """The page."""
    cell, nvt = result["cell"], result["nvt"]
    held = nvt["stopped"] or "no bond broken or made, no guard tripped"
    temperature = nvt["temperature_K"]
    rows = [[name, *(f"{one[name]:.3f}" for one in cell.values())] for name in cell["model"]]
    lines = [
        "# Molecular dynamics of fine-tuned urea",
        "",
        f"ANI-2x fine-tuned on `datasets/urea` (PBE + D3(BJ)), {nvt['atoms']} atoms, "
        "seed 0, on one thread.",
        "",
        *(
            f"- NVE, steps of {step} fs, {nve['time_ps']:g} ps from 600 K of initial velocities "
            f"({nve['temperature_K']['mean']:.0f} K on average): the energy drifts by "
            f"**{nve['drift_meV_per_atom_per_ps']:+.3f} meV/atom/ps** (wanted: below 0.5)."
            for step, nve in result["nve"].items()
        ),
        f"- NVT (Langevin, 300 K), steps of {result['timestep']:g} fs, **{nvt['time_ps']:g} ps** "
        f"of the 200 wanted: {held}; mean "
        f"temperature {temperature['mean']:.1f} ± {temperature['error']:.1f} K, largest spread "
        f"{nvt['largest_spread_meV_per_sqrt_atom']:.1f} meV per √N.",
        "- the cell relaxed with the model, with DFT (`datasets/urea_minimum`), and measured "
        "at 12 K:",
        "",
        *table(["", *cell], rows),
        "",
        "![radial distribution functions](md_rdf.png)",
        "",
        *machine_lines(result["machine"]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ps", type=float, default=200.0)
    parser.add_argument("--nve-ps", type=float, default=2.0)
    parser.add_argument("--timestep", type=float, default=1.0, help="fs, of the NVT run")
    options = parser.parse_args()
    about, potential = machine(), load(MODEL)
    small, dft = minimum(potential), read_frames(MINIMUM)[0].atoms
    crystal = small.repeat(REPEATS)
    sizes = {"a, Å": 0, "b, Å": 1, "c, Å": 2}
    mass = small.get_masses().sum() * 1.66053907
    cell = {
        name: {k: float(lengths[i]) for k, i in sizes.items()}
        | {"density, g/cm³": float(mass / volume)}
        for name, lengths, volume in (
            ("model", small.cell.cellpar(), small.get_volume()),
            ("DFT", dft.cell.cellpar(), dft.get_volume()),
            ("experiment", EXPERIMENT, EXPERIMENT[0] * EXPERIMENT[1] * EXPERIMENT[2]),
        )
    }
    print(cell, flush=True)

    def nve(step: float) -> dict[str, Any]:
        settings = Dynamics(ensemble="nve", temperature=600.0, timestep=step)
        return run(f"nve-{step:g}", crystal, potential, options.nve_ps, settings)

    result = {
        "model": str(MODEL),
        "cell": cell,
        "timestep": options.timestep,
        "nve": {f"{step:g}": nve(step) for step in sorted({0.5, options.timestep})},
        "nvt": run(
            f"nvt-{options.timestep:g}",
            crystal,
            potential,
            options.ps,
            Dynamics(timestep=options.timestep),
        ),
        "machine": about,
    }
    write_results("md", result, report(result))
    (RESULTS / "md_rdf.png").write_bytes(
        (FOLDER / f"nvt-{options.timestep:g}" / "rdf.png").read_bytes()
    )


if __name__ == "__main__":
    main()
