"""The library returns data; the command line prints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "tlpot"
LIBRARY = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not {"cli", "bundled", "__main__.py"} & {*path.relative_to(ROOT).parts}
)
TERMINAL = {"rich", "typer", "click", "tqdm"}
STREAMS = {"stdout", "stderr"}


def printing(tree: ast.AST) -> Iterator[str]:
    """What of a module speaks to a terminal."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name.partition(".")[0] in TERMINAL)
            case ast.ImportFrom(module=str(name)) if name.partition(".")[0] in TERMINAL:
                yield name
            case ast.ImportFrom(module="sys", names=names):
                yield from (a.name for a in names if a.name in STREAMS)
            case ast.Attribute(value=ast.Name("sys"), attr=name) if name in STREAMS:
                yield f"sys.{name}"
            case ast.Call(func=ast.Name("print")) | ast.FunctionDef(name="print"):
                yield f"print, line {node.lineno}"


def test_the_library_prints_nothing():
    speaking = {path: list(printing(ast.parse(path.read_text()))) for path in LIBRARY}
    assert not {path: words for path, words in speaking.items() if words}


def test_what_prints_is_seen():
    for line in (
        "import rich.table",
        "def f():\n    from typer import echo",
        "if TYPE_CHECKING:\n    from rich.console import Console",
        "print(1)",
        "import sys\nsys.stderr.write('')",
        "from sys import stdout",
        "class A:\n    def print(self, console): ...",
    ):
        assert list(printing(ast.parse(line))), line
