"""Hooks of MkDocs: the reference, made from the program; what the tutorials printed and drew."""

from __future__ import annotations

import importlib
import os
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tlpot.ablation.sweep import Sweep
from tlpot.cli.main import EXIT_CODES, app
from tlpot.config.reading import dumped
from tlpot.config.run import Config
from tlpot.config.sections import Needs, Section
from tlpot.config.training import PRESETS
from tlpot.powder.config import PowderConfig
from tlpot.property.config import PropertyConfig

ROOT = Path(__file__).parents[1]
SHOWN = ROOT / "build" / "tutorials"
"""What the commands of the tutorials printed and drew (tools/tutorials.py)."""
CONFIGS = {
    "tlpot finetune": Config,
    "tlpot ablate": Sweep,
    "tlpot property train": PropertyConfig,
    "tlpot xrd train": PowderConfig,
}
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^]]+)\]\(([^)\s]+)\)")
PICTURE = re.compile(r"^!\[[^]]*\]\((\w+/[\w.]+)\)\n", re.MULTILINE)
LIST = re.compile(r" <list\[\w+\]>")
"""How typer writes that an argument may be repeated."""
EXAMPLE = re.compile(r"(tlpot [^;]+)")
INSIDE = ("cli", "engine", "trust")
"""Rooms whose modules are not for use from outside."""


