"""YAML as people write it: read without YAML 1.1's surprises, and told by its line where broken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tlpot.errors import TlpotError

NUMBERS = {
    "int": re.compile(r"[-+]?[0-9][0-9_]*$"),
    "float": re.compile(
        r"([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN))$"
    ),
}
"""As in YAML 1.2: ``1e-3`` is a number; ``010`` is ten; ``01:00:00`` and dates are words."""

QUOTE = "put it in quotes: '{}'"
BLANKS = re.compile("[\u00a0\u2007\u202f\u200b\u3000]")
"""What looks like a blank and is none; web pages and word processors leave them."""
TYPOGRAPHIC = re.compile("^[“”„‟«»‘’‚‹›]|[“”«»‘’‹›]$")
FAULTS = (
    (r"'\\t' that cannot start", "a tab stands where YAML wants blanks: replace it by blanks"),
    (
        r"'([@`%])' that cannot start",
        "a value cannot begin with {0}: put it in quotes, '{0}…'",
    ),
    (
        r"scanning an alias|undefined alias",
        "a value that begins with * means something else in YAML: put it in quotes, '*.traj'",
    ),
    (
        r"scanning an anchor|determine a constructor for the tag",
        "a value that begins with &, ! or << means something else in YAML: put it in quotes",
    ),
    (
        r"unknown escape character|escape sequence of",
        "in double quotes a backslash begins an escape: put it in single quotes, or write / for \\",
    ),
    (r"sequence entries are not allowed", "begin the list on a line of its own: '- first'"),
    (r"scanning a quoted scalar", "a quote is opened and not closed"),
    (
        r"parsing a flow (sequence|mapping)",
        "a bracket is opened and not closed, or a comma or a quote is missing "
        "(within '…' write '' for an apostrophe)",
    ),
    (
        r"expected <block end>",
        "lines of one section must begin in the same column, and a list below its key",
    ),
    (r"scanning a block scalar", "a value that begins with > or | must stand in quotes"),
    (r"but found another document", "'---' begins a second document: one file is one config"),
    (
        r"codec can't|special characters are not|unacceptable character",
        "save the file as UTF-8 text",
    ),
)
"""What YAML complains of (a pattern), and what is wrong in the user's words."""


DEEPEST = 50
"""Sections in sections."""


class Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2, whose keys are words, each given once."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """As yaml's; refuses what is nested without an end."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem="nested deeper than any config", problem_mark=self.peek_event().start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As yaml's; refuses a key that is given twice."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"'{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
            if key.tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"):
                key.tag = "tag:yaml.org,2002:str"  # nobelium is no falsehood
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """As yaml's; refuses characters that only look like blanks or quotes."""
        node = super().compose_scalar_node(anchor)
        problem = ""
        if node.style is None and (blank := BLANKS.search(node.value)):
            problem = f"U+{ord(blank[0]):04X} looks like a blank and is none: write a blank"
        elif node.style is None and TYPOGRAPHIC.search(node.value):
            problem = f"{node.value} has typographic quotes: write ' or \""
        elif node.style == '"' and re.match(r"[A-Za-z]:[\x07-\x0d]\w", node.value):
            problem = "unknown escape character"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Ten of ``010``."""
        return int(self.construct_scalar(node))


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` and plain YAML 1.1 read as the same."""


OTHERWISE = {f"tag:yaml.org,2002:{name}" for name in (*NUMBERS, "timestamp", "value")}
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
for kind in (Loader, Dumper):
    for name, pattern in NUMBERS.items():
        kind.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, list("-+.0123456789"))


def dumped(values: Any, **layout: Any) -> str:
    """As YAML, in the order that they have."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, **layout)


MOST_ENTRIES = 1_000_000
"""Of a YAML file, aliases written out."""


def _entries(value: Any, counted: dict[int, float]) -> float:
    """How many entries a value has, aliases written out; no end of them where it holds itself."""
    if not isinstance(value, Mapping | list):
        return 1
    if id(value) not in counted:
        counted[id(value)] = float("inf")
        parts = value.values() if isinstance(value, Mapping) else value
        counted[id(value)] = 1 + sum(_entries(part, counted) for part in parts)
    return counted[id(value)]


def read_yaml(path: str | Path, what: str, mend: str = "") -> Any:
    """Content of a YAML file, an empty dict if there is none.

    Raises
    ------
    TlpotError
        If there is no such file, with `mend`; if it is no YAML, with the line and what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise TlpotError(f"{path}: no such {what} file. {mend}".rstrip())
    content = path.read_bytes()
    try:
        values = yaml.load(content, Loader) or {}
        if _entries(values, {}) > MOST_ENTRIES:
            raise ValueError("its aliases expand to more than any config holds")
        return values
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TlpotError(f"{path} is not valid YAML: {_fault(error, content)}") from None


