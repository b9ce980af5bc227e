"""The command line, continued: `tlpot xrd`. Parses, calls the library, prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Crystal systems from powder patterns.")
out = Console()
err = Console(stderr=True)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML config", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, e.g. training.epochs=50")
    ] = None,
    resume: Annotated[bool, typer.Option(help="continue an interrupted run")] = False,
) -> None:
    """Train a classifier on the simulated patterns of crystals and write its run folder."""
    from tlpot import console
    from tlpot.powder import run
    from tlpot.powder.config import PowderConfig
    from tlpot.powder.show import print_prepared, print_run
    from tlpot.sections import load_section

    settings = load_section(PowderConfig, config, overrides)
    try:
        with (
            console.count_bar("crystals", err) as on_crystal,
            console.progress_bar("epochs", settings.training.epochs, err) as on_epoch,
        ):
            done = run.train(
                settings,
                resume,
                on_crystal,
                lambda prepared: print_prepared(prepared, err),
                lambda row: on_epoch(int(row["epoch"] or 0)),
            )
    except KeyboardInterrupt:
        err.print("stopped; finished epochs are kept: continue with --resume")
        raise typer.Exit(130) from None
    if done.metrics:
        print_run(done, out)


@app.command()
def classify(
    files: Annotated[
        list[str],
        typer.Argument(help="measured patterns (.xy, .csv, .dat, .txt, .xye), or crystals"),
    ],
    model: Annotated[str, typer.Option(help="run folder or model file of tlpot xrd train")],
    wavelength: Annotated[
        str, typer.Option(help="of the patterns: Å, or a name as CuKa, MoKa1")
    ] = "CuKa",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say which crystal system powder patterns belong to, and how surely.

    Of crystals (CIF, POSCAR …) the ideal pattern is simulated.
    """
    from tlpot.powder.classifier import load
    from tlpot.powder.opinions import classify_files
    from tlpot.powder.show import print_opinions

    opinions = classify_files(files, load(model), wavelength)
    if as_json:
        print(json.dumps({name: one.as_dict() for name, one in opinions.items()}, indent=2))
    else:
        print_opinions(opinions, out)
