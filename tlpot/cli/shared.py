"""What all command lines share: consoles, arguments of a training run, stopping."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from rich.console import Console
from typer.core import TyperCommand

from tlpot.config.hints import ALL, Sets, settable
from tlpot.config.sections import Needs, no_effect
from tlpot.errors import TlpotError
from tlpot.files import expanded, is_cut_off, require_absent
from tlpot.run_log import Terminated

Note = TypeVar("Note")

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

ConfigPath = Annotated[Path, typer.Argument(help="YAML config", show_default=False), Sets(ALL)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, e.g. training.epochs=50")
]
Resume = Annotated[
    bool,
    typer.Option(help="continue an interrupted run; with more training.epochs also a finished one"),
]
FileNames = Annotated[list[str], typer.Argument(help="files, folders or globs")]
LABEL_KEY = typer.Option(help="name of the label, where detection is unsure")
EnergyKey = Annotated[str | None, LABEL_KEY, Sets("data.keys.energy")]
ForcesKey = Annotated[str | None, LABEL_KEY, Sets("data.keys.forces")]
StressKey = Annotated[str | None, LABEL_KEY, Sets("data.keys.stress")]
FRAMES = (".extxyz", ".xyz")
"""Suffixes of a file of structures to write."""
Device = Annotated[str, typer.Option(help="auto, cpu, cuda …")]
SCHEDULER = "`local`, the address of a Dask scheduler, or a YAML file of Slurm keywords"
EPOCHS = "the last checkpoint and the best model so far are kept: continue with --resume"


class Writes:
    """In the annotation of an option: a file that the verb writes, where nothing may be yet.

    It is refused before anything is read, unless `write_new` was cut off there. Verbs that fill a
    folder begin with `tlpot.files.stage`.

    Parameters
    ----------
    suffixes
        Of which the file has one.
    folder
        Option with which a folder is filled instead.
    """

    def __init__(self, suffixes: Sequence[str] = (), folder: str = "") -> None:
        self.suffixes, self.folder = suffixes, folder

    def require_free(self, path: Path, flag: str, within: bool) -> None:
        """Refuse a `path` that is there, given as `flag`; a folder to fill, if it is not empty."""
        mend = f"name another {'folder' if within else 'file'} with {flag}"
        if self.suffixes and not within and path.suffix not in self.suffixes:
            raise TlpotError(f"{path}: {flag} is written as {self.suffixes[0]}; name such a file")
        if not within or not path.is_dir() or any(path.iterdir()):
            require_absent(path, mend)


RefusedTable = Annotated[
    Path | None,
    typer.Option("--refused", help="CSV to write: file, index and reason of every frame refused"),
]
"""Verbs with work to do after it may find their own where they were stopped (`write_new`)."""


WITHIN_PARAGRAPH = re.compile(r"(?<=\S)\n(?=\S)")


class Verb(TyperCommand):
    """A command that first refuses numbers that are none, and options without an effect."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.help = WITHIN_PARAGRAPH.sub(" ", self.help or "")  # as wide as the terminal is

    def invoke(self, ctx: Any) -> Any:
        """Run it; click calls this."""
        for option in self.params:
            value = ctx.params.get(option.name)
            if isinstance(value, float) and not isfinite(value):
                raise TlpotError(f"{max(option.opts, key=len)} {value}: give a finite number")
        for name in paths_of(self):  # shells leave --output=~/run as it is
            if (value := ctx.params.get(name)) is not None:
                ctx.params[name] = type(value)(expanded(str(value)))
        sets = notes_of(self, Sets)
        flags = {note.key: flag_of(ctx, name) for name, notes in sets.items() for note in notes}
        whose = [note.whose for notes in sets.values() for note in notes if note.key == ALL]
        with settable(flags, next(iter(whose), None)):
            self.refuse_idle(ctx)
            self.refuse_to_overwrite(ctx)
            return super().invoke(ctx)

    def refuse_idle(self, ctx: Any) -> None:
        """Refuse options without an effect."""
        refuse_idle(ctx)

    def refuse_to_overwrite(self, ctx: Any) -> None:
        """Refuse files to write (`Writes`) that are there already."""
        writes = {name: notes for name, notes in notes_of(self, Writes).items() if notes}
        paths = {name: Path(path) for name in writes if (path := ctx.params.get(name)) is not None}
        if any(map(is_cut_off, paths.values())):
            return
        for name, path in paths.items():
            for note in writes[name]:
                note.require_free(path, flag_of(ctx, name), bool(ctx.params.get(note.folder)))