def read_override(override: str) -> tuple[str, Any]:
    """Key and value of ``key=value``; raises a TlpotError where it is none."""
    key, equals, text = override.partition("=")
    if not equals:
        raise TlpotError(f"override '{override}' must read key=value, e.g. training.epochs=50")
    try:
        return key.strip(), yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise TlpotError(
            f"override '{override}': the value is not valid YAML: {_fault(error)}"
        ) from None


def _fault(error: Exception, content: bytes = b"") -> str:
    """What is wrong, in the user's words if known, and the line where it begins."""
    problem = " ".join(filter(None, (getattr(error, "context", ""), getattr(error, "problem", ""))))
    problem, lines = problem or str(error), content.decode(errors="replace").splitlines()
    marks = [getattr(error, name, None) for name in ("context_mark", "problem_mark")]
    if "block mapping" in problem or "block collection" in problem:
        del marks[0]
    line = next((mark.line for mark in marks if mark is not None), None)
    for pattern, words in FAULTS:
        if match := re.search(pattern, problem):
            problem = words.format(*match.groups())
            break
    if line is None:
        return problem
    if "mapping values are not allowed" in problem:
        line, problem = _colon(lines, line)
    shown = f" ({lines[line].strip()[:100]})" if line < len(lines) else ""
    return f"line {line + 1}{shown}: {problem}"


def _colon(lines: Sequence[str], line: int) -> tuple[int, str]:
    """Where a colon stands that is one too many, or lacks its blank; and the mend."""
    above = next((n for n in range(line - 1, -1, -1) if lines[n].strip()), line)
    for place in (line, above) if lines else ():
        if match := re.fullmatch(r"(\w+):([^\s:].*)", lines[place].strip()):
            return place, f"YAML wants a blank behind the colon: '{match[1]}: {match[2]}'"
    text = lines[line].partition(" #")[0].strip() if lines else ""
    if match := re.fullmatch(r"(?:- +)?[^\s:]+: +(.*(:$|: ).*)", text):
        return line, f"a second colon: {QUOTE.format(match[1])}"
    mend = "put a value that ends with one, or holds ': ', in quotes"
    return line, f"a colon where none can stand: {mend}"


def trap(problem: Mapping[str, Any]) -> str:
    """Which trap of YAML one of pydantic's complaints comes from, or an empty string."""
    value, kind = problem["input"], problem["type"]
    wants_text = kind in ("string_type", "list_type")
    if isinstance(value, Mapping) and wants_text and {*value.values()} == {None}:
        text = next(iter(value))
        return (
            f"YAML takes {text}: for a key, since it ends with a colon; {QUOTE.format(f'{text}:')}"
        )
    if isinstance(value, Mapping) and kind == "list_type":
        return "put it in brackets, [{…}], or a dash before it"
    if isinstance(value, bool) and wants_text:
        return (
            "YAML takes yes, no, on, off, true and false for truth values; put the word in quotes "
            "if you mean it, or write null for none"
        )
    if isinstance(value, int | float) and wants_text:
        a_key = problem["loc"][-1:] == ("[key]",)
        return "write a name (an element's symbol)" if a_key else QUOTE.format(value)
    if kind == "invalid_key" and isinstance(value, int):
        return "in braces a comma parts the entries; a number has a decimal point"
    if value is None and wants_text:
        return "there is nothing behind its colon; leave the key out, or give it a value"
    if isinstance(value, str) and kind.endswith("_parsing") and re.fullmatch(r"-?\d+,\d+", value):
        return f"write a decimal point: {value.replace(',', '.')}"
    glued = [*map(str, problem["loc"])] if kind in ("extra_forbidden", "missing") else [value]
    for text in glued:
        if isinstance(text, str) and (match := re.fullmatch(r"(\w+)[:=]\s*(\S.*)", text)):
            return f"YAML wants a colon and a blank: '{match[1]}: {match[2]}'"
    return ""
