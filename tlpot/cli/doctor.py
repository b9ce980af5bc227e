"""`tlpot doctor`: is everything there, and does it work? Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlpot.cli.health import Check, report
from tlpot.cli.shared import Verbs
from tlpot.config.run import Config
from tlpot.config.sections import load_section
from tlpot.errors import TlpotError

app = Verbs()


@app.command(epilog="Examples: tlpot doctor; tlpot doctor config.yaml --json")
def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="YAML config of any training, looked at too")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Check the installation: what is there, what is missing, whether it works, what to do.

    Python, libraries, extras, cores and GPUs, weights, caches; then energy and forces of a crystal
    against float64 and differences of the energy, and a step of training: some ten seconds. Exit
    code 2 if anything is wrong.
    """
    raise typer.Exit(report(as_json, [_read(config)] if config else []))


def _read(path: Path) -> Check:
    """Whether a file is a config of one of the trainings."""
    from tlpot.powder.config import PowderConfig
    from tlpot.property.config import PropertyConfig

    reasons = []
    for section in (Config, PropertyConfig, PowderConfig):
        try:
            load_section(section, path)
        except TlpotError as error:
            reasons.append(str(error))
    if len(reasons) < 3:
        return Check("config", "ok", str(path))
    return Check("config", "wrong", reasons[0], "tlpot init writes one to start from")