class Verbs(typer.Typer):
    """A command line all of whose commands are a `Verb`."""

    def command(self, name: str | None = None, **kwargs: Any) -> Callable[..., Any]:
        """As typer's."""
        return super().command(name, **{"cls": Verb} | kwargs)


def annotations_of(verb: Any) -> dict[str, Any]:
    """Options of a command by name, with the annotation of each."""
    signature = inspect.signature(inspect.unwrap(verb.callback), eval_str=True)
    return {name: parameter.annotation for name, parameter in signature.parameters.items()}


def notes_of(verb: Any, kind: type[Note]) -> dict[str, list[Note]]:
    """Options of a command by name, with what of a `kind` stands in the annotation of each."""
    return {
        name: [note for note in getattr(annotation, "__metadata__", ()) if type(note) is kind]
        for name, annotation in annotations_of(verb).items()
    }


def paths_of(verb: Any) -> list[str]:
    """Names of the options of a command that are one file or folder each."""
    kinds = {name: getattr(a, "__origin__", a) for name, a in annotations_of(verb).items()}
    return [name for name, kind in kinds.items() if Path in (kind, *get_args(kind))]


def needs_of(verb: Any) -> dict[str, list[Needs]]:
    """Options of a command by name, with what each has no effect without."""
    return notes_of(verb, Needs)


def given_flags(ctx: Any) -> list[str]:
    """Names of the options that stand on the command line."""
    names = (option.name for option in ctx.command.params)
    return [n for n in names if getattr(ctx.get_parameter_source(n), "name", "") == "COMMANDLINE"]


def flag_of(ctx: Any, name: str) -> str:
    """How an option is written."""
    option = next(option for option in ctx.command.params if option.name == name)
    return str(max(option.opts, key=len))


def refuse_idle(ctx: Any, given: Collection[str] | None = None, **settled: Any) -> None:
    """Refuse options that the user gave and that have no effect.

    Parameters
    ----------
    ctx
        Of the command.
    given
        Their names; default: those on the command line.
    settled
        Values that options have by now, where they can also be set elsewhere.

    Raises
    ------
    TlpotError
        Naming the option and the one that it does not go with.
    """
    options = {option.name: option for option in ctx.command.params}
    given = given_flags(ctx) if given is None else given
    values = ctx.params | settled

    def say(name: str, value: Any) -> str:
        option = options[name]
        if value is False and option.default and option.secondary_opts:
            return str(option.secondary_opts[0])
        flag = flag_of(ctx, name)
        return flag if value is None or isinstance(value, bool | list) else f"{flag} {value}"

    for name, notes in needs_of(ctx.command).items():
        for needs in notes if name in given else ():
            if lacking := needs.lacking(values, say):
                raise TlpotError(no_effect(say(name, None), lacking))


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Say what is `kept` and how to go on where Ctrl-C (exit code 130) or a signal ends the verb.

    Signals are heard while the run keeps a log (`tlpot.run_log.logged`).
    """
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"stopped; {kept}", soft_wrap=True)
        raise typer.Exit(130) from None
    except Terminated as stop:
        err.print(f"stopped by {stop.signal}; {kept}", soft_wrap=True)
        raise typer.Exit(stop.code) from None


def require_all_done(done: int, aside: int) -> None:
    """End the verb with exit code 1 if some things were set aside, with 2 if all of them were."""
    if aside:
        raise typer.Exit(1 if done else 2)
