"""What a stranger's `pip install` gets: declared imports, one version, metadata that hold."""

from __future__ import annotations

import ast
import configparser
import os
import re
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import setuptools

import tlpot

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in ROOT.glob("tlpot/**/*.py") if "bundled" not in path.parts)
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
NEEDS = {**SETUP["options.extras_require"], "": SETUP["options"]["install_requires"]}
EXTRAS = {
    extra: {n.lower() for need in needs.split() for n in re.findall(r"[\w-]+", need.split(">")[0])}
    for extra, needs in NEEDS.items()
}
BASE = EXTRAS.pop("")
TOOLS = {"build", "hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "types-pyyaml"}
TOOLS |= {"playwright", "setuptools"}
REFERENCES = {"torch-geometric"}
"""Other people's codes that ours are compared with."""


installed = cache(packages_distributions)


def distributions(module: str) -> set[str]:
    """Installed distributions that a module comes from, spelt as in setup.cfg."""
    return {d.lower().replace("_", "-") for d in installed().get(module.partition(".")[0], [])}


def is_typing_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(tree: ast.AST, at_import: bool) -> Iterator[str]:
    """Top names that a module imports as it is imported, or those that its functions do."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if not at_import:
                yield from imports(node, at_import=True)
        elif isinstance(node, ast.stmt) and is_typing_only(node):
            continue
        elif at_import and isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif at_import and isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        else:
            yield from imports(node, at_import)


def foreign(path: Path, at_import: bool) -> set[str]:
    found = set(imports(ast.parse(path.read_text()), at_import))
    return found - sys.stdlib_module_names - {"tlpot"}


def test_a_module_imports_at_its_top_what_the_base_install_has_and_no_extra():
    undeclared = {
        (str(path.relative_to(ROOT)), name)
        for path in MODULES
        for name in foreign(path, True)
        if not distributions(name) & BASE
    }
    assert not undeclared, "import it where it is used: tlpot.optional.require"


def test_functions_import_what_is_declared():
    declared = BASE.union(*(EXTRAS[extra] for extra in EXTRAS if extra != "test"))
    assert not {
        (str(path.relative_to(ROOT)), name)
        for path in MODULES
        for name in foreign(path, False)
        if distributions(name) and not distributions(name) & declared
    }


def required() -> Iterator[tuple[str, str]]:
    """Library and extra of every call of ``require``."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                module, extra, _ = node.args
                if isinstance(module, ast.Constant):
                    assert isinstance(extra, ast.Constant)
                    yield module.value.partition(".")[0], extra.value


@pytest.mark.parametrize(("library", "extra"), sorted(set(required())))
def test_the_extra_that_a_message_names_installs_the_library(library, extra):
    pytest.importorskip(library)
    assert distributions(library) & EXTRAS[extra]


def test_the_tests_install_every_extra_and_tools():
    assert EXTRAS["test"] - TOOLS - REFERENCES == {"tlpot", *EXTRAS} - {"test"}


def skipped_without() -> Iterator[str]:
    """Libraries that a test is skipped without, and gives no reason of its own for."""
    for path in ROOT.glob("tests/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            skips = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip"
            if skips and not node.keywords and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


@pytest.mark.parametrize("library", sorted(set(skipped_without())))
def test_what_a_test_is_skipped_without_is_installed_for_the_tests(library):
    found = distributions(library)
    assert found or not os.environ.get("CI"), "CI skips tests; name it in the extra `test`"
    assert not found or found & BASE.union(*EXTRAS.values())


def test_the_pythons_of_the_metadata_agree():
    versions = re.findall(r"Python :: 3\.(\d+)", SETUP["metadata"]["classifiers"])
    assert versions == [str(n) for n in range(int(versions[0]), int(versions[-1]) + 1)]
    assert SETUP["options"]["python_requires"] == f">=3.{versions[0]}"


def test_requirements_have_the_bounds_that_a_library_below_one_needs():
    for need in " ".join(needs for extra, needs in NEEDS.items() if extra != "test").split():
        assert ">=" in need, f"{need}: no lower bound"
        assert "<" in need or ">=0." not in need, f"{need}: no upper bound"


def test_the_version_is_in_one_place():
    assert SETUP["metadata"]["version"] == "attr: tlpot.__version__"
    texts = {path: path.read_text() for path in [*MODULES, ROOT / "setup.cfg", ROOT / "setup.py"]}
    (home,) = [path for path, text in texts.items() if f'"{tlpot.__version__}"' in text]
    assert home == ROOT / "tlpot/__init__.py"


def test_the_page_of_a_package_index_leads_nowhere_that_is_not_there(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    page = given["long_description"]
    targets = re.findall(r"\]\(([^)]+)\)|(?:src|href)=[\"']([^\"']+)", page)
    assert not [t for pair in targets for t in pair if t and not t.startswith(("https:", "#"))]
    for heading in re.findall(r"^#+ .+", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert heading in page


def test_all_examples_are_bundled():
    """With all files that the tutorials name, for who has no clone."""
    pages = "".join(page.read_text() for page in ROOT.glob("docs/tutorials/*.md"))
    named = {Path(name) for name in re.findall(r"datasets/\w+/\w+\.\w+", pages)}
    examples = {p.relative_to(ROOT) for p in ROOT.glob("examples/**/*.*")}
    assert len(named) > 1
    for path in examples | named:
        assert (ROOT / "tlpot/bundled" / path).read_bytes() == (ROOT / path).read_bytes()
