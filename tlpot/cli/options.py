"""Options of a verb made from a section, and the section made from options and a YAML file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from glob import glob
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_origin

import typer
from pydantic.fields import FieldInfo

from tlpot.cli.shared import Verb, Verbs, flag_of, given_flags, refuse_idle
from tlpot.config.reading import read_override, read_yaml
from tlpot.config.sections import (
    AnySection,
    Needs,
    Section,
    parse_section,
    set_key,
    unknown_key,
)
from tlpot.errors import TlpotError

Verb_ = TypeVar("Verb_", bound=Callable[..., Any])
CONFIGS = (".yaml", ".yml")
VERBS = ("rank", "relax", "md")
"""Each may have a section of its own in one file."""
OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="the same as the word key=value"),
]


class Key(NamedTuple):
    """A field of a section, or of a section in it.

    Attributes
    ----------
    path
        Names of the sections that it lies in, and its own.
    field
        As pydantic has it.
    needs
        What it has no effect without, and what those sections have none without.
    """

    path: tuple[str, ...]
    field: FieldInfo
    needs: list[Needs]

    @property
    def default(self) -> Any:
        """Value that it has when it is left out; `Parameter.empty`: it must be given."""
        if self.field.is_required():
            return Parameter.empty
        return self.field.get_default(call_default_factory=True)


def keys(section: type[Section], outer: Key | None = None) -> Iterator[tuple[str, Key]]:
    """Each field by its name, those of sections inside in the section's stead."""
    for name, field in section.model_fields.items():
        needs = [note for note in field.metadata if isinstance(note, Needs)]
        key = Key((*(outer.path if outer else ()), name), field, needs)
        if outer:
            key = key._replace(needs=[*outer.needs, *needs])
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, key)
        else:
            yield name, key


def option(name: str, key: Key) -> Parameter:
    """The option of a field: its name, type, default, description, bounds and needs."""
    bounds = {
        name: getattr(note, name)
        for note in key.field.metadata
        for name in ("ge", "gt", "le")
        if hasattr(note, name)
    }
    words = key.field.description or ""
    if "gt" in bounds:
        words += f" (above {bounds['gt']:g})"
    info = typer.Option(help=words, min=bounds.get("ge"), max=bounds.get("le"))
    annotation = Annotated[(key.field.annotation, info, *key.needs)]  # type: ignore[name-defined]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=key.default, annotation=annotation)


def described(section: type[Section], *names: str) -> Callable[[Verb_], Verb_]:
    """Make options of a verb, by name, what a `section` says of them; their own needs are added."""
    fields = dict(keys(section))

    def decorate(verb: Verb_) -> Verb_:
        signature = inspect.signature(verb, eval_str=True)
        parameters = dict(signature.parameters)
        for name in names:
            own = getattr(parameters[name].annotation, "__metadata__", ())
            made = option(name, fields[name]._replace(needs=[*fields[name].needs, *own]))
            parameters[name] = parameters[name].replace(
                annotation=made.annotation, default=made.default
            )
        verb.__signature__ = signature.replace(parameters=[*parameters.values()])  # type: ignore[attr-defined]
        return verb

    return decorate


def job(
    verbs: Verbs, section: type[AnySection], place: str, what: str, example: str
) -> Callable[[Callable[[AnySection], None]], None]:
    """A verb that is told a `section`: by flags, ``key=value``, or a YAML file and both.

    Parameters
    ----------
    verbs
        Where the verb is added.
    section
        Every field is an option, but for the one that stands without a flag.
    place
        That field: ``files``, or ``file``.
    what
        Help on it.
    example
        A command, for the verb's help.
    """
    fields = dict(keys(section))
    words = Annotated[list[str], typer.Argument(help=f"{what}; or a YAML file; then key=value")]

    class JobVerb(Verb):
        """Reads the section before it refuses what has no effect."""

        def refuse_idle(self, ctx: Any) -> None:
            ctx.obj = read_job(ctx, section, place)

    def decorate(verb: Callable[[AnySection], None]) -> None:
        def callback(context: typer.Context, **options: Any) -> None:
            verb(context.obj)

        kinds = {"context": typer.Context, place: words, "settings": Set}
        first = [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in kinds.items()
        ]
        first[-1] = first[-1].replace(default=None)
        rest = [option(name, key) for name, key in fields.items() if name != place]
        callback.__signature__ = Signature([*first[:2], *rest, first[2]])  # type: ignore[attr-defined]
        callback.__annotations__ = {}
        callback.__name__, callback.__doc__ = verb.__name__, verb.__doc__
        verbs.command(cls=JobVerb, epilog=f"Example: {example}")(callback)

    return decorate


