"""The command line, continued: `tlpot xrd`. Parses, calls the library, prints."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Annotated

import typer

from tlpot.cli.shared import (
    EPOCHS,
    ConfigPath,
    Device,
    Overrides,
    Resume,
    Verbs,
    err,
    out,
    stoppable,
)

app = Verbs(no_args_is_help=True, help="Crystal systems from powder patterns.")


@app.command(epilog="Example: tlpot xrd train powder.yaml data.files=my_cifs")
def train(config: ConfigPath, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train a classifier on the simulated patterns of crystals and write its run folder."""
    from tlpot.cli import console
    from tlpot.cli.show.powder import print_prepared, print_run
    from tlpot.cli.training import TrainingDisplay
    from tlpot.config.sections import load_section
    from tlpot.powder import run
    from tlpot.powder.config import PowderConfig
    from tlpot.powder.prepare import PreparedClassifier

    settings = load_section(PowderConfig, config, overrides)
    display = TrainingDisplay(settings.training.epochs, print_prepared, err)
    with stoppable(EPOCHS), ExitStack() as bar:

        def on_start(prepared: PreparedClassifier) -> None:
            bar.close()  # one at a time: before 14.1 rich shows no two
            bar.enter_context(display)
            display.on_start(prepared)

        on_crystal = bar.enter_context(console.count_bar("crystals", err))
        done = run.train(settings, resume, on_crystal, on_start, display.on_epoch)
    if done.metrics:
        print_run(done, out)


@app.command(epilog="Example: tlpot xrd classify measured.xy --model runs/powder --wavelength CuKa")
def classify(
    files: Annotated[
        list[str],
        typer.Argument(help="measured patterns (.xy, .csv, .dat, .txt, .xye), or crystals"),
    ],
    model: Annotated[str, typer.Option(help="run folder or model file of tlpot xrd train")],
    wavelength: Annotated[
        str | None,
        typer.Option(help="of the patterns: Å, or as MoKa1; left out: as they say, or CuKa"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    device: Device = "auto",
) -> None:
    """Classify powder patterns by crystal system, with probabilities.

    Of crystals (CIF, POSCAR …) the ideal pattern is simulated.
    """
    from tlpot.cli.show.powder import print_opinions
    from tlpot.engine.device import usable
    from tlpot.powder.classifier import load_classifier
    from tlpot.powder.opinion import classify_files

    classifier = load_classifier(model)
    classifier.network.to(usable(device))
    opinions = classify_files(files, classifier, wavelength)
    if as_json:
        print(json.dumps({name: opinion.as_dict() for name, opinion in opinions.items()}, indent=2))
    else:
        print_opinions(opinions, out)
