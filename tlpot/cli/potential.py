"""Verbs from a config to a judged potential. Parses, calls the library, prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase import Atoms

from tlpot.cli.shared import (
    EPOCHS,
    FRAMES,
    SCHEDULER,
    ConfigPath,
    Device,
    EnergyKey,
    ForcesKey,
    Overrides,
    RefusedTable,
    Resume,
    StressKey,
    Verbs,
    Writes,
    err,
    out,
    require_all_done,
    stoppable,
)
from tlpot.config.data import Data, Keys
from tlpot.config.hints import ALL, Sets
from tlpot.config.run import Config, load_config
from tlpot.config.sections import Needs
from tlpot.errors import TlpotError
from tlpot.files import Content, free_path, is_cut_off, require_absent, write_new

app = Verbs()


@app.command(epilog="Example: tlpot validate config.yaml")
def validate(config: ConfigPath, overrides: Overrides = None, refused: RefusedTable = None) -> None:
    """Check config, data, elements, split, weights, device and output; estimate time and memory."""
    settings = load_config(config, overrides)
    from tlpot.cli.console import compared_bar
    from tlpot.cli.show.data import print_lines, refused_listed
    from tlpot.cli.show.potential import cost_line, print_prepared
    from tlpot.finetuning import run

    costs: list[str] = []
    with refused_listed(refused, err) as listed:
        with compared_bar(err) as on_compared:
            prepared = run.validate(
                settings, lambda cost: costs.append(cost_line(cost)), on_compared
            )
        listed(prepared.checked.rejected)
    print_prepared(prepared, out)
    print_lines(costs, out)
    out.print(f"{config} is ready to run")


@app.command(epilog="Example: tlpot finetune config.yaml training.epochs=100")
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

        done = run.finetune(
            settings, resume, on_start, display.on_epoch, on_compared=display.on_compared
        )
    if done.metrics:
        print_run(done, out)


@app.command(epilog="Example: tlpot evaluate runs/finetune more/*.traj -o predicted.extxyz")
def evaluate(
    model: Annotated[str, typer.Argument(help="model file, run folder or base name")],
    files: Annotated[
        list[str] | None, typer.Argument(help="files, folders or globs", show_default=False)
    ] = None,
    phonons: Annotated[
        Path | None,
        typer.Option(
            help="instead of files: a phonon run, as OUTCAR or vasprun.xml of IBRION 5 to 8, or a "
            "folder of phonopy's with FORCE_SETS or calculations",
            show_default=False,
        ),
        Needs(files=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help=".extxyz file of predictions beside the labels; with --phonons the folder of "
            "phonons.json, .csv and .png",
            show_default="with --phonons: phonons, or phonons-2 …",
        ),
        Writes(FRAMES, folder="phonons"),
    ] = None,
    parity: Annotated[
        Path | None,
        typer.Option(
            help="picture of model against labels", show_default="beside --output: NAME-parity.png"
        ),
        Needs(phonons=False),
        Writes(),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    device: Device = "auto",
    refused: Annotated[RefusedTable, Needs(phonons=False)] = None,
) -> None:
    """Judge a model on labelled structures, or on DFT's phonons.

    --output keeps the labels of each frame and adds energy_predicted, forces_predicted,
    stress_predicted and their spreads: names that are not taken for labels, so that training on
    the file learns from the labels alone.

    The energies of an untuned base have another zero than the labels. It is fitted to these
    frames, and a note says so.

    --phonons compares forces on displacements (less those at rest) and frequencies with DFT's.
    """
    keys = Keys(energy=energy_key, forces=forces_key, stress=stress_key)
    if phonons is not None:
        _evaluate_phonons(model, phonons, output, as_json, keys, device)
    elif files:
        _evaluate_frames(model, files, output, parity, as_json, keys, device, refused)
    else:
        raise TlpotError("evaluate: name files with labelled frames, or a phonon run (--phonons)")


def _evaluate_frames(
    model: str,
    files: list[str],
    output: Path | None,
    parity: Path | None,
    as_json: bool,
    keys: Keys,
    device: str,
    refused: Path | None,
) -> None:
    from tlpot.cli.show.data import checked_table, print_seen, refused_listed
    from tlpot.cli.show.potential import print_evaluation
    from tlpot.data.check import check_frames
    from tlpot.data.fingerprints import model_lines
    from tlpot.data.groups import read_data
    from tlpot.data.levels import other_levels
    from tlpot.evaluation.assessment import assess, parity_figure, predictions_text
    from tlpot.evaluation.plots import png
    from tlpot.model.load import load_onto

    if output and not parity:
        beside = output.with_name(f"{output.stem}-parity.png")
        if not is_cut_off(output):
            require_absent(beside, "name another picture with --parity")
        parity = beside
    potential = load_onto(model, device)
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
    contents: dict[Path, Content] = {}
    if output:
        contents[output] = predictions_text(assessment, model)
    if parity:
        contents[parity] = png(parity_figure(assessment, model))
    write_new(contents, "name another file")
    for path in contents:
        err.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    aside = sum(rejection.reason != "duplicate" for rejection in checked.rejected)
    require_all_done(len(checked.frames), aside)


def _evaluate_phonons(
    model: str, run: Path, output: Path | None, as_json: bool, keys: Keys, device: str
) -> None:
    from tlpot.cli.show.potential import print_phonons
    from tlpot.data.phonon_run import read_phonon_run
    from tlpot.evaluation.phonons import judge_phonons, write_phonons
    from tlpot.model.load import load_onto

    output = output or free_path("phonons")
    potential = load_onto(model, device)

    def forces(structures: Sequence[Atoms]) -> np.ndarray:
        return np.array([p.forces for p in potential.predict(structures)])

    errors = judge_phonons(forces, read_phonon_run(run, keys))
    paths = write_phonons(errors, model, output)
    if as_json:
        print(json.dumps(errors.summary, indent=2))
    else:
        print_phonons(errors, out)
    for path in paths:
        err.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: tlpot ablate examples/sweep.yaml --workers 2")
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
    failed = sum(outcome.reason is not None for outcome in outcomes)
    require_all_done(len(outcomes) - failed, failed)


@app.command(epilog="Example: tlpot schema > schema.json")
def schema() -> None:
    """Print the JSON schema of the config."""
    print(json.dumps(Config.model_json_schema(by_alias=True), indent=2))