def read_job(ctx: Any, section: type[AnySection], place: str) -> AnySection:
    """The `section` that a command was told.

    What a YAML file says is overridden by ``key=value``, and by flags.

    Raises
    ------
    TlpotError
        Naming what is unknown, given twice, impossible or without an effect.
    """
    fields, verb = dict(keys(section)), ctx.info_name
    config, names, overrides = sorted_words(ctx.params[place])
    origin = f"{config} is not a valid config" if config else f"cannot {verb} like this"
    filed = _named(_from_file(config, verb).items() if config else (), fields, origin)
    overrides += ctx.params["settings"] or []
    further = _named(map(read_override, overrides), fields, f"cannot {verb} like this")
    flags = {n: ctx.params[n] for n in given_flags(ctx) if n in fields and n != place}
    for name in flags.keys() & further.keys():
        raise TlpotError(f"{name} is set twice: drop {flag_of(ctx, name)} or {name}=…")
    told = filed | further | flags
    if names and get_origin(fields[place].field.annotation) is list:
        told[place] = names
    elif names:
        told[place], *more = names
        if more:
            raise TlpotError(f"{' '.join(names)}: name one {place}")
    elif not told.get(place):
        raise TlpotError(
            f"no {place} named: tlpot {verb} {place.upper()} …, or {place}: … in a YAML file"
        )
    values = {name: key.default for name, key in fields.items()} | told
    refuse_idle(ctx, flags.keys() | further.keys(), **values)
    nested: dict[str, Any] = {}
    for name, value in told.items():
        set_key(nested, ".".join(fields[name].path), value, origin)
    return parse_section(section, nested, origin)


def sorted_words(words: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """Of the words of a command: the YAML file, the other files, and what overrides."""
    overrides = [word for word in words if is_override(word)]
    rest = [word for word in words if word not in overrides]
    configs = [word for word in rest if word.lower().endswith(CONFIGS)]
    if len(configs) > 1:
        raise TlpotError(f"{' and '.join(configs)}: give one YAML file")
    names = [word for word in rest if word not in configs]
    return next(iter(configs), None), names, overrides


def is_override(word: str) -> bool:
    """Whether a word sets a key, and is no file that is called so."""
    names = (word, word.rpartition("@")[0])
    is_file = any(name and (Path(name).exists() or glob(name)) for name in names)
    return bool(OVERRIDE.match(word)) and not is_file


def _from_file(config: str, verb: str) -> dict[str, Any]:
    """Keys of the file, or of its section that bears the verb's name."""
    values = read_yaml(config, "config")
    if not isinstance(values, dict):
        raise TlpotError(f"{config}: expected keys and values, e.g. model: runs/mycrystal")
    sections = [name for name in VERBS if isinstance(values.get(name), Mapping)]
    if not sections:
        return values
    if verb not in sections:
        raise TlpotError(f"{config}: has a section {sections[0]}, but none for {verb}")
    if beside := [str(name) for name in values if name not in sections]:
        raise TlpotError(f"{config}: {beside[0]} stands beside the section {verb}; put it in there")
    return dict(values[verb])


def _named(
    told: Iterable[tuple[Any, Any]], fields: Mapping[str, Key], origin: str
) -> dict[str, Any]:
    """Values by the name of their field; a key is that name, or the field's path."""
    names = {".".join(key.path): name for name, key in fields.items()} | {n: n for n in fields}
    sections = {key.path[0] for key in fields.values() if len(key.path) > 1}
    values: dict[str, Any] = {}
    for key, value in _flat(told, sections):
        if key not in names:
            unknown = unknown_key(key, key.rpartition(".")[2], [*fields])
            raise TlpotError(f"{origin}:\n  {unknown}")
        name = names[key]
        if name in values:
            raise TlpotError(f"{origin}:\n  {name}: given twice")
        several = get_origin(fields[name].field.annotation) is list
        values[name] = [value] if several and isinstance(value, str) else value
    return values


def _flat(told: Iterable[tuple[Any, Any]], sections: Collection[str]) -> Iterator[tuple[str, Any]]:
    for key, value in told:
        if key in sections and isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            yield str(key), value
