"""The command line, continued: verbs that use a model. Parses, calls the library, prints."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tlpot.cli.jobs import DynamicsJob, RankJob, RelaxJob
from tlpot.cli.options import described, job
from tlpot.cli.shared import Device, Verbs, Writes, err, out, require_all_done, stoppable
from tlpot.errors import TlpotError
from tlpot.relax.settings import Relaxation
from tlpot.trust.settings import Stress

app = Verbs()


@job(
    app,
    RankJob,
    "files",
    "files, folders or globs",
    "tlpot rank landscape/*.cif --model runs/mycrystal --output ranking",
)
def rank(job: RankJob) -> None:
    """Rank crystals by lattice energy, with error bars.

    Writes ranking.csv, ranking.html, landscape.png, the structures in order (structures.extxyz,
    cif/) and ranking.json. After an interruption, the same command continues.
    """
    from tlpot.cli import console
    from tlpot.cli.show.use import print_ranking
    from tlpot.csp.evaluate import Sharded
    from tlpot.csp.output import TABLE, write_ranking
    from tlpot.csp.rank import rank
    from tlpot.model.load import load_onto
    from tlpot.parallel.work import at_work, require_free

    output, settings = Path(job.output), job.ranking()
    require_free(output, TABLE)
    kept = "what is done is kept: the same command goes on"
    with stoppable(kept), at_work(output, TABLE):
        ranked = rank(
            job.files,
            load_onto(job.model, job.device),
            settings,
            partial(console.progress_bar, console=err),
            Sharded(job.model, settings, output, job.scheduler, job.workers, job.device),
        )
        ranked.model = job.model
        write_ranking(ranked, output)
    print_ranking(ranked, output, out)
    require_all_done(len(ranked.candidates), len(ranked.refused))


@job(
    app,
    RelaxJob,
    "files",
    "files, folders or globs",
    "tlpot relax landscape/*.cif --model runs/mycrystal --output relaxed",
)
def relax(job: RelaxJob) -> None:
    """Relax crystals and molecules in batches; those that fail are set aside with the reason.

    Writes relaxed.extxyz, quarantine.extxyz and relaxed.csv. After an interruption, the same
    command continues.
    """
    from tlpot.cli import console
    from tlpot.cli.show.use import print_relaxed
    from tlpot.relax.files import relax_files

    kept = "what is done is kept: the same command goes on"
    with stoppable(kept), console.count_bar("structures", err) as advance:
        outcome = relax_files(
            job.files,
            job.model,
            job.output,
            job.settings(Relaxation),
            job.scheduler,
            job.workers,
            job.device,
            on_structure=advance,
        )
    print_relaxed(outcome, out)
    require_all_done(outcome.relaxed, len(outcome.quarantine))


@job(
    app,
    DynamicsJob,
    "file",
    "file with one structure, or file@index",
    "tlpot md POSCAR --model runs/mycrystal --supercell 2x2x2 --ps 50",
)
def md(job: DynamicsJob) -> None:
    """Run molecular dynamics; continue exactly after an interruption; stop if it goes astray.

    Writes trajectory.extxyz, log.csv, summary.json, md.png and rdf.png. The same command
    continues a run, and a larger --ps extends it. If energy, temperature, a bond or the ensemble's
    spread runs away, it writes last_good.extxyz, and doubtful.extxyz to be labelled.
    """
    from tlpot.cli import console
    from tlpot.cli.show.use import print_md
    from tlpot.md.dynamics import SUMMARY, run_md
    from tlpot.md.settings import Dynamics
    from tlpot.md.start import read_start
    from tlpot.md.summary import summarise
    from tlpot.model.load import load_onto

    output, steps = Path(job.output), round(1000 * job.ps / job.timestep)
    if steps < 1:
        raise TlpotError(f"--ps {job.ps:g}: not one step of {job.timestep:g} fs")
    start = read_start(job.file, job.supercell)
    kept = "the last point of restart is kept: the same command goes on"
    with stoppable(kept), console.md_bar(steps, err) as on_progress:
        ended = not (output / SUMMARY).exists()  # or it was stopped before it was summed up
        potential = load_onto(job.model, job.device)
        settings = job.settings(Dynamics)
        reason = run_md(start, potential, steps, output, settings, on_progress, ended)
    print_md(summarise(output), output, out)
    if reason is not None:
        raise typer.Exit(1)


@app.command(epilog="Example: tlpot stress runs/mycrystal POSCAR")
@described(Stress, *Stress.model_fields)
def stress(
    *,
    model: Annotated[str, typer.Argument(help="model file, run folder or base name")],
    structure: Annotated[str, typer.Argument(help="file with one structure, or file@index")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write")] = Path(
        "stress"
    ),
    base: Annotated[
        str | None, typer.Option(help="what to compare with", show_default="the model's own base")
    ] = None,
    count: int,
    pressure: float,
    steps: int,
    scans: int,
    ramp: float,
    seed: int,
    device: Device = "auto",
) -> None:
    """Stress-test a model beside its base: count where it fails far from its training data.

    Relaxes random packings and compressed cells at no pressure and at a high one, pushes pairs of
    molecules together, and heats the structure. Writes stress.json, stress.csv, failed.extxyz,
    worst.png and scans.png. After an interruption, the same command continues.
    """
    from tlpot.cli import console
    from tlpot.cli.show.use import print_stress
    from tlpot.md.start import read_start
    from tlpot.structure.frames import Frame
    from tlpot.trust.stress_run import run_stress

    settings = Stress(
        count=count, pressure=pressure, steps=steps, scans=scans, ramp=ramp, seed=seed
    )
    start = Frame(read_start(structure), source=structure)
    kept = "what is done is kept: the same command goes on"
    with stoppable(kept), console.count_bar("cases", err) as advance:
        test = run_stress(model, start, output, settings, base, device, advance)
    print_stress(test, output, out)


@app.command(epilog="Example: tlpot info runs/finetune")
def info(
    model: Annotated[str, typer.Argument(help="model file or run folder of any kind, or base")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show what a model is: base, elements, level of theory, data, recipe, errors, licence."""
    from tlpot.cli.show.card import print_card
    from tlpot.model.card import card

    about = card(model)
    if as_json:
        print(json.dumps(about, indent=2))
    else:
        print_card(about, out)


@app.command(epilog="Example: tlpot export runs/finetune --to metatomic --output model.pt")
def export(
    model: Annotated[str, typer.Argument(help="model file, run folder or base name")],
    to: Annotated[
        Literal["metatomic", "torchani"], typer.Option(help="the program that will load it")
    ],
    output: Annotated[
        Path, typer.Option(help="file to write: .pt (metatomic) or .py (torchani)"), Writes()
    ],
    elements: Annotated[
        list[str] | None, typer.Option(help="keep these alone; may be repeated")
    ] = None,
) -> None:
    """Write a model for other programs: metatomic (LAMMPS, i-PI, torch-sim …) or torchani."""
    from tlpot.interfaces.export import export as write

    path = write(model, output, to, elements)
    out.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