def verbs(group: Any = None, name: str = "tlpot") -> Iterator[tuple[str, Any]]:
    """Every verb by its whole name."""
    group = group or typer.main.get_command(app)
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def command_line() -> str:
    """A section for each verb: usage, what it does, its arguments and options."""
    lines = ["# Command line", "", "This page is generated from the program itself.", ""]
    lines += [EXIT_CODES, ""]
    for name, command in verbs():
        context = typer.Context(command, info_name=name)
        lines += [f"## {name}", "", "```text", command.get_usage(context), "```", ""]
        lines += [*plain(command.help or "").splitlines(), ""]
        records = [p.get_help_record(context) for p in command.params]
        rows = [f"| `{LIST.sub('', r[0])}` | {cell(r[1])} |" for r in records if r]
        lines += ["| option | what it does |", "|---|---|", *rows, ""] if rows else []
        lines += [EXAMPLE.sub(r"`\1`", plain(command.epilog or "")), ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Without the indentation of a docstring."""
    return re.sub(r"^[ \t]+", "", text.replace("\b\n", ""), flags=re.MULTILINE)


def cell(text: str) -> str:
    """A cell of a table: no bars, one line."""
    return text.replace("|", "\\|").replace("\n", " ")


def configs() -> str:
    """A part for each verb that takes a config, a table for each of its sections."""
    lines = ["# Config", "", "This page is generated from the program's own definitions."]
    lines += ["On the command line, write `section.key=value` to set a key.", ""]
    for verb, model in CONFIGS.items():
        lines += [f"## {verb}", "", *section(model, "")]
    lines += ["## What `preset: thesis` sets", "", "| key | value |", "|---|---|"]
    return "\n".join(
        [*lines, *(f"| `training.{k}` | {value(v)} |" for k, v in PRESETS["thesis"].items())]
    )


def section(model: type[BaseModel], place: str) -> list[str]:
    """The table of a section's keys, then its sections."""
    rows, inner = [], []
    for name, field in model.model_fields.items():
        key = field.alias or name
        parts = [k for k in kinds(field.annotation) if issubclass(k, BaseModel)]
        nested = parts and field.annotation is parts[0]
        for part in parts:
            inner += ["", f"### {place}{key}", "", *section(part, f"{place}{key}.")]
        if not nested:
            rows.append(
                f"| `{place}{key}` | {kind(field)} | {default(field)} | {about(field, model)} |"
            )
    head = ["| key | takes | default | what it does |", "|---|---|---|---|"] if rows else []
    summary = (model.__doc__ or "").strip().splitlines()[0]
    return [summary, "", *head, *rows, *inner, ""]


def kinds(annotation: Any) -> Iterator[type]:
    """Classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from kinds(part)


def kind(field: FieldInfo) -> str:
    """What a field takes, in words, with its bounds."""
    bounds = {"Gt": ">", "Ge": "≥", "Lt": "<", "Le": "≤"}
    notes = [
        f"{sign} {getattr(note, name.lower())}"
        for note in field.metadata
        if (name := type(note).__name__) in bounds and (sign := bounds[name])
    ]
    return cell(", ".join([words(field.annotation), *notes]))


def words(annotation: Any) -> str:
    """A type as a reader of YAML would call it."""
    names = {str: "text", int: "integer", float: "number", bool: "true, false"}
    names |= {type(None): "null", Any: "anything"}
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return ", ".join(f"`{choice}`" for choice in arguments)
        case origin if origin in (Union, types.UnionType):
            return " or ".join(map(words, arguments))
        case origin if origin in (list, tuple):
            return f"list of {words(arguments[0])}"
        case origin if origin is dict:
            return f"{words(arguments[0])} → {words(arguments[1])}"
        case None:
            section_of = isinstance(annotation, type) and issubclass(annotation, BaseModel)
            return names.get(annotation) or ("a section" if section_of else "number")
        case _:  # Annotated
            return words(arguments[0])


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    left_out = field.get_default(call_default_factory=True)
    return "" if isinstance(left_out, Section) else value(left_out)


def value(content: Any) -> str:
    text = dumped(content, default_flow_style=True, width=1000)
    return f"`{cell(text.removesuffix(chr(10)).removesuffix('...').strip())}`"


def about(field: FieldInfo, model: type[BaseModel]) -> str:
    """The description, and what the field has no effect without."""
    conditions = [
        " or ".join(
            condition(key_of(model, other), wanted) for other, wanted in note.others.items()
        )
        for note in field.metadata
        if isinstance(note, Needs)
    ]
    together = re.sub(r"( or| and) only", r"\1", " and ".join(conditions))
    return cell(field.description or "") + (f" ({together})" if together else "")


def key_of(model: type[BaseModel], name: str) -> str:
    """What a field is called in a config."""
    return model.model_fields[name].alias or name


def condition(key: str, wanted: bool | tuple[str, ...]) -> str:
    """When a field has an effect, as `Needs` has it."""
    if isinstance(wanted, bool):
        return f"only {'with' if wanted else 'without'} `{key}`"
    refused = [value[1:] for value in wanted if value.startswith("!")]
    if refused:
        return f"not with `{key}: {' or '.join(refused)}`"
    return f"only with `{key}: {' or '.join(wanted)}`"


def rooms() -> dict[str, str]:
    """Page of each public room: its modules' docstrings."""
    pages = {}
    for init in sorted((ROOT / "tlpot").glob("*/__init__.py")):
        room = init.parent.name
        if room in INSIDE:
            continue
        summary = importlib.import_module(f"tlpot.{room}").__doc__
        lines = [f"# tlpot.{room}", "", str(summary), ""]
        inside = [path.relative_to(ROOT).with_suffix("") for path in init.parent.rglob("*.py")]
        for path in sorted(inside, key=lambda path: (len(path.parts), path)):
            if not path.stem.startswith("_"):
                module = ".".join(path.parts)
                lines += [f"## {module}", "", f"::: {module}"]
                lines += ["    options: {show_root_heading: false, show_root_toc_entry: false}", ""]
        pages[f"reference/api/{room}.md"] = "\n".join(lines)
    return pages


def shelf() -> list[Any]:
    """Pages of the evidence, under the headings of its first page; what it does not name, last."""
    home = ROOT / "docs/evidence"
    parts = (home / "index.md").read_text(encoding="utf-8").split("\n## ")[1:]
    sections = [
        {part.splitlines()[0]: [{link[2]: f"evidence/{link[3]}"} for link in LINK.finditer(part)]}
        for part in parts
    ]
    named = {link[3] for part in parts for link in LINK.finditer(part)} | {"index.md"}
    pages = sorted(str(path.relative_to(home)) for path in home.glob("**/*.md"))
    if others := [f"evidence/{page}" for page in pages if page not in named]:
        sections.append({"Other questions": others})
    return ["evidence/index.md", *sections]


def filled(nav: Any, made: Mapping[str, list[Any]]) -> Any:
    """A table of contents with lists of pages in the place of their first."""
    if isinstance(nav, dict):
        return {title: filled(entry, made) for title, entry in nav.items()}
    return [filled(entry, made) for entry in nav] if isinstance(nav, list) else made.get(nav, nav)


def on_config(config: Any) -> Any:
    """Put the evidence in, and the pages of the rooms behind that of the API."""
    made = {
        "reference/api.md": ["reference/api.md", *({Path(p).stem: p} for p in rooms())],
        "evidence/index.md": shelf(),
    }
    config.nav = filled(config.nav, made)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add what is made of the program, and what the tutorials drew."""
    from mkdocs.structure.files import File

    pages = {"reference/cli.md": command_line(), "reference/config.md": configs(), **rooms()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    for picture in SHOWN.glob("*/*.png"):
        path = f"tutorials/{picture.relative_to(SHOWN)}"
        files.append(File.generated(config, path, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Show what a tutorial's commands printed; links that leave the site become names."""
    path = page.file.src_uri
    if path.startswith("tutorials/"):
        markdown = with_output(markdown, Path(path).stem)
    return LINK.sub(lambda match: inside(match, path), markdown)


def with_output(markdown: str, name: str) -> str:
    """Behind each block what it printed; pictures that were not made are left out."""
    outputs = iter(sorted((SHOWN / name).glob("*.txt")))

    def shown(match: re.Match[str]) -> str:
        if match[1] not in ("", "python"):
            return match[0]
        printed = next(outputs, None)
        text = printed.read_text().rstrip() if printed else ""
        return f"{match[0]}\n``` {{.text .printed}}\n{text}\n```\n" if text else match[0]

    markdown = BLOCK.sub(shown, markdown)
    return PICTURE.sub(lambda m: m[0] if (SHOWN / m[1]).exists() else "", markdown)


def inside(match: re.Match[str], path: str) -> str:
    """A link as it is if it stays in the site, its text and the file's name if it does not."""
    target = match[3].partition("#")[0]
    if not target or "://" in target or target.startswith("mailto:"):
        return match[0]
    place = os.path.normpath(os.path.join("docs", os.path.dirname(path), target))
    if place.startswith("docs/"):
        return match[0]
    assert (ROOT / place).exists(), f"{path}: {match[3]} is not there"
    return f"{match[2]} (`{place}`)"
