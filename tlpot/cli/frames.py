"""Verbs of frames and their elements. Parses, calls the library, prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tlpot.cli.shared import (
    SCHEDULER,
    Device,
    EnergyKey,
    FileNames,
    ForcesKey,
    RefusedTable,
    StressKey,
    Verbs,
    Writes,
    err,
    out,
    refuse_idle,
    require_all_done,
    stoppable,
)
from tlpot.config.data import Data, Keys
from tlpot.config.hints import ALL, Sets
from tlpot.config.run import Label, load_config
from tlpot.config.sections import STARTED, Needs, parse_section
from tlpot.files import free_path

app = Verbs()

COMPUTES = Needs(collect=False)
HERE = Needs(engine="!vasp")


@app.command(epilog="Example: tlpot inspect run1/OUTCAR run2/vasprun.xml.gz")
def inspect(
    files: Annotated[
        list[str], typer.Argument(help="files, folders or globs"), Sets(ALL, "tlpot finetune's ")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="folder for the pictures; left out: inspect, or inspect-2 …"),
        Writes(folder="output"),
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    model: Annotated[
        str | None,
        typer.Option(help="model to judge labels by; left out: ani2x, without its weights mini"),
    ] = None,
    device: Device = "auto",
    refused: Annotated[RefusedTable, Writes()] = None,
) -> None:
    """Show what is in the data, what would be refused and why, and labels that do not fit."""
    from tlpot.cli.console import compared_bar
    from tlpot.cli.show.data import print_inspection, print_lines, refused_listed, suspect_table
    from tlpot.data.inspect import inspect_files
    from tlpot.engine.device import usable
    from tlpot.finetuning.units import inspect_labels

    usable(device)
    keys = Keys(energy=energy_key, forces=forces_key, stress=stress_key)
    output = output or free_path("inspect")
    settings = Data(files=files, keys=keys, energy_only=True)
    with refused_listed(refused, out) as listed:
        inspection = inspect_files(files, output, settings)
        listed(inspection.checked.rejected + inspection.broken)
    print_inspection(inspection, out)
    with compared_bar(err) as on_compared:
        some = inspection.checked.plausible()
        lines, suspects = inspect_labels(some, model, device, on_compared)
    print_lines(lines, out)
    if suspects:
        out.print(suspect_table(suspects))
    if not inspection.groups:
        raise typer.Exit(2)


@app.command(epilog="Example: tlpot elements Si I Cu")
def elements(
    symbols: Annotated[list[str], typer.Argument(help="chemical symbols, e.g. Si I Cu")],
    model: Annotated[str, typer.Option(help="base name, model file or run folder")] = "ani2x",
    output: Annotated[
        Path | None,
        typer.Option(help="picture to write; left out: elements.png, or elements-2.png …"),
        Writes(),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Rank the elements of a base as donors for others, and draw the map of the elements."""
    from tlpot.cli.show.elements import print_advice
    from tlpot.elements.advice import advise
    from tlpot.model.load import supported_elements

    output = output or free_path("elements.png")
    advice = advise(symbols, supported_elements(model, symbols), model)
    advice.draw(output)
    if as_json:
        print(json.dumps(advice.as_dict(), indent=2))
    else:
        print_advice(advice, out)
        out.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: tlpot label next.extxyz --engine gfn1 --output labelled.extxyz")
def label(
    context: typer.Context,
    files: FileNames,
    output: Annotated[
        Path, typer.Option(help=".extxyz file; a new folder with vasp", show_default=False)
    ],
    engine: Annotated[
        str | None,
        typer.Option(help="gfn1, gfn2, gpaw, vasp, a calculator of ASE or module:Class"),
        COMPUTES,
        Sets("label.engine"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML config whose label section has the settings"),
        COMPUTES,
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="processes, one thread each"), COMPUTES, HERE, STARTED
    ] = 1,
    scheduler: Annotated[str, typer.Option(help=SCHEDULER), COMPUTES, HERE] = "local",
    collect: Annotated[
        bool, typer.Option(help="FILES are folders that vasp wrote and that VASP has run in")
    ] = False,
) -> None:
    """Label geometries with an engine: energy, forces and stress.

    Frames are written as they are done; after an interruption the same command continues and tries
    failed frames again. Every frame records engine, version and settings.

    vasp runs on your own cluster: tlpot writes a folder a frame (INCAR, KPOINTS, POSCAR; POTCAR is
    yours) and reads the results back with --collect.
    """
    from tlpot.cli import console
    from tlpot.cli.show.use import print_labels
    from tlpot.data.read import read_frames
    from tlpot.labelling.label import label_frames
    from tlpot.labelling.vasp_jobs import collect_jobs, write_jobs

    settings = Label()
    if config is not None:
        settings = load_config(config, [f"data.files={json.dumps(files)}"]).label
    if engine is not None:
        values = settings.model_dump() | {"engine": engine}
        settings = parse_section(Label, values, "cannot label like this")
    refuse_idle(context, engine=settings.engine)
    if collect:
        summary = collect_jobs(files, output)
    elif settings.engine == "vasp":
        jobs = write_jobs(read_frames(files), settings, output)
        out.print(f"wrote {len(jobs)} folders; what to do next: {output / 'README.txt'}")
        return
    else:
        frames = read_frames(files)
        kept = "labelled frames are kept: the same command goes on"
        with stoppable(kept), console.progress_bar("frames", len(frames), err) as advance:
            summary = label_frames(
                frames, settings, output, workers, lambda so_far: advance(so_far.done), scheduler
            )
    print_labels(summary, out)
    require_all_done(summary.labelled + summary.kept, len(summary.failed))
