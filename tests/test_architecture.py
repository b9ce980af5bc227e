"""The house: imports point one way, there is no circle, and few modules lie at the top."""

import ast
from pathlib import Path

import pytest

import tlpot

PACKAGE = Path(tlpot.__file__).parent
ROOT = Path(__file__).parents[1]

FLOORS = (
    {"engine"},
    {"structure", "config"},
    {"data", "elements"},
    {"backbones"},
    {"model"},
    {"training", "evaluation", "parallel", "interfaces"},
    {"finetuning", "property", "powder", "relax", "labelling", "sampling", "trust"},
    {"csp", "md", "ablation"},
    {"cli"},
)
"""Rooms from the ground up; a room imports from its own floor or from below."""

TOP = {"__init__", "__main__", "errors", "files", "optional", "palette", "run_log"}
"""Modules at the top: they serve every room, and import none (but for the two doors)."""
DOORS = {"__init__", "__main__"}


def modules() -> dict[str, ast.Module]:
    """Name under ``tlpot`` → syntax tree."""
    names: dict[str, ast.Module] = {}
    for path in sorted(set(PACKAGE.rglob("*.py")) - set((PACKAGE / "bundled").rglob("*.py"))):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        names[name] = ast.parse(path.read_text(encoding="utf-8"))
    return names


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    """Modules of tlpot that a module names in any import, at its top or inside."""
    wanted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tlpot":
            room = node.module[len("tlpot.") :]
            for alias in node.names:
                inner = f"{room}.{alias.name}" if room else alias.name
                wanted.add(inner if inner in MODULES else room)
        elif isinstance(node, ast.Import):
            wanted |= {a.name[len("tlpot.") :] for a in node.names if a.name.startswith("tlpot.")}
    return wanted - {""}


ARROWS = {name: imports(tree) - {name} for name, tree in MODULES.items()}


def floor(name: str) -> int:
    room = name.split(".")[0]
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """What is left when all that imports nothing of the rest is taken away, again and again."""
    left = {name: set(to) for name, to in arrows.items()}
    while ends := [name for name, to in left.items() if not to & left.keys()]:
        for name in ends:
            del left[name]
    users = {name: {a for a, to in left.items() if name in to} for name in left}
    while ends := [name for name in left if not users[name] & left.keys()]:
        for name in ends:
            del left[name]
    return [sorted(left)] if left else []


def test_every_module_has_a_room_and_few_lie_at_the_top():
    assert {n for n in MODULES if "." not in n and not (PACKAGE / n).is_dir()} == TOP
    rooms = {n.split(".")[0] for n in MODULES} - TOP
    assert rooms == set().union(*FLOORS)


def test_imports_point_down():
    up = [
        f"{a} imports {b}"
        for a, to in ARROWS.items()
        for b in to
        if a not in TOP and b not in TOP and floor(b) > floor(a)
    ]
    up += [f"{a} imports {b}" for a in TOP - DOORS for b in ARROWS[a] - TOP]
    assert not up


def test_no_circle_of_modules_or_of_rooms():
    assert not circles({name: to for name, to in ARROWS.items() if name not in DOORS})
    rooms: dict[str, set[str]] = {}
    for name, to in ARROWS.items():
        if name not in TOP:
            room = name.split(".")[0]
            rooms.setdefault(room, set()).update(b.split(".")[0] for b in to if b not in TOP)
            rooms[room].discard(room)
    assert not circles(rooms)


def test_nothing_imports_the_command_line():
    users = {a for a, to in ARROWS.items() if any(b.split(".")[0] == "cli" for b in to)}
    assert {a for a in users if a.split(".")[0] != "cli"} <= DOORS


@pytest.mark.parametrize("folder", ["benchmarks", "datasets", "examples", "tools"])
def test_scripts_import_what_there_is(folder):
    """They are no part of the package, so that no other test would miss a name that moved."""
    missing = [
        f"{path.relative_to(ROOT)}: {node.module}.{alias.name}"
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tlpot"
        for alias in node.names
        if not is_there(node.module, alias.name)
    ]
    assert not missing


def is_there(module: str, name: str) -> bool:
    """Whether ``from module import name`` works."""
    try:
        exec(f"from {module} import {name}", {})
    except ImportError:
        return False
    return True


ALLOWED = {"train", "prepare", "write_report", "print_prepared", "print_run"}
"""One step of each of the three trainings: of potentials, of properties, of powder patterns."""
ALLOWED |= {"minimise"}
"""Of the two engines of relaxation."""
ALLOWED |= {"Architecture", "SHARED", "Part"}


def defined(tree: ast.Module) -> set[str]:
    """Public names of a module's top level, but for those of types."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and "TypeVar(" not in ast.unparse(node):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [part for target in targets for part in ast.walk(target)]
            stored = [part for part in parts if isinstance(getattr(part, "ctx", None), ast.Store)]
            names |= {part.id for part in stored if isinstance(part, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_means_one_thing():
    """A verb of the command line is called what it calls."""
    homes: dict[str, list[str]] = {}
    for module, tree in MODULES.items():
        for name in defined(tree):
            verb = module.startswith("cli.") and not module.startswith("cli.show")
            if not (verb and name.islower()):
                homes.setdefault(name, []).append(module)
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    assert twice.keys() <= ALLOWED, twice


SCRIPTS = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for folder in (PACKAGE, ROOT / "benchmarks")
    for path in sorted(folder.rglob("*.py"))
}
NOT_NOUNS = {"found", "one", "known", "how", "said"}
"""They do not say what a variable holds."""


def called(tree: ast.Module) -> set[tuple[int, str]]:
    """Line and name of each variable, parameter, function and class; an option is its flag."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add((node.lineno, node.id))
        elif isinstance(node, ast.arg) and "typer.Option(" not in ast.unparse(node):
            names.add((node.lineno, node.arg))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add((node.lineno, node.name))
    return names


def test_names_are_nouns_of_the_field():
    bad = [f"{f}:{n} {name}" for f, t in SCRIPTS.items() for n, name in called(t)]
    assert not [place for place in bad if place.split()[1] in NOT_NOUNS]


LONGEST = 70
"""Lines of a function, docstring and all."""


def test_functions_are_short():
    assert not [
        f"{file}:{node.lineno} {node.name}"
        for file, tree in SCRIPTS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST
    ]


WRITERS = {"files", "run_log", "data.compression", "labelling.label"}
"""Modules that write by themselves: any file; a log; what is unpacked or cut, for its reader."""


def test_files_are_written_in_one_way():
    """`tlpot.files` writes: whole or not at all, and a disk that fails is told with its mend."""
    by_hand = []
    for module, tree in modules().items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            words = [a.value for a in call.args if isinstance(a, ast.Constant)]
            opened = name == "open" and any(set("wax") & set(str(w)) for w in words)
            if opened or name in ("write_text", "write_bytes", "savefig", "mkdir", "makedirs"):
                by_hand.append((module, name))
    assert {module for module, _ in by_hand} <= WRITERS, by_hand
