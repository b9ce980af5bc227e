"""The command line, continued: verbs that use a model. Parses, calls the library, prints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tlpot.cli.shared import SCHEDULER, Device, Files, Verbs, err, out, stoppable
from tlpot.config.sections import STARTED, Needs
from tlpot.errors import TlpotError

app = Verbs()

Model = Annotated[str, typer.Option(help="model file, run folder or base name")]
Scheduler = Annotated[str, typer.Option(help=SCHEDULER)]
Workers = Annotated[int, typer.Option(min=1, help="local processes, or Slurm jobs"), STARTED]
RELAXES = Needs(relax=True)


@app.command()
def rank(
    files: Files,
    model: Model = "ani2x",
    output: Annotated[Path, typer.Option(help="folder to write")] = Path("ranking"),
    relax: Annotated[bool, typer.Option(help="cell and positions, before energies")] = True,
    symmetry: Annotated[
        bool, typer.Option(help="keep space groups as they relax"), RELAXES
    ] = False,
    pressure: Annotated[float, typer.Option(help="GPa, of relaxation and enthalpy"), RELAXES] = 0.0,
    fmax: Annotated[
        float, typer.Option(help="eV/Å, largest force of a relaxed one"), RELAXES
    ] = 0.01,
    steps: Annotated[
        int, typer.Option(help="evaluations that a structure may take"), RELAXES
    ] = 1000,
    molecule: Annotated[
        str | None, typer.Option(help="file with the molecules of one formula unit")
    ] = None,
    experimental: Annotated[
        list[str] | None, typer.Option(help="experimental structure to look for; may be repeated")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="energies to judge by: CSV of id, eV per cell; or `labels`")
    ] = None,
    dispersion: Annotated[
        Literal["d3", "d4"] | None, typer.Option(help="add D3(BJ) or D4 to a model without")
    ] = None,
    functional: Annotated[
        str | None,
        typer.Option(help="of the labels, where the model does not say"),
        Needs(dispersion=True),
    ] = None,
    duplicates: Annotated[bool, typer.Option(help="leave out copies of one crystal")] = True,
    phonons: Annotated[
        int, typer.Option(min=0, help="lowest so many structures get a free energy")
    ] = 0,
    temperature: Annotated[
        float, typer.Option(min=0, help="K, of the free energy"), Needs(phonons=True)
    ] = 298.15,
    supercell: Annotated[
        float, typer.Option(min=1, help="Å, its height for phonons"), Needs(phonons=True)
    ] = 10.0,
    pattern: Annotated[
        str | None,
        typer.Option(help="measured powder pattern, .xy of 2θ, Q or d, to compare with"),
    ] = None,
    wavelength: Annotated[
        str | None,
        typer.Option(help="of the pattern: Å, or as MoKa1; left out: as it says, or CuKa"),
        Needs(pattern=True),
    ] = None,
    shift: Annotated[
        float, typer.Option(help="degrees 2θ that peaks may be off"), Needs(pattern=True)
    ] = 1.0,
    classifier: Annotated[
        str | None,
        typer.Option(help="of tlpot xrd train: its opinion on the pattern"),
        Needs(pattern=True),
    ] = None,
    device: Device = "auto",
    scheduler: Scheduler = "local",
    workers: Workers = 1,
) -> None:
    """Rank crystals by lattice energy, with error bars.

    Writes ranking.csv, ranking.html, landscape.png, the structures in order (structures.extxyz,
    cif/) and ranking.json. After an interruption the same command goes on.
    """
    from tlpot.cli import console
    from tlpot.cli.show import use as show
    from tlpot.config.sections import parse_section
    from tlpot.csp.evaluate import sharded
    from tlpot.csp.output import TABLE, write_ranking
    from tlpot.csp.rank import rank
    from tlpot.csp.ranking import Ranking
    from tlpot.files import at_work, require_free
    from tlpot.model.potential import load_onto

    require_free(output, TABLE)
    how = {"symmetry": symmetry, "pressure": pressure, "fmax": fmax, "steps": steps}
    given = {
        "relaxation": how if relax else None,
        "molecule": molecule,
        "experimental": experimental or [],
        "reference": reference,
        "dispersion": dispersion,
        "functional": functional,
        "duplicates": duplicates,
        "phonons": phonons,
        "temperature": temperature,
        "supercell": supercell,
        "pattern": pattern,
        "wavelength": wavelength,
        "shift": shift,
        "classifier": classifier,
    }
    settings = parse_section(Ranking, given, "tlpot rank")
    kept = "finished shards are kept: the same command goes on"
    with stoppable(kept), at_work(output, TABLE):
        ranked = rank(
            files,
            load_onto(model, device),
            settings,
            partial(console.progress_bar, console=err),
            sharded(model, settings, output, scheduler, workers, device),
        )
        ranked.model = model
        write_ranking(ranked, output)
    show.print_ranking(ranked, output, out)


@app.command()
def relax(
    files: Files,
    model: Model = "ani2x",
    output: Annotated[Path, typer.Option(help="folder to write")] = Path("relaxed"),
    free: Annotated[
        Literal["all", "positions", "cell"], typer.Option(help="what may change")
    ] = "all",
    pressure: Annotated[float, typer.Option(help="GPa"), Needs(free=("all", "cell"))] = 0.0,
    symmetry: Annotated[bool, typer.Option(help="keep the space group of the input")] = False,
    symprec: Annotated[
        float, typer.Option(help="Å within which it is found"), Needs(symmetry=True)
    ] = 0.01,
    fmax: Annotated[
        float,
        typer.Option(help="largest force at the end, eV/Å"),
        Needs(free=("all", "positions")),
    ] = 0.01,
    smax: Annotated[
        float, typer.Option(help="largest stress off the pressure where the cell is free, GPa")
    ] = 0.005,
    steps: Annotated[int, typer.Option(help="evaluations that a structure may take")] = 1000,
    engine: Annotated[
        Literal["torch-sim", "ase"], typer.Option(help="in batches, or one by one")
    ] = "torch-sim",
    batch_atoms: Annotated[
        int | None,
        typer.Option(help="atoms in a batch; left out: by memory"),
        Needs(engine="torch-sim"),
    ] = None,
    max_spread: Annotated[
        float | None, typer.Option(help="of the ensemble, eV per √N; left out: by the training")
    ] = None,
    bonds: Annotated[bool, typer.Option(help="set aside what breaks or makes bonds")] = True,
    device: Device = "auto",
    scheduler: Scheduler = "local",
    workers: Workers = 1,
) -> None:
    """Relax crystals and molecules in batches; what goes astray is set aside with its reason.

    Writes relaxed.extxyz, quarantine.extxyz and relaxed.csv. After an interruption the same
    command goes on.
    """
    from tlpot.cli import console
    from tlpot.cli.show import use as show
    from tlpot.config.sections import parse_section
    from tlpot.relax.files import relax_files
    from tlpot.relax.settings import Relaxation

    given = {
        "free": free,
        "pressure": pressure,
        "symmetry": symmetry,
        "symprec": symprec,
        "fmax": fmax,
        "smax": smax,
        "steps": steps,
        "engine": engine,
        "batch_atoms": batch_atoms,
        "max_spread": max_spread,
        "bonds": bonds,
    }
    settings = parse_section(Relaxation, given, "cannot relax like this")
    kept = "finished shards are kept: the same command goes on"
    with stoppable(kept), console.count_bar("structures", err) as advance:
        outcome = relax_files(
            files, model, output, settings, scheduler, workers, device, on_structure=advance
        )
    show.print_relaxed(outcome, out)
    if not outcome.relaxed:
        raise typer.Exit(2)


@app.command()
def md(
    file: Annotated[str, typer.Argument(help="file with one structure, or file@index")],
    model: Model = "ani2x",
    output: Annotated[Path, typer.Option(help="folder to write")] = Path("md"),
    picoseconds: Annotated[float, typer.Option("--ps", help="length in all, ps")] = 10.0,
    supercell: Annotated[str, typer.Option(help="repeats of the cell, e.g. 2x2x3")] = "1x1x1",
    ensemble: Annotated[
        Literal["nve", "nvt", "npt"], typer.Option(help="what is held constant")
    ] = "nvt",
    temperature: Annotated[float, typer.Option(help="K")] = 300.0,
    pressure: Annotated[float, typer.Option(help="GPa, of npt"), Needs(ensemble="npt")] = 0.0,
    timestep: Annotated[float, typer.Option(help="fs")] = 0.5,
    seed: Annotated[int, typer.Option(help="of velocities and thermostat")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="any other, e.g. --set thermostat=bussi --set max_spread=0.01"),
    ] = None,
    device: Device = "auto",
) -> None:
    """Run molecular dynamics; go on exactly after an interruption; stop before it makes no sense.

    Writes trajectory.extxyz, log.csv, summary.json, md.png and rdf.png. The same command goes on
    with a run, a larger --ps goes further. When energy, temperature, a bond or the ensemble's
    spread runs away: last_good.extxyz, and doubtful.extxyz to be labelled.
    """
    from tlpot.cli import console
    from tlpot.cli.show import use as show
    from tlpot.md.dynamics import SUMMARY, run_md
    from tlpot.md.settings import parse_dynamics, read_start
    from tlpot.md.summary import summarise
    from tlpot.model.potential import load_onto

    given = {
        "ensemble": ensemble,
        "temperature": temperature,
        "pressure": pressure,
        "timestep": timestep,
        "seed": seed,
    }
    dynamics = parse_dynamics(given, settings or [])
    steps = round(1000 * picoseconds / dynamics.timestep)
    if steps < 1:
        raise TlpotError(f"--ps {picoseconds:g}: not one step of {dynamics.timestep:g} fs")
    start = read_start(file, supercell)
    kept = "the last point of restart is kept: the same command goes on"
    with stoppable(kept), console.md_bar(steps, err) as on_progress:
        ended = not (output / SUMMARY).exists()  # or it was stopped before it was summed up
        potential = load_onto(model, device)
        reason = run_md(start, potential, steps, output, dynamics, on_progress, ended)
    show.print_md(summarise(output), output, out)
    if reason is not None:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="model file, run folder or base name")],
    to: Annotated[Literal["metatomic", "torchani"], typer.Option(help="what shall load it")],
    output: Annotated[Path, typer.Option(help="file to write: .pt (metatomic) or .py (torchani)")],
    elements: Annotated[
        list[str] | None, typer.Option(help="keep these alone; may be repeated")
    ] = None,
) -> None:
    """Write a model for other programs: metatomic (LAMMPS, i-PI, torch-sim …) or torchani."""
    from tlpot.interfaces.export import export as write

    path = write(model, output, to, elements)
    out.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
