"""The command line: one function a verb; parses, calls the library, prints."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import Annotated, Any

import typer

from tlpot import __version__
from tlpot.cli import doctor as cli_doctor
from tlpot.cli import frames as cli_frames
from tlpot.cli import init as cli_init
from tlpot.cli import potential as cli_potential
from tlpot.cli import property as cli_property
from tlpot.cli import sample as cli_sample
from tlpot.cli import use as cli_use
from tlpot.cli import xrd as cli_xrd
from tlpot.cli.shared import (
    Verbs,
    err,
)
from tlpot.errors import StorageError, TlpotError, TlpotWarning, first_line, is_out_of_memory

EXIT_CODES = (
    "Exit codes: 0 done; 1 done but for some structures, frames, points or steps, which are named; "
    "2 refused, or nothing could be done; 130 stopped by Ctrl-C, 143 by SIGTERM."
)

WORKFLOW = (
    "In order: doctor; inspect FILES; init --from FILES; validate, finetune config.yaml; evaluate, "
    "info runs/finetune; relax, rank, md. Also: sample, label (data); ablate (recipes); "
    "property; xrd."
)

app = Verbs(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Transfer learning of interatomic potentials.",
    epilog=f"{WORKFLOW}\n\n{EXIT_CODES}",
)
app.add_typer(cli_init.app)
app.add_typer(cli_frames.app)
app.add_typer(cli_potential.app)
app.add_typer(cli_use.app)
app.add_typer(cli_doctor.app)
app.add_typer(cli_sample.app, name="sample")
app.add_typer(cli_property.app, name="property")
app.add_typer(cli_xrd.app, name="xrd")

LARGE = "take smaller structures, fewer at once or fewer workers, or another --device"
"""What helps a verb that ran out of memory, if it has nothing better to say."""


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


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; bad input exits with code 2 and one message, Ctrl-C with 130."""
    for stream in (sys.stdout, sys.stderr):  # a locale without Å shows a question mark
        with suppress(AttributeError, OSError, ValueError):  # no stream, or one that has ended
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
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
    except OSError as error:
        reason = str(StorageError.of(error))
    finally:
        warnings.showwarning = show
    err.print(f"[bold red]error:[/] {_escape(reason)}", soft_wrap=True, highlight=False)
    sys.exit(2)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
