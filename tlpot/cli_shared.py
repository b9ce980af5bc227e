"""What all command lines share: consoles, arguments of a training run, stopping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

ConfigPath = Annotated[Path, typer.Argument(help="YAML config", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, e.g. training.epochs=50")
]
Resume = Annotated[bool, typer.Option(help="continue an interrupted run")]
Files = Annotated[list[str], typer.Argument(help="files, folders or globs")]
SCHEDULER = "`local`, the address of a Dask scheduler, or a YAML file of Slurm keywords"
EPOCHS = "finished epochs are kept: continue with --resume"


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Ctrl-C ends the command with exit code 130, saying what is `kept` and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"stopped; {kept}")
        raise typer.Exit(130) from None
