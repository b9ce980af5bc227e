"""The command line: one function a verb; parses, calls the library, prints."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from tlpot import __version__
from tlpot.cli import property as cli_property
from tlpot.cli import sample as cli_sample
from tlpot.cli import use as cli_use
from tlpot.cli import xrd as cli_xrd
from tlpot.cli.shared import (
    EPOCHS,
    SCHEDULER,
    ConfigPath,
    Device,
    FileNames,
    Overrides,
    RefusedTable,
    Resume,
    Verbs,
    err,
    out,
    refuse_idle,
    stoppable,
)
from tlpot.config.data import Data, Keys
from tlpot.config.hints import ALL, Sets
from tlpot.config.run import Config, Label, load_config
from tlpot.config.sections import STARTED, Needs, parse_section
from tlpot.errors import TlpotError, TlpotWarning, first_line, is_out_of_memory
from tlpot.files import free_path, require_absent

EXIT_CODES = (
    "Exit codes: 0 done; 1 done but for some frames, points or steps, which are named; 2 refused, "
    "or nothing could be done; 130 stopped by Ctrl-C, 143 by SIGTERM."
)

app = Verbs(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Transfer learning of interatomic potentials.",
    epilog=EXIT_CODES,
)
app.add_typer(cli_use.app)
app.add_typer(cli_sample.app, name="sample")
app.add_typer(cli_property.app, name="property")
app.add_typer(cli_xrd.app, name="xrd")

COMPUTES = Needs(collect=False)
HERE = Needs(engine="!vasp")

LARGE = "take smaller structures, fewer at once or fewer workers, or another --device"
"""What helps a verb that ran out of memory, if it has nothing better to say."""

LABEL_KEY = typer.Option(help="name of the label, where detection is unsure")
EnergyKey = Annotated[str | None, LABEL_KEY, Sets("data.keys.energy")]
ForcesKey = Annotated[str | None, LABEL_KEY, Sets("data.keys.forces")]
StressKey = Annotated[str | None, LABEL_KEY, Sets("data.keys.stress")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tlpot {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="print the version", is_eager=True, callback=_print_version),
]


@app.callback()
def root(version: Version = False) -> None:
    """Transfer learning of interatomic potentials."""


@app.command()
def finetune(
    config: ConfigPath,
    overrides: Overrides = None,
    resume: Resume = False,
    refused: RefusedTable = None,
) -> None:
    """Fine-tune a potential and write its run folder."""
    settings = load_config(config, overrides)
    from tlpot.cli.show.data import refused_listed
    from tlpot.cli.show.potential import print_prepared, print_run
    from tlpot.cli.training import TrainingDisplay
    from tlpot.finetuning import run

    with (
        stoppable(EPOCHS),
        refused_listed(refused, err) as listed,
        TrainingDisplay(settings.training.epochs, print_prepared, err) as display,
    ):

        def on_start(prepared: run.PreparedPotential) -> None:
            listed(prepared.checked.rejected)
            display.on_start(prepared)

        done = run.finetune(settings, resume, on_start, display.on_epoch)
    if done.metrics:
        print_run(done, out)


@app.command()
def ablate(
    sweep: Annotated[Path, typer.Argument(help="YAML sweep: base, axes, seeds, output"), Sets(ALL)],
    workers: Annotated[int | None, typer.Option(help="points that run at once")] = None,
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER)] = None,
) -> None:
    """Run a sweep over configs and write its table and figures; finished points are kept."""
    from tlpot.ablation.run import ablate as run_sweep
    from tlpot.ablation.sweep import load_sweep
    from tlpot.cli.show.use import print_sweep
    from tlpot.cli.training import sweep_display

    given = {"workers": workers, "scheduler": scheduler}
    settings = load_sweep(sweep, {k: v for k, v in given.items() if v is not None})
    kept = "finished points are kept: run the same command again"
    with stoppable(kept), sweep_display(err) as (on_point, on_epoch):
        outcomes = run_sweep(settings, on_point, on_epoch=on_epoch)
    print_sweep(outcomes, settings.output, out)
    if failed := sum(outcome.reason is not None for outcome in outcomes):
        raise typer.Exit(2 if failed == len(outcomes) else 1)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="model file, run folder or base name")],
    files: FileNames,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help=".extxyz file of predictions beside the labels"),
    ] = None,
    parity: Annotated[
        Path | None,
        typer.Option(
            help="picture of model against labels", show_default="beside --output: NAME-parity.png"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    device: Device = "auto",
    refused: RefusedTable = None,
) -> None:
    """Judge a model on labelled structures.

    --output keeps the labels of each frame and adds energy_predicted, forces_predicted,
    stress_predicted and their spreads: names that are not taken for labels, so that training on
    the file learns from the labels alone.

    Energies of a base that was never tuned count from another zero than the labels: it is fitted
    to these frames, which is said.
    """
    from tlpot.cli.show.data import checked_table, print_seen, refused_listed
    from tlpot.cli.show.potential import print_evaluation
    from tlpot.data.check import check_frames
    from tlpot.data.fingerprints import model_lines
    from tlpot.data.groups import read_data
    from tlpot.data.levels import other_levels
    from tlpot.data.write import refuse_to_overwrite
    from tlpot.evaluation.assessment import assess, write_assessment, write_parity
    from tlpot.model.load import load_onto

    if output:
        refuse_to_overwrite(output)
        parity = parity or output.with_name(f"{output.stem}-parity.png")
    if parity:
        require_absent(parity, "name another picture with --parity")
    potential = load_onto(model, device)
    keys = Keys(energy=energy_key, forces=forces_key, stress=stress_key)
    settings = Data(files=files, keys=keys, energy_only=True, bad_frames="drop")
    with refused_listed(refused, err) as listed:
        checked = check_frames(read_data(settings), settings, potential.elements)
        listed(checked.rejected)
    assessment = assess(potential, checked.frames)
    result = assessment.metrics
    print_seen(model_lines(result["seen"]), err if as_json else out)
    if checked.rejected:
        err.print(checked_table(checked))
    trained = potential.metadata.get("data", {}).get("levels", [])
    remarks = (*checked.remarks, *other_levels(trained, checked.frames), assessment.remark)
    for remark in filter(None, remarks):
        err.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        more = {"checked": checked.summary(), "energy_zero_note": assessment.remark}
        print(json.dumps(result | more, indent=2))
    else:
        print_evaluation(result, out)
    if output:
        write_assessment(assessment, model, output)
    if parity:
        write_parity(assessment, model, parity)
    for path in filter(None, (output, parity)):
        err.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def inspect(
    files: Annotated[
        list[str], typer.Argument(help="files, folders or globs"), Sets(ALL, "tlpot finetune's ")
    ],
    output: Annotated[
        Path | None, typer.Option(help="folder for the pictures; left out: inspect, or inspect-2 …")
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    model: Annotated[
        str | None,
        typer.Option(help="model to judge labels by; left out: ani2x, without its weights mini"),
    ] = None,
    device: Device = "auto",
    refused: RefusedTable = None,
) -> None:
    """Show what is in the data, what would be refused and why, and labels that do not fit."""
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
    lines, suspects = inspect_labels(inspection.checked.plausible(), model, device)
    print_lines(lines, out)
    if suspects:
        out.print(suspect_table(suspects))


@app.command()
def elements(
    symbols: Annotated[list[str], typer.Argument(help="chemical symbols, e.g. Si I Cu")],
    model: Annotated[str, typer.Option(help="base name, model file or run folder")] = "ani2x",
    output: Annotated[
        Path | None,
        typer.Option(help="picture to write; left out: elements.png, or elements-2.png …"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Rank the elements of a base as donors for others, and draw the map of the elements."""
    from tlpot.cli.show.elements import print_advice
    from tlpot.elements.advice import advise
    from tlpot.model.load import supported_elements

    if output:
        require_absent(output, "name another picture with --output")
    output = output or free_path("elements.png")
    advice = advise(symbols, supported_elements(model, symbols), model)
    advice.draw(output)
    if as_json:
        print(json.dumps(advice.as_dict(), indent=2))
    else:
        print_advice(advice, out)
        out.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def init(
    path: Annotated[
        Path | None,
        typer.Argument(help="file to write; of --examples: the folder", show_default="config.yaml"),
    ] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="lay out the examples and their urea frames")
    ] = False,
) -> None:
    """Write a commented config to start from, or the examples, ready to run."""
    from tlpot.config.template import config_template, lay_out_examples

    if examples:
        for file in lay_out_examples(path or Path()):
            out.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
        return
    path = path or Path("config.yaml")
    require_absent(path)
    path.write_text(config_template())
    out.print(f"wrote {path}: set data.files, then run: tlpot finetune {path}")


