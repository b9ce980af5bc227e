"""`tlpot init`: a config to start from. Parses, calls the library, prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tlpot.cli.options import CONFIGS, is_override, sorted_words
from tlpot.cli.shared import RefusedTable, Verb, Verbs, err, out
from tlpot.config.hints import ALL, Sets
from tlpot.config.reading import read_override
from tlpot.config.run import Config
from tlpot.config.sections import Needs, Section, no_effect, parse_section, set_key
from tlpot.config.template import EXAMPLE, Draft, config_template, lay_out_examples
from tlpot.errors import TlpotError
from tlpot.files import require_absent, write_new

app = Verbs()

Kind = Literal["finetune", "property", "xrd"]
FROM = "--from"
_KEY = re.compile(r"\b(data|model|training)\.\w|`base: ")


class Init(Verb):
    """All files that follow ``--from`` are its own, as a shell makes them of a pattern."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Words of the command line; click calls this."""
        return super().parse_args(ctx, list(_repeated(args)))


def _repeated(words: Sequence[str]) -> Iterator[str]:
    """The words with ``--from`` before each file that follows it."""
    within = first = False
    for word in words:
        if word == FROM or word.startswith(f"{FROM}="):
            within, first = True, word == FROM
            yield word
        elif word.startswith("-"):
            within = first = False
            yield word
        elif within and not word.lower().endswith(CONFIGS) and not is_override(word):
            yield from [word] if first else [FROM, word]
            first = False
        else:
            yield word


@app.command(
    cls=Init,
    epilog="Examples: tlpot init --from run1/OUTCAR run2/vasprun.xml; "
    "tlpot init si.yaml --from data/*.extxyz model.base=ani1x; "
    "tlpot init gap.yaml --kind property --from id_prop.csv cifs",
)
def init(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...",
            help="config to write, or with --examples the folder; then keys to set",
            show_default="config.yaml",
        ),
        Sets(ALL),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            FROM,
            metavar="FILES",
            help="labelled files, folders or globs that the config should fit",
        ),
        Needs(examples=False),
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="what the config trains"), Needs(examples=False)
    ] = "finetune",
    examples: Annotated[
        bool, typer.Option("--examples", help="write the example files and those of the tutorials")
    ] = False,
    refused: Annotated[RefusedTable, Needs(files=True), Needs(kind="finetune")] = None,
) -> None:
    """Write a commented config, fitted to your files; or write the example files.

    --from reads the files and proposes what they ask for: donors of elements that the base lacks,
    a split that their number allows, the property or the table that they hold. What training
    would refuse is refused.
    """
    from tlpot.cli.show.data import print_lines

    config, names, overrides = sorted_words(words or [])
    if len(names := [*filter(None, [config]), *names]) > 1:
        raise TlpotError(f"{' '.join(names)}: name one file to write; files to fit follow --from")
    if examples:
        if overrides:
            raise TlpotError(no_effect(overrides[0], "with --examples"))
        for file in lay_out_examples(Path(*names)):
            out.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
        return
    path = require_absent(Path(*names or ["config.yaml"]))
    values: dict[str, Any] = {}
    for override in overrides:
        set_key(values, *read_override(override), f"override '{override}'")
    section, verb, example = _kinds()[kind]
    whole = values | {"data": {"files": files or example} | (values.get("data") or {})}
    parse_section(section, whole, f"cannot write {path} like this")
    whole, notes = _fitted(kind, files, values, path, refused) if files else (whole, [])
    write_new({path: config_template(whole, section, verb, notes)}, "name another file")
    print_lines(notes, out)
    begin = "set data.files, then run: " if whole["data"].get("files") == example else ""
    check = f"tlpot validate {path}; " if files and kind == "finetune" else ""
    print_lines([f"wrote {path}: {begin}{check}tlpot {verb} {path}"], out)


def _kinds() -> dict[str, tuple[type[Section], str, list[str]]]:
    """What a config of each kind is, the verb that takes it, and files to begin with."""
    from tlpot.powder.config import PowderConfig
    from tlpot.property.config import PropertyConfig

    return {
        "finetune": (Config, "finetune", EXAMPLE["data"]["files"]),
        "property": (PropertyConfig, "property train", ["id_prop.csv"]),
        "xrd": (PowderConfig, "xrd train", ["cifs"]),
    }


def _drafter(kind: Kind) -> Callable[[Sequence[str], Mapping[str, Any], Path], Draft]:
    if kind == "property":
        from tlpot.property.draft import draft_property

        return draft_property
    if kind == "xrd":
        from tlpot.powder.draft import draft_powder

        return draft_powder
    from tlpot.finetuning.draft import draft

    return draft


def _fitted(
    kind: Kind, files: Sequence[str], values: Mapping[str, Any], path: Path, refused: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Values of a config for the files, and what they hold."""
    from tlpot.cli.show.data import refused_listed

    draft = _drafter(kind)
    try:
        with refused_listed(refused, err):
            made = draft(files, values, path.parent)
    except TlpotError as error:
        mend = "\n  Set such keys behind this command: data.bad_frames=drop, model.base=mini …"
        raise TlpotError(f"{error}{mend if _KEY.search(str(error)) else ''}") from None
    return made.values, made.notes
