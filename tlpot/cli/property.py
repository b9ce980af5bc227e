"""`tlpot property`: a number of a crystal from its graph. Parses, calls the library, prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tlpot.cli.shared import (
    EPOCHS,
    ConfigPath,
    Device,
    Overrides,
    Resume,
    Verbs,
    Writes,
    err,
    out,
    require_all_done,
    stoppable,
)

app = Verbs(no_args_is_help=True, help="Predict properties of crystals (CGCNN).")

Models = Annotated[
    list[str],
    typer.Option("--model", help="model file or run folder; several are an ensemble"),
]


@app.command(epilog="Example: tlpot property train property.yaml data.files=id_prop.csv")
def train(config: ConfigPath, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train on crystals with a known property, or fine-tune, and write a run folder."""
    from tlpot.cli.show.property import print_prepared, print_run
    from tlpot.cli.training import TrainingDisplay
    from tlpot.config.sections import load_section
    from tlpot.property import run
    from tlpot.property.config import PropertyConfig

    settings = load_section(PropertyConfig, config, overrides)
    epochs = settings.training.epochs
    with stoppable(EPOCHS), TrainingDisplay(epochs, print_prepared, err) as display:
        done = run.train(settings, resume, display.on_start, display.on_epoch)
    if done.metrics:
        print_run(done, out)


@app.command(epilog="Example: tlpot property predict new/*.cif --model runs/property")
def predict(
    files: Annotated[list[str], typer.Argument(help="structures: files, folders or globs")],
    model: Models,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write"), Writes()
    ] = None,
    drop_bad: Annotated[
        bool, typer.Option("--drop-bad", help="leave out files that cannot be used, and say which")
    ] = False,
    device: Device = "auto",
) -> None:
    """Predict the property of structures; with several models also how much they differ."""
    from tlpot.cli.show.property import print_left_out, print_never_seen
    from tlpot.property.data import read_unlabelled
    from tlpot.property.model import Ensemble
    from tlpot.property.table import prediction_table

    ensemble = Ensemble.load(model, device)
    frames, rejected = read_unlabelled(files, drop_bad)
    print_left_out(rejected, err)
    ensemble.require_elements(frames)
    print_never_seen(ensemble.never_seen(frames), err)
    text = prediction_table(ensemble, frames)
    if output is None:
        print(text, end="")
    else:
        from tlpot.files import write_new

        write_new({output: text}, "name another file with --output")
        out.print(f"{len(frames)} structures: {output}", soft_wrap=True)
    require_all_done(len(frames), len(rejected))


@app.command(epilog="Example: tlpot property evaluate known.csv --model runs/property")
def evaluate(
    files: Annotated[list[str], typer.Argument(help="CSV of id, value; or structures with it")],
    model: Models,
    key: Annotated[
        str | None, typer.Option("--property", help="CSV column or key in the structures' info")
    ] = None,
    structures: Annotated[str | None, typer.Option(help="folder of the CSV's CIF files")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    device: Device = "auto",
) -> None:
    """Judge models on crystals whose property is known."""
    from tlpot.cli.show.property import print_errors, print_never_seen
    from tlpot.property.config import PropertyData
    from tlpot.property.data import read_labelled_crystals
    from tlpot.property.evaluate import errors, with_seen
    from tlpot.property.model import Ensemble

    ensemble = Ensemble.load(model, device)
    crystals = read_labelled_crystals(
        PropertyData(files=files, property=key, structures=structures)
    )
    ensemble.require_elements(crystals.frames)
    print_never_seen(ensemble.never_seen(crystals.frames), err)
    mean, spread = ensemble.predict(crystals.graphs)
    result = errors(crystals.values, mean, spread, ensemble.interval)
    result = with_seen(result, crystals.values, mean, ensemble.seen(crystals.frames))
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_errors(result, ensemble.unit, out)


@app.command(
    "import",
    epilog="Example: tlpot property import gap.pth.tar --elements atom_"
    "init.json --name gap -o gap.safetensors",
)
def import_(
    checkpoint: Annotated[Path, typer.Argument(help=".pth.tar of github.com/txie-93/cgcnn")],
    elements: Annotated[str, typer.Option(help="the atom_init.json it was trained with")],
    name: Annotated[str, typer.Option(help="of the property, e.g. band_gap")],
    output: Annotated[Path, typer.Option("-o", "--output", help="model file to write"), Writes()],
    unit: Annotated[str, typer.Option(help="of the property, e.g. eV")] = "",
) -> None:
    """Turn a released CGCNN checkpoint into a model file, to predict with or to fine-tune."""
    from tlpot.property.released import import_checkpoint

    model = import_checkpoint(checkpoint, elements, name, unit)
    out.print(f"model file: {model.save(output)}", soft_wrap=True)