@app.command()
def validate(config: ConfigPath, overrides: Overrides = None, refused: RefusedTable = None) -> None:
    """Check config, data, elements, split, weights, device and output; say what training takes."""
    settings = load_config(config, overrides)
    from tlpot.cli.show.data import print_lines, refused_listed
    from tlpot.cli.show.potential import cost_line, print_prepared
    from tlpot.finetuning import run

    costs: list[str] = []
    with refused_listed(refused, err) as listed:
        prepared = run.validate(settings, lambda cost: costs.append(cost_line(cost)))
        listed(prepared.checked.rejected)
    print_prepared(prepared, out)
    print_lines(costs, out)
    out.print(f"{config} is ready to run")


@app.command()
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

    Frames are written as they are done; the same command goes on after an interruption and tries
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
    if summary.failed:
        raise typer.Exit(1 if summary.labelled or summary.kept else 2)


@app.command()
def schema() -> None:
    """Print the JSON schema of the config."""
    print(json.dumps(Config.model_json_schema(by_alias=True), indent=2))


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; bad input exits with code 2 and one message, Ctrl-C with 130."""
    show, told = warnings.showwarning, set()

    def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, TlpotWarning):
            show(message, category, *where, **more)
        elif str(message) not in told:  # a verb may read a model more than once
            told.add(str(message))
            err.print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)

    warnings.showwarning = note  # type: ignore[assignment]
    try:
        return app(arguments)
    except TlpotError as error:
        reason = str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f"out of memory ({first_line(error)[:120]}); {LARGE}"
    except OSError as error:  # a full disk, a folder that is missing or not ours
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    finally:
        warnings.showwarning = show
    err.print(f"[bold red]error:[/] {_escape(reason)}", soft_wrap=True, highlight=False)
    sys.exit(2)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
